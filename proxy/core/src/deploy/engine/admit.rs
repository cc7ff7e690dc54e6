//! Who may begin: a deployment fits the services, its version is not bad, and nobody else holds its services.

use std::{collections::BTreeMap, sync::Arc};

use http::StatusCode;

use super::Draft;
use crate::deploy::{
    environment::Environment,
    ids::DeploymentId,
    machine::{Command, Deployment, Input, Refusal, State, Write},
    memory::ServiceMemory,
    plan::{Around, Plan, compile},
    spec::{DeploymentSpec, SpecProblem, WhenBusy},
};

/// Deployments that may wait to be executed: what is created and forgotten must not grow for ever.
const MAX_PENDING: usize = 1_000;

/// A deployment to be created.
#[derive(Debug, Clone, PartialEq)]
pub struct Create {
    /// Its name, which never was one before.
    pub id: DeploymentId,
    /// What is asked for.
    pub spec: DeploymentSpec,
    /// The deployment that it repeats.
    pub retry_of: Option<DeploymentId>,
}

/// Why the engine refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// It does not fit the state.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It does not fit the services.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<SpecProblem>),
}

impl EngineError {
    /// The status that stands for it over HTTP.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => refusal.status(),
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }
}

impl Draft<'_> {
    pub(super) fn create(&mut self, create: Create) -> Result<(), EngineError> {
        let Create { id, spec, retry_of } = create;
        if self.engine.deployments.contains_key(&id) {
            return Err(Refusal::Conflict(format!("there is a deployment {id} already")).into());
        }
        let pending = self.engine.deployments.values().filter(|d| matches!(d.state, State::Pending)).count();
        if pending >= MAX_PENDING {
            let message = format!("{MAX_PENDING} deployments wait to be executed: cancel some");
            return Err(Refusal::Conflict(message).into());
        }
        let plan = self.compile(&id, &spec)?;
        let mut stepped = Deployment::create(id.clone(), spec, plan, self.now);
        stepped.deployment.retry_of = retry_of;
        let services: Vec<_> = stepped.deployment.spec.members.iter().map(|m| m.service.clone()).collect();
        self.take(&id, stepped);
        for service in services {
            let mut gone = None;
            self.remember(&service, |memory| gone = memory.note_deployment(id.clone()));
            if let Some(gone) = gone {
                self.forget(&gone);
            }
        }
        Ok(())
    }

    /// Forgets a deployment of which no service knows any more.
    fn forget(&mut self, id: &DeploymentId) {
        let known = self.engine.memory.values().any(|memory| memory.deployments.contains(id));
        let done = self.engine.deployments.get(id).is_some_and(|d| !d.is_active() && d.retiring.is_none());
        if !known && done {
            self.engine.deployments.remove(id);
            self.forgotten.push(id.clone());
        }
    }

    fn compile(&self, id: &DeploymentId, spec: &DeploymentSpec) -> Result<Plan, EngineError> {
        let (nothing, no_commands) = (ServiceMemory::default(), Environment::default());
        let around: BTreeMap<_, _> = self
            .world
            .services
            .iter()
            .map(|(service, state)| {
                let memory = self.engine.memory.get(service).map_or(&nothing, |memory| &**memory);
                let environment = self.world.environments.get(service).unwrap_or(&no_commands);
                (service.clone(), Around { service: state, environment, memory })
            })
            .collect();
        let plan = compile(id, spec, &around).map_err(EngineError::Invalid)?;
        for member in plan.members.iter().filter(|member| member.mark_bad && spec.force.is_none()) {
            let bad = around.get(&member.service).and_then(|around| around.memory.bad(&member.version));
            if let Some(bad) = bad {
                return Err(Refusal::Conflict(format!(
                    "version {} of service {} is marked as bad: {}; unmark it, or deploy it with force = \"why\"",
                    member.version.name, member.service, bad.why
                ))
                .into());
            }
        }
        Ok(plan)
    }

    pub(super) fn execute(&mut self, id: &DeploymentId) -> Result<(), EngineError> {
        let deployment = self.get(id)?;
        let services: Vec<_> = deployment.spec.members.iter().map(|member| member.service.clone()).collect();
        if !matches!(deployment.state, State::Pending) {
            // The machine knows what to say.
            return Ok(self.step(id, Input::Execute(Box::new(deployment.plan.clone())))?);
        }
        let busy: Vec<_> =
            services.iter().filter_map(|service| Some((service, self.engine.active(service)?.id.clone()))).collect();
        if let Some((service, other)) = busy.first() {
            match deployment.spec.when_busy {
                WhenBusy::Refuse => {
                    return Err(Refusal::Conflict(format!(
                        "deployment {other} of service {service} is active: wait for it, roll it back, or supersede it"
                    ))
                    .into());
                }
                WhenBusy::Supersede => {
                    let others: Vec<_> = busy.into_iter().map(|(_, other)| other).collect();
                    return self.queue(&deployment, &others);
                }
            }
        }
        let plan = self.compile(id, &deployment.spec)?;
        // What earlier deployments kept for their rollback is this one's from now on.
        let before: Vec<_> = self.engine.deployments.values().filter(|d| d.id != *id).cloned().collect();
        for other in before.iter().filter(|d| d.spec.members.iter().any(|m| services.contains(&m.service))) {
            self.step(&other.id, Input::Superseded)?;
        }
        Ok(self.step(id, Input::Execute(Box::new(plan)))?)
    }

    /// Rolls the active deployments back; this one begins when they are over.
    fn queue(&mut self, deployment: &Arc<Deployment>, others: &[DeploymentId]) -> Result<(), EngineError> {
        let mut queued = Deployment::clone(deployment);
        queued.queued = true;
        self.engine.deployments.insert(queued.id.clone(), Arc::new(queued));
        self.changed.push(deployment.id.clone());
        self.write = self.write.max(Write::BestEffort);
        for other in others {
            self.step(other, Input::Command(Command::Rollback))?;
        }
        Ok(())
    }

    /// A deployment that is over can only be taken back while it is its services' last, and nobody else is at work.
    pub(super) fn may_go_back(&self, deployment: &Deployment) -> Result<(), Refusal> {
        for member in &deployment.spec.members {
            if let Some(other) = self.engine.active(&member.service) {
                return Err(Refusal::Conflict(format!(
                    "deployment {} of service {} is active: roll that one back",
                    other.id, member.service
                )));
            }
        }
        Ok(())
    }
}
