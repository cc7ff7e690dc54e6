//! Copies of requests to shadows. A mirror can never slow, fail or change the answer of its request.
//!
//! A request's way hands over its head ([`Mirrors::begin`]), then its body ([`Copy::feed`]), then says that the body was
//! complete ([`Copy::end`]). None of these waits, allocates more than a chunk, or can fail; all else happens in a task of
//! its own on the same thread, with its own connections, bounds and deadline.
//!
//! Two decisions:
//!
//! - **A copy starts when its body is complete.** Bodies are short here (64 KiB unless configured otherwise), so the chunks
//!   are kept by reference and go out as one. A shadow so gets either the exact bytes or nothing at all: no half body with
//!   a well-formed end, no shadow that slows the gathering down, no replay of a retry that arrives twice, one bound on
//!   memory that is known before a socket is touched. Streaming would save a shadow some milliseconds that nobody waits for.
//! - **hyper speaks to shadows, not pingora's connector.** Early answers, endless answers and resets are its everyday
//!   business, HTTP/1.1 and HTTP/2 have one shape, and dropping its future ends the exchange. pingora's client must be
//!   driven by hand through the same cases, has no deadline over several reads, and starts a task for each idle connection.

mod bounds;
mod compare;
mod gather;
mod head;
mod pool;
mod send;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use pingora_http::RequestHeader;
use tidegate_core::{Endpoint, EndpointIdx, Health, MirrorIdx, ServiceIdx, Snapshot, Target, stats::MirrorStats};
use tokio::{sync::oneshot, time::Instant};

pub(crate) use self::compare::PrimaryTap;
use self::{
    bounds::{Ending, Slot, count},
    gather::{Gathered, Refused},
    pool::Pool,
    send::{DEADLINE, Task, Where},
};
use crate::outbound::Trust;

/// All mirrors of the process: what their copies share.
pub(crate) struct Mirrors {
    pool: Arc<Pool>,
    trust: Option<Trust>,
}

impl fmt::Debug for Mirrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirrors").finish_non_exhaustive()
    }
}

/// What a request's head says about its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyKind {
    /// There is none.
    Empty,
    /// This many bytes (`Content-Length`).
    Length(u64),
    /// As many as come.
    Unknown,
}

impl Mirrors {
    /// No copies yet.
    pub(crate) fn new() -> Self {
        Self { pool: Pool::new(), trust: None }
    }

    /// Begins to copy a request; `None`: it is not copied, and why is counted.
    ///
    /// `head` is the request as it goes to its endpoint. Call it once per request, not once per attempt, inside the
    /// runtime of the request. The service and the mirror are positions in `snapshot`.
    pub(crate) fn begin(
        &self,
        snapshot: &Snapshot,
        service: ServiceIdx,
        mirror: MirrorIdx,
        head: &RequestHeader,
        body: BodyKind,
        request_id: &str,
    ) -> Option<Copy> {
        let service = snapshot.service(service)?;
        let mirror = service.mirrors.get(mirror.get())?;
        if !head::may_be_copied(head) {
            return None;
        }
        let dropped = |ending| {
            count(&mirror.stats, ending);
            None
        };
        if matches!(body, BodyKind::Length(length) if length > mirror.spec.max_body) {
            return dropped(Ending::DroppedBody);
        }
        let next = |target| next_endpoint(target, &mirror.stats, |endpoint| self.pool.rests(&endpoint.address));
        let Some(endpoint) = service.target(mirror.to).and_then(next) else { return dropped(Ending::Unavailable) };
        let Some(slot) = Slot::take(&mirror.stats) else { return dropped(Ending::DroppedRequests) };
        let Some(request) = head::copy_head(head, &mirror.id, &mirror.spec, request_id) else {
            return dropped(Ending::Error);
        };

        let gathering = Gathering::new(&mirror.stats);
        let (complete, completed) = oneshot::channel();
        let (tap, pair) = compare::pair(mirror, &request, request_id);
        let task = Task {
            to: Where { service: Arc::clone(service), target: mirror.to, endpoint },
            request,
            body,
            gathering: Arc::clone(&gathering),
            completed,
            deadline: Instant::now() + DEADLINE,
            stats: Arc::clone(&mirror.stats),
            pair,
            pool: Arc::clone(&self.pool),
            trust: self.trust.clone(),
            slot,
        };
        drop(tokio::spawn(task.run()));
        Some(Copy {
            complete: Some(complete),
            gathering,
            stats: Arc::clone(&mirror.stats),
            body,
            max_body: mirror.spec.max_body,
            tap,
        })
    }
}

