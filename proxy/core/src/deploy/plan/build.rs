//! Builds one service's part of a plan. Keeps the traffic as the steps so far leave it, so that each step carries whole
//! values and knows what was before it.

use std::{collections::BTreeMap, time::Duration};

use tidegate_config::{EndpointAddress, MirrorId, MirrorSpec, ServiceId, Split, TargetId, TargetSpec, Weight};

use super::{Around, Member, Retire};
use crate::{
    change::Release,
    deploy::{
        environment::NamedHook,
        ids::DeploymentId,
        spec::{DeploymentSpec, HookRun, KeepOld, MemberSpec, MirrorPolicy, Strategy, TestKind},
        step::{
            Analyse, AnalyseMode, Arms, Drain, Endpoints, HookRole, HookStep, OnHookFailure, Pause, PlanStep, Releases,
            Step, Task, TrafficKind, UndoStep, Verify, Version,
        },
    },
    failover::{Standing, standing},
    health::Health,
    state::Hold,
};

/// What is wrong with a member: the key, and a message.
pub(super) type Wrong = Vec<(&'static str, String)>;

/// Longest body that a deployment's mirror copies: as mirrors by default.
const MIRROR_BODY: u64 = 64 << 10;

/// One service's part of a plan, done.
pub(super) struct Built {
    pub(super) steps: Vec<PlanStep>,
    pub(super) bottom: Vec<UndoStep>,
    pub(super) base: (ServiceId, Release),
    pub(super) member: Member,
    pub(super) watch: Option<(Arms, DeploymentSpec)>,
    pub(super) retire: Option<Retire>,
    pub(super) warnings: Vec<String>,
}

pub(super) struct Builder<'a> {
    pub(super) spec: &'a DeploymentSpec,
    pub(super) wanted: &'a MemberSpec,
    pub(super) around: Around<'a>,
    pub(super) from: TargetId,
    pub(super) to: TargetId,
    pub(super) version: Version,
    pub(super) previous: Option<Version>,
    pub(super) steps: Vec<PlanStep>,
    pub(super) retire: Option<Retire>,
    pub(super) warnings: Vec<String>,
    salt: String,
    base: Release,
    /// The traffic as the steps so far leave it.
    traffic: Release,
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        id: &DeploymentId,
        spec: &'a DeploymentSpec,
        wanted: &'a MemberSpec,
        around: Around<'a>,
    ) -> Result<Self, Wrong> {
        let stable = around.service.wanted.stable.clone();
        let to = target(spec, wanted, around)?;
        let running = around.memory.running.contains_key(&to);
        let takes_over = !running && finds_no_main(spec, around);
        let from = if takes_over { to.clone() } else { stable };
        if to == from
            && running
            && !spec.strategy.works_in_place()
            && !matches!(spec.strategy, Strategy::AbTesting { .. })
        {
            let message = format!("{to} is the stable target already: strategy {} needs another", spec.strategy);
            return Err(vec![("to", message)]);
        }
        let overlay = around.service.overlay.as_ref();
        if to != from && overlay.is_some_and(|overlay| overlay.to == to) {
            let message = format!("{to} carries the service in a failover: restore it, or switch to {to}, first");
            return Err(vec![("to", message)]);
        }
        let name = wanted.version.clone().or_else(|| wanted.image.clone()).unwrap_or_else(|| to.to_string());
        let version = Version { name, image: wanted.image.clone(), fingerprint: wanted.digest.clone() };
        let base = Release::of(around.service);
        Ok(Self {
            spec,
            wanted,
            around,
            previous: around.memory.running.get(&from).map(|running| running.version.clone()),
            from,
            to,
            version,
            steps: Vec::new(),
            retire: None,
            warnings: Vec::new(),
            salt: id.to_string(),
            traffic: base.clone(),
            base,
        })
    }

    pub(super) fn finish(self, to: Vec<TargetId>, watch: Option<Arms>) -> Built {
        let service = self.wanted.service.clone();
        let bottom = self.run(&self.spec.hooks.rollback, &self.around.environment.hooks.rollback);
        let bottom =
            bottom.map(|run| UndoStep::Hook(self.hook(HookRole::Rollback, run, &self.to, &self.version, None)));
        Built {
            bottom: bottom.into_iter().collect(),
            base: (service.clone(), self.base),
            member: Member {
                service,
                from: self.from,
                to,
                version: self.version,
                previous: self.previous,
                mark_bad: self.spec.mark_bad.unwrap_or(self.around.environment.mark_bad),
            },
            watch: watch.map(|arms| (arms, self.spec.clone())),
            steps: self.steps,
            retire: self.retire,
            warnings: self.warnings,
        }
    }

    /// The same, to go on from here in one of several ways.
    pub(super) fn branch(&self) -> Self {
        Self {
            from: self.from.clone(),
            to: self.to.clone(),
            version: self.version.clone(),
            previous: self.previous.clone(),
            steps: self.steps.clone(),
            retire: None,
            warnings: Vec::new(),
            salt: self.salt.clone(),
            base: self.base.clone(),
            traffic: self.traffic.clone(),
            ..*self
        }
    }

    pub(super) fn push(&mut self, task: Task, step: Step, undo: Vec<UndoStep>) {
        self.steps.push(PlanStep { task, step, undo });
    }

    /// A deployment's command, or else the service's.
    fn run<'h>(&self, own: &'h Option<HookRun>, usual: &'h Option<HookRun>) -> Option<&'h HookRun> {
        own.as_ref().or(usual.as_ref())
    }

    pub(super) fn command(&self, role: HookRole) -> Option<&'a HookRun> {
        let (own, usual) = (&self.spec.hooks, &self.around.environment.hooks);
        let (own, usual) = match role {
            HookRole::Start => (&own.start, &usual.start),
            HookRole::Stop => (&own.stop, &usual.stop),
            HookRole::Save => (&own.save, &usual.save),
            HookRole::Install => (&own.install, &usual.install),
            HookRole::Pre => (&own.pre, &usual.pre),
            HookRole::Post => (&own.post, &usual.post),
            HookRole::Rollback => (&own.rollback, &usual.rollback),
            HookRole::Load => (&own.load, &usual.load),
            HookRole::Test(_) | HookRole::Gate | HookRole::Custom => return None,
        };
        own.as_ref().or(usual.as_ref())
    }

    pub(super) fn hook(
        &self,
        role: HookRole,
        run: &HookRun,
        target: &TargetId,
        version: &Version,
        replica: Option<u32>,
    ) -> HookStep {
        let NamedHook { argv, timeout, idempotent } = self.around.environment.command(run);
        let repeatable = match role {
            HookRole::Start
            | HookRole::Stop
            | HookRole::Save
            | HookRole::Install
            | HookRole::Test(_)
            | HookRole::Gate
            | HookRole::Load => true,
            HookRole::Pre | HookRole::Post | HookRole::Rollback | HookRole::Custom => false,
        };
        let previous = if *target == self.from && *version != self.version { Some(&self.version) } else { None };
        HookStep {
            role,
            argv,
            service: self.wanted.service.clone(),
            target: target.clone(),
            version: version.clone(),
            previous: previous.or(self.previous.as_ref()).filter(|previous| *previous != version).cloned(),
            replica,
            timeout,
            idempotent: idempotent.unwrap_or(repeatable),
            on_failure: match role {
                HookRole::Post | HookRole::Load => OnHookFailure::Report,
                HookRole::Start
                | HookRole::Stop
                | HookRole::Save
                | HookRole::Install
                | HookRole::Pre
                | HookRole::Rollback
                | HookRole::Test(_)
                | HookRole::Gate
                | HookRole::Custom => OnHookFailure::Fail,
            },
        }
    }

    /// A command of the service, if there is one.
    pub(super) fn known(
        &self,
        role: HookRole,
        target: &TargetId,
        version: &Version,
        replica: Option<u32>,
    ) -> Option<HookStep> {
        Some(self.hook(role, self.command(role)?, target, version, replica))
    }

    /// The version of the old target; its name if nothing else is known.
    pub(super) fn old_version(&self) -> Version {
        let unknown = || Version { name: self.from.to_string(), image: None, fingerprint: None };
        self.previous.clone().unwrap_or_else(unknown)
    }

    pub(super) fn plain_hook(&mut self, task: Task, role: HookRole) {
        if let Some(hook) = self.known(role, &self.to.clone(), &self.version.clone(), None) {
            self.push(task, Step::Hook(hook), Vec::new());
        }
    }

    /// Stops what was kept running for an earlier deployment's sake, and what runs where the new version goes.
    pub(super) fn clear(&mut self) {
        let running = &self.around.memory.running;
        let from = self.from.clone();
        for (target, running) in running.iter().filter(|(target, _)| **target != from) {
            if (running.kept || *target == self.to)
                && let Some(stop) = self.known(HookRole::Stop, target, &running.version, None)
            {
                self.push(Task::Deploy, Step::Hook(stop), Vec::new());
            }
        }
    }

    /// Starts a version, in `replica` or as a whole.
    pub(super) fn start(&mut self, target: &TargetId, version: &Version, replica: Option<u32>) {
        if let Some(install) = self.known(HookRole::Install, target, version, replica) {
            self.push(Task::Deploy, Step::Hook(install), Vec::new());
        }
        if let Some(start) = self.known(HookRole::Start, target, version, replica) {
            let stop = self.known(HookRole::Stop, target, version, replica).map(UndoStep::Hook);
            // Where the start of a version is the end of another, taking it back means to start that one again.
            let undo = match stop {
                None if *target == self.from => self.revive(target, &self.old_version(), replica),
                stop => stop.into_iter().collect(),
            };
            self.push(Task::Deploy, Step::Hook(start), undo);
        }
    }

    /// Stops the old version, in `replica` or as a whole.
    pub(super) fn stop_old(&mut self, replica: Option<u32>) {
        let (from, old) = (self.from.clone(), self.old_version());
        let Some(stop) = self.known(HookRole::Stop, &from, &old, replica) else { return };
        let undo = self.revive(&from, &old, replica);
        self.push(Task::Release, Step::Hook(stop), undo);
    }

    /// How a version that was stopped is brought back; the last is done first.
    pub(super) fn revive(&self, target: &TargetId, version: &Version, replica: Option<u32>) -> Vec<UndoStep> {
        let Some(start) = self.known(HookRole::Start, target, version, replica) else { return Vec::new() };
        let endpoints = self.around.service.wanted.targets.get(target);
        let endpoints: Vec<_> = endpoints.into_iter().flat_map(addresses).collect();
        let endpoints = match replica {
            Some(at) => endpoints.into_iter().skip(at as usize).take(1).collect(),
            None => endpoints,
        };
        let stop = self.known(HookRole::Stop, target, version, replica);
        let verify = UndoStep::Verify(self.verification(target, endpoints), stop.into_iter().collect());
        let install = self.known(HookRole::Install, target, version, replica).map(UndoStep::Hook);
        [verify, UndoStep::Hook(start)].into_iter().chain(install).collect()
    }

    fn verification(&self, target: &TargetId, endpoints: Vec<EndpointAddress>) -> Verify {
        let health = &self.spec.health;
        Verify {
            endpoints: one(&self.wanted.service, target, endpoints),
            path: health.path.clone(),
            port: health.port,
            successes: health.successes,
            timeout: health.timeout,
        }
    }

    /// Waits until endpoints of a target are healthy.
    pub(super) fn verify(&mut self, target: &TargetId, endpoints: Vec<EndpointAddress>) {
        let verify = self.verification(target, endpoints);
        self.push(Task::Deploy, Step::Verify(verify), Vec::new());
    }

    pub(super) fn tests(&mut self) {
        for test in &self.spec.hooks.tests {
            let hook = self.hook(HookRole::Test(test.kind), &test.run, &self.to, &self.version, None);
            let task = match test.kind {
                TestKind::Functional => Task::FunctionalTests,
                TestKind::Performance => Task::PerformanceTests,
            };
            self.push(task, Step::Hook(hook), Vec::new());
        }
    }

    /// Endpoints of a target, as the steps so far leave them.
    pub(super) fn endpoints_of(&self, target: &TargetId) -> Vec<EndpointAddress> {
        let spec = self.traffic.targets.get(target).or_else(|| self.around.service.wanted.targets.get(target));
        spec.into_iter().flat_map(addresses).collect()
    }

    /// The endpoints that the new version is to have.
    pub(super) fn new_spec(&self) -> TargetSpec {
        let given = TargetSpec { endpoints: self.wanted.endpoints.clone() };
        let known = self.around.service.wanted.targets.get(&self.to).cloned();
        if given.endpoints.is_empty() { known.unwrap_or(given) } else { given }
    }

    /// Gives a target endpoints, but no requests.
    pub(super) fn place(&mut self, spec: TargetSpec) {
        let to = self.to.clone();
        let known = self.traffic.targets.get(&to).or_else(|| self.around.service.wanted.targets.get(&to)).cloned();
        if known.as_ref() == Some(&spec) {
            return;
        }
        let mut before = self.traffic.clone();
        match known {
            Some(known) => {
                before.targets.insert(to.clone(), known);
            }
            None => {
                before.targets.remove(&to);
                before.remove.insert(to.clone());
            }
        }
        self.traffic.targets.insert(to, spec);
        let undo = UndoStep::Unplace(self.releases(before));
        let step = Step::Traffic { kind: TrafficKind::Place, services: self.releases(self.traffic.clone()) };
        self.push(Task::Deploy, step, vec![undo]);
    }

    fn releases(&self, release: Release) -> Releases {
        BTreeMap::from([(self.wanted.service.clone(), release)])
    }

    /// Changes the traffic.
    pub(super) fn traffic(&mut self, kind: TrafficKind, edit: impl FnOnce(&mut Release)) {
        let mut next = self.traffic.clone();
        edit(&mut next);
        let mut before = std::mem::replace(&mut self.traffic, next);
        for target in self.traffic.targets.keys() {
            if let Some(known) = self.around.service.wanted.targets.get(target).filter(|_| *target == self.from) {
                before.targets.entry(target.clone()).or_insert_with(|| known.clone());
                self.base.targets.insert(target.clone(), known.clone());
            }
        }
        for mirror in self.traffic.mirrors.keys() {
            let known = self.around.service.wanted.mirrors.get(mirror).cloned();
            before.mirrors.entry(mirror.clone()).or_insert_with(|| known.clone());
            self.base.mirrors.insert(mirror.clone(), known);
        }
        let undo = UndoStep::Traffic(self.releases(before));
        let step = Step::Traffic { kind, services: self.releases(self.traffic.clone()) };
        self.push(Task::Release, step, vec![undo]);
    }

    /// Gives the new version a share.
    pub(super) fn set(&mut self, share: Weight) {
        let (from, to, salt) = (self.from.clone(), self.to.clone(), self.salt.clone());
        let rest = Weight::from_points(Weight::FULL.points() - share.points()).unwrap_or_default();
        // Invariant: the two sum to 100 %.
        let split = Split::new([(to.clone(), share), (from, rest)]).unwrap_or_else(|_| Split::all(to.clone()));
        self.traffic(TrafficKind::SetWeight, |traffic| {
            if share == Weight::FULL {
                traffic.stable = to;
            }
            traffic.split = split;
            traffic.salt = salt;
            traffic.hold = Hold::Off;
        });
    }

    /// Sets weights as given, with another stable target if there is one.
    pub(super) fn set_split(&mut self, split: Split, stable: Option<TargetId>, targets: &[(TargetId, TargetSpec)]) {
        let salt = self.salt.clone();
        self.traffic(TrafficKind::SetWeight, |traffic| {
            traffic.stable = stable.unwrap_or_else(|| traffic.stable.clone());
            traffic.split = split;
            traffic.salt = salt;
            traffic.hold = Hold::Off;
            traffic.targets.extend(targets.iter().cloned());
        });
    }

    pub(super) fn hold(&mut self) {
        self.traffic(TrafficKind::Hold, |traffic| traffic.hold = Hold::On);
    }

    /// Copies requests to the new version.
    pub(super) fn mirror(&mut self, policy: &MirrorPolicy) -> Result<(), Wrong> {
        let id = MirrorId::parse(self.to.as_str()).map_err(|why| vec![("to", why.to_string())])?;
        let spec = MirrorSpec {
            to: self.to.clone(),
            percent: policy.percent,
            methods: policy.methods.clone(),
            max_body: MIRROR_BODY,
            compare: false,
            ignore: Vec::new(),
            remove_headers: Vec::new(),
            set_headers: BTreeMap::new(),
            flag: None,
        };
        self.traffic(TrafficKind::Mirror, |traffic| {
            traffic.mirrors.insert(id, Some(spec));
        });
        Ok(())
    }

    pub(super) fn drain(&mut self, target: &TargetId, endpoints: Vec<EndpointAddress>) {
        let timeout = self.spec.drain.unwrap_or(self.around.service.spec.drain);
        let endpoints = one(&self.wanted.service, target, endpoints);
        self.push(Task::Release, Step::Drain(Drain { endpoints, timeout }), Vec::new());
    }

    pub(super) fn analyse(&mut self, length: Duration, mode: AnalyseMode) {
        let load = self.known(HookRole::Load, &self.to, &self.version, None).map(Box::new);
        self.push(Task::Evaluation, Step::Analyse(Analyse { length, mode, load }), Vec::new());
    }

    pub(super) fn pause(&mut self, pause: Pause) {
        self.push(Task::Release, Step::Pause(pause), Vec::new());
    }

    /// What becomes of targets that have no traffic any more.
    pub(super) fn leave(&mut self, targets: &[(TargetId, Version)]) {
        let stops: Vec<_> = targets
            .iter()
            .map(|(target, version)| (target, version, self.known(HookRole::Stop, target, version, None)))
            .map(|(target, version, stop)| (target.clone(), version.clone(), stop))
            .collect();
        match self.spec.keep_old.unwrap_or(self.around.environment.keep_old) {
            KeepOld::UntilNext => {}
            KeepOld::For(after) => {
                let undo = |target: &TargetId, version: &Version| self.revive(target, version, None);
                let stops = stops.into_iter().filter_map(|(t, v, stop)| stop.map(|stop| (stop, undo(&t, &v))));
                let (hooks, undo): (Vec<_>, Vec<_>) = stops.unzip();
                self.retire = (!hooks.is_empty()).then_some(Retire { after, hooks, undo });
            }
            KeepOld::No => {
                for (target, version, stop) in stops {
                    self.drain(&target, self.endpoints_of(&target));
                    if let Some(stop) = stop {
                        let undo = self.revive(&target, &version, None);
                        self.push(Task::Release, Step::Hook(stop), undo);
                    }
                }
            }
        }
    }

    /// Whether every endpoint of the old version is healthy: only then is it worth a copy.
    pub(super) fn old_is_healthy(&self) -> bool {
        let endpoints = self.endpoints_of(&self.from);
        let healthy = |endpoint| self.around.service.health_of(&self.from, endpoint) == Health::Healthy;
        !endpoints.is_empty() && endpoints.iter().all(healthy)
    }

    /// Whether nothing was there before: the first version of a service skips every caution.
    pub(super) fn is_first(&self) -> bool {
        self.to == self.from && !self.spec.strategy.works_in_place()
    }
}

