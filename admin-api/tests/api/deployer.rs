//! The real engine with a shell that does everything at once, in the fake process.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use tidegate_admin::{Actor, Deployments, Measured, Order, OrderError, Placed, Process as _, Submission};
use tidegate_config::ServiceId;
use tidegate_core::{
    Change,
    change::{HealthReport, Release, ReleaseCause},
    deploy::{
        DeploymentId, Environment,
        engine::{Create, Decision, Engine, World},
        environment::NamedHook,
        machine::{Effect, HookEnd, HookReport, Input, Judged, Outcome, Verdict},
        memory::Note,
        shadow,
        spec::{HookRun, Hooks},
        stage::Stages,
    },
};

use crate::fake::Fake;

/// What the shell of a fake process knows.
pub(crate) struct Deployer {
    engine: Mutex<Arc<Engine>>,
    last: AtomicU64,
    keys: Mutex<BTreeMap<String, DeploymentId>>,
    pub(crate) stages: Mutex<Arc<Stages>>,
    /// What every window of an analysis ends with; `None`: it goes on.
    pub(crate) verdict: Mutex<Option<Verdict>>,
    /// The journal cannot be written.
    pub(crate) journal_fails: AtomicBool,
    pub(crate) measured: Mutex<Vec<Measured>>,
    pub(crate) goals: Mutex<BTreeSet<String>>,
    pub(crate) converted: Mutex<Vec<String>>,
}

impl Default for Deployer {
    fn default() -> Self {
        Self {
            engine: Mutex::default(),
            last: AtomicU64::new(0),
            keys: Mutex::default(),
            stages: Mutex::default(),
            verdict: Mutex::new(None),
            journal_fails: AtomicBool::new(false),
            measured: Mutex::default(),
            goals: Mutex::default(),
            converted: Mutex::default(),
        }
    }
}

fn environments(services: impl Iterator<Item = ServiceId>) -> BTreeMap<ServiceId, Environment> {
    let run = |name: &str| Some(HookRun::Argv(vec![name.into(), "{slot}".into(), "--password=hook-secret".into()]));
    let named = NamedHook { argv: vec!["true".into()], timeout: Duration::from_secs(5), idempotent: Some(true) };
    let environment = Environment {
        hooks: Hooks { start: run("up"), stop: run("down"), ..Hooks::default() },
        named: BTreeMap::from([("smoke".to_owned(), named)]),
        ..Environment::default()
    };
    services.map(|service| (service, environment.clone())).collect()
}

