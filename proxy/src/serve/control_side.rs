//! Everything that changes what the data plane serves: put together in the order in which one part needs another.

use std::{fs::File, io, sync::Arc, thread::JoinHandle, time::Duration};

use arc_swap::ArcSwap;
use tidegate_admin::{Access, EventLog};
use tidegate_config::Config;
use tidegate_core::{Event, State};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    Parts,
    error::ServeError,
    kept::{Kept, KeptDeployments},
    unix_micros,
};
use crate::{
    control::{
        controller::{Control, Controller},
        credentials::{self, Credentials},
        failover::{self, FailoverHooks},
        health,
        process::{ProxyProcess, UpgradeCall},
        reload::{Around, Reloader},
        report, resolve,
        stats::ControlStats,
    },
    deploy::{
        act::{Hands, Tools, Watches},
        desk::Desk,
        ground::Grounds,
        orders::Orders,
        previews::Entrances,
        shell::Shell,
        sinks::{Lost, Sinks},
        stacks::{self, Stacks, WatchStats},
        tell::Teller,
    },
    flags::FlagSources,
    lane::Shared,
    net::DataPlane,
    observe::metrics::{Metrics, Source},
    routing::{PassiveSign, Routing},
    state::{
        StateStore,
        audit::{Audit, AuditThread},
    },
};

/// Time between two looks at what only time changes: automatic failbacks, drains, and saving again.
const TICK: Duration = Duration::from_millis(500);

/// What changes things, as long as the process lives.
pub(super) struct ControlSide {
    pub(super) control: Control,
    pub(super) controller: JoinHandle<()>,
    pub(super) reloader: Arc<Reloader>,
    pub(super) desk: Arc<Desk>,
    pub(super) shell: JoinHandle<()>,
    pub(super) failovers: FailoverHooks,
    pub(super) stacks: Stacks,
    pub(super) stats: Arc<ControlStats>,
    /// None when another process tells them.
    pub(super) sinks: Option<Arc<Sinks>>,
    pub(super) audit_thread: AuditThread,
    /// That the state directory is ours, if there is one.
    pub(super) lock: Option<File>,
}

/// What the admin API serves, and to whom.
pub(super) struct Face {
    pub(super) process: ProxyProcess,
    pub(super) access: Arc<ArcSwap<Access>>,
}

/// The data plane, as far as the control side has to do with it.
pub(super) struct Served<'a> {
    pub(super) shared: Arc<Shared>,
    pub(super) plane: &'a DataPlane,
    /// What requests say about endpoints.
    pub(super) seen: mpsc::Receiver<PassiveSign>,
}

/// What nearly every part needs.
#[derive(Clone)]
struct Common {
    control: Control,
    routing: Arc<Routing>,
    events: Arc<EventLog>,
    audit: Arc<Audit>,
    stats: Arc<ControlStats>,
}

impl ControlSide {
    /// Starts everything, which first goes on with what an earlier process left.
    pub(super) fn start(
        parts: Parts,
        served: Served<'_>,
        upgrades: mpsc::Sender<UpgradeCall>,
    ) -> Result<(Self, Face), ServeError> {
        let Parts { path, config, secrets, kept, state, workers, routing, flags } = parts;
        let Served { shared, plane, seen } = served;
        let Kept { store, lock, loaded: _, audit, audit_thread, deployments } = kept;
        let first = routing.load_full();
        let writer = Writer { state, store, desk: Arc::clone(&deployments.desk), workers };
        let (common, controller) = Common::start(writer, routing, audit)?;
        let flags = FlagSources::start(flags, &common.control, &common.routing);
        let access = Arc::new(ArcSwap::from_pointee(credentials::access(&config, &secrets)));
        drop(secrets);
        let certificates = Arc::clone(plane.certificates());
        let credentials = Credentials::new(&config, Arc::clone(&access), Arc::clone(&shared), certificates);
        let state_dir = path.is_some().then(|| config.server.state_dir.clone());
        let reloader = Arc::new(Reloader::new(path, Arc::clone(&config), common.around(credentials)));
        let sinks = common.sinks(&config).map_err(ServeError::system("start the event sinks"))?;
        let (told, sinks) = (sinks.families(), Arc::new(sinks));
        let entrances = Entrances::new(&config, plane.addresses());
        let (orders, shell) = common
            .deployments(deployments, &reloader, &shared, entrances, Arc::clone(&sinks))
            .map_err(ServeError::system("start the thread of deployments"))?;
        let failovers = FailoverHooks::start(common.failovers(&orders), first, state_dir.as_deref());
        let watched = Arc::<WatchStats>::default();
        let stacks = common.stacks(&orders, &reloader, &watched);
        common.start_tasks(seen, &reloader);
        let (counted, followed) = (Arc::clone(&common.stats), Arc::clone(&flags));
        let further: Vec<Source> = vec![
            Box::new(move || counted.families()),
            Box::new(move || followed.families()),
            Box::new(told),
            Box::new(move || watched.families()),
        ];
        let Common { control, routing, events, audit, stats } = common;
        let side = Self {
            control: control.clone(),
            controller,
            reloader: Arc::clone(&reloader),
            desk: Arc::clone(&orders.desk),
            shell,
            failovers,
            stacks,
            stats: Arc::clone(&stats),
            sinks: Some(sinks),
            audit_thread,
            lock,
        };
        let process = ProxyProcess {
            routing,
            control,
            events,
            audit,
            reloader,
            stats,
            metrics: Metrics::new(shared, further),
            flags,
            upgrades,
            deployments: orders,
        };
        Ok((side, Face { process, access }))
    }
}