/// Whether the first version becomes main where it is, since there is no other.
fn finds_no_main(spec: &DeploymentSpec, around: Around<'_>) -> bool {
    match spec.strategy {
        // There is nothing that it could shadow.
        Strategy::Shadow(_) => main_is_gone(around),
        // It would wait for requests to a version that never was. One that is only down is worth all caution.
        Strategy::Canary { .. } | Strategy::BlueGreen { .. } => main_is_gone(around) && !main_ever_answered(around),
        Strategy::Simple
        | Strategy::Blind
        | Strategy::Recreate
        | Strategy::RollingUpdate(_)
        | Strategy::ZeroDowntime(_)
        | Strategy::AbTesting { .. }
        | Strategy::Custom { .. } => false,
    }
}

/// Whether main is remembered as healthy, or anything was ever deployed.
fn main_ever_answered(around: Around<'_>) -> bool {
    let stable = &around.service.wanted.stable;
    let up = |health| matches!(health, Health::Healthy | Health::Suspect);
    let seen = around.memory.health.iter().any(|entry| entry.target == *stable && up(entry.health));
    seen || !around.memory.running.is_empty()
}

/// Whether a service has no main: nobody started one, and nothing answers.
fn main_is_gone(around: Around<'_>) -> bool {
    let stable = &around.service.wanted.stable;
    !around.memory.running.contains_key(stable) && standing(around.service, stable) == Standing::Down
}

