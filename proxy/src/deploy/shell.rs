//! The thread that owns the engine: it lets the engine decide, writes the decision down, takes it over, and has it
//! carried out, in this order.
//!
//! What must be written and cannot be leaves everything as it was: an order is refused, and what came of an act waits
//! here until it can be written. What leads away from trouble (a rollback) is carried out all the same. Each deployment
//! is decided about on its own, so that the trouble of one never lets another pass unwritten.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use tidegate_admin::{Actor, OrderError, Outcome as Submitted, Submission, SubmitError};
use tidegate_config::ServiceId;
use tidegate_core::{
    Change, Generation, Moment, Snapshot,
    deploy::{
        DeploymentId,
        engine::{Decision, Engine, Record, World},
        machine::{Effect, Input, Outcome, Write},
        memory::Note,
    },
};
use tokio::{runtime::Handle, sync::mpsc};

use super::{
    desk::{Desk, Message},
    ground::{Ground, Grounds},
    ids::Ids,
    journal::{Group, Journal},
    kill::Kill,
    orders::Keys,
    tell::Teller,
};
use crate::{
    control::{rest::Then, stats::ControlStats},
    routing::Routing,
    state::StoreError,
};

/// Time between two attempts to write down what could not be written.
const WRITE_AGAIN: Duration = Duration::from_secs(1);
/// Longest wait for a message: what nothing wakes us for is looked at this often.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Shortest wait for a message while something is due that could not be done.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);
/// Of deployments that changed so shortly before the last one did, a sink may not have heard everything.
const RECALLED_MS: u64 = 60_000;
/// Inputs of one deployment that wait to be written: an act has one outcome, so it is only reached by verdicts.
const WAITING: usize = 256;

/// What carries effects out.
pub(crate) trait Acts: Send + 'static {
    /// Has the traffic changed, and waits until it is.
    fn submit(&mut self, submission: Submission) -> Result<Submitted, SubmitError>;

    /// Begins something whose outcome comes as an input later. Never waits.
    fn perform(&mut self, id: &DeploymentId, effect: Effect);

    /// Begins to stop versions by hand. Never waits.
    fn kill(&mut self, kill: Kill);

    /// What is to be known of the watches after a restart is written down, if its time has come. Never waits long.
    fn checkpoint(&mut self, now: Moment);

    /// The process ends: what the next one needs is written down.
    fn leave(&mut self);
}

/// What the shell works with.
pub(crate) struct Shell {
    /// Where messages come from, and where the engine is shown.
    pub(crate) desk: Arc<Desk>,
    /// Where messages come out.
    pub(crate) queue: mpsc::Receiver<Message>,
    /// Where decisions are written down.
    pub(crate) journal: Box<dyn Journal>,
    /// Keys of requests that created a deployment.
    pub(crate) keys: Keys,
    /// The services, and the clock.
    pub(crate) routing: Arc<Routing>,
    /// What the configuration says.
    pub(crate) grounds: Arc<Grounds>,
    /// What carries effects out.
    pub(crate) acts: Box<dyn Acts>,
    /// Where it is told.
    pub(crate) teller: Teller,
    /// Where alarms are raised.
    pub(crate) stats: Arc<ControlStats>,
}

impl Shell {
    /// Starts the shell's thread, which first goes on with what a restart interrupted. It ends with [`Desk::stop`].
    pub(crate) fn start(self, handle: Handle) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("deployments".into()).spawn(move || {
            let Self { desk, queue, journal, keys, routing, grounds, acts, teller, stats } = self;
            let clock = Arc::clone(&routing);
            let now = Box::new(move || clock.now());
            let core = Core { desk, journal, keys, routing, grounds, acts, teller, stats, now };
            Running::new(core).run(&handle, queue);
        })
    }
}

