//! All deployments and what is remembered of the services: who may begin, who waits, who replaces whom.
//!
//! One active deployment per service. As pure as the machine of one deployment: a [`Decision`] is the next engine, what
//! is written down first, and what is done then.

mod admit;
mod group;
mod previews;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

pub use admit::{Create, EngineError};
use serde::{Deserialize, Serialize};
use tidegate_config::{ServiceId, TargetId};

use super::{
    environment::Environment,
    ids::DeploymentId,
    machine::{self, Command, Deployment, Effect, Input, Refusal, State, Stepped, Write},
    memory::{HealthEntry, Note, ServiceMemory},
    stage::{Bracket, Stages},
};
use crate::{
    change::HealthReport,
    failover::{Standing, standing},
    state::{Moment, ServiceState},
};

/// What the engine knows of the proxy when it decides.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// The services as they are.
    pub services: &'a BTreeMap<ServiceId, Arc<ServiceState>>,
    /// How their environments are handled; a service that is absent here has no commands.
    pub environments: &'a BTreeMap<ServiceId, Environment>,
    /// The stages.
    pub stages: &'a Stages,
}

/// All deployments, and what is remembered of the services.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Engine {
    deployments: BTreeMap<DeploymentId, Arc<Deployment>>,
    memory: BTreeMap<ServiceId, Arc<ServiceMemory>>,
    brackets: BTreeMap<String, Arc<Bracket>>,
}

/// One entry of the journal: a whole value, so that the last one of its kind and name is all that counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// A deployment.
    Deployment {
        /// The deployment.
        deployment: Arc<Deployment>,
    },
    /// What is remembered of a service.
    Memory {
        /// The service.
        service: ServiceId,
        /// What is remembered.
        memory: Arc<ServiceMemory>,
    },
    /// A bracket.
    Bracket {
        /// The bracket.
        bracket: Arc<Bracket>,
    },
    /// A bracket that is no longer kept.
    ForgottenBracket {
        /// The bracket.
        name: String,
    },
    /// A deployment that is no longer kept.
    Forgotten {
        /// The deployment.
        id: DeploymentId,
    },
}

/// What the engine makes of an input.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The engine from now on: to be taken over when the records are written, or cannot be and need not.
    pub engine: Engine,
    /// Whether the records must be written before the effects are done.
    pub write: Write,
    /// What is written, as one.
    pub records: Vec<Record>,
    /// What is done then, in this order; that of one deployment never overtakes itself.
    pub effects: Vec<(DeploymentId, Effect)>,
}

impl Engine {
    /// The engine as a journal left it. Go on with [`Engine::recover`].
    pub fn load(records: impl IntoIterator<Item = Record>) -> Self {
        let mut engine = Self::default();
        for record in records {
            match record {
                Record::Deployment { deployment } => {
                    engine.deployments.insert(deployment.id.clone(), deployment);
                }
                Record::Memory { service, memory } => {
                    engine.memory.insert(service, memory);
                }
                Record::Bracket { bracket } => {
                    engine.brackets.insert(bracket.name.clone(), bracket);
                }
                Record::ForgottenBracket { name } => {
                    engine.brackets.remove(&name);
                }
                Record::Forgotten { id } => {
                    engine.deployments.remove(&id);
                }
            }
        }
        engine
    }

    /// Everything as records: a journal of its own, to begin a shorter one with.
    pub fn records(&self) -> Vec<Record> {
        let memory = self.memory.iter();
        let memory = memory.map(|(id, memory)| Record::Memory { service: id.clone(), memory: Arc::clone(memory) });
        let deployments = self.deployments.values();
        let brackets = self.brackets.values().map(|bracket| Record::Bracket { bracket: Arc::clone(bracket) });
        let deployments = deployments.map(|d| Record::Deployment { deployment: Arc::clone(d) });
        memory.chain(brackets).chain(deployments).collect()
    }

    /// A deployment.
    pub fn get(&self, id: &DeploymentId) -> Option<&Arc<Deployment>> {
        self.deployments.get(id)
    }

