//! Puts the parts together and runs them until a signal: the whole life of the process.
//!
//! Read the configuration and its secrets, lock and load the state, merge the two, compile the first snapshot, start the
//! data plane, start what changes the snapshot, wait, drain. Nothing listens before everything before it has succeeded.

mod admin;
mod control_side;
mod end;
mod error;
mod kept;
mod leave;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sd_notify::NotifyState;
use tidegate_config::{Config, ListenerId, server::AdminAddress};
use tidegate_core::{Moment, State, compile};
use tokio::sync::{mpsc, watch};

pub(crate) use self::error::ServeError;
use self::{
    admin::AdminTask,
    control_side::{ControlSide, Served},
    end::End,
    kept::Kept,
    leave::{Estate, Successor},
};
use crate::{
    cli::ServeArgs,
    control::{
        credentials, reload,
        secrets::{self, Secrets},
        signals::Signals,
    },
    deploy::hook,
    flags::{self, FirstLook},
    lane::Shared,
    mirror::Mirrors,
    net::{self, Phase, Sockets},
    observe::logging,
    routing::{PASSIVE_QUEUE, Routing},
    upgrade::Predecessor,
};

/// Threads of the control side; the data plane has its own.
const CONTROL_THREADS: usize = 2;

/// Where the configuration comes from, which also says where the state is kept.
pub(crate) enum Source {
    /// A file; the state is kept in the directory that it names.
    File(PathBuf),
    /// A value; the state lasts as long as the process.
    Value(Box<Config>),
}

/// What is to be run.
pub(crate) struct ServeOptions {
    /// Where the configuration comes from.
    pub(crate) source: Source,
    /// Called once when everything is up.
    pub(crate) up: Box<dyn FnOnce(Up) + Send>,
}

/// Where a process that is up can be reached.
pub(crate) struct Up {
    /// The addresses of the listeners.
    pub(crate) listeners: BTreeMap<ListenerId, SocketAddr>,
    /// The admin API's address, unless it is on a Unix socket.
    pub(crate) admin: Option<SocketAddr>,
}