/// The next endpoint of a shadow: healthy ones in turn by their weights, suspect ones when no other is left; none that
/// rests.
fn next_endpoint(target: &Target, stats: &MirrorStats, rests: impl Fn(&Endpoint) -> bool) -> Option<EndpointIdx> {
    if !target.by_name {
        return None;
    }
    let turn = stats.turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    [Health::Healthy, Health::Suspect].into_iter().find_map(|health| {
        let rests = &rests;
        let fit = move |(_, one): &(usize, &Endpoint)| one.health == health && one.is_resolved() && !rests(one);
        let usable = || target.endpoints.iter().enumerate().filter(fit);
        let weights: u32 = usable().map(|(_, one)| u32::from(one.weight)).sum();
        let mut at = turn.checked_rem(weights)?;
        for (position, endpoint) in usable() {
            match at.checked_sub(u32::from(endpoint.weight)) {
                Some(left) => at = left,
                None => return Some(EndpointIdx(position as u32)),
            }
        }
        None
    })
}

/// A copy whose request is still running. Dropping it before [`Copy::end`] aborts it: the shadow sees nothing of it.
#[derive(Debug)]
pub(crate) struct Copy {
    complete: Option<oneshot::Sender<()>>,
    gathering: Arc<Gathering>,
    stats: Arc<MirrorStats>,
    body: BodyKind,
    max_body: u64,
    tap: Option<PrimaryTap>,
}

impl Copy {
    /// Hands over the next chunk of the request's body.
    pub(crate) fn feed(&mut self, chunk: &Bytes) {
        if self.complete.is_none() {
            return;
        }
        match self.gathering.push(chunk, self.max_body) {
            Ok(()) => {}
            Err(Refused::TooLong) => self.give_up(Ending::DroppedBody),
            Err(Refused::Bound) => self.give_up(Ending::DroppedBytes),
        }
    }

    /// Forgets the body so far: it comes again from its beginning, because the request is tried again.
    pub(crate) fn restart(&mut self) {
        self.gathering.restart(&self.stats);
    }

    /// Says that the body is complete: the copy goes out.
    pub(crate) fn end(mut self) {
        let short = matches!(self.body, BodyKind::Length(length) if self.gathering.length() != Some(length));
        if short {
            return;
        }
        if let Some(complete) = self.complete.take() {
            // A task that has ended already (its deadline passed) has counted why.
            let _ = complete.send(());
        }
    }

    /// For a mirror that compares: where the request's own answer is to be told. Take it before [`Copy::end`].
    pub(crate) fn take_tap(&mut self) -> Option<PrimaryTap> {
        self.tap.take()
    }

    fn give_up(&mut self, ending: Ending) {
        // Whoever ends the gathering counts why: here, or the task at its deadline.
        if self.complete.take().is_some() && self.gathering.take().is_some() {
            count(&self.stats, ending);
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.give_up(Ending::Aborted);
    }
}

/// A body that is being gathered, shared with the task so that a deadline frees it though its client stands still.
#[derive(Debug)]
struct Gathering(Mutex<Option<Gathered>>);

impl Gathering {
    fn new(stats: &Arc<MirrorStats>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(Gathered::nothing(stats)))))
    }

    /// Keeps a chunk; a gathering that is over takes it and forgets it.
    fn push(&self, chunk: &Bytes, limit: u64) -> Result<(), Refused> {
        self.lock().as_mut().map_or(Ok(()), |gathered| gathered.push(chunk, limit))
    }

    fn restart(&self, stats: &Arc<MirrorStats>) {
        if let Some(gathered) = self.lock().as_mut() {
            *gathered = Gathered::nothing(stats);
        }
    }

    /// Bytes so far; `None`: it is over.
    fn length(&self) -> Option<u64> {
        self.lock().as_ref().map(Gathered::length)
    }

    /// Ends it.
    fn take(&self) -> Option<Gathered> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Gathered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