/// [`Shell`] without its queue, and with the clock that a test sets.
pub(super) struct Core {
    pub(super) desk: Arc<Desk>,
    pub(super) journal: Box<dyn Journal>,
    pub(super) keys: Keys,
    pub(super) routing: Arc<Routing>,
    pub(super) grounds: Arc<Grounds>,
    pub(super) acts: Box<dyn Acts>,
    pub(super) teller: Teller,
    pub(super) stats: Arc<ControlStats>,
    pub(super) now: Box<dyn Fn() -> Moment + Send>,
}

/// What waits to be decided and written down.
#[derive(Debug)]
enum Waiting {
    /// The deployment is to go on after a restart.
    Recover,
    /// Something happened to it.
    Input(Input),
}

/// Whether the process goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Serving,
    /// What is decided is still written down, but not begun: the next process does.
    Leaving,
}

pub(super) struct Running {
    pub(super) core: Core,
    pub(super) engine: Arc<Engine>,
    pub(super) ids: Ids,
    /// Services of which somebody stops versions by hand.
    pub(super) stopping: BTreeSet<ServiceId>,
    /// Outcomes that came at once.
    inbox: VecDeque<(DeploymentId, Input)>,
    /// The engine whose previews were last said.
    previewed: Option<Arc<Engine>>,
    /// What could not be written down, in its order.
    stuck: BTreeMap<DeploymentId, VecDeque<Waiting>>,
    /// Whether the journal lacks something that was carried out all the same.
    behind: bool,
    /// Whether what waited for another deployment before a restart was not begun yet.
    recovering: bool,
    /// When the journal is tried again (monotonic).
    again_at: Duration,
    life: Life,
}

/// What the engine decides by.
pub(super) struct View {
    snapshot: Arc<Snapshot>,
    pub(super) ground: Arc<Ground>,
    pub(super) now: Moment,
}

impl View {
    pub(super) fn generation(&self) -> Generation {
        self.snapshot.generation
    }

    pub(super) fn world(&self) -> World<'_> {
        World {
            services: &self.snapshot.state.services,
            environments: &self.ground.environments,
            stages: &self.ground.stages,
        }
    }
}

/// Who acts when nobody asked.
pub(super) fn itself() -> Actor {
    Actor("deployments".into())
}

impl Running {
    pub(super) fn new(core: Core) -> Self {
        let engine = core.desk.engine();
        Self {
            core,
            engine,
            ids: Ids::default(),
            stopping: BTreeSet::new(),
            inbox: VecDeque::new(),
            previewed: None,
            stuck: BTreeMap::new(),
            behind: false,
            recovering: false,
            again_at: Duration::ZERO,
            life: Life::Serving,
        }
    }

    fn run(mut self, handle: &Handle, mut queue: mpsc::Receiver<Message>) {
        self.recover();
        loop {
            let wait = self.wait();
            let message = handle.block_on(async { tokio::time::timeout(wait, queue.recv()).await });
            match message {
                Ok(Some(Message::Stop(done))) => {
                    self.leave(&mut queue);
                    let _ = done.send(());
                    return;
                }
                Ok(Some(Message::Pause(pause))) => {
                    self.core.acts.leave();
                    if pause.blocking_rest() == Then::HandedOver {
                        // The sinks are the new process's now: it waits until they are let go of here.
                        drop(self.core.teller);
                        return refuse_all(queue);
                    }
                }
                Ok(Some(message)) => self.take(message),
                Ok(None) => return,
                Err(_) => {}
            }
            self.turn();
        }
    }

    /// Goes on with what the end of an earlier process interrupted.
    pub(super) fn recover(&mut self) {
        let last = self.engine.iter().map(|deployment| deployment.updated_unix_ms).max().unwrap_or(0);
        let of_the_end = self.engine.iter().filter(|deployment| deployment.updated_unix_ms + RECALLED_MS >= last);
        self.core.teller.recall(of_the_end.map(|deployment| &**deployment));
        for id in self.engine.iter().map(|deployment| deployment.id.clone()).collect::<Vec<_>>() {
            self.wait_for(&id, Waiting::Recover);
        }
        self.recovering = true;
        self.turn();
    }

