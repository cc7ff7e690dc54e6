//! Puts the parts together and runs them until a signal: the whole life of the process in one file.
//!
//! Read the configuration and its secrets, lock and load the state, merge the two, compile the first snapshot, start the
//! data plane, start what changes the snapshot, wait, drain. Nothing listens before everything before it has succeeded.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tidegate_admin::{Access, AccessToken, Actor, AdminListener, EventLog, MetricsAccess};
use tidegate_config::{Config, ListenerId, Role, server::AdminAddress};
use tidegate_core::{Moment, State, compile};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval},
};

use crate::{
    cli::ServeArgs,
    control::{
        controller::{Control, Controller},
        health,
        process::ProxyProcess,
        reload::{self, Around, Reloader},
        resolve,
        secrets::{self, Problem, Secrets},
        signals::{Signal, Signals},
        stats::ControlStats,
    },
    flags::{self, FirstLook, FlagSources},
    lane::{PinKeys, Shared},
    mirror::Mirrors,
    net::{self, BindError, DataPlane, Phase},
    observe::{
        logging,
        metrics::{self, Metrics},
    },
    routing::{PASSIVE_QUEUE, PassiveSign, Routing},
    state::{
        FileStore, Loaded, MemoryStore, StateStore, StoreError,
        audit::{Audit, AuditThread},
    },
};

/// Threads of the control side; the data plane has its own.
const CONTROL_THREADS: usize = 2;
/// Time between two looks at what only time changes: automatic failbacks, drains, and saving again.
const TICK: Duration = Duration::from_millis(500);

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

/// Why the process cannot run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The configuration has problems.
    #[error("the configuration has {} problems", .0.len())]
    Config(Vec<Problem>),
    /// The state cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A listener cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin API's address cannot be had.
    #[error("admin.listen: cannot listen on {address}: {source}: stop what listens there, or change admin.listen")]
    Admin {
        /// The address.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// A flag source cannot be read, and the configuration wants it.
    #[error("flags.require_store: {}: start the store, or set require_store to false", .0.join("; "))]
    Flags(Vec<String>),
    /// The system does not give what every process needs.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl ServeError {
    fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { doing, source }
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::Store(_) | Self::Bind(_) | Self::Admin { .. } | Self::Flags(_) | Self::System { .. } => 1,
        }
    }

    /// Logs it, every problem on a line of its own.
    pub(crate) fn log(&self) {
        match self {
            Self::Config(problems) => {
                for problem in problems {
                    tracing::error!("{}", reload::problem_text(problem));
                }
                tracing::error!(problems = problems.len(), "the configuration cannot be used");
            }
            other => tracing::error!("{other}"),
        }
    }
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
    let kept = Kept::open(path.is_some().then_some(&config))?;
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
    let parts = Parts { path, config: Arc::new(config), secrets, kept, state, workers, routing, flags };
    let served = runtime.block_on(parts.live(up));
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

/// What outlives the process.
struct Kept {
    store: Box<dyn StateStore>,
    loaded: Loaded,
    audit: Audit,
    audit_thread: AuditThread,
}

