//! How the rest of the process has a thread or task rest, or end, by a message in its own queue: one protocol for
//! everything that writes, so that all of it is still while another process may take over.

use tokio::sync::{mpsc, oneshot};

/// What comes after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nobody else writes: it goes on.
    GoOn,
    /// Another process writes now: this one never does again.
    HandedOver,
}

/// A thread that changes and saves nothing. It goes on when this is dropped.
#[derive(Debug)]
pub(crate) struct Paused(Option<oneshot::Sender<Then>>);

/// The word to rest, as the thread finds it in its queue.
#[derive(Debug)]
pub(crate) struct Pause {
    paused: oneshot::Sender<()>,
    then: oneshot::Receiver<Then>,
}

/// Has a thread rest when it comes to this message. `None`: it has ended.
pub(crate) async fn pause<M>(queue: &mpsc::Sender<M>, message: impl FnOnce(Pause) -> M) -> Option<Paused> {
    let (paused, rests) = oneshot::channel();
    let (end, then) = oneshot::channel();
    let pause = Paused(Some(end));
    queue.send(message(Pause { paused, then })).await.ok()?;
    rests.await.ok()?;
    Some(pause)
}

/// Has a thread end when it comes to this message, and waits until it has.
pub(crate) async fn stop<M>(queue: &mpsc::Sender<M>, message: impl FnOnce(oneshot::Sender<()>) -> M) {
    let (done, stopped) = oneshot::channel();
    if queue.send(message(done)).await.is_ok() {
        let _ = stopped.await;
    }
}

impl Pause {
    /// Says that the task rests, and waits for what comes after it.
    pub(crate) async fn rest(self) -> Then {
        // Whoever asked may be gone: then nobody takes over.
        let _ = self.paused.send(());
        self.then.await.unwrap_or(Then::GoOn)
    }

    /// [`Pause::rest`] for a thread.
    pub(crate) fn blocking_rest(self) -> Then {
        let _ = self.paused.send(());
        self.then.blocking_recv().unwrap_or(Then::GoOn)
    }
}

impl Paused {
    /// Another process is the one writer now.
    pub(crate) fn handed_over(mut self) {
        self.end(Then::HandedOver);
    }

    fn end(&mut self, then: Then) {
        if let Some(paused) = self.0.take() {
            // A thread that is gone writes nothing either.
            let _ = paused.send(then);
        }
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        self.end(Then::GoOn);
    }
}