    /// Does everything that can be done now.
    pub(super) fn turn(&mut self) {
        self.settle();
        let reports = self.core.desk.take_reports();
        if !reports.is_empty() {
            let view = self.look();
            let decision = self.engine.health(&reports, view.world(), view.now);
            // It is either history, which may be lost, or a rollback, which is not held up.
            self.commit_anyway(decision);
        }
        self.write_again();
        self.tick();
        self.settle();
        self.keep_previews();
        self.core.stats.set_deployments_unsaved(self.behind || !self.stuck.is_empty());
        let now = (self.core.now)();
        self.core.acts.checkpoint(now);
    }

    /// How long nothing has to be done.
    pub(super) fn wait(&self) -> Duration {
        let now = (self.core.now)().mono;
        let due = self.engine.iter().filter(|d| !self.stuck.contains_key(&d.id)).filter_map(|d| d.wakes_at()).min();
        let again = (self.behind || self.recovering || !self.stuck.is_empty()).then_some(self.again_at);
        match due.into_iter().chain(again).min() {
            Some(at) => at.saturating_sub(now).clamp(SHORTEST_WAIT, LONGEST_WAIT),
            None => LONGEST_WAIT,
        }
    }

    pub(super) fn take(&mut self, message: Message) {
        match message {
            Message::Order { order, dry_run, actor, reply } => self.order(*order, dry_run, actor, reply),
            Message::Input(id, input) => self.give(id, input),
            Message::Stopped(service, target) => {
                let view = self.look();
                let decision = self.engine.note(&service, Note::Stopped(target), view.world(), view.now);
                self.commit_anyway(decision);
            }
            Message::Killed { service, answer, reply } => {
                self.stopping.remove(&service);
                let _ = reply.send(*answer);
            }
            // The reports are looked at in each turn; pauses and the end are handled by the loop.
            Message::Health | Message::Pause(_) | Message::Stop(_) => {}
        }
    }

    /// Writes down what has come, but begins nothing any more.
    fn leave(&mut self, queue: &mut mpsc::Receiver<Message>) {
        self.life = Life::Leaving;
        while let Ok(message) = queue.try_recv() {
            if let Message::Input(id, input) = message {
                self.give(id, input);
            }
        }
        self.settle();
        self.core.acts.leave();
        if self.behind && self.rewrite().is_err() {
            tracing::error!("what deployments decided last could not be saved: the next start goes on before it");
        }
    }

    pub(super) fn look(&self) -> View {
        View { snapshot: self.core.routing.load_full(), ground: self.core.grounds.now(), now: (self.core.now)() }
    }

    /// Decides about outcomes that came at once, until none is left.
    fn settle(&mut self) {
        while let Some((id, input)) = self.inbox.pop_front() {
            self.give(id, input);
        }
    }

    fn give(&mut self, id: DeploymentId, input: Input) {
        if self.stuck.contains_key(&id) {
            return self.wait_for(&id, Waiting::Input(input));
        }
        if let Err(error) = self.try_give(&id, &Waiting::Input(input.clone())) {
            tracing::error!(deployment = %id, %error, "a decision cannot be saved: it waits until it can");
            self.again_at = (self.core.now)().mono + WRITE_AGAIN;
            self.wait_for(&id, Waiting::Input(input));
        }
    }

    fn wait_for(&mut self, id: &DeploymentId, waiting: Waiting) {
        let queue = self.stuck.entry(id.clone()).or_default();
        if queue.len() >= WAITING {
            tracing::error!(deployment = %id, "too much waits to be saved: the latest is dropped");
            return;
        }
        queue.push_back(waiting);
    }

    fn try_give(&mut self, id: &DeploymentId, waiting: &Waiting) -> Result<(), StoreError> {
        let view = self.look();
        let decision = match waiting {
            Waiting::Recover => self.engine.recover(id, view.world(), view.now),
            Waiting::Input(input) => self.engine.input(id, input.clone(), view.world(), view.now),
        };
        self.commit(decision, Vec::new(), &itself())
    }

