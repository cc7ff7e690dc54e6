//! Orders: what people and programs want of the deployment engine, and what they are answered.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use async_trait::async_trait;
use tidegate_admin::{Actor, Deployments, Measured, Order, OrderError, Placed, Submission, SubmitError};
use tidegate_config::{ServiceId, TargetId};
use tidegate_core::{
    Change, ServiceState,
    change::{Release, ReleaseCause},
    deploy::{
        DeploymentId, DeploymentSpec, Environment,
        engine::{Create, Decision, Engine, EngineError},
        machine::{Refusal, Write},
        shadow,
        spec::SpecProblem,
        stage::Stages,
    },
};
use tokio::sync::{mpsc, oneshot};

use super::{
    act::Watches,
    desk::{Desk, Message, Reply},
    files,
    ground::Grounds,
    kill::Kill,
    shell::Running,
};

/// Tries of a change by hand while others change something: only health changes as often as that.
const TRIES: u32 = 20;
/// Keys of requests that are remembered: far more than clients repeat before they give up.
const KEYS: usize = 1_000;

/// Keys of requests that created a deployment, so that a repeated request creates no second one.
#[derive(Debug, Default)]
pub(crate) struct Keys(VecDeque<(String, DeploymentId)>);

impl Keys {
    /// Remembers a key; the oldest is forgotten if need be.
    pub(crate) fn remember(&mut self, key: String, id: DeploymentId) {
        self.0.retain(|(known, _)| *known != key);
        self.0.push_back((key, id));
        while self.0.len() > KEYS {
            self.0.pop_front();
        }
    }

    fn get(&self, key: &str) -> Option<&DeploymentId> {
        self.0.iter().rev().find(|(known, _)| known == key).map(|(_, id)| id)
    }

    /// All that are known, and further ones.
    pub(super) fn with(&self, more: &[(String, DeploymentId)]) -> Vec<(String, DeploymentId)> {
        self.0.iter().chain(more).cloned().collect()
    }
}

/// The deployment engine as the admin API sees it.
pub(crate) struct Orders {
    /// Where orders are left.
    pub(crate) desk: Arc<Desk>,
    /// What the configuration says.
    pub(crate) grounds: Arc<Grounds>,
    /// What is counted.
    pub(crate) watches: Arc<Watches>,
}

#[async_trait]
impl Deployments for Orders {
    fn engine(&self) -> Arc<Engine> {
        self.desk.engine()
    }

    fn stages(&self) -> Arc<Stages> {
        Arc::clone(&self.grounds.now().stages)
    }

    fn hook_names(&self) -> BTreeSet<String> {
        self.grounds.now().hooks.clone()
    }

    async fn place(&self, order: Order, dry_run: bool, actor: Actor) -> Result<Placed, OrderError> {
        const GOING_DOWN: OrderError = OrderError::Busy("the process is going down");
        let order = self.identified(order).await?;
        let (reply, answer) = oneshot::channel();
        let message = Message::Order { order: Box::new(order), dry_run, actor, reply };
        self.desk.messages().try_send(message).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => OrderError::Busy("too many orders wait: try again"),
            mpsc::error::TrySendError::Closed(_) => GOING_DOWN,
        })?;
        answer.await.unwrap_or(Err(GOING_DOWN))
    }

    fn measured(&self, id: &DeploymentId) -> Vec<Measured> {
        self.watches.measured(id)
    }

    fn convert(&self, id: &DeploymentId, visitor: &str, goal: &str) -> bool {
        self.watches.convert(id, visitor, goal)
    }
}

impl Orders {
    /// An order whose versions have the digests of their files.
    async fn identified(&self, mut order: Order) -> Result<Order, OrderError> {
        let (patterns, members) = match &mut order {
            Order::Create { spec, .. } | Order::OpenBracket { spec, .. } => {
                (spec.fingerprint.clone(), spec.members.as_mut_slice())
            }
            Order::AddToBracket { name, members } => {
                let patterns = self.desk.engine().bracket(name).map(|bracket| bracket.spec.fingerprint.clone());
                (patterns.unwrap_or_default(), members.as_mut_slice())
            }
            _ => return Ok(order),
        };
        if patterns.is_empty() || members.iter().all(|member| member.digest.is_some()) {
            return Ok(order);
        }
        // Reads files, which may take its time.
        let digest = tokio::task::spawn_blocking(move || files::digest(&patterns)).await;
        let problem = |message: String| {
            OrderError::Engine(EngineError::Invalid(vec![SpecProblem { path: "fingerprint".into(), message }]))
        };
        let digest = digest.map_err(|panic| problem(panic.to_string()))?;
        let digest = digest.map_err(|error| problem(error.to_string()))?;
        for member in members {
            member.digest.get_or_insert_with(|| digest.clone());
        }
        Ok(order)
    }
}

/// What an order is about, for its answer.
enum About {
    Deployment(DeploymentId),
    Bracket(String),
    Release(String, DeploymentId),
    Nothing,
}

