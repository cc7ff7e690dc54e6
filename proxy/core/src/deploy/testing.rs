//! Services, deployments and a fake shell for the tests of this module.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use tidegate_config::{EndpointAddress, FailbackMode, ServiceId, TargetId};

use super::{
    environment::{Environment, NamedHook},
    ids::DeploymentId,
    machine::{
        Command, Deployment, Effect, HookEnd, HookReport, Input, Judged, Outcome, Process, State, Stepped, Verdict,
        Write,
    },
    memory::ServiceMemory,
    plan::{Around, Plan, compile},
    spec::{DeploymentSpec, HookRun, Hooks, SpecProblem, Value, parse},
    step::{HookRole, Releases, Step, TrafficKind, UndoStep},
};
use crate::{
    change::{
        Change, HealthReport, ReleaseCause, apply,
        fixtures::{World, endpoints, spec as service_spec, target},
    },
    health::Health,
    state::Hold,
};

pub(super) fn id(n: u32) -> DeploymentId {
    DeploymentId::parse(&format!("dep-{n}")).unwrap()
}

pub(super) fn service(name: &str) -> ServiceId {
    ServiceId::parse(name).unwrap()
}

pub(super) fn spec_of(json: &str) -> DeploymentSpec {
    let document: Value = serde_json::from_str(json).unwrap();
    parse(&document).unwrap_or_else(|problems| panic!("{json}: {problems:?}"))
}

/// Services web, shop and api: stable green with three endpoints, beside it blue with three and v3 with one.
pub(super) fn world() -> World {
    let services = ["api", "shop", "web"].map(|name| {
        let mut spec = service_spec(FailbackMode::Manual);
        spec.routes[0].path = format!("/{name}");
        spec.failover = None;
        spec.targets.insert(target("green"), endpoints(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]));
        spec.targets.insert(target("blue"), endpoints(&["10.0.1.1:80", "10.0.1.2:80", "10.0.1.3:80"]));
        (service(name), spec)
    });
    let mut world = World::fresh(services);
    let reports = world.state.services.iter().flat_map(|(id, service)| {
        service.wanted.targets.iter().flat_map(move |(target, spec)| {
            spec.endpoints.iter().map(move |endpoint| HealthReport {
                service: id.clone(),
                target: target.clone(),
                endpoint: endpoint.address.clone(),
                health: Health::Healthy,
                reason: String::new(),
            })
        })
    });
    let change = Change::Health { reports: reports.collect() };
    world.apply(&change);
    world
}

/// An environment with every command of its own.
pub(super) fn environment() -> Environment {
    let run = |name: &str| Some(HookRun::Argv(vec![name.into(), "{slot}".into(), "{replica}".into()]));
    Environment {
        hooks: Hooks {
            start: run("up"),
            stop: run("down"),
            save: run("save"),
            install: run("install"),
            ..Hooks::default()
        },
        named: BTreeMap::from([(
            "gate".to_owned(),
            NamedHook { argv: vec!["ask".into()], timeout: Duration::from_secs(5), idempotent: Some(true) },
        )]),
        ..Environment::default()
    }
}

/// What a test makes of the world outside.
#[derive(Clone)]
pub(super) struct Script {
    /// Targets that never become healthy.
    pub(super) ill: BTreeSet<&'static str>,
    /// What the analysis says at the end of a window.
    pub(super) verdict: Verdict,
    /// Which variant it names.
    pub(super) winner: Option<&'static str>,
    /// Commands that fail, by role and target, and how they end.
    pub(super) hooks: BTreeMap<(&'static str, &'static str), HookEnd>,
    /// Commands that people give when nothing else happens.
    pub(super) commands: Vec<Command>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            ill: BTreeSet::new(),
            verdict: Verdict::Pass,
            winner: Some("blue"),
            hooks: BTreeMap::new(),
            commands: Vec::new(),
        }
    }
}

/// Why a run was cut off.
pub(super) struct Killed;

/// A shell that does what a deployment asks for, in a world of its own, and can be killed at any border.
#[derive(Clone)]
pub(super) struct Rig {
    pub(super) world: World,
    pub(super) memory: BTreeMap<ServiceId, ServiceMemory>,
    pub(super) environment: Environment,
    pub(super) script: Script,
    /// What is written down.
    pub(super) journal: Option<Deployment>,
    /// What the process knows.
    pub(super) live: Option<Deployment>,
    pub(super) queue: VecDeque<Effect>,
    /// How often each command ran, forwards and back.
    pub(super) runs: BTreeMap<String, u32>,
    /// Targets that passed a check since they were last started.
    pub(super) verified: BTreeSet<(ServiceId, TargetId)>,
    pub(super) checked: bool,
    /// Traffic of all services, each time that it changed.
    pub(super) seen: Vec<String>,
    /// What was done, in words.
    pub(super) log: Vec<String>,
    /// Commands that make requests.
    pub(super) loads: BTreeSet<u64>,
    /// Borders so far, and the one at which the process dies.
    pub(super) borders: usize,
    pub(super) kill_at: Option<usize>,
}