/// Runs the proxy until a signal ends it. Ends with 2 when the configuration is wrong, with 1 when it cannot start.
pub(crate) fn run(args: &ServeArgs) -> ExitCode {
    if let Err(error) = logging::init(args.log_format) {
        // There is no log to write this to.
        let _ = io::Write::write_all(&mut io::stderr(), format!("tidegate: {error}\n").as_bytes());
        return ExitCode::from(2);
    }
    match serve(ServeOptions { source: Source::File(args.config.clone()), up: Box::new(|_| {}) }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.log();
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs the proxy until a signal ends it.
pub(crate) fn serve(options: ServeOptions) -> Result<(), ServeError> {
    let ServeOptions { source, up } = options;
    let (path, config, secrets) = configuration(source)?;
    hook::hide(secrets::variables(&config));
    let (predecessor, legacy) = Predecessor::meet()?.unzip();
    let (lock, left) =
        legacy.map(|legacy| (legacy.lock, Left { sockets: legacy.sockets, admin: legacy.admin })).unzip();
    let kept = Kept::open(path.is_some().then_some(&config), lock)?;
    let (state, differences) = State::load(&config, kept.loaded.stored().map(|stored| &stored.saved));
    for difference in differences {
        tracing::warn!(%difference, "configuration and saved state differ");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control-io")
        .enable_all()
        .build()
        .map_err(ServeError::system("start the runtime"))?;
    let dir = path.is_some().then(|| config.server.state_dir.clone());
    let now = Moment { mono: Duration::ZERO, unix_ms: unix_micros() / 1000 };
    let (state, flags, away) = runtime.block_on(flags::first_look(state, dir, now));
    if config.flags.require_store && !away.is_empty() {
        return Err(ServeError::Flags(away));
    }
    for problem in away {
        tracing::warn!(problem, "a flag source is not there: its flags have the values that are remembered");
    }
    let state = Arc::new(state);
    let workers = net::workers(&config);
    let routing = Arc::new(Routing::new(compile(&state, None, workers)));
    let left = left.unwrap_or_default();
    let parts = Parts { path, config: Arc::new(config), secrets, kept, state, workers, routing, flags };
    let served = runtime.block_on(parts.live(left, up, predecessor));
    // What still runs there (look-ups of names, looks at the file) has nothing to finish.
    runtime.shutdown_background();
    served
}

fn configuration(source: Source) -> Result<(Option<PathBuf>, Config, Secrets), ServeError> {
    match source {
        Source::File(path) => {
            let (config, secrets) = reload::read(&path).map_err(ServeError::Config)?;
            Ok((Some(path), config, secrets))
        }
        Source::Value(config) => {
            let secrets = secrets::load(&config).map_err(ServeError::Config)?;
            Ok((None, *config, secrets))
        }
    }
}

/// What the process before left, if this one takes its place.
#[derive(Default)]
struct Left {
    sockets: Sockets,
    admin: Option<(AdminAddress, OwnedFd)>,
}

/// Everything that is there before anything runs.
struct Parts {
    path: Option<PathBuf>,
    config: Arc<Config>,
    secrets: Secrets,
    kept: Kept,
    state: Arc<State>,
    workers: usize,
    routing: Arc<Routing>,
    flags: FirstLook,
}

impl Parts {
    async fn live(
        self,
        left: Left,
        up: Box<dyn FnOnce(Up) + Send>,
        predecessor: Option<Predecessor>,
    ) -> Result<(), ServeError> {
        let (config, routing, workers) = (Arc::clone(&self.config), Arc::clone(&self.routing), self.workers);
        let mut signals = Signals::listen().map_err(ServeError::system("listen to signals"))?;
        let listener = admin::bind(&config, left.admin).await?;
        let heirloom = listener.heirloom().map_err(ServeError::system("keep the socket of the admin API"))?;
        let (signs, seen) = mpsc::channel(PASSIVE_QUEUE);
        let pins = credentials::pin_keys(&self.secrets);
        let shared = Arc::new(Shared::new(&config, Arc::clone(&routing), signs, pins, Mirrors::new()));
        let (stop, stopping) = watch::channel(Phase::Serving);
        let plane = net::start(&config, &shared, &stopping, left.sockets)?;
        let (upgrades, mut calls) = mpsc::channel(1);
        let (mut side, face) = ControlSide::start(self, Served { shared, plane: &plane, seen }, upgrades)?;

        let reached = Up { listeners: plane.addresses().clone(), admin: listener.local_address() };
        for (listener, address) in &reached.listeners {
            tracing::info!(%listener, %address, "listening");
        }
        let shown =
            reached.admin.map_or_else(|| admin::address_text(&config.admin.listen), |address| address.to_string());
        tracing::info!(address = %shown, "admin listening");
        let mut admin = AdminTask::start(listener, face);
        tracing::info!(generation = routing.load().generation.0, workers, "ready");
        up(reached);
        tell_supervisor(predecessor.is_some());
        if let Some(predecessor) = predecessor {
            predecessor.ready();
        }

        let estate = Estate { config: &config, plane: &plane, side: &side, heirloom };
        let successor = estate.until_stopped(&mut signals, &mut calls).await;
        drop(calls);
        side.stats.set_stopping();
        tracing::info!("shutting down: running requests may finish");
        let _ = stop.send(Phase::Stopping);
        if successor == Successor::Serves {
            // Calls are for that one now, and so are the sinks: it waits until they are let go of here.
            admin.stop();
            let sinks = side.sinks.take();
            drop(tokio::task::spawn_blocking(move || drop(sinks)));
        }
        End { plane, side, admin }.drain(&mut signals).await;
        tracing::info!("ended");
        Ok(())
    }
}

/// Tells a service manager that waits for it (systemd's `Type=notify`) that the process serves.
fn tell_supervisor(in_place_of_another: bool) {
    let pid = NotifyState::MainPid(std::process::id());
    let states = if in_place_of_another { vec![pid, NotifyState::Ready] } else { vec![NotifyState::Ready] };
    if let Err(error) = sd_notify::notify(false, &states) {
        tracing::warn!(%error, "the service manager could not be told that the process serves");
    }
}

/// Where the numbers of events begin: so they grow over restarts.
fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or_default()
}
