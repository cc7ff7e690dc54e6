//! What the system asks of the process.

use std::io;

use tokio::signal::unix::{Signal as Incoming, SignalKind, signal};

/// A signal, by what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGTERM or SIGINT: finish and end. A second one: end now.
    Stop,
    /// SIGHUP: load the file again.
    Reload,
}

/// The signals that the process listens to.
pub(crate) struct Signals {
    terminate: Incoming,
    interrupt: Incoming,
    hang_up: Incoming,
}

impl Signals {
    /// Listens from now on. Needs a runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }
}
