//! Runs the commands around failovers: one before a service moves, one after it has.
//!
//! Follows the published snapshots, as the health checks do: which command is to run stands in the state, so a missed
//! snapshot or a full queue loses none. Commands of one service never overlap. What a command makes of a failover is
//! decided by the core, which has a deadline of its own: nothing waits for this task.

mod left;

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tidegate_admin::{Actor, AuditEntry, EventLog, Recorded, Submission};
use tidegate_config::{HookUse, ServiceId, TargetId};
use tidegate_core::{
    Change, Event, Overlay, ServiceState, Snapshot,
    deploy::machine::{HookEnd, HookReport, Process},
    state::{Cause, FailoverStage, PreparationStage},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use self::left::Left;
pub(crate) use self::left::Resting;
use super::{controller::Control, report, rest, stats::ControlStats};
use crate::{
    deploy::{desk::Desk, ground::Grounds, hook},
    routing::Routing,
    state::audit::Audit,
};

/// Who acts.
const ACTOR: &str = "failover";
/// Exit code of a command that asks to be run again.
const NOT_YET: i32 = 75;
/// Time before it is.
const RUN_AGAIN: Duration = Duration::from_secs(1);
/// How long commands after a failover may go on when the process ends.
const GRACE: Duration = Duration::from_secs(10);
/// How long the end of a command that was told to end may take: longer than [`hook`] lets it.
const END: Duration = Duration::from_secs(20);

/// What the commands are run with.
pub(crate) struct Parts {
    /// The snapshots that are followed.
    pub(crate) routing: Arc<Routing>,
    /// Who is told of what a command made.
    pub(crate) control: Control,
    /// Commands that have names.
    pub(crate) grounds: Arc<Grounds>,
    /// What versions are called.
    pub(crate) desk: Arc<Desk>,
    /// Where everybody can read what happened.
    pub(crate) events: Arc<EventLog>,
    /// Where it is recorded.
    pub(crate) audit: Arc<Audit>,
    /// Where it is counted.
    pub(crate) stats: Arc<ControlStats>,
}

/// The end that the rest of the process holds.
#[derive(Debug)]
pub(crate) struct FailoverHooks {
    stop: mpsc::Sender<oneshot::Sender<()>>,
    left: Arc<Left>,
}

impl FailoverHooks {
    /// Follows the snapshots from this one on. Ends commands that an earlier process with the same directory left.
    pub(crate) fn start(parts: Parts, from: Arc<Snapshot>, dir: Option<&Path>) -> Self {
        let (left, found) = Left::open(dir);
        let left = Arc::new(left);
        let (stop, stopping) = mpsc::channel(1);
        let mut runner = Runner { parts: Arc::new(parts), left: Arc::clone(&left), seen: from, lines: HashMap::new() };
        for (service, process) in found {
            runner.end_of_earlier_life(service, process);
        }
        tokio::spawn(runner.run(stopping));
        Self { stop, left }
    }

    /// Another process may take over: from now on it is told nothing new of commands that run here, until the value is
    /// dropped.
    pub(crate) fn rest(&self) -> Resting {
        Resting::begin(&self.left)
    }

    /// Ends the commands: those before a failover at once, the others when they had some time.
    pub(crate) async fn stop(&self) {
        rest::stop(&self.stop, |done| done).await;
    }
}

/// The commands of one service, which run one after the other.
struct Line {
    /// The last of them.
    last: JoinHandle<()>,
    /// The run before a failover that is waited for.
    before: Option<(Duration, watch::Sender<bool>)>,
    /// How the commands after a failover are ended.
    after: Vec<watch::Sender<bool>>,
}

struct Runner {
    parts: Arc<Parts>,
    left: Arc<Left>,
    seen: Arc<Snapshot>,
    lines: HashMap<ServiceId, Line>,
}

impl Runner {
    async fn run(mut self, mut stopping: mpsc::Receiver<oneshot::Sender<()>>) {
        let mut published = self.parts.routing.published();
        loop {
            published.mark_unchanged();
            self.follow();
            tokio::select! {
                changed = published.changed() => if changed.is_err() { return },
                stop = stopping.recv() => {
                    self.end().await;
                    // Whoever asked may be gone.
                    let _ = stop.map(|done| done.send(()));
                    return;
                }
            }
        }
    }

    async fn end(self) {
        for line in self.lines.into_values() {
            let Line { mut last, before, after } = line;
            let kill = |kill: &watch::Sender<bool>| {
                kill.send_replace(true);
            };
            before.iter().for_each(|(_, before)| kill(before));
            if timeout(GRACE, &mut last).await.is_err() {
                after.iter().for_each(kill);
                let _ = timeout(END, last).await;
            }
        }
    }

    fn end_of_earlier_life(&mut self, service: ServiceId, process: Process) {
        let (left, of) = (Arc::clone(&self.left), service.clone());
        tracing::warn!(%service, "ending the command before a failover that an earlier process has left");
        let last = tokio::spawn(async move {
            hook::end(process).await;
            left.note(of, None).await;
        });
        self.lines.insert(service, Line { last, before: None, after: Vec::new() });
    }

    /// Looks at the services that have changed.
    fn follow(&mut self) {
        let now = self.parts.routing.load_full();
        let before = std::mem::replace(&mut self.seen, Arc::clone(&now));
        let mut old = before.services.iter().peekable();
        for service in &now.services {
            while old.next_if(|other| other.id < service.id).is_some() {}
            let was = old.next_if(|other| other.id == service.id);
            if was.is_some_and(|was| Arc::ptr_eq(was, service)) {
                continue;
            }
            if let Some(state) = now.state.services.get(&service.id) {
                self.follow_service(&service.id, before.state.services.get(&service.id), state);
            }
        }
        for (id, line) in &mut self.lines {
            if now.service_named(id).is_none() {
                line.end_before();
            }
        }
    }

    fn follow_service(&mut self, id: &ServiceId, was: Option<&Arc<ServiceState>>, now: &Arc<ServiceState>) {
        let wanted = now.preparation.as_ref().and_then(|preparation| match preparation.stage {
            PreparationStage::Running { begun } => Some(begun),
            PreparationStage::Held { .. } => None,
        });
        let line = self.lines.get_mut(id);
        if wanted != line.as_ref().and_then(|line| line.before.as_ref().map(|(run, _)| *run)) {
            if let Some(line) = line {
                line.end_before();
            }
            if let Some(run) = wanted {
                self.begin_before(id, now, run);
            }
        }
        let moves = |service: &ServiceState| service.overlay.as_ref().map(|on| (on.to.clone(), on.since_unix_ms));
        if let Some(overlay) = &now.overlay
            && was.and_then(|was| moves(was)) != moves(now)
        {
            self.begin_after(id, now, overlay);
        }
    }

    fn begin_before(&mut self, id: &ServiceId, service: &ServiceState, run: Duration) {
        let policy = service.spec.failover.as_ref();
        let (Some(preparation), Some(policy)) = (&service.preparation, policy) else { return };
        let Some(before) = &policy.hooks.before else { return };
        let circumstances = Circumstances {
            stage: FailoverStage::Before,
            from: &preparation.from,
            to: &preparation.to,
            cause: preparation.cause,
            reason: &preparation.reason,
        };
        let (argv, env, _) = command(&self.parts, id, before, &circumstances);
        let spent = self.parts.routing.now().mono.saturating_sub(run);
        let command = Command { argv, env, timeout: policy.hooks.before_timeout.saturating_sub(spent) };
        let (parts, left, of) = (Arc::clone(&self.parts), Arc::clone(&self.left), id.clone());
        let kill = self.then(id, |kill| async move {
            let Some(report) = command.run(&kill, Some((&left, &of))).await else { return };
            submit(&parts.control, Change::Prepared { service: of, run, failure: hook::failure(&report) }).await;
        });
        if let Some(line) = self.lines.get_mut(id) {
            line.before = Some((run, kill));
        }
    }

    fn begin_after(&mut self, id: &ServiceId, service: &ServiceState, overlay: &Overlay) {
        let Some(after) = service.spec.failover.as_ref().and_then(|policy| policy.hooks.after.as_ref()) else { return };
        let circumstances = Circumstances {
            stage: FailoverStage::After,
            from: &overlay.from,
            to: &overlay.to,
            cause: overlay.cause,
            reason: "",
        };
        let (argv, env, timeout) = command(&self.parts, id, after, &circumstances);
        let command = Command { argv, env, timeout };
        let (parts, of) = (Arc::clone(&self.parts), id.clone());
        let kill = self.then(id, |kill| async move {
            let report = command.run(&kill, None).await;
            let failure = report.map_or_else(|| Some("the proxy ended".into()), |report| hook::failure(&report));
            tell(&parts, of, failure);
        });
        if let Some(line) = self.lines.get_mut(id) {
            line.after.retain(|kill| !kill.is_closed());
            line.after.push(kill);
        }
    }

    /// Begins something when the commands before it are done; what ends it.
    fn then<F>(&mut self, id: &ServiceId, what: impl FnOnce(watch::Receiver<bool>) -> F) -> watch::Sender<bool>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (kill, killed) = watch::channel(false);
        let what = what(killed);
        let line = self.lines.remove(id);
        let (previous, after) = line.map_or_else(|| (None, Vec::new()), |line| (Some(line.last), line.after));
        let last = tokio::spawn(async move {
            if let Some(previous) = previous {
                // One that panicked is over, too.
                let _ = previous.await;
            }
            what.await;
        });
        self.lines.insert(id.clone(), Line { last, before: None, after });
        kill
    }
}