impl Running {
    /// Carries an order out and answers it.
    pub(super) fn order(&mut self, order: Order, dry_run: bool, actor: Actor, reply: Reply) {
        if let Order::Kill { service, target } = order {
            return self.kill(service, target, dry_run, actor, reply);
        }
        let placed = self.place(order, dry_run, &actor);
        // Whoever asked may be gone; the order is carried out all the same.
        let _ = reply.send(placed);
    }

    fn place(&mut self, order: Order, dry_run: bool, actor: &Actor) -> Result<Placed, OrderError> {
        let view = self.look();
        let (world, now) = (view.world(), view.now);
        let engine = Arc::clone(&self.engine);
        match order {
            Order::Create { spec, execute, key } => self.create(*spec, execute, key, dry_run, actor),
            Order::Execute(id) => {
                self.must_be_left_alone(engine.get(&id).map(|d| &d.spec))?;
                self.finish(engine.execute(&id, world, now)?, About::Deployment(id), None, dry_run, actor)
            }
            Order::Command(id, command) => {
                let decision = engine.command(&id, command, world, now)?;
                self.finish(decision, About::Deployment(id), None, dry_run, actor)
            }
            Order::Retry(id) => {
                self.must_be_left_alone(engine.get(&id).map(|d| &d.spec))?;
                let new = self.name();
                let decision = engine.retry(&id, new.clone(), world, now)?;
                let begun = decision.engine.execute(&new, world, now)?;
                let decision = Decision { write: Write::Required, ..both(decision, begun) };
                self.finish(decision, About::Deployment(new), None, dry_run, actor)
            }
            Order::Mark(service, mark) => {
                let decision = engine.mark(&service, mark, world, now)?;
                self.finish(decision, About::Nothing, None, dry_run, actor)
            }
            Order::OpenBracket { name, spec } => {
                let decision = engine.open_bracket(name.clone(), *spec, world, now)?;
                self.finish(decision, About::Bracket(name), None, dry_run, actor)
            }
            Order::AddToBracket { name, members } => {
                let decision = engine.add_to_bracket(&name, members, world, now)?;
                self.finish(decision, About::Bracket(name), None, dry_run, actor)
            }
            Order::ReleaseBracket { name } => {
                self.must_be_left_alone(engine.bracket(&name).map(|bracket| &bracket.spec))?;
                let id = self.name();
                let decision = engine.release_bracket(&name, id.clone(), world, now)?;
                self.finish(decision, About::Release(name, id), None, dry_run, actor)
            }
            Order::AbortBracket { name, why } => {
                let decision = engine.abort_bracket(&name, &why, world, now)?;
                self.finish(decision, About::Bracket(name), None, dry_run, actor)
            }
            Order::Assign { service, to } => {
                self.release_by_hand(&service, dry_run, actor, |state| shadow::assign(state, &to))
            }
            Order::Hold { service, hold } => {
                self.release_by_hand(&service, dry_run, actor, |state| Ok(Release { hold, ..Release::of(state) }))
            }
            // `order` takes it away before.
            Order::Kill { .. } => Ok(Placed::default()),
        }
    }

    fn create(
        &mut self,
        spec: DeploymentSpec,
        execute: bool,
        key: Option<String>,
        dry_run: bool,
        actor: &Actor,
    ) -> Result<Placed, OrderError> {
        if let Some(known) = key.as_ref().and_then(|key| self.core.keys.get(key)).and_then(|id| self.engine.get(id)) {
            if known.spec == spec {
                return Ok(Placed { deployment: Some(Arc::clone(known)), ..Placed::default() });
            }
            let message = format!("the same key was used for deployment {}, which is another one", known.id);
            return Err(refused(Refusal::Conflict(message)));
        }
        if execute {
            self.must_be_left_alone(Some(&spec))?;
        }
        let view = self.look();
        let id = self.name();
        let create = Create { id: id.clone(), spec, retry_of: None };
        let mut decision = self.engine.create(create, view.world(), view.now)?;
        if execute {
            let begun = decision.engine.execute(&id, view.world(), view.now)?;
            decision = both(decision, begun);
        }
        // Nobody is in trouble yet: what cannot be written down is not begun.
        decision.write = Write::Required;
        self.finish(decision, About::Deployment(id), key, dry_run, actor)
    }

    /// Takes a decision over, if it is one and not only a question, and says what it makes of things.
    fn finish(
        &mut self,
        decision: Decision,
        about: About,
        key: Option<String>,
        dry_run: bool,
        actor: &Actor,
    ) -> Result<Placed, OrderError> {
        let decided = decision.engine.clone();
        if !dry_run {
            let keys = match (&about, key) {
                (About::Deployment(id), Some(key)) => vec![(key, id.clone())],
                _ => Vec::new(),
            };
            self.commit(decision, keys, actor).map_err(|error| OrderError::Store(error.to_string()))?;
        }
        let deployment = |id: &DeploymentId| decided.get(id).cloned();
        let bracket = |name: &str| decided.bracket(name).cloned();
        Ok(match about {
            About::Deployment(id) => Placed { deployment: deployment(&id), ..Placed::default() },
            About::Bracket(name) => Placed { bracket: bracket(&name), ..Placed::default() },
            About::Release(name, id) => {
                Placed { deployment: deployment(&id), bracket: bracket(&name), ..Placed::default() }
            }
            About::Nothing => Placed::default(),
        })
    }