    /// All deployments.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Deployment>> {
        self.deployments.values()
    }

    /// What is remembered of a service.
    pub fn memory(&self, service: &ServiceId) -> Option<&Arc<ServiceMemory>> {
        self.memory.get(service)
    }

    /// The active deployment of a service: whoever wants to change its traffic by hand is refused meanwhile.
    pub fn active(&self, service: &ServiceId) -> Option<&Arc<Deployment>> {
        let of = |d: &&Arc<Deployment>| d.is_active() && d.spec.members.iter().any(|m| m.service == *service);
        self.deployments.values().find(of)
    }

    /// A bracket.
    pub fn bracket(&self, name: &str) -> Option<&Arc<Bracket>> {
        self.brackets.get(name)
    }

    /// All brackets.
    pub fn brackets(&self) -> impl Iterator<Item = &Arc<Bracket>> {
        self.brackets.values()
    }

    /// The moment (monotonic) at which [`Engine::tick`] has something to do.
    pub fn wakes_at(&self) -> Option<std::time::Duration> {
        self.deployments.values().filter_map(|deployment| deployment.wakes_at()).min()
    }

    /// Creates a deployment; nothing begins yet.
    ///
    /// # Errors
    /// When it does not fit the services, or its version is bad.
    pub fn create(&self, create: Create, world: World<'_>, now: Moment) -> Result<Decision, EngineError> {
        let mut draft = Draft::new(self, world, now);
        draft.create(create)?;
        Ok(draft.finish())
    }

    /// Begins a deployment, or queues it behind the one that it supersedes.
    ///
    /// # Errors
    /// When it does not fit the services any more, or one of them is taken.
    pub fn execute(&self, id: &DeploymentId, world: World<'_>, now: Moment) -> Result<Decision, EngineError> {
        let mut draft = Draft::new(self, world, now);
        draft.execute(id)?;
        Ok(draft.finish())
    }

    /// Does what a person wants of a deployment.
    ///
    /// # Errors
    /// When it does not fit its state.
    pub fn command(
        &self,
        id: &DeploymentId,
        command: Command,
        world: World<'_>,
        now: Moment,
    ) -> Result<Decision, EngineError> {
        let mut draft = Draft::new(self, world, now);
        let deployment = draft.get(id)?;
        if command == Command::Rollback && !deployment.is_active() {
            draft.may_go_back(&deployment)?;
        }
        draft.step(id, Input::Command(command))?;
        Ok(draft.finish())
    }

    /// Creates a deployment like one that is over.
    ///
    /// # Errors
    /// When that one is not over, or does not fit the services any more.
    pub fn retry(
        &self,
        id: &DeploymentId,
        new: DeploymentId,
        world: World<'_>,
        now: Moment,
    ) -> Result<Decision, EngineError> {
        let mut draft = Draft::new(self, world, now);
        let old = draft.get(id)?;
        if old.is_active() || matches!(old.state, State::Pending) {
            return Err(Refusal::Conflict(format!("deployment {id} is not over: there is nothing to retry")).into());
        }
        draft.create(Create { id: new, spec: old.spec.clone(), retry_of: Some(id.clone()) })?;
        Ok(draft.finish())
    }

    /// Hands a deployment what came of an act, what the analysis says or that a process runs.
    pub fn input(&self, id: &DeploymentId, input: Input, world: World<'_>, now: Moment) -> Decision {
        let mut draft = Draft::new(self, world, now);
        // Only commands are refused, and a deployment that is gone awaits nothing.
        let _ = draft.step(id, input);
        draft.finish()
    }

    /// Lets everything go on whose time has come.
    pub fn tick(&self, world: World<'_>, now: Moment) -> Decision {
        let mut draft = Draft::new(self, world, now);
        let due = self.deployments.values().filter(|d| d.wakes_at().is_some_and(|at| at <= now.mono));
        for id in due.map(|d| d.id.clone()).collect::<Vec<_>>() {
            let _ = draft.step(&id, Input::Tick);
        }
        draft.finish()
    }

    /// Goes on with one deployment after a restart of the process. To be called for each before anything else is.
    pub fn recover(&self, id: &DeploymentId, world: World<'_>, now: Moment) -> Decision {
        let mut draft = Draft::new(self, world, now);
        if let Some(deployment) = self.deployments.get(id) {
            draft.take(id, machine::recover(deployment, now));
        }
        draft.finish()
    }

    /// Begins what waited for a deployment that is over; to be called when all were recovered.
    pub fn begin_queued(&self, world: World<'_>, now: Moment) -> Decision {
        let mut draft = Draft::new(self, world, now);
        draft.begin_queued();
        draft.finish()
    }

    /// Remembers what was done to a service's versions without a deployment.
    pub fn note(&self, service: &ServiceId, note: Note, world: World<'_>, now: Moment) -> Decision {
        let mut draft = Draft::new(self, world, now);
        draft.note(service, note);
        draft.write = Write::BestEffort;
        draft.finish()
    }

    /// Remembers changes of health, and takes back deployments whose new version went down. To be called after the
    /// services know of them.
    pub fn health(&self, reports: &[HealthReport], world: World<'_>, now: Moment) -> Decision {
        let mut draft = Draft::new(self, world, now);
        for report in reports {
            let entry = HealthEntry {
                at_unix_ms: now.unix_ms,
                target: report.target.clone(),
                endpoint: report.endpoint.clone(),
                version: None,
                health: report.health,
                reason: report.reason.clone(),
            };
            let known = draft.engine.memory.get(&report.service);
            let mut memory = known.map(|memory| ServiceMemory::clone(memory)).unwrap_or_default();
            if world.services.contains_key(&report.service) && memory.note_health(entry) {
                draft.remember(&report.service, |known| *known = memory);
                draft.write = draft.write.max(Write::BestEffort);
            }
            draft.trip(&report.service, &report.target, &report.reason);
        }
        draft.finish()
    }

    /// Marks a version as bad, or takes the mark away.
    ///
    /// # Errors
    /// When it is not marked.
    pub fn mark(
        &self,
        service: &ServiceId,
        mark: Mark,
        world: World<'_>,
        now: Moment,
    ) -> Result<Decision, EngineError> {
        let mut draft = Draft::new(self, world, now);
        if !world.services.contains_key(service) {
            return Err(Refusal::Unknown(format!("service {service}")).into());
        }
        match mark {
            Mark::Bad(note) => draft.note(service, note),
            Mark::Unbad(key) => {
                let mut marked = false;
                draft.remember(service, |memory| marked = memory.unmark(&key));
                if !marked {
                    let message = format!("version {key} of service {service} is not marked as bad");
                    return Err(Refusal::Conflict(message).into());
                }
            }
        }
        draft.write = Write::Required;
        Ok(draft.finish())
    }
}