    /// Tries once more what could not be written down.
    fn write_again(&mut self) {
        let now = (self.core.now)().mono;
        if now < self.again_at || !(self.behind || self.recovering || !self.stuck.is_empty()) {
            return;
        }
        self.again_at = now + WRITE_AGAIN;
        if self.behind && self.rewrite().is_err() {
            return;
        }
        for id in self.stuck.keys().cloned().collect::<Vec<_>>() {
            if !self.unstick(&id) {
                return;
            }
        }
        if self.recovering {
            let view = self.look();
            let decision = self.engine.begin_queued(view.world(), view.now);
            self.recovering = self.commit(decision, Vec::new(), &itself()).is_err();
        }
    }

    /// Whether everything of a deployment could be written down.
    fn unstick(&mut self, id: &DeploymentId) -> bool {
        while let Some(waiting) = self.stuck.get_mut(id).and_then(VecDeque::pop_front) {
            if let Err(error) = self.try_give(id, &waiting) {
                tracing::error!(deployment = %id, %error, "a decision still cannot be saved: it waits until it can");
                self.stuck.entry(id.clone()).or_default().push_front(waiting);
                return false;
            }
        }
        self.stuck.remove(id);
        true
    }

    /// Lets every deployment go on whose time has come.
    fn tick(&mut self) {
        let now = (self.core.now)().mono;
        let due =
            |id: &DeploymentId, at: Option<Duration>| at.is_some_and(|at| at <= now) && !self.stuck.contains_key(id);
        let due = self.engine.iter().filter(|d| due(&d.id, d.wakes_at())).map(|d| d.id.clone());
        for id in due.collect::<Vec<_>>() {
            self.give(id, Input::Tick);
        }
    }

    /// Takes over what need not be written down, or is carried out all the same.
    fn commit_anyway(&mut self, mut decision: Decision) {
        decision.write = decision.write.min(Write::BestEffort);
        // Best effort is never refused.
        let _ = self.commit(decision, Vec::new(), &itself());
    }

    /// Writes a decision down, takes it over, and has it carried out. On an error nothing has changed.
    pub(super) fn commit(
        &mut self,
        decision: Decision,
        keys: Vec<(String, DeploymentId)>,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let Decision { engine, write, records, effects } = decision;
        let engine = Arc::new(engine);
        let touched: Vec<DeploymentId> = records.iter().filter_map(touched).cloned().collect();
        if write != Write::No {
            let written = self.write(&engine, Group { records, keys: keys.clone() });
            match (written, write) {
                (Ok(()), _) => {}
                (Err(error), Write::Required) => return Err(error),
                (Err(error), _) => self.fall_behind(&error, actor),
            }
        }
        for (key, id) in keys {
            self.core.keys.remember(key, id);
        }
        self.engine = engine;
        self.core.desk.show(&self.engine);
        for id in &touched {
            self.is_recovered(id);
        }
        self.keep_previews();
        for (id, effect) in effects {
            self.perform(&id, effect, actor);
        }
        Ok(())
    }

    /// Says which versions are under test, before anything is done for them: nobody else is to reach them.
    fn keep_previews(&mut self) {
        let said = self.previewed.as_ref().is_some_and(|engine| Arc::ptr_eq(engine, &self.engine));
        if said || self.life == Life::Leaving {
            return;
        }
        let previews = self.engine.previews();
        if previews != *self.core.routing.load().state.previews {
            let change = Change::Previews { previews };
            let submission = Submission { change, expected: None, dry_run: false, actor: itself() };
            if let Err(error) = self.core.acts.submit(submission) {
                tracing::error!(%error, "what is under test could not be set apart: it is tried again");
                self.previewed = None;
                return;
            }
        }
        self.previewed = Some(Arc::clone(&self.engine));
    }

    /// A deployment that was decided about with the deadlines of this process needs no recovery any more.
    fn is_recovered(&mut self, id: &DeploymentId) {
        if let Some(queue) = self.stuck.get_mut(id) {
            queue.retain(|waiting| !matches!(waiting, Waiting::Recover));
            if queue.is_empty() {
                self.stuck.remove(id);
            }
        }
    }

