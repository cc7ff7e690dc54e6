//! The task of one copy: wait for the body, send it, read the answer to its end, count.
//!
//! Everything it holds (slot, bytes, socket) is given back when it ends, and it ends at its deadline.

use std::{sync::Arc, time::Duration};

use http::{Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tidegate_core::{Endpoint, EndpointIdx, Service, TargetIdx, stats::MirrorStats};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};

use super::{
    BodyKind, Gathering,
    bounds::{Ending, Slot, count, count_class, count_duration},
    compare::{Answer, Pair},
    head,
    pool::Pool,
};
use crate::outbound::{self, Connection, Payload, Trust};

/// How long a copy may take from its request's head on: the slowest answers that are worth comparing fit, and a hung
/// shadow gives its slots back soon.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

/// Bytes of an answer that are read as fast as they come; nearly every answer is shorter.
const FREE_READING: u64 = 1024 * 1024;

/// Pause after each [`PACED_READING`] bytes beyond [`FREE_READING`]: an endless answer must not take the thread's time
/// from requests. 3 MiB/s for a copy, so that 64 endless ones cost a thread less than a tenth of it.
const PACE: Duration = Duration::from_millis(20);

/// Bytes between two pauses.
const PACED_READING: u64 = 64 * 1024;

/// Where a copy goes.
#[derive(Debug)]
pub(super) struct Where {
    /// The service, as the request's snapshot has it.
    pub(super) service: Arc<Service>,
    /// The shadow.
    pub(super) target: TargetIdx,
    /// One of its endpoints.
    pub(super) endpoint: EndpointIdx,
}

impl Where {
    fn endpoint(&self) -> Option<&Endpoint> {
        self.service.target(self.target)?.endpoints.get(self.endpoint.get())
    }
}

/// A copy that has begun.
pub(super) struct Task {
    /// Where it goes.
    pub(super) to: Where,
    /// Its head.
    pub(super) request: Request<Payload>,
    /// What its head says about its body.
    pub(super) body: BodyKind,
    /// Its body.
    pub(super) gathering: Arc<Gathering>,
    /// Tells that the body is complete.
    pub(super) completed: oneshot::Receiver<()>,
    /// When it must be over.
    pub(super) deadline: Instant,
    /// Its mirror's counters.
    pub(super) stats: Arc<MirrorStats>,
    /// For a mirror that compares: the other half of the pair.
    pub(super) pair: Option<Pair>,
    /// Idle connections.
    pub(super) pool: Arc<Pool>,
    /// Certificates to trust, if not the system's.
    pub(super) trust: Option<Trust>,
    /// The right to run.
    pub(super) slot: Slot,
}

/// A copy's exchange broke off.
struct Broken;