/// What is said about a version by hand.
#[derive(Debug, Clone, PartialEq)]
pub enum Mark {
    /// It is bad; a [`Note::Bad`].
    Bad(Note),
    /// The version with this key is not.
    Unbad(String),
}

/// The next engine in the making.
struct Draft<'a> {
    engine: Engine,
    world: World<'a>,
    now: Moment,
    write: Write,
    changed: Vec<DeploymentId>,
    bracketed: Vec<String>,
    gone_brackets: Vec<String>,
    forgotten: Vec<DeploymentId>,
    remembered: Vec<ServiceId>,
    effects: Vec<(DeploymentId, Effect)>,
}

impl<'a> Draft<'a> {
    fn new(engine: &Engine, world: World<'a>, now: Moment) -> Self {
        Self {
            engine: engine.clone(),
            world,
            now,
            write: Write::No,
            changed: Vec::new(),
            bracketed: Vec::new(),
            gone_brackets: Vec::new(),
            forgotten: Vec::new(),
            remembered: Vec::new(),
            effects: Vec::new(),
        }
    }

    fn finish(mut self) -> Decision {
        self.changed.sort_unstable();
        self.changed.dedup();
        self.remembered.sort_unstable();
        self.remembered.dedup();
        let memory = self.remembered.iter().filter_map(|service| {
            let memory = Arc::clone(self.engine.memory.get(service)?);
            Some(Record::Memory { service: service.clone(), memory })
        });
        let deployments = self
            .changed
            .iter()
            .filter_map(|id| Some(Record::Deployment { deployment: Arc::clone(self.engine.deployments.get(id)?) }));
        let brackets = self
            .bracketed
            .iter()
            .filter_map(|name| Some(Record::Bracket { bracket: Arc::clone(self.engine.brackets.get(name)?) }));
        let gone = self.gone_brackets.iter().map(|name| Record::ForgottenBracket { name: name.clone() });
        let forgotten = self.forgotten.iter().map(|id| Record::Forgotten { id: id.clone() });
        let records = memory.chain(brackets).chain(deployments).chain(forgotten).chain(gone).collect();
        Decision { records, engine: self.engine, write: self.write, effects: self.effects }
    }

