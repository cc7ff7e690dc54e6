//! Carries out what the engine asks for: traffic, checks, commands, drains, watches.
//!
//! Traffic is set at once, by the controller, and its outcome is known before anything else is done. Everything else
//! runs beside the shell and answers when it is done. A deployment awaits one act at a time: when another check or drain
//! begins, or traffic goes back, the one before is given up, since nobody waits for it. Commands of one deployment never
//! overlap, but for the one that makes requests while an analysis lasts: nothing else waits for its end.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tidegate_admin::{Measured, Outcome as Submitted, Submission, SubmitError};
use tidegate_core::{
    Moment, Snapshot,
    deploy::{
        DeploymentId,
        machine::{Effect, HookCall, HookEnd, Input, Outcome, Process},
        step::{HookRole, HookStep},
    },
};
use tokio::{
    runtime::Handle,
    sync::watch,
    task::{AbortHandle, JoinHandle},
};

use super::{
    desk::{Desk, Message},
    drain,
    evidence::{Evidence, Found},
    hook,
    kill::Kill,
    previews::Entrances,
    shell::Acts,
    verify,
    watch::{Tell, Watch},
};
use crate::{
    control::controller::Control,
    net::Rosters,
    routing::{PassiveSign, PassiveSigns, Routing, Sign},
};

/// Time between two times that what watches have found is kept.
const CHECKPOINT: Duration = Duration::from_secs(10);
/// How long commands that make requests get to end with the process: more than they are waited for before they are killed.
const LOADS_END: Duration = Duration::from_secs(20);
/// Deployments that are over and whose numbers are still shown.
const SHOWN: usize = 100;

/// What is watched.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    running: Mutex<HashMap<DeploymentId, Watch>>,
    /// What was counted of deployments that are over; names sort by age.
    over: Mutex<BTreeMap<DeploymentId, Vec<Measured>>>,
}

impl Watches {
    fn with<T>(&self, id: &DeploymentId, ask: impl FnOnce(&Watch) -> T) -> Option<T> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).get(id).map(ask)
    }

    /// What was counted for a deployment.
    pub(super) fn measured(&self, id: &DeploymentId) -> Vec<Measured> {
        let over = || self.over.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        self.with(id, Watch::measured).or_else(over).unwrap_or_default()
    }

    /// Counts a conversion; `false`: nobody watches for it.
    pub(super) fn convert(&self, id: &DeploymentId, visitor: &str, goal: &str) -> bool {
        self.with(id, |watch| watch.convert(visitor, goal)).unwrap_or(false)
    }

    fn is_empty(&self) -> bool {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// What all of them have found, for a restart.
    fn found(&self) -> Found {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().map(|(id, watch)| (id.clone(), watch.checkpoint())).collect()
    }

    fn begin(&self, id: &DeploymentId, watch: Watch) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), watch);
    }

    fn end(&self, id: &DeploymentId) {
        let Some(watch) = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(id) else { return };
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        over.insert(id.clone(), watch.measured());
        while over.len() > SHOWN {
            over.pop_first();
        }
    }
}

/// What hands work with.
pub(crate) struct Tools {
    /// Where everything runs that is waited for.
    pub(crate) handle: Handle,
    /// Who changes traffic.
    pub(crate) control: Control,
    /// What is in force.
    pub(crate) routing: Arc<Routing>,
    /// Requests that run.
    pub(crate) rosters: Arc<Rosters>,
    /// Where health checks are told to look at an endpoint.
    pub(crate) signs: PassiveSigns,
    /// Where outcomes go.
    pub(crate) desk: Arc<Desk>,
    /// What is watched.
    pub(crate) watches: Arc<Watches>,
    /// What earlier watches found.
    pub(crate) evidence: Evidence,
    /// Where commands find what they test.
    pub(crate) entrances: Entrances,
}

/// Carries effects out.
pub(crate) struct Hands {
    tools: Tools,
    /// What watches of an earlier process found, until they go on.
    found: Found,
    /// When findings were last kept (monotonic), and the task that keeps them.
    kept: (Duration, Option<JoinHandle<()>>),
    /// The check or drain of each deployment that runs.
    looking: HashMap<DeploymentId, AbortHandle>,
    /// The latest command of each deployment.
    commands: HashMap<DeploymentId, Running>,
    /// The latest command of each deployment that makes requests for its analysis.
    loads: HashMap<DeploymentId, Running>,
    /// What was in force before a deployment last changed its traffic: endpoints that are gone since still drain.
    before: HashMap<DeploymentId, Arc<Snapshot>>,
}

