//! The data plane as one thing: started, asked for its addresses, told to stop, waited for.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::JoinHandle,
};

use tidegate_config::{Config, ListenerId};
use tidegate_core::{ListenerIdx, stats::Worker};
use tokio::sync::{mpsc, watch};

use super::{
    bind::{BindError, Kept, Sockets, listen},
    caps::{Caps, ListenerCap},
    tls::Certificates,
    worker::{self, Door, Setup},
};
use crate::{lane::Shared, outbound::Trust};

/// How far the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Clients are accepted.
    Serving,
    /// No new clients; what runs may finish within the configured grace.
    Stopping,
    /// What still runs is cut.
    Cut,
}

/// The running workers.
#[derive(Debug)]
pub(crate) struct DataPlane {
    addresses: BTreeMap<ListenerId, SocketAddr>,
    certificates: Arc<Certificates>,
    kept: Kept,
    threads: Vec<JoinHandle<()>>,
    ended: mpsc::Receiver<Infallible>,
}

impl DataPlane {
    /// Where the listeners are; what was port 0 in the configuration is the port that the kernel chose.
    pub(crate) fn addresses(&self) -> &BTreeMap<ListenerId, SocketAddr> {
        &self.addresses
    }

    /// The certificates of listeners, to be renewed.
    pub(crate) fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// The listening sockets, to be left to another process.
    pub(crate) fn take_sockets(&self) -> Sockets {
        self.kept.take()
    }

    /// Takes back what [`DataPlane::take_sockets`] gave.
    pub(crate) fn keep_sockets(&self, sockets: Sockets) {
        self.kept.put(sockets);
    }

    /// Waits until every worker has ended: at once after a stop if nothing runs.
    pub(crate) async fn join(mut self) {
        while self.ended.recv().await.is_some() {}
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

/// How many workers this configuration asks for.
pub(crate) fn workers(config: &Config) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    config.server.threads.unwrap_or_else(cores).max(1)
}

/// Binds every listener, unless an earlier process left its sockets, and starts the workers. Nothing runs and nothing
/// stays bound after an error.
pub(crate) fn start(
    config: &Config,
    shared: &Arc<Shared>,
    stop: &watch::Receiver<Phase>,
    mut left: Sockets,
) -> Result<DataPlane, BindError> {
    // pingora reads them too, and panics if it cannot.
    Trust::system().map_err(|error| BindError::Trust(error.to_string()))?;
    let workers = workers(config);
    let caps = Arc::new(Caps::new(config.server.limits.connections_per_client));
    let (mut addresses, mut sockets, mut certificates) = (BTreeMap::new(), Sockets::default(), Certificates::default());
    let mut doors: Vec<Vec<(Door, TcpListener)>> = (0..workers).map(|_| Vec::new()).collect();
    for (position, (id, listener)) in config.listeners.iter().enumerate() {
        let tls = listener.tls.as_ref().map(|files| certificates.load(id, files)).transpose()?;
        let failed = |source| BindError::Address { listener: id.clone(), address: listener.address, source };
        let there = left.take(id, listener.address);
        let (address, listening) = listen(listener.address, workers, there).map_err(failed)?;
        sockets.keep(id, listener.address, &listening).map_err(failed)?;
        let door = Door {
            listener: ListenerIdx(position as u32),
            cap: Arc::new(ListenerCap::new(config.server.limits.connections)),
            tls,
            h2c: listener.h2c,
        };
        addresses.insert(id.clone(), address);
        for (at, socket) in listening.into_iter().enumerate() {
            if let Some(doors) = doors.get_mut(at % workers) {
                doors.push((door.clone(), socket));
            }
        }
    }
    let kept = Kept::default();
    kept.put(sockets);
    let (running, ended) = mpsc::channel(1);
    let mut threads = Vec::with_capacity(workers);
    for (number, doors) in doors.into_iter().enumerate() {
        let setup = Setup {
            worker: Worker(number),
            doors,
            shared: Arc::clone(shared),
            caps: Arc::clone(&caps),
            kept: kept.clone(),
            stop: stop.clone(),
            grace: config.server.grace,
        };
        threads.push(worker::spawn(setup, running.clone()).map_err(BindError::Thread)?);
    }
    Ok(DataPlane { addresses, certificates: Arc::new(certificates), kept, threads, ended })
}
