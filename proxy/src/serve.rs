//! Puts the parts together and runs them until a signal: the whole life of the process in one file.
//!
//! Read the configuration and its secrets, lock and load the state, merge the two, compile the first snapshot, start the
//! data plane, start what changes the snapshot, wait, drain. Nothing listens before everything before it has succeeded.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use sd_notify::NotifyState;
use tidegate_admin::{Actor, AdminListener, EventLog, Heirloom, Upgraded};
use tidegate_config::{Config, ListenerId, server::AdminAddress};
use tidegate_core::{Event, Moment, State, compile, deploy::engine::Engine};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval},
};

use crate::{
    cli::ServeArgs,
    control::{
        controller::{Control, Controller},
        credentials::{self, Credentials},
        failover::{self, FailoverHooks},
        health,
        process::{ProxyProcess, UpgradeCall},
        reload::{self, Around, Reloader},
        report, resolve,
        secrets::{self, Problem, Secrets},
        signals::{Signal, Signals},
        stats::ControlStats,
    },
    deploy::{
        act::{Hands, Tools, Watches},
        desk::{Desk, Message},
        evidence::Evidence,
        ground::Grounds,
        hook,
        journal::{FileJournal, Journal, MemoryJournal},
        orders::{Keys, Orders},
        previews::Entrances,
        shell::Shell,
        sinks::{Lost, Sinks},
        stacks::{self, Stacks, WatchStats},
        tell::Teller,
    },
    flags::{self, FirstLook, FlagSources},
    lane::Shared,
    mirror::Mirrors,
    net::{self, BindError, DataPlane, Phase, Rosters, Sockets},
    observe::{
        logging,
        metrics::{self, Metrics},
    },
    routing::{PASSIVE_QUEUE, PassiveSign, PassiveSigns, Routing},
    state::{
        FileStore, Loaded, MemoryStore, StateStore, StoreError,
        audit::{Audit, AuditThread},
    },
    upgrade::{Legacy, Offer, Predecessor, TakeOverError, UpgradeError},
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
    /// The process before does not leave what it said it would.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
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
            Self::Store(_)
            | Self::Bind(_)
            | Self::Admin { .. }
            | Self::TakeOver(_)
            | Self::Flags(_)
            | Self::System { .. } => 1,
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
    let parts = Parts { path, config: Arc::new(config), secrets, kept, state, workers, routing, flags, left };
    let served = runtime.block_on(parts.live(up, predecessor));
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

/// What outlives the process.
struct Kept {
    store: Box<dyn StateStore>,
    /// The file that is locked, if there is a directory.
    lock: Option<File>,
    loaded: Loaded,
    audit: Audit,
    audit_thread: AuditThread,
    deployments: KeptDeployments,
}

/// Deployments as an earlier process left them, and where they are written down.
struct KeptDeployments {
    journal: Box<dyn Journal>,
    keys: Keys,
    evidence: Evidence,
    desk: Arc<Desk>,
    messages: mpsc::Receiver<Message>,
}

impl KeptDeployments {
    fn open(dir: Option<&Path>) -> Result<Self, StoreError> {
        let (journal, groups): (Box<dyn Journal>, _) = match dir {
            Some(dir) => {
                let (journal, groups) = FileJournal::open(dir)?;
                (Box::new(journal), groups)
            }
            None => (Box::new(MemoryJournal), Vec::new()),
        };
        let (mut records, mut keys) = (Vec::new(), Keys::default());
        for group in groups {
            records.extend(group.records);
            group.keys.into_iter().for_each(|(key, id)| keys.remember(key, id));
        }
        let (desk, messages) = Desk::new(Engine::load(records));
        Ok(Self { journal, keys, evidence: Evidence::new(dir), desk, messages })
    }
}

impl Kept {
    /// Locks and reads the state directory of a configuration; without one, everything is in memory.
    fn open(config: Option<&Config>, left: Option<File>) -> Result<Self, ServeError> {
        let no_audit = ServeError::system("open the audit log");
        let Some(config) = config else {
            let (audit, audit_thread) = Audit::in_memory().map_err(no_audit)?;
            let deployments = KeptDeployments::open(None)?;
            let store = Box::new(MemoryStore::default());
            return Ok(Self { store, lock: None, loaded: Loaded::Nothing, audit, audit_thread, deployments });
        };
        let dir = &config.server.state_dir;
        let mut store = FileStore::take_over(dir, left)?;
        let lock = store.lock_file().map_err(ServeError::system("keep the lock of the state directory"))?;
        let loaded = store.load()?;
        if let Loaded::Previous { problem, .. } = &loaded {
            tracing::error!(problem, "the newest saved state cannot be used");
        }
        let recent = loaded.stored().map(|stored| stored.recent.clone()).unwrap_or_default();
        let (audit, audit_thread) = Audit::in_dir(dir, &recent).map_err(no_audit)?;
        let deployments = KeptDeployments::open(Some(dir))?;
        Ok(Self { store: Box::new(store), lock: Some(lock), loaded, audit, audit_thread, deployments })
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
    left: Left,
}

impl Parts {
    async fn live(self, up: Box<dyn FnOnce(Up) + Send>, predecessor: Option<Predecessor>) -> Result<(), ServeError> {
        let Self { path, config, secrets, kept, state, workers, routing, flags, left } = self;
        let mut signals = Signals::listen().map_err(ServeError::system("listen to signals"))?;
        let admin = bind_admin(&config, left.admin).await?;
        let heirloom = admin.heirloom().map_err(ServeError::system("keep the socket of the admin API"))?;
        let (signs, seen) = mpsc::channel(PASSIVE_QUEUE);
        let shared = Arc::new(Shared::new(
            &config,
            Arc::clone(&routing),
            signs,
            credentials::pin_keys(&secrets),
            Mirrors::new(),
        ));
        let (stop, stopping) = watch::channel(Phase::Serving);
        let plane = net::start(&config, &shared, &stopping, left.sockets)?;

        let (stats, events) = (Arc::<ControlStats>::default(), Arc::new(EventLog::new(unix_micros())));
        let audit = Arc::new(kept.audit);
        let first = routing.load_full();
        let controller = Controller {
            state,
            store: kept.store,
            routing: Arc::clone(&routing),
            workers,
            events: Arc::clone(&events),
            audit: Arc::clone(&audit),
            stats: Arc::clone(&stats),
            desk: Arc::clone(&kept.deployments.desk),
        };
        let (control, controller) = controller.start().map_err(ServeError::system("start the control thread"))?;
        let flags = FlagSources::start(flags, &control, &routing);
        let access = Arc::new(ArcSwap::from_pointee(credentials::access(&config, &secrets)));
        drop(secrets);
        let (in_force, certificates) = (Arc::clone(&access), Arc::clone(plane.certificates()));
        let around = Around {
            control: control.clone(),
            routing: Arc::clone(&routing),
            events: Arc::clone(&events),
            stats: Arc::clone(&stats),
            credentials: Credentials::new(&config, in_force, Arc::clone(&shared), certificates),
        };
        let path_of_state = path.is_some().then(|| config.server.state_dir.clone());
        let reloader = Arc::new(Reloader::new(path, Arc::clone(&config), around));
        let sinks = start_sinks(&config, &events, &routing).map_err(ServeError::system("start the event sinks"))?;
        let sink_families = sinks.families();
        let teller =
            Teller { events: Arc::clone(&events), audit: Arc::clone(&audit), routing: Arc::clone(&routing), sinks };
        let beside = Beside {
            rosters: Arc::clone(&shared.rosters),
            signs: shared.signs.clone(),
            entrances: Entrances::new(&config, plane.addresses()),
        };
        let (deployments, shell) = start_deployments(kept.deployments, &reloader, &control, beside, teller, &stats)
            .map_err(ServeError::system("start the thread of deployments"))?;
        let failovers = failover::Parts {
            routing: Arc::clone(&routing),
            control: control.clone(),
            grounds: Arc::clone(&deployments.grounds),
            desk: Arc::clone(&deployments.desk),
            events: Arc::clone(&events),
            audit: Arc::clone(&audit),
            stats: Arc::clone(&stats),
        };
        let failovers = FailoverHooks::start(failovers, first, path_of_state.as_deref());
        let watched = Arc::<WatchStats>::default();
        let stacks = start_stacks(&deployments, &reloader, &routing, &events, &watched);
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
        let further: Vec<metrics::Source> = vec![
            Box::new(move || counted.families()),
            Box::new(move || followed.families()),
            Box::new(sink_families),
            Box::new(move || watched.families()),
        ];
        let metrics = Metrics::new(shared, further);
        let (upgrades, mut calls) = mpsc::channel(1);
        let desk = Arc::clone(&deployments.desk);
        let process = ProxyProcess {
            routing: Arc::clone(&routing),
            control: control.clone(),
            events,
            audit,
            reloader: Arc::clone(&reloader),
            stats: Arc::clone(&stats),
            metrics,
            flags,
            upgrades,
            deployments,
        };
        let router = tidegate_admin::router(Arc::new(process), access);
        let (stop_admin, admin_stopped) = oneshot::channel::<()>();
        let admin = tokio::spawn(tidegate_admin::serve(admin, router, async {
            // Its sender going away means the same.
            let _ = admin_stopped.await;
        }));
        tracing::info!(generation = routing.load().generation.0, workers, "ready");
        up(Up { listeners, admin: address });
        tell_supervisor(predecessor.is_some());
        if let Some(predecessor) = predecessor {
            predecessor.ready();
        }

        let estate = Estate {
            config: &config,
            plane: &plane,
            desk: &desk,
            stacks: &stacks,
            failovers: &failovers,
            control: &control,
            lock: kept.lock,
            heirloom,
        };
        let successor = estate.until_stopped(&mut signals, &mut calls, &reloader).await;
        drop(calls);
        stats.set_stopping();
        tracing::info!("shutting down: running requests may finish");
        let _ = stop.send(Phase::Stopping);
        let mut ending = End {
            plane,
            stacks,
            desk,
            shell,
            failovers,
            control,
            controller,
            stop_admin: Some(stop_admin),
            admin,
            audit_thread: kept.audit_thread,
        };
        if successor == Successor::Serves {
            // Calls are for that one now.
            ending.stop_admin();
        }
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
    stacks: Stacks,
    desk: Arc<Desk>,
    shell: JoinHandle<()>,
    failovers: FailoverHooks,
    control: Control,
    controller: JoinHandle<()>,
    stop_admin: Option<oneshot::Sender<()>>,
    admin: tokio::task::JoinHandle<()>,
    audit_thread: AuditThread,
}

impl End {
    /// Takes no more calls; those that run may finish.
    fn stop_admin(&mut self) {
        // Its going away is the word.
        self.stop_admin = None;
    }

    /// Lets requests finish while the admin API still answers, then ends what changes things, then what shows them.
    async fn drain(mut self) {
        let stop_admin = self.stop_admin.take();
        self.stacks.stop().await;
        self.plane.join().await;
        self.desk.stop().await;
        self.failovers.stop().await;
        self.control.stop().await;
        drop(stop_admin);
        if self.admin.await.is_err() {
            tracing::error!("the admin API panicked");
        }
        let ended = tokio::task::spawn_blocking(move || {
            if self.shell.join().is_err() {
                tracing::error!("the thread of deployments panicked");
            }
            if self.controller.join().is_err() {
                tracing::error!("the control thread panicked");
            }
            self.audit_thread.join();
        });
        let _ = ended.await;
    }
}

/// Starts who tells the event sinks.
fn start_sinks(config: &Config, events: &Arc<EventLog>, routing: &Arc<Routing>) -> io::Result<Sinks> {
    let (events, routing) = (Arc::clone(events), Arc::clone(routing));
    let lost: Lost = Arc::new(move |sink, count| {
        let (at, generation) = (routing.now().unix_ms, routing.load().generation);
        let event = Event::SinkLost { sink: sink.clone(), count };
        report::log(&events.push(at, generation, "sinks", event));
    });
    Sinks::start(config, &config.server.state_dir, &lost)
}

/// What deployments see of the data plane.
struct Beside {
    rosters: Arc<Rosters>,
    signs: PassiveSigns,
    entrances: Entrances,
}

/// Starts the deployment engine, which first goes on with what an earlier process left.
fn start_deployments(
    kept: KeptDeployments,
    reloader: &Arc<Reloader>,
    control: &Control,
    beside: Beside,
    teller: Teller,
    stats: &Arc<ControlStats>,
) -> io::Result<(Orders, JoinHandle<()>)> {
    let KeptDeployments { journal, keys, evidence, desk, messages } = kept;
    let (routing, watches) = (Arc::clone(&teller.routing), Arc::<Watches>::default());
    let configured = Arc::clone(reloader);
    let grounds = Arc::new(Grounds::new(move || configured.config()));
    let handle = tokio::runtime::Handle::current();
    let hands = Hands::new(Tools {
        handle: handle.clone(),
        control: control.clone(),
        routing: Arc::clone(&routing),
        rosters: beside.rosters,
        signs: beside.signs,
        desk: Arc::clone(&desk),
        watches: Arc::clone(&watches),
        evidence,
        entrances: beside.entrances,
    });
    let shell = Shell {
        desk: Arc::clone(&desk),
        queue: messages,
        journal,
        keys,
        routing,
        grounds: Arc::clone(&grounds),
        acts: Box::new(hands),
        teller,
        stats: Arc::clone(stats),
    };
    let thread = shell.start(handle)?;
    Ok((Orders { desk, grounds, watches }, thread))
}

/// Starts the watch on folders of stacks, which orders deployments as the admin API does.
fn start_stacks(
    deployments: &Orders,
    reloader: &Arc<Reloader>,
    routing: &Arc<Routing>,
    events: &Arc<EventLog>,
    stats: &Arc<WatchStats>,
) -> Stacks {
    let configured = Arc::clone(reloader);
    let orders = Orders {
        desk: Arc::clone(&deployments.desk),
        grounds: Arc::clone(&deployments.grounds),
        watches: Arc::clone(&deployments.watches),
    };
    Stacks::start(stacks::Parts {
        config: Box::new(move || configured.config()),
        orders,
        routing: Arc::clone(routing),
        events: Arc::clone(events),
        stats: Arc::clone(stats),
    })
}

async fn bind_admin(config: &Config, left: Option<(AdminAddress, OwnedFd)>) -> Result<AdminListener, ServeError> {
    let listen = &config.admin.listen;
    let bound = match left {
        Some((address, socket)) if address == *listen => AdminListener::inherit(listen, socket),
        _ => AdminListener::bind(listen).await,
    };
    bound.map_err(|source| ServeError::Admin { address: address_text(listen), source })
}

fn address_text(address: &AdminAddress) -> String {
    match address {
        AdminAddress::Tcp(address) => address.to_string(),
        AdminAddress::Unix(path) => format!("unix:{}", path.display()),
    }
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

/// Tells a service manager that waits for it (systemd's `Type=notify`) that the process serves.
fn tell_supervisor(in_place_of_another: bool) {
    let pid = NotifyState::MainPid(std::process::id());
    let states = if in_place_of_another { vec![pid, NotifyState::Ready] } else { vec![NotifyState::Ready] };
    if let Err(error) = sd_notify::notify(false, &states) {
        tracing::warn!(%error, "the service manager could not be told that the process serves");
    }
}

/// Whether another process has taken this one's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Successor {
    /// It serves.
    Serves,
    /// There is none.
    None,
}

/// What this process can leave to another.
struct Estate<'a> {
    config: &'a Config,
    plane: &'a DataPlane,
    desk: &'a Desk,
    stacks: &'a Stacks,
    failovers: &'a FailoverHooks,
    control: &'a Control,
    lock: Option<File>,
    heirloom: Heirloom,
}

impl Estate<'_> {
    /// Does what signals and calls ask for, until one of them ends the process.
    async fn until_stopped(
        self,
        signals: &mut Signals,
        calls: &mut mpsc::Receiver<UpgradeCall>,
        reloader: &Arc<Reloader>,
    ) -> Successor {
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Stop => return Successor::None,
                    Signal::Reload => {
                        let reloader = Arc::clone(reloader);
                        // Its outcome is logged and told by `reload` itself.
                        tokio::spawn(async move { reloader.reload(Actor("signal".into()), false).await });
                    }
                },
                Some(UpgradeCall { actor, reply }) = calls.recv() => {
                    let begun = Instant::now();
                    tracing::info!(actor = actor.0, "a new process is started to take over");
                    let outcome = self.leave().await;
                    match &outcome {
                        Ok(pid) => tracing::info!(pid, "the new process has taken over"),
                        Err(error) => tracing::error!(%error, "no process has taken over"),
                    }
                    let left = outcome.is_ok();
                    let told = outcome.map(|pid| Upgraded { pid, took: begun.elapsed() });
                    // Whoever asked may be gone.
                    let _ = reply.send(told.map_err(|error| tidegate_admin::UpgradeError(error.to_string())));
                    if left {
                        self.heirloom.is_left();
                        return Successor::Serves;
                    }
                }
            }
        }
    }

    /// Starts another process and hands it everything; its number.
    async fn leave(&self) -> Result<u32, UpgradeError> {
        let Some(lock) = &self.lock else {
            return Err(UpgradeError::Impossible("this process runs without a configuration file: start it anew"));
        };
        let offer = Offer::make(&self.config.server.state_dir).await?;
        // Whoever asks for changes rests before the one who makes them.
        let stacks = self.stacks.pause().await;
        let deployments = self.desk.pause().await;
        let paused = self.control.pause().await;
        let failovers = self.failovers.rest();
        let sockets = self.plane.take_sockets();
        let copies = sockets.copy();
        self.plane.keep_sockets(sockets);
        let admin = Some((self.config.admin.listen.clone(), self.heirloom.socket()?));
        let pid = offer.hand_over(Legacy { sockets: copies?, admin, lock: lock.try_clone()? }).await?;
        for paused in paused.into_iter().chain(deployments).chain(stacks) {
            paused.handed_over();
        }
        failovers.handed_over();
        Ok(pid)
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