impl Task {
    /// Runs the copy to its end.
    pub(super) async fn run(mut self) {
        match timeout_at(self.deadline, &mut self.completed).await {
            Ok(Ok(())) => {}
            // The request's side gave it up, and has counted why.
            Ok(Err(_)) => return,
            Err(_) => {
                if self.gathering.take().is_some() {
                    count(&self.stats, Ending::DroppedSlow);
                }
                return;
            }
        }
        let Some(gathered) = self.gathering.take() else { return };
        let length = gathered.length();
        let (payload, held) = gathered.into_payload();
        if self.body != BodyKind::Empty {
            self.request.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        *self.request.body_mut() = payload;
        let finished = self.exchange_and_count().await;
        // Bytes count as held for as long as the exchange could need them; comparing does not.
        drop(held);
        if let (Some((answer, took)), Some(pair)) = (finished, self.pair.take()) {
            pair.compare(answer, took, self.deadline).await;
        }
        drop(self.slot);
    }

    /// Makes the exchange and counts how it ended. Gives what is to be compared.
    async fn exchange_and_count(&mut self) -> Option<(Answer, Duration)> {
        let began = Instant::now();
        let mut status = 0;
        let mut answer = self.pair.as_ref().map(Pair::answer);
        let request = std::mem::replace(&mut self.request, Request::new(Payload::default()));
        let ended = timeout_at(self.deadline, self.exchange(request, &mut status, answer.as_mut())).await;
        let took = began.elapsed();
        count_class(&self.stats, status);
        match ended {
            Ok(Ok(connection)) => {
                count(&self.stats, Ending::Sent);
                count_duration(&self.stats, took);
                self.keep(connection).await;
                answer.map(|answer| (answer, took))
            }
            Ok(Err(Broken)) => {
                count(&self.stats, Ending::Error);
                None
            }
            Err(_) => {
                count(&self.stats, Ending::Timeout);
                None
            }
        }
    }

    /// Sends the copy and reads the answer to its end.
    async fn exchange(
        &self,
        request: Request<Payload>,
        status: &mut u16,
        tap: Option<&mut Answer>,
    ) -> Result<Connection, Broken> {
        let (answer, connection) = self.send(request).await?;
        *status = answer.status().as_u16();
        read_to_end(answer, tap).await?;
        Ok(connection)
    }

    /// Sends the copy on an idle connection, or on a new one. An idle connection that turns out to be closed before
    /// anything was sent is no failure; one that closes later is, because a copy must not arrive twice.
    async fn send(&self, request: Request<Payload>) -> Result<(Response<Incoming>, Connection), Broken> {
        let endpoint = self.to.endpoint().ok_or(Broken)?;
        let mut request = request;
        if let Some(mut connection) = self.pool.take(&endpoint.address, &endpoint.sockets) {
            self.fit(&mut request, endpoint, &connection)?;
            match connection.send(request).await {
                Ok(answer) => return Ok((answer, connection)),
                Err(failed) => request = failed.unsent.ok_or(Broken)?,
            }
        }
        let connected = outbound::connect(&endpoint.address, &endpoint.sockets, self.trust.as_ref()).await;
        let mut connection = connected.map_err(|_| {
            self.pool.rest(&endpoint.address);
            Broken
        })?;
        if let Some(shared) = connection.share() {
            self.pool.put(&endpoint.address, shared);
        }
        self.fit(&mut request, endpoint, &connection)?;
        let answer = connection.send(request).await.map_err(|_| Broken)?;
        Ok((answer, connection))
    }

    fn fit(&self, request: &mut Request<Payload>, endpoint: &Endpoint, connection: &Connection) -> Result<(), Broken> {
        let fits = head::fit(request, endpoint.address.scheme, connection.is_http2());
        if fits { Ok(()) } else { Err(Broken) }
    }

    /// Gives a connection back for the next copy, once it is free. (An HTTP/2 connection is in the pool all the time.)
    async fn keep(&self, mut connection: Connection) {
        if connection.is_http2() {
            return;
        }
        if let (Ok(true), Some(endpoint)) = (timeout_at(self.deadline, connection.ready()).await, self.to.endpoint()) {
            self.pool.put(&endpoint.address, connection);
        }
    }
}

/// Reads an answer and forgets it; only a comparison keeps its beginning.
async fn read_to_end(answer: Response<Incoming>, mut tap: Option<&mut Answer>) -> Result<(), Broken> {
    if let Some(tap) = tap.as_deref_mut() {
        tap.head(answer.status().as_u16(), answer.headers());
    }
    let mut body = answer.into_body();
    let mut until_pause = FREE_READING;
    while let Some(frame) = body.frame().await {
        // A frame that is no data holds trailers.
        let Ok(data) = frame.map_err(|_| Broken)?.into_data() else { continue };
        if let Some(tap) = tap.as_deref_mut() {
            tap.body(&data);
        }
        until_pause = until_pause.saturating_sub(data.len() as u64);
        if until_pause == 0 {
            until_pause = PACED_READING;
            sleep(PACE).await;
        }
    }
    Ok(())
}