impl Line {
    fn end_before(&mut self) {
        if let Some((_, kill)) = self.before.take() {
            kill.send_replace(true);
        }
    }
}

/// What a command is told about its failover.
struct Circumstances<'a> {
    stage: FailoverStage,
    from: &'a TargetId,
    to: &'a TargetId,
    cause: Cause,
    reason: &'a str,
}

/// The program, its environment, and how long it may run.
fn command(
    parts: &Parts,
    id: &ServiceId,
    hook: &HookUse,
    circumstances: &Circumstances<'_>,
) -> (Vec<String>, BTreeMap<String, String>, Duration) {
    let Circumstances { stage, from, to, cause, reason } = circumstances;
    let config = parts.grounds.config();
    let (argv, timeout) = hook.program(&config.hooks);
    let engine = parts.desk.engine();
    let running = engine.memory(id).map(|memory| &memory.running);
    let version = |target: &TargetId| {
        let known = running.and_then(|running| running.get(target));
        known.map_or_else(|| target.to_string(), |running| running.version.name.clone())
    };
    let cause = match cause {
        Cause::Health => "health",
        Cause::Operator => "operator",
    };
    let env = [
        ("TIDEGATE_ROLE", format!("failover-{}", stage.name())),
        ("TIDEGATE_SERVICE", id.to_string()),
        ("TIDEGATE_FROM", from.to_string()),
        ("TIDEGATE_TO", to.to_string()),
        ("TIDEGATE_TARGET", to.to_string()),
        ("TIDEGATE_SLOT", to.to_string()),
        ("TIDEGATE_VERSION", version(to)),
        ("TIDEGATE_PREVIOUS", version(from)),
        ("TIDEGATE_CAUSE", cause.to_owned()),
        ("TIDEGATE_REASON", (*reason).to_owned()),
    ];
    let argv = argv.iter().map(|argument| argument.replace("{slot}", to.as_str())).collect();
    (argv, env.map(|(name, value)| (name.to_owned(), value)).into(), timeout)
}