impl Rig {
    pub(super) fn new(script: Script) -> Self {
        Self {
            world: world(),
            memory: BTreeMap::new(),
            environment: environment(),
            script,
            journal: None,
            live: None,
            queue: VecDeque::new(),
            runs: BTreeMap::new(),
            verified: BTreeSet::new(),
            checked: true,
            seen: Vec::new(),
            log: Vec::new(),
            loads: BTreeSet::new(),
            borders: 0,
            kill_at: None,
        }
    }

    pub(super) fn compile(&self, id: &DeploymentId, spec: &DeploymentSpec) -> Result<Plan, Vec<SpecProblem>> {
        let none = ServiceMemory::default();
        let around = self.world.state.services.iter().map(|(id, service)| {
            let memory = self.memory.get(id).unwrap_or(&none);
            (id.clone(), Around { service, environment: &self.environment, memory })
        });
        compile(id, spec, &around.collect())
    }

    /// Creates and executes a deployment, and goes on until nothing is left to do, through one death at most.
    pub(super) fn deploy(&mut self, n: u32, json: &str) -> State {
        let spec = spec_of(json);
        let plan = self.compile(&id(n), &spec).unwrap_or_else(|problems| panic!("{json}: {problems:?}"));
        self.checked = spec.strategy.verifies();
        self.seen = vec![self.traffic()];
        let created = Deployment::create(id(n), spec, plan.clone(), self.world.now).deployment;
        self.journal = Some(created.clone());
        self.live = Some(created);
        let mut outcome = self.give(Input::Execute(Box::new(plan)));
        if outcome.is_ok() {
            outcome = self.run();
        }
        if outcome.is_err() {
            self.restart();
        }
        self.journal.clone().unwrap().state
    }

    /// Goes on after a death.
    pub(super) fn restart(&mut self) {
        self.kill_at = None;
        self.queue.clear();
        self.loads.clear();
        self.world.wait(7);
        self.log.push("-- restart".into());
        let journal = self.journal.clone().unwrap();
        let traffic = self.traffic();
        assert!(self.seen.contains(&traffic), "after a death the traffic is one that was asked for: {traffic}");
        let journal = reread(&journal);
        let stepped = super::machine::recover(&journal, self.world.now);
        self.live = Some(journal.clone());
        // Executed, but never written down: the person asks again.
        let again = matches!(journal.state, State::Pending);
        assert!(self.take(stepped).is_ok());
        if again {
            let plan = self.compile(&journal.id, &journal.spec).unwrap();
            assert!(self.give(Input::Execute(Box::new(plan))).is_ok());
        }
        assert!(self.run().is_ok());
    }

    fn border(&mut self) -> Result<(), Killed> {
        self.borders += 1;
        if self.kill_at == Some(self.borders) { Err(Killed) } else { Ok(()) }
    }

    pub(super) fn give(&mut self, input: Input) -> Result<(), Killed> {
        let Some(live) = &self.live else { return Ok(()) };
        match super::machine::step(live, input, self.world.now) {
            Ok(stepped) => self.take(stepped),
            Err(refusal) => {
                self.log.push(format!("refused: {refusal}"));
                Ok(())
            }
        }
    }

    fn take(&mut self, stepped: Stepped) -> Result<(), Killed> {
        let Stepped { deployment, write, notes, effects } = stepped;
        if write != Write::No {
            self.border()?;
            self.journal = Some(deployment.clone());
            for (service, note) in notes {
                self.memory.entry(service).or_default().note(note, self.world.now.unix_ms);
            }
            self.border()?;
        } else {
            assert_eq!(notes, [], "what is remembered is written down");
        }
        self.live = Some(deployment);
        self.queue.extend(effects);
        Ok(())
    }

    /// Does what is asked for until nothing is left to wait for.
    pub(super) fn run(&mut self) -> Result<(), Killed> {
        for _ in 0..10_000 {
            if let Some(effect) = self.queue.pop_front() {
                self.perform(effect)?;
                continue;
            }
            let live = self.live.clone().unwrap();
            if let State::Paused { .. } = live.state
                && !self.script.commands.is_empty()
            {
                let command = self.script.commands.remove(0);
                self.give(Input::Command(command))?;
                continue;
            }
            let Some(at) = live.wakes_at() else { return Ok(()) };
            let left = at.saturating_sub(self.world.now.mono).as_millis() as u64;
            self.world.now.mono = self.world.now.mono.max(at);
            self.world.now.unix_ms += left;
            self.give(Input::Tick)?;
        }
        panic!("it never ends: {:#?}", self.log);
    }