fn addresses(spec: &TargetSpec) -> impl Iterator<Item = EndpointAddress> + '_ {
    spec.endpoints.iter().map(|endpoint| endpoint.address.clone())
}

fn one(service: &ServiceId, target: &TargetId, endpoints: Vec<EndpointAddress>) -> Endpoints {
    BTreeMap::from([(service.clone(), BTreeMap::from([(target.clone(), endpoints)]))])
}

/// Where the new version goes.
fn target(spec: &DeploymentSpec, wanted: &MemberSpec, around: Around<'_>) -> Result<TargetId, Wrong> {
    let targets = &around.service.wanted.targets;
    let stable = &around.service.wanted.stable;
    let known = || targets.keys().map(TargetId::as_str).collect::<Vec<_>>().join(", ");
    if let Some(to) = &wanted.to {
        if targets.contains_key(to) || !wanted.endpoints.is_empty() {
            return Ok(to.clone());
        }
        let service = &wanted.service;
        return Err(vec![("to", format!("service {service} has no target {to}: give endpoints, or use {}", known()))]);
    }
    if spec.strategy.works_in_place() || matches!(spec.strategy, Strategy::AbTesting { .. }) {
        return Ok(stable.clone());
    }
    let tag = wanted.image.as_deref().and_then(|image| image.rsplit_once(':')).map(|(_, tag)| tag);
    let named = wanted.version.as_deref().into_iter().chain(tag).find_map(|name| targets.get_key_value(name));
    let mut others = targets.keys().filter(|target| *target != stable);
    match (named, others.next(), others.next()) {
        (Some((target, _)), _, _) if target != stable => Ok(target.clone()),
        (_, Some(only), None) => Ok(only.clone()),
        (_, None, _) => {
            let message = format!("{stable} is the only target, and stable: name a new one here, with its endpoints");
            Err(vec![("to", message)])
        }
        _ => Err(vec![("to", format!("say which target gets the new version: {stable} is stable of {}", known()))]),
    }
}