    fn get(&self, id: &DeploymentId) -> Result<Arc<Deployment>, Refusal> {
        self.engine.deployments.get(id).cloned().ok_or_else(|| Refusal::Unknown(format!("deployment {id}")))
    }

    fn step(&mut self, id: &DeploymentId, input: Input) -> Result<(), Refusal> {
        let deployment = self.get(id)?;
        let was_active = deployment.is_active();
        let stepped = machine::step(&deployment, input, self.now)?;
        let over = was_active && !stepped.deployment.is_active();
        self.take(id, stepped);
        if over {
            self.promote(id);
            self.begin_queued();
        }
        Ok(())
    }

    fn take(&mut self, id: &DeploymentId, stepped: Stepped) {
        let Stepped { deployment, write, notes, effects } = stepped;
        if write != Write::No {
            self.changed.push(id.clone());
        }
        // What leads away from trouble does not wait for what else is to be written.
        self.write = match (self.write, write) {
            (Write::BestEffort, _) | (_, Write::BestEffort) => Write::BestEffort,
            (Write::Required, _) | (_, Write::Required) => Write::Required,
            (Write::No, Write::No) => Write::No,
        };
        self.follow(&deployment);
        self.engine.deployments.insert(id.clone(), Arc::new(deployment));
        for (service, note) in notes {
            self.note(&service, note);
        }
        self.effects.extend(effects.into_iter().map(|effect| (id.clone(), effect)));
    }

    fn note(&mut self, service: &ServiceId, note: Note) {
        let now = self.now.unix_ms;
        self.remember(service, |memory| memory.note(note, now));
    }

    fn remember(&mut self, service: &ServiceId, edit: impl FnOnce(&mut ServiceMemory)) {
        let memory = self.engine.memory.entry(service.clone()).or_default();
        edit(Arc::make_mut(memory));
        self.remembered.push(service.clone());
    }

    /// A target may have lost its last healthy endpoint.
    fn trip(&mut self, service: &ServiceId, target: &TargetId, reason: &str) {
        let Some(state) = self.world.services.get(service) else { return };
        if standing(state, target) != Standing::Down {
            return;
        }
        if let Some(id) = self.engine.active(service).map(|deployment| deployment.id.clone()) {
            let (service, target, reason) = (service.clone(), target.clone(), reason.to_owned());
            let _ = self.step(&id, Input::TargetDown { service, target, reason });
        }
    }

    /// Deployments that waited for another one's end.
    fn begin_queued(&mut self) {
        let waiting = |d: &&Arc<Deployment>| matches!(d.state, State::Pending) && d.queued;
        for id in self.engine.deployments.values().filter(waiting).map(|d| d.id.clone()).collect::<Vec<_>>() {
            // What does not fit any more stays pending, and says why when somebody executes it.
            let _ = self.execute(&id);
        }
    }
}