/// What the one writer of the state begins with.
struct Writer {
    state: Arc<State>,
    store: Box<dyn StateStore>,
    desk: Arc<Desk>,
    workers: usize,
}

impl Common {
    /// Starts the one writer of the state.
    fn start(writer: Writer, routing: Arc<Routing>, audit: Audit) -> Result<(Self, JoinHandle<()>), ServeError> {
        let Writer { state, store, desk, workers } = writer;
        let (events, audit) = (Arc::new(EventLog::new(unix_micros())), Arc::new(audit));
        let stats = Arc::<ControlStats>::default();
        let controller = Controller {
            state,
            store,
            routing: Arc::clone(&routing),
            workers,
            events: Arc::clone(&events),
            audit: Arc::clone(&audit),
            stats: Arc::clone(&stats),
            desk,
        };
        let (control, thread) = controller.start().map_err(ServeError::system("start the control thread"))?;
        Ok((Self { control, routing, events, audit, stats }, thread))
    }

    fn around(&self, credentials: Credentials) -> Around {
        let Self { control, routing, events, stats, .. } = self.clone();
        Around { control, routing, events, stats, credentials }
    }

    /// Starts who tells the event sinks.
    fn sinks(&self, config: &Config) -> io::Result<Sinks> {
        let (log, routing) = (Arc::clone(&self.events), Arc::clone(&self.routing));
        let lost: Lost = Arc::new(move |sink, count| {
            report::announce(&log, &routing, "sinks", Event::SinkLost { sink: sink.clone(), count });
        });
        Sinks::start(config, &config.server.state_dir, &self.events, &lost)
    }

    /// Starts the deployment engine, which first goes on with what an earlier process left.
    fn deployments(
        &self,
        kept: KeptDeployments,
        reloader: &Arc<Reloader>,
        shared: &Shared,
        entrances: Entrances,
        sinks: Arc<Sinks>,
    ) -> io::Result<(Orders, JoinHandle<()>)> {
        let KeptDeployments { journal, keys, evidence, desk, messages } = kept;
        let Self { control, routing, events, audit, stats } = self.clone();
        let watches = Arc::<Watches>::default();
        let configured = Arc::clone(reloader);
        let grounds = Arc::new(Grounds::new(move || configured.config()));
        let handle = tokio::runtime::Handle::current();
        let hands = Hands::new(Tools {
            handle: handle.clone(),
            control,
            routing: Arc::clone(&routing),
            rosters: Arc::clone(&shared.rosters),
            signs: shared.signs.clone(),
            desk: Arc::clone(&desk),
            watches: Arc::clone(&watches),
            evidence,
            entrances,
        });
        let shell = Shell {
            desk: Arc::clone(&desk),
            queue: messages,
            journal,
            keys,
            routing: Arc::clone(&routing),
            grounds: Arc::clone(&grounds),
            acts: Box::new(hands),
            teller: Teller { events, audit, routing, sinks },
            stats,
        };
        let thread = shell.start(handle)?;
        Ok((Orders { desk, grounds, watches }, thread))
    }

    fn failovers(&self, orders: &Orders) -> failover::Parts {
        let Self { control, routing, events, audit, stats } = self.clone();
        let (grounds, desk) = (Arc::clone(&orders.grounds), Arc::clone(&orders.desk));
        failover::Parts { routing, control, grounds, desk, events, audit, stats }
    }

    /// Starts the watch on folders of stacks, which orders deployments as the admin API does.
    fn stacks(&self, orders: &Orders, reloader: &Arc<Reloader>, stats: &Arc<WatchStats>) -> Stacks {
        let configured = Arc::clone(reloader);
        let orders = Orders {
            desk: Arc::clone(&orders.desk),
            grounds: Arc::clone(&orders.grounds),
            watches: Arc::clone(&orders.watches),
        };
        Stacks::start(stacks::Parts {
            config: Box::new(move || configured.config()),
            orders,
            routing: Arc::clone(&self.routing),
            events: Arc::clone(&self.events),
            stats: Arc::clone(stats),
        })
    }

    /// Starts what feeds the controller. These tasks end with the runtime.
    fn start_tasks(&self, seen: mpsc::Receiver<PassiveSign>, reloader: &Arc<Reloader>) {
        let Self { control, routing, .. } = self.clone();
        tokio::spawn(health::run(Arc::clone(&routing), control.clone(), seen));
        tokio::spawn(resolve::run(routing, control.clone()));
        let watching = Arc::clone(reloader);
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
}