/// A command that runs.
struct Running {
    op: u64,
    kill: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Hands {
    /// Hands that work with these tools.
    pub(crate) fn new(tools: Tools) -> Self {
        Self {
            found: tools.evidence.load(),
            tools,
            kept: (Duration::ZERO, None),
            looking: HashMap::new(),
            commands: HashMap::new(),
            loads: HashMap::new(),
            before: HashMap::new(),
        }
    }

    fn look(&mut self, id: &DeploymentId, task: impl Future<Output = ()> + Send + 'static) {
        let task = self.tools.handle.spawn(task);
        if let Some(before) = self.looking.insert(id.clone(), task.abort_handle()) {
            before.abort();
        }
        self.looking.retain(|_, task| !task.is_finished());
    }

    /// The commands among which one waits for the one before it.
    fn row(&mut self, role: HookRole) -> &mut HashMap<DeploymentId, Running> {
        if role == HookRole::Load { &mut self.loads } else { &mut self.commands }
    }

    fn command(&mut self, id: &DeploymentId, op: u64, call: HookCall, of_earlier_life: Option<Process>) {
        let (kill, killed) = watch::channel(false);
        let role = call.hook.role;
        let before = self.row(role).remove(id);
        let (desk, id_of_task) = (Arc::clone(&self.tools.desk), id.clone());
        let (routing, signs) = (Arc::clone(&self.tools.routing), self.tools.signs.clone());
        let task = self.tools.handle.spawn(async move {
            if let Some(before) = before {
                // It was told to end, or its own deadline ends it.
                let _ = before.task.await;
            }
            if let Some(process) = of_earlier_life {
                hook::end(process).await;
            }
            let (desk_of_start, id_of_start) = (Arc::clone(&desk), id_of_task.clone());
            let started = move |process| {
                let started = Input::HookStarted { op, process };
                tokio::spawn(async move { input(&desk_of_start, id_of_start, started).await });
            };
            let report = hook::run(&call, started, killed).await;
            if call.hook.role == HookRole::Start && report.end == HookEnd::Exit(0) {
                has_started(&call.hook, &routing, &signs);
            }
            input(&desk, id_of_task, Input::Done { op, outcome: Outcome::Hook(report) }).await;
        });
        let row = self.row(role);
        row.insert(id.clone(), Running { op, kill, task });
        row.retain(|_, running| !running.task.is_finished());
    }

    fn kill_command(&self, id: &DeploymentId, op: u64, process: Option<Process>) {
        let mut running = self.commands.get(id).into_iter().chain(self.loads.get(id));
        match (running.find(|running| running.op == op), process) {
            (Some(running), _) => drop(running.kill.send(true)),
            (None, Some(process)) => drop(self.tools.handle.spawn(hook::end(process))),
            (None, None) => {}
        }
    }

    fn tell(&self, id: &DeploymentId) -> Tell {
        let (desk, id, handle) = (Arc::clone(&self.tools.desk), id.clone(), self.tools.handle.clone());
        Arc::new(move |input| {
            let message = Message::Input(id.clone(), input);
            if let Err(tokio::sync::mpsc::error::TrySendError::Full(message)) = desk.messages().try_send(message) {
                let desk = Arc::clone(&desk);
                drop(handle.spawn(async move { drop(desk.messages().send(message).await) }));
            }
        })
    }
}

impl Drop for Hands {
    /// Nobody is judged any more by this process: it must not leave behind who makes requests for that.
    fn drop(&mut self) {
        let loads: Vec<_> = self.loads.drain().map(|(_, running)| running).collect();
        if loads.is_empty() {
            return;
        }
        for running in &loads {
            // One that has ended hears nothing any more.
            let _ = running.kill.send(true);
        }
        let ended = async {
            for running in loads {
                let _ = running.task.await;
            }
        };
        // Its own patience ends each; this is for a system that does not end what it is told to.
        let _ = self.tools.handle.block_on(async { tokio::time::timeout(LOADS_END, ended).await });
    }
}

/// Has the health checks look at what a command has started: they may have found it gone a moment ago, and have most of
/// their interval before them.
fn has_started(hook: &HookStep, routing: &Routing, signs: &PassiveSigns) {
    let snapshot = routing.load_full();
    let Some(service) = snapshot.service_named(&hook.service) else { return };
    let target = service.target_named(hook.target.as_str()).and_then(|idx| service.target(idx));
    for endpoint in target.iter().flat_map(|target| &target.endpoints) {
        let (service, target, endpoint) = (hook.service.clone(), hook.target.clone(), endpoint.address.clone());
        drop(signs.try_send(PassiveSign { service, target, endpoint, sign: Sign::Started }));
    }
}

/// Hands an input to the engine; nobody needs it when the process is going down.
async fn input(desk: &Desk, id: DeploymentId, input: Input) {
    let _ = desk.messages().send(Message::Input(id, input)).await;
}

impl Acts for Hands {
    fn submit(&mut self, submission: Submission) -> Result<Submitted, SubmitError> {
        if let tidegate_core::Change::Release { deployment, .. } = &submission.change
            && !submission.dry_run
        {
            if let Some(looking) = self.looking.remove(deployment) {
                looking.abort();
            }
            let engine = self.tools.desk.engine();
            self.before.retain(|id, _| engine.get(id).is_some_and(|deployment| deployment.is_active()));
            self.before.insert(deployment.clone(), self.tools.routing.load_full());
        }
        self.tools.handle.block_on(self.tools.control.submit_patiently(submission))
    }