    fn perform(&mut self, effect: Effect) -> Result<(), Killed> {
        match effect {
            Effect::Release { op, services, cause } => {
                let outcome = self.release(services, cause);
                self.border()?;
                self.give(Input::Done { op, outcome })
            }
            Effect::Verify { op, verify } => {
                let targets: Vec<_> = verify
                    .endpoints
                    .iter()
                    .flat_map(|(service, targets)| targets.keys().map(|target| (service.clone(), target.clone())))
                    .collect();
                let ill = targets.iter().find(|(_, target)| self.script.ill.contains(target.as_str()));
                let outcome = match ill {
                    Some((service, target)) => Outcome::Failed(format!("{target} of {service} is ill")),
                    None => Outcome::Done,
                };
                self.log.push(format!("verify {}", listed(&targets)));
                if outcome == Outcome::Done {
                    self.verified.extend(targets);
                }
                self.border()?;
                self.give(Input::Done { op, outcome })
            }
            Effect::Hook { op, call, kill } => {
                self.log.extend(kill.map(|process| format!("group {} ends", process.group)));
                let hook = &call.hook;
                let back = matches!(self.live.as_ref().unwrap().state, State::RollingBack { .. });
                let replica = hook.replica.map(|n| format!("#{n}")).unwrap_or_default();
                let name = format!("{} {}/{}{replica}", hook.role.name(), hook.service, hook.target);
                self.log.push(if back { format!("undo: {name}") } else { name.clone() });
                *self.runs.entry(format!("{} {name} {}", back, hook.version.name)).or_default() += 1;
                if hook.role == HookRole::Start {
                    self.verified.remove(&(hook.service.clone(), hook.target.clone()));
                }
                let known = self.script.hooks.iter();
                let end =
                    known.filter(|((role, target), _)| *role == hook.role.name() && *target == hook.target.as_str());
                let end = end.map(|(_, end)| end.clone()).next().unwrap_or(HookEnd::Exit(0));
                self.border()?;
                if hook.role == HookRole::Load && end == HookEnd::Exit(0) {
                    // It goes on until somebody ends it.
                    self.loads.insert(op);
                    return self.give(Input::HookStarted { op, process: Process { group: 7, started: op } });
                }
                self.give(Input::Done { op, outcome: Outcome::Hook(HookReport { end, output: String::new() }) })
            }
            Effect::KillHook { op, .. } if self.loads.remove(&op) => {
                self.log.push("load ends".into());
                let report = HookReport { end: HookEnd::Killed, output: String::new() };
                self.give(Input::Done { op, outcome: Outcome::Hook(report) })
            }
            Effect::Drain { op, drain } => {
                self.log.push(format!("drain {:?}", drain.endpoints.keys().collect::<Vec<_>>()));
                self.border()?;
                self.give(Input::Done { op, outcome: Outcome::Done })
            }
            Effect::Window { .. } => {
                let watched: Vec<_> =
                    self.live.iter().flat_map(|d| &d.plan.watch).flat_map(|w| w.arms.keys().cloned()).collect();
                self.border()?;
                for service in watched {
                    self.give(Input::Judged { service, judged: judged(self.script.verdict, self.script.winner) })?;
                }
                Ok(())
            }
            Effect::KillHook { .. } | Effect::Watch(_) | Effect::StopWatch | Effect::Tell(_) => Ok(()),
        }
    }

    fn release(&mut self, services: Releases, cause: ReleaseCause) -> Outcome {
        let deployment = id(1);
        let change = Change::Release { deployment, services, cause };
        match apply(&self.world.state, &change, self.world.now) {
            Err(refused) => {
                self.log.push(format!("refused: {refused}"));
                Outcome::Failed(refused.to_string())
            }
            Ok(applied) => {
                self.world.state = applied.state;
                let traffic = self.traffic();
                self.log.push(format!("traffic {traffic}"));
                self.seen.push(traffic);
                if cause == ReleaseCause::Forward {
                    self.only_verified_targets_have_traffic();
                }
                Outcome::Done
            }
        }
    }

    fn only_verified_targets_have_traffic(&self) {
        if !self.checked {
            return;
        }
        for (service, state) in &self.world.state.services {
            let new = |target: &TargetId| *target != self.live.as_ref().unwrap().plan.base[service].stable;
            let base = self.live.as_ref().unwrap().plan.base.contains_key(service);
            for (target, _) in state.wanted.split.iter().filter(|(target, _)| base && new(target)) {
                let verified = self.verified.contains(&(service.clone(), target.clone()));
                assert!(verified, "{target} of {service} has traffic and was not verified: {:#?}", self.log);
            }
        }
    }