    fn name(&mut self) -> DeploymentId {
        self.ids.next((self.core.now)().unix_ms, rand::random())
    }

    /// Services of which somebody stops versions by hand begin no deployment meanwhile.
    fn must_be_left_alone(&self, spec: Option<&DeploymentSpec>) -> Result<(), OrderError> {
        let members = spec.map(|spec| spec.members.as_slice()).unwrap_or_default();
        match members.iter().find(|member| self.stopping.contains(&member.service)) {
            None => Ok(()),
            Some(member) => Err(stops(&member.service)),
        }
    }

    /// A service that nobody works on.
    fn must_be_idle(&self, service: &ServiceId) -> Result<(), OrderError> {
        if self.stopping.contains(service) {
            return Err(stops(service));
        }
        match self.engine.active(service) {
            None => Ok(()),
            Some(active) => Err(refused(Refusal::Conflict(format!(
                "deployment {} of service {service} is active: wait until it is over, or roll it back",
                active.id
            )))),
        }
    }

    /// Changes the traffic of a service that nobody works on, from what it is in the same moment.
    fn release_by_hand(
        &mut self,
        service: &ServiceId,
        dry_run: bool,
        actor: &Actor,
        make: impl Fn(&ServiceState) -> Result<Release, Refusal>,
    ) -> Result<Placed, OrderError> {
        self.must_be_idle(service)?;
        let mut tries = 0;
        loop {
            let view = self.look();
            let Some(state) = view.world().services.get(service) else { return Err(unknown(service)) };
            let services = [(service.clone(), make(state).map_err(refused)?)].into();
            let change = Change::Release { deployment: self.name(), services, cause: ReleaseCause::Forward };
            let expected = Some(view.generation());
            tries += 1;
            match self.core.acts.submit(Submission { change, expected, dry_run, actor: actor.clone() }) {
                Err(SubmitError::Stale { .. }) if tries < TRIES => {}
                Err(error) => return Err(error.into()),
                Ok(change) => return Ok(Placed { change: Some(change), ..Placed::default() }),
            }
        }
    }

    fn kill(&mut self, service: ServiceId, target: Option<TargetId>, dry_run: bool, actor: Actor, reply: Reply) {
        match self.plan_kill(&service, target, &actor) {
            Err(error) => drop(reply.send(Err(error))),
            Ok(_) if dry_run => drop(reply.send(Ok(Placed::default()))),
            Ok(targets) => {
                self.stopping.insert(service.clone());
                self.core.acts.kill(Kill { service, targets, actor, reply });
            }
        }
    }

    /// The versions that are to be stopped, main last; each of them may be.
    fn plan_kill(
        &mut self,
        service: &ServiceId,
        target: Option<TargetId>,
        actor: &Actor,
    ) -> Result<Vec<super::kill::Victim>, OrderError> {
        self.must_be_idle(service)?;
        let view = self.look();
        let Some(state) = view.world().services.get(service) else { return Err(unknown(service)) };
        let stable = &state.wanted.stable;
        let memory = self.engine.memory(service).map(Arc::clone).unwrap_or_default();
        let targets = match target {
            Some(target) => {
                shadow::may_remove(state, &memory, &target).map_err(refused)?;
                vec![target]
            }
            None => {
                let shadows = state.wanted.targets.keys().filter(|target| *target != stable);
                shadows.chain([stable]).cloned().collect()
            }
        };
        let nothing = Environment::default();
        let environment = view.ground.environments.get(service).unwrap_or(&nothing);
        let mut victims = Vec::new();
        for target in targets {
            let victim = super::kill::victim(state, environment, &memory, service, target, self.name());
            if victim.nothing_stops_it() {
                let message = format!(
                    "{stable} is main, and service {service} has no command that stops it: give the service a stop \
                     command, or stop {stable} yourself"
                );
                return Err(refused(Refusal::Conflict(message)));
            }
            if let Some((_, gone)) = &victim.releases {
                let change = gone.clone();
                self.core.acts.submit(Submission { change, expected: None, dry_run: true, actor: actor.clone() })?;
            }
            victims.push(victim);
        }
        Ok(victims)
    }
}

/// Two decisions as one.
fn both(first: Decision, then: Decision) -> Decision {
    let mut records = first.records;
    records.extend(then.records);
    let mut effects = first.effects;
    effects.extend(then.effects);
    Decision { engine: then.engine, write: first.write.max(then.write), records, effects }
}

fn refused(refusal: Refusal) -> OrderError {
    OrderError::Engine(EngineError::Refused(refusal))
}

fn unknown(service: &ServiceId) -> OrderError {
    refused(Refusal::Unknown(format!("service {service}")))
}

fn stops(service: &ServiceId) -> OrderError {
    refused(Refusal::Conflict(format!("versions of service {service} are being stopped by hand: try again then")))
}