impl Fake {
    /// Lets the engine decide, writes nothing down, and does what it wants until it waits.
    fn decide(
        &self,
        dry_run: bool,
        decide: impl FnOnce(&Engine, World<'_>) -> Result<Decision, OrderError>,
    ) -> Result<Arc<Engine>, OrderError> {
        let decision = self.with_world(|engine, world| decide(engine, world))?;
        let engine = Arc::new(decision.engine);
        if dry_run {
            return Ok(engine);
        }
        if self.deployer.journal_fails.load(SeqCst) {
            return Err(OrderError::Store("the disk is full".into()));
        }
        *self.deployer.engine.lock().unwrap() = Arc::clone(&engine);
        let mut effects = VecDeque::from(decision.effects);
        while let Some((id, effect)) = effects.pop_front() {
            for input in self.act(&id, effect) {
                let decision = self.with_world(|engine, world| engine.input(&id, input, world, self.now()));
                *self.deployer.engine.lock().unwrap() = Arc::new(decision.engine);
                effects.extend(decision.effects);
            }
        }
        Ok(engine)
    }

    /// Tells the engine of changes of health, as the shell does.
    pub(crate) fn hear(&self, reports: &[HealthReport]) {
        let now = self.now();
        self.decide(false, |engine, world| Ok(engine.health(reports, world, now))).unwrap();
    }

    fn with_world<T>(&self, ask: impl FnOnce(&Engine, World<'_>) -> T) -> T {
        let snapshot = self.snapshot();
        let services = &snapshot.state.services;
        let environments = environments(services.keys().cloned());
        let stages = self.deployer.stages.lock().unwrap().clone();
        let engine = Deployments::engine(self);
        ask(&engine, World { services, environments: &environments, stages: &stages })
    }

    fn act(&self, id: &DeploymentId, effect: Effect) -> Vec<Input> {
        match effect {
            Effect::Release { op, services, cause } => {
                let change = Change::Release { deployment: id.clone(), services, cause };
                let actor = Actor("deployment".into());
                let outcome = match self.take(Submission { change, expected: None, dry_run: false, actor }) {
                    Ok(_) => Outcome::Done,
                    Err(why) => Outcome::Failed(why.to_string()),
                };
                vec![Input::Done { op, outcome }]
            }
            Effect::Verify { op, .. } | Effect::Drain { op, .. } => vec![Input::Done { op, outcome: Outcome::Done }],
            Effect::Hook { op, call, .. } => {
                let end = if call.hook.argv.first().is_some_and(|program| program == "false") { 1 } else { 0 };
                let report = HookReport { end: HookEnd::Exit(end), output: "said something".into() };
                vec![Input::Done { op, outcome: Outcome::Hook(report) }]
            }
            Effect::Window { .. } => {
                let Some(verdict) = *self.deployer.verdict.lock().unwrap() else { return Vec::new() };
                let judged = Judged {
                    verdict,
                    winner: None,
                    reason: "as the test says".into(),
                    evidence: 0.5,
                    threshold: 100.0,
                    samples: (120, 2_280),
                };
                vec![Input::Judged { service: "web".parse().unwrap(), judged }]
            }
            Effect::KillHook { .. } | Effect::Watch(_) | Effect::StopWatch | Effect::Tell(_) => Vec::new(),
        }
    }

    fn new_id(&self) -> DeploymentId {
        DeploymentId::parse(&format!("dep-{}", self.deployer.last.fetch_add(1, SeqCst) + 1)).unwrap()
    }
}

#[async_trait]
impl Deployments for Fake {
    fn engine(&self) -> Arc<Engine> {
        self.deployer.engine.lock().unwrap().clone()
    }

    fn stages(&self) -> Arc<Stages> {
        self.deployer.stages.lock().unwrap().clone()
    }

    fn hook_names(&self) -> BTreeSet<String> {
        BTreeSet::from(["smoke".to_owned()])
    }

    async fn place(&self, order: Order, dry_run: bool, _: Actor) -> Result<Placed, OrderError> {
        let now = self.now();
        let of = |engine: &Engine, id: &DeploymentId| {
            // What was done since the order was taken is known already.
            let live = Deployments::engine(self);
            let deployment = if dry_run { engine.get(id) } else { live.get(id) };
            Placed { deployment: deployment.cloned(), ..Placed::default() }
        };
        let bracket = |engine: &Engine, name: &str| {
            let live = Deployments::engine(self);
            let known = if dry_run { engine.bracket(name) } else { live.bracket(name) };
            Placed { bracket: known.cloned(), ..Placed::default() }
        };
        match order {
            Order::Create { spec, execute, key } => {
                let known = key.as_ref().and_then(|key| self.deployer.keys.lock().unwrap().get(key).cloned());
                if let Some(id) = known {
                    return Ok(of(&Deployments::engine(self), &id));
                }
                let id = self.new_id();
                let engine = self.decide(dry_run, |engine, world| {
                    let create = Create { id: id.clone(), spec: *spec, retry_of: None };
                    let created = engine.create(create, world, now)?;
                    if !execute {
                        return Ok(created);
                    }
                    Ok(created.engine.execute(&id, world, now)?)
                })?;
                if let (Some(key), false) = (key, dry_run) {
                    self.deployer.keys.lock().unwrap().insert(key, id.clone());
                }
                Ok(of(&engine, &id))
            }
            Order::Execute(id) => {
                let engine = self.decide(dry_run, |engine, world| Ok(engine.execute(&id, world, now)?))?;
                Ok(of(&engine, &id))
            }
            Order::Command(id, command) => {
                let engine = self.decide(dry_run, |engine, world| Ok(engine.command(&id, command, world, now)?))?;
                Ok(of(&engine, &id))
            }
            Order::Retry(old) => {
                let id = self.new_id();
                let engine = self.decide(dry_run, |engine, world| {
                    let created = engine.retry(&old, id.clone(), world, now)?;
                    Ok(created.engine.execute(&id, world, now)?)
                })?;
                Ok(of(&engine, &id))
            }
            Order::Mark(service, mark) => {
                self.decide(dry_run, |engine, world| Ok(engine.mark(&service, mark, world, now)?))?;
                Ok(Placed::default())
            }
            Order::OpenBracket { name, spec } => {
                let engine =
                    self.decide(dry_run, |engine, world| Ok(engine.open_bracket(name.clone(), *spec, world, now)?))?;
                Ok(bracket(&engine, &name))
            }
            Order::AddToBracket { name, members } => {
                let engine =
                    self.decide(dry_run, |engine, world| Ok(engine.add_to_bracket(&name, members, world, now)?))?;
                Ok(bracket(&engine, &name))
            }
            Order::ReleaseBracket { name } => {
                let id = self.new_id();
                let engine =
                    self.decide(dry_run, |engine, world| Ok(engine.release_bracket(&name, id.clone(), world, now)?))?;
                Ok(Placed { bracket: bracket(&engine, &name).bracket, ..of(&engine, &id) })
            }
            Order::AbortBracket { name, why } => {
                let engine =
                    self.decide(dry_run, |engine, world| Ok(engine.abort_bracket(&name, &why, world, now)?))?;
                Ok(bracket(&engine, &name))
            }
            Order::Assign { service, to } => {
                let snapshot = self.snapshot();
                let release = shadow::assign(&snapshot.state.services[&service], &to)
                    .map_err(|why| OrderError::Engine(why.into()))?;
                let change = Change::Release {
                    deployment: self.new_id(),
                    services: [(service, release)].into(),
                    cause: ReleaseCause::Forward,
                };
                self.take(Submission { change, expected: None, dry_run, actor: Actor("assign".into()) })?;
                Ok(Placed::default())
            }
            Order::Hold { service, hold } => {
                let snapshot = self.snapshot();
                let release = Release { hold, ..Release::of(&snapshot.state.services[&service]) };
                let services = [(service, release)].into();
                let change = Change::Release { deployment: self.new_id(), services, cause: ReleaseCause::Forward };
                let outcome = self.take(Submission { change, expected: None, dry_run, actor: Actor("hold".into()) })?;
                Ok(Placed { change: Some(outcome), ..Placed::default() })
            }
            Order::Kill { service, target } => {
                let snapshot = self.snapshot();
                let state = &snapshot.state.services[&service];
                let memory = Deployments::engine(self).memory(&service).cloned().unwrap_or_default();
                let stable = &state.wanted.stable;
                let victims: Vec<_> = match target {
                    Some(target) => {
                        shadow::may_remove(state, &memory, &target).map_err(|why| OrderError::Engine(why.into()))?;
                        vec![target]
                    }
                    None => state
                        .wanted
                        .targets
                        .keys()
                        .filter(|target| *target != stable)
                        .chain([stable])
                        .cloned()
                        .collect(),
                };
                for target in victims.iter().filter(|_| !dry_run) {
                    if target != stable {
                        let mut release = Release { remove: [target.clone()].into(), ..Release::of(state) };
                        let copies = state.wanted.mirrors.iter().filter(|(_, mirror)| mirror.to == *target);
                        release.mirrors.extend(copies.map(|(mirror, _)| (mirror.clone(), None)));
                        let services = [(service.clone(), release)].into();
                        let change =
                            Change::Release { deployment: self.new_id(), services, cause: ReleaseCause::Forward };
                        self.take(Submission { change, expected: None, dry_run, actor: Actor("kill".into()) })?;
                    }
                    self.decide(false, |engine, world| {
                        Ok(engine.note(&service, Note::Stopped(target.clone()), world, now))
                    })?;
                }
                Ok(Placed::default())
            }
        }
    }

    fn measured(&self, _: &DeploymentId) -> Vec<Measured> {
        self.deployer.measured.lock().unwrap().clone()
    }

    fn convert(&self, _: &DeploymentId, visitor: &str, goal: &str) -> bool {
        let known = self.deployer.goals.lock().unwrap().contains(goal);
        if known {
            self.deployer.converted.lock().unwrap().push(visitor.to_owned());
        }
        known
    }
}