    fn perform(&mut self, id: &DeploymentId, effect: Effect) {
        match effect {
            Effect::Verify { op, verify } => {
                let (routing, desk, of) = (Arc::clone(&self.tools.routing), Arc::clone(&self.tools.desk), id.clone());
                let signs = self.tools.signs.clone();
                self.look(id, async move {
                    let outcome = verify::run(&verify, &routing, &signs).await;
                    input(&desk, of, Input::Done { op, outcome }).await;
                });
            }
            Effect::Drain { op, drain } => {
                let (routing, desk, of) = (Arc::clone(&self.tools.routing), Arc::clone(&self.tools.desk), id.clone());
                let (before, rosters) = (self.before.get(id).cloned(), Arc::clone(&self.tools.rosters));
                self.look(id, async move {
                    drain::run(&drain, &routing, before, &rosters).await;
                    input(&desk, of, Input::Done { op, outcome: Outcome::Done }).await;
                });
            }
            Effect::Hook { op, mut call, kill } => {
                let (engine, snapshot) = (self.tools.desk.engine(), self.tools.routing.load_full());
                let service = call.hook.service.clone();
                self.tools.entrances.tell(&mut call.env, &service, id, &engine, &snapshot);
                if let Some(looking) = self.looking.remove(id) {
                    looking.abort();
                }
                self.command(id, op, *call, kill);
            }
            Effect::KillHook { op, process } => self.kill_command(id, op, process),
            Effect::Watch(spec) => {
                let watch = {
                    let _inside = self.tools.handle.enter();
                    let (routing, tell) = (Arc::clone(&self.tools.routing), self.tell(id));
                    match self.found.remove(id) {
                        Some(found) => Watch::restore(id.clone(), spec, found, routing, tell),
                        None => Watch::start(id.clone(), spec, routing, tell),
                    }
                };
                self.tools.watches.begin(id, watch);
            }
            Effect::Window { op, length, mode } => {
                if self.tools.watches.with(id, |watch| watch.window(op, length, mode)).is_none() {
                    tracing::error!(deployment = %id, "a window of the analysis was asked for without a watch");
                }
            }
            Effect::StopWatch => self.tools.watches.end(id),
            // The shell does these itself.
            Effect::Release { .. } | Effect::Tell(_) => {}
        }
    }

    fn kill(&mut self, kill: Kill) {
        drop(self.tools.handle.spawn(kill.run(self.tools.control.clone(), Arc::clone(&self.tools.desk))));
    }

    fn checkpoint(&mut self, now: Moment) {
        let (last, task) = &mut self.kept;
        let busy = task.as_ref().is_some_and(|task| !task.is_finished());
        if busy || now.mono.saturating_sub(*last) < CHECKPOINT || self.tools.watches.is_empty() {
            return;
        }
        *last = now.mono;
        let (watches, evidence) = (Arc::clone(&self.tools.watches), self.tools.evidence.clone());
        *task = Some(self.tools.handle.spawn_blocking(move || evidence.save(&watches.found())));
    }

    fn leave(&mut self) {
        // One that is at work would replace what is written here.
        if let Some(task) = self.kept.1.take() {
            let _ = self.tools.handle.block_on(task);
        }
        if !self.tools.watches.is_empty() {
            self.tools.evidence.save(&self.tools.watches.found());
        }
    }
}