impl Kept {
    /// Locks and reads the state directory of a configuration; without one, everything is in memory.
    fn open(config: Option<&Config>) -> Result<Self, ServeError> {
        let no_audit = ServeError::system("open the audit log");
        let Some(config) = config else {
            let (audit, audit_thread) = Audit::in_memory().map_err(no_audit)?;
            return Ok(Self { store: Box::new(MemoryStore::default()), loaded: Loaded::Nothing, audit, audit_thread });
        };
        let dir = &config.server.state_dir;
        let mut store = FileStore::open(dir)?;
        let loaded = store.load()?;
        if let Loaded::Previous { problem, .. } = &loaded {
            tracing::error!(problem, "the newest saved state cannot be used");
        }
        let recent = loaded.stored().map(|stored| stored.recent.clone()).unwrap_or_default();
        let (audit, audit_thread) = Audit::in_dir(dir, &recent).map_err(no_audit)?;
        Ok(Self { store: Box::new(store), loaded, audit, audit_thread })
    }
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
    async fn live(self, up: Box<dyn FnOnce(Up) + Send>) -> Result<(), ServeError> {
        let Self { path, config, secrets, kept, state, workers, routing, flags } = self;
        let mut signals = Signals::listen().map_err(ServeError::system("listen to signals"))?;
        let admin = bind_admin(&config).await?;
        let (signs, seen) = mpsc::channel(PASSIVE_QUEUE);
        let shared = Arc::new(Shared::new(&config, Arc::clone(&routing), signs, pin_keys(&secrets), Mirrors::new()));
        let (stop, stopping) = watch::channel(Phase::Serving);
        let plane = net::start(&config, &shared, &stopping)?;

        let (stats, events) = (Arc::<ControlStats>::default(), Arc::new(EventLog::new(unix_micros())));
        let audit = Arc::new(kept.audit);
        let controller = Controller {
            state,
            store: kept.store,
            routing: Arc::clone(&routing),
            workers,
            events: Arc::clone(&events),
            audit: Arc::clone(&audit),
            stats: Arc::clone(&stats),
        };
        let (control, controller) = controller.start().map_err(ServeError::system("start the control thread"))?;
        let flags = FlagSources::start(flags, &control, &routing);
        let around = Around {
            control: control.clone(),
            routing: Arc::clone(&routing),
            events: Arc::clone(&events),
            stats: Arc::clone(&stats),
        };
        let reloader = Arc::new(Reloader::new(path, Arc::clone(&config), around));
        start_tasks(&routing, &control, seen, &reloader);

        let listeners = plane.addresses().clone();
        for (listener, address) in &listeners {
            tracing::info!(%listener, %address, "listening");
        }
        let address = admin.local_address();
        let shown = address.map_or_else(|| address_text(&config.admin.listen), |address| address.to_string());
        tracing::info!(address = %shown, "admin listening");
        let counted = Arc::clone(&stats);
        let followed = Arc::clone(&flags);
        let further: Vec<metrics::Source> =
            vec![Box::new(move || counted.families()), Box::new(move || followed.families())];
        let metrics = Metrics::new(shared, further);
        let process = ProxyProcess {
            routing: Arc::clone(&routing),
            control: control.clone(),
            events,
            audit,
            reloader: Arc::clone(&reloader),
            stats: Arc::clone(&stats),
            metrics,
            flags,
        };
        let router = tidegate_admin::router(Arc::new(process), access(&config, &secrets));
        drop(secrets);
        let (stop_admin, admin_stopped) = oneshot::channel::<()>();
        let admin = tokio::spawn(tidegate_admin::serve(admin, router, async {
            // Its sender going away means the same.
            let _ = admin_stopped.await;
        }));
        tracing::info!(generation = routing.load().generation.0, workers, "ready");
        up(Up { listeners, admin: address });

        until_stopped(&mut signals, &reloader).await;
        stats.set_stopping();
        tracing::info!("shutting down: running requests may finish");
        let _ = stop.send(Phase::Stopping);
        let ending = End { plane, control, controller, stop_admin, admin, audit_thread: kept.audit_thread };
        tokio::select! {
            () = ending.drain() => {}
            () = second_stop(&mut signals) => {
                tracing::warn!("a second signal: ending now");
                // Every change that was answered is saved already.
                std::process::exit(1);
            }
        }
        tracing::info!("ended");
        Ok(())
    }
}

/// What has to end, in its order.
struct End {
    plane: DataPlane,
    control: Control,
    controller: JoinHandle<()>,
    stop_admin: oneshot::Sender<()>,
    admin: tokio::task::JoinHandle<()>,
    audit_thread: AuditThread,
}

impl End {
    /// Lets requests finish while the admin API still answers, then ends what changes things, then what shows them.
    async fn drain(self) {
        self.plane.join().await;
        self.control.stop().await;
        let _ = self.stop_admin.send(());
        if self.admin.await.is_err() {
            tracing::error!("the admin API panicked");
        }
        let ended = tokio::task::spawn_blocking(move || {
            if self.controller.join().is_err() {
                tracing::error!("the control thread panicked");
            }
            self.audit_thread.join();
        });
        let _ = ended.await;
    }
}

async fn bind_admin(config: &Config) -> Result<AdminListener, ServeError> {
    let listen = &config.admin.listen;
    AdminListener::bind(listen).await.map_err(|source| ServeError::Admin { address: address_text(listen), source })
}

fn address_text(address: &AdminAddress) -> String {
    match address {
        AdminAddress::Tcp(address) => address.to_string(),
        AdminAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn pin_keys(secrets: &Secrets) -> PinKeys {
    let admin = secrets.tokens.iter().filter(|(token, _)| token.role == Role::Admin).map(|(_, secret)| secret);
    PinKeys::new(admin, secrets.pins.iter().map(|(service, secret)| (service.clone(), secret)))
}

fn access(config: &Config, secrets: &Secrets) -> Access {
    let token =
        |(token, secret): &(tidegate_config::Token, _)| AccessToken::new(token.name.as_str(), token.role, secret);
    let metrics = if config.admin.metrics_auth { MetricsAccess::Token } else { MetricsAccess::Open };
    Access::new(secrets.tokens.iter().map(token).collect(), &config.admin.listen, config.admin.hosts.clone(), metrics)
}

/// Starts what feeds the controller. These tasks end with the runtime.
fn start_tasks(routing: &Arc<Routing>, control: &Control, seen: mpsc::Receiver<PassiveSign>, reloader: &Arc<Reloader>) {
    tokio::spawn(health::run(Arc::clone(routing), control.clone(), seen));
    tokio::spawn(resolve::run(Arc::clone(routing), control.clone()));
    let (watching, control) = (Arc::clone(reloader), control.clone());
    tokio::spawn(async move { watching.watch().await });
    tokio::spawn(async move {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            control.tick();
        }
    });
}

async fn until_stopped(signals: &mut Signals, reloader: &Arc<Reloader>) {
    while signals.next().await == Signal::Reload {
        let reloader = Arc::clone(reloader);
        // Its outcome is logged and told by `reload` itself.
        tokio::spawn(async move { reloader.reload(Actor("signal".into()), false).await });
    }
}

async fn second_stop(signals: &mut Signals) {
    while signals.next().await != Signal::Stop {}
}

/// Where the numbers of events begin: so they grow over restarts.
fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or_default()
}