/// A command that is to be run.
struct Command {
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    timeout: Duration,
}

impl Command {
    /// Runs it until it has more to say than "not yet", or its time is over. `None`: it was told to end.
    async fn run(self, kill: &watch::Receiver<bool>, note: Option<(&Arc<Left>, &ServiceId)>) -> Option<HookReport> {
        let until = tokio::time::Instant::now() + self.timeout;
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            let program = hook::Program { argv: &self.argv, env: &self.env, input: None, timeout: left };
            let mut noting = None;
            let started = |process| {
                let note = note.map(|(left, id)| left.note(id.clone(), Some(process)));
                noting = note.map(tokio::spawn);
            };
            let report = hook::execute(program, started, kill.clone()).await;
            if let (Some(noting), Some((left, id))) = (noting, note) {
                // The word of its end comes after the one of its beginning.
                let _ = noting.await;
                left.note(id.clone(), None).await;
            }
            if *kill.borrow() || report.end == HookEnd::Killed {
                return None;
            }
            if report.end != HookEnd::Exit(NOT_YET) || until <= tokio::time::Instant::now() + RUN_AGAIN {
                return Some(report);
            }
            let mut killed = kill.clone();
            tokio::select! {
                _ = killed.wait_for(|kill| *kill) => return None,
                () = sleep(RUN_AGAIN) => {}
            }
        }
    }
}

/// Tells the controller; if that is not possible, the deadline of the core decides.
async fn submit(control: &Control, change: Change) {
    let submission = Submission { change, expected: None, dry_run: false, actor: Actor(ACTOR.into()) };
    if let Err(error) = control.submit_patiently(submission).await {
        tracing::warn!(%error, "the end of a command before a failover could not be told");
    }
}

/// What became of a command after a failover: it is told, and changes nothing.
fn tell(parts: &Parts, service: ServiceId, failure: Option<String>) {
    parts.stats.failover_hook(&service, FailoverStage::After, failure.is_none());
    let event = Event::FailoverHook { service, hook: FailoverStage::After, failure };
    let recorded = report::announce(&parts.events, &parts.routing, ACTOR, event);
    let Recorded { at_unix_ms, generation, actor, event, .. } = recorded;
    parts.audit.append(AuditEntry { at_unix_ms, actor, from: generation, generation, events: vec![event] });
}
