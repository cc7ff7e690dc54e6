//! Idle connections to shadows, so that a copy costs no handshake; and a rest for endpoints that take none.
//!
//! Every thread keeps its own: workers never wait for each other, and a connection is used on the thread that drives it.
//! Bounded per endpoint and per thread; idle ones are closed by time even when no copy comes again.

use std::{
    cell::Cell,
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tidegate_config::EndpointAddress;
use tokio::{task::JoinHandle, time::Instant};

use crate::outbound::Connection;

/// Idle connections to one endpoint per thread: half of the copies that may run at once.
const MAX_IDLE_PER_ENDPOINT: usize = 32;

/// Idle connections per thread, over all endpoints of all mirrors.
const MAX_IDLE: usize = 256;

/// How long a connection may be idle: less than what servers commonly allow (nginx 75 s, Node 5 s answers with a close
/// that is seen at once).
const IDLE: Duration = Duration::from_secs(30);

/// How long an endpoint that could not be connected to is left alone: a connection attempt costs as much as a request,
/// and a shadow that is down would get one for each of them.
pub(super) const REST: Duration = Duration::from_millis(100);

/// Threads that share a shard when there are more; more shards than any machine's workers cost a few KiB.
const SHARDS: usize = 64;

/// Idle connections of all threads.
pub(super) struct Pool {
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Default)]
struct Shard {
    idle: HashMap<EndpointAddress, Vec<Idle>>,
    /// Endpoints that could not be connected to, and until when they are left alone.
    resting: HashMap<EndpointAddress, Instant>,
    count: usize,
    reaper: Option<JoinHandle<()>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// An empty pool.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() })
    }

    /// A connection to this endpoint that can take a request now; `sockets` are the endpoint's addresses today.
    pub(super) fn take(&self, address: &EndpointAddress, sockets: &[SocketAddr]) -> Option<Connection> {
        let mut shard = self.shard(this_thread());
        let idle = shard.idle.get_mut(address)?;
        let mut dropped = 0;
        let found = loop {
            let Some(mut last) = idle.pop() else { break None };
            dropped += 1;
            let still_there = last.connection.peer().is_none_or(|peer| sockets.is_empty() || sockets.contains(&peer));
            if !still_there || !last.connection.is_ready() {
                continue;
            }
            if let Some(shared) = last.connection.share() {
                last.since = Instant::now();
                idle.push(last);
                dropped -= 1;
                break Some(shared);
            }
            break Some(last.connection);
        };
        shard.count -= dropped;
        found
    }

    /// Keeps a connection for the next copy, or closes it when enough are kept.
    pub(super) fn put(self: &Arc<Self>, address: &EndpointAddress, connection: Connection) {
        let at = this_thread();
        let mut shard = self.shard(at);
        if shard.count >= MAX_IDLE {
            shard.close_expired();
        }
        if shard.count >= MAX_IDLE {
            return;
        }
        let idle = match shard.idle.get_mut(address) {
            Some(idle) => idle,
            None => shard.idle.entry(address.clone()).or_default(),
        };
        // One HTTP/2 connection carries every copy of a thread.
        let most = if connection.is_http2() { 1 } else { MAX_IDLE_PER_ENDPOINT };
        if idle.len() >= most {
            return;
        }
        idle.push(Idle { connection, since: Instant::now() });
        shard.count += 1;
        if shard.reaper.as_ref().is_none_or(JoinHandle::is_finished) {
            shard.reaper = Some(tokio::spawn(reap(Arc::downgrade(self), at)));
        }
    }

    /// Leaves an endpoint alone for a while: it could not be connected to.
    pub(super) fn rest(&self, address: &EndpointAddress) {
        let now = Instant::now();
        let mut shard = self.shard(this_thread());
        // As many as there are configured, and only those that are down.
        shard.resting.retain(|_, until| now < *until);
        shard.resting.insert(address.clone(), now + REST);
    }

    /// Whether an endpoint is left alone.
    pub(super) fn rests(&self, address: &EndpointAddress) -> bool {
        let shard = self.shard(this_thread());
        !shard.resting.is_empty() && shard.resting.get(address).is_some_and(|until| Instant::now() < *until)
    }

    fn shard(&self, at: usize) -> MutexGuard<'_, Shard> {
        // Invariant: there are SHARDS shards, and the index is below that.
        #[expect(clippy::indexing_slicing, reason = "the index is taken modulo the length, which is at least one")]
        self.shards[at % self.shards.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().count).sum()
    }
}

impl Shard {
    fn close_expired(&mut self) {
        let now = Instant::now();
        self.idle.retain(|_, idle| {
            idle.retain(|one| one.connection.is_ready() && now.duration_since(one.since) < IDLE);
            !idle.is_empty()
        });
        self.count = self.idle.values().map(Vec::len).sum();
    }
}

/// Closes what is idle for too long, until nothing is idle any more.
async fn reap(pool: Weak<Pool>, at: usize) {
    loop {
        tokio::time::sleep(IDLE / 2).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut shard = pool.shard(at);
        shard.close_expired();
        if shard.count == 0 {
            // Under the lock: a connection that is put later starts the next reaper.
            shard.reaper = None;
            return;
        }
    }
}

/// The number of this thread.
fn this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: Cell<Option<usize>> = const { Cell::new(None) });
    NUMBER.with(|number| {
        number.get().unwrap_or_else(|| {
            let next = NEXT.fetch_add(1, Relaxed);
            number.set(Some(next));
            next
        })
    })
}