    /// The traffic of all services, in words.
    pub(super) fn traffic(&self) -> String {
        let service = |(id, service): (&ServiceId, &std::sync::Arc<crate::state::ServiceState>)| {
            let wanted = &service.wanted;
            let weights: Vec<_> = wanted.split.iter().map(|(target, weight)| format!("{target} {weight}")).collect();
            let mirrors: String = wanted.mirrors.values().map(|mirror| format!(" copy to {}", mirror.to)).collect();
            let hold = if wanted.hold == Hold::On { " (held)" } else { "" };
            format!("{id}: {}{hold}{mirrors}", weights.join(" "))
        };
        self.world.state.services.iter().map(service).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn traffic_of(&self, name: &str) -> String {
        let all = self.traffic();
        all.split(", ").find_map(|part| part.strip_prefix(&format!("{name}: "))).unwrap().to_owned()
    }
}

pub(super) fn judged(verdict: Verdict, winner: Option<&str>) -> Judged {
    Judged {
        verdict,
        winner: winner.map(target),
        reason: "a test says so".into(),
        evidence: 1.0,
        threshold: 100.0,
        samples: (500, 500),
    }
}

fn listed(targets: &[(ServiceId, TargetId)]) -> String {
    targets.iter().map(|(service, target)| format!("{service}/{target}")).collect::<Vec<_>>().join(" ")
}

/// What is left of a deployment when it was written down and read again.
pub(super) fn reread(deployment: &Deployment) -> Deployment {
    serde_json::from_str(&serde_json::to_string(deployment).unwrap()).unwrap()
}

/// A plan in words, one line for each step.
pub(super) fn sketch(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|plan| step(&plan.step)).collect()
}

pub(super) fn sketch_undo(undo: &[UndoStep]) -> Vec<String> {
    undo.iter()
        .map(|undo| match undo {
            UndoStep::Traffic(services) => format!("traffic {}", releases(services)),
            UndoStep::Unplace(_) => "unplace".into(),
            UndoStep::Hook(hook) => step(&Step::Hook(hook.clone())),
            UndoStep::Verify(verify, _) => step(&Step::Verify(verify.clone())),
        })
        .collect()
}

fn releases(services: &Releases) -> String {
    let release = |(id, release): (&ServiceId, &crate::change::Release)| {
        let weights: Vec<_> = release.split.iter().map(|(target, weight)| format!("{target} {weight}")).collect();
        let endpoints: String =
            release.targets.iter().map(|(target, spec)| format!(" [{target}: {}]", spec.endpoints.len())).collect();
        let mirrors: String = release
            .mirrors
            .values()
            .map(|mirror| mirror.as_ref().map_or(" no copy".into(), |mirror| format!(" copy to {}", mirror.to)))
            .collect();
        let hold = if release.hold == Hold::On { " (held)" } else { "" };
        format!("{id}: {}{hold}{endpoints}{mirrors}", weights.join(" "))
    };
    services.iter().map(release).collect::<Vec<_>>().join(", ")
}

fn step(step: &Step) -> String {
    let addresses = |endpoints: &super::step::Endpoints| -> String {
        let count = |(target, endpoints): (&TargetId, &Vec<EndpointAddress>)| format!("{target}*{}", endpoints.len());
        let of = |(service, targets): (&ServiceId, &BTreeMap<TargetId, Vec<EndpointAddress>>)| {
            format!("{service}/{}", targets.iter().map(count).collect::<Vec<_>>().join("+"))
        };
        endpoints.iter().map(of).collect::<Vec<_>>().join(" ")
    };
    match step {
        Step::Traffic { kind: TrafficKind::Place, services } => format!("place {}", releases(services)),
        Step::Traffic { services, .. } => format!("traffic {}", releases(services)),
        Step::Hook(hook) => {
            let replica = hook.replica.map(|n| format!("#{n}")).unwrap_or_default();
            format!("{} {}/{}{replica} {}", hook.role.name(), hook.service, hook.target, hook.version.name)
        }
        Step::Verify(verify) => format!("verify {}", addresses(&verify.endpoints)),
        Step::Drain(drain) => format!("drain {}", addresses(&drain.endpoints)),
        Step::Pause(pause) => format!("pause {pause:?}"),
        Step::Analyse(analyse) => format!("analyse {:?} {:?}", analyse.mode, analyse.length),
        Step::Crown { variants } => {
            let tail = |(target, tail): (&TargetId, &super::step::Tail)| {
                format!(
                    "{target} -> {}",
                    tail.steps.iter().map(|plan| self::step(&plan.step)).collect::<Vec<_>>().join("; ")
                )
            };
            format!("winner {}", variants.iter().map(tail).collect::<Vec<_>>().join(" | "))
        }
    }
}