    fn write(&mut self, next: &Arc<Engine>, group: Group) -> Result<(), StoreError> {
        if self.behind {
            // The engine as it will be has everything that is missing.
            let keys = self.core.keys.with(&group.keys);
            self.core.journal.rewrite(&groups(next, keys))?;
            self.caught_up();
            return Ok(());
        }
        self.core.journal.append(&group)?;
        if self.core.journal.is_long() {
            let keys = self.core.keys.with(&group.keys);
            if let Err(error) = self.core.journal.rewrite(&groups(next, keys)) {
                tracing::warn!(%error, "the journal of deployments could not be written anew: it grows for now");
            }
        }
        Ok(())
    }

    fn rewrite(&mut self) -> Result<(), StoreError> {
        let groups = groups(&self.engine, self.core.keys.with(&[]));
        self.core.journal.rewrite(&groups).inspect(|()| self.caught_up())
    }

    fn fall_behind(&mut self, error: &StoreError, actor: &Actor) {
        self.again_at = (self.core.now)().mono + WRITE_AGAIN;
        if !std::mem::replace(&mut self.behind, true) {
            self.core.teller.unsaved(format!("the journal of deployments: {error}"), actor);
        }
    }

    fn caught_up(&mut self) {
        self.behind = false;
        tracing::info!("the journal of deployments is saved again");
    }

    fn perform(&mut self, id: &DeploymentId, effect: Effect, actor: &Actor) {
        match effect {
            Effect::Tell(entries) => {
                if let Some(deployment) = self.engine.get(id) {
                    self.core.teller.tell(deployment, &entries, actor);
                }
            }
            _ if self.life == Life::Leaving => {}
            Effect::Release { op, services, cause } => {
                let change = Change::Release { deployment: id.clone(), services, cause };
                let actor = Actor(format!("deployment {id}"));
                let submission = Submission { change, expected: None, dry_run: false, actor };
                let outcome = match self.core.acts.submit(submission) {
                    Ok(_) => Outcome::Done,
                    Err(error) => Outcome::Failed(error.to_string()),
                };
                self.inbox.push_back((id.clone(), Input::Done { op, outcome }));
            }
            Effect::Verify { .. }
            | Effect::Hook { .. }
            | Effect::KillHook { .. }
            | Effect::Drain { .. }
            | Effect::Watch(_)
            | Effect::Window { .. }
            | Effect::StopWatch => self.core.acts.perform(id, effect),
        }
    }
}

/// What is left to do where another process decides now: to say so. It goes on from the journal, and ends commands that
/// still run.
fn refuse_all(mut queue: mpsc::Receiver<Message>) {
    while let Some(message) = queue.blocking_recv() {
        match message {
            Message::Order { reply, .. } => {
                let _ = reply.send(Err(OrderError::Busy("a new process has taken over: try again")));
            }
            Message::Stop(done) => {
                let _ = done.send(());
                return;
            }
            Message::Input(..) | Message::Health | Message::Stopped(..) | Message::Pause(_) => {}
            Message::Killed { answer, reply, .. } => drop(reply.send(*answer)),
        }
    }
}

/// The deployment that a record is about.
fn touched(record: &Record) -> Option<&DeploymentId> {
    match record {
        Record::Deployment { deployment } => Some(&deployment.id),
        Record::Memory { .. } | Record::Bracket { .. } | Record::ForgottenBracket { .. } | Record::Forgotten { .. } => {
            None
        }
    }
}

/// Everything as groups, one for each record so that no line is longer than what it holds.
fn groups(engine: &Engine, keys: Vec<(String, DeploymentId)>) -> Vec<Group> {
    let records = engine.records().into_iter();
    let mut groups: Vec<Group> = records.map(|record| Group { records: vec![record], keys: Vec::new() }).collect();
    groups.push(Group { records: Vec::new(), keys });
    groups
}

#[cfg(test)]
mod tests;
