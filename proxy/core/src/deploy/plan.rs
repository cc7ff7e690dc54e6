//! From what was asked for, and what runs now, to the steps of a deployment.
//!
//! Pure: the same spec and the same services give the same plan, so a dry run shows exactly what an execution does.

mod build;
mod rolling;
mod strategy;
#[cfg(test)]
mod tests;
mod zip;

use std::{collections::BTreeMap, time::Duration};

pub use rolling::{Batch, batches};
use serde::{Deserialize, Serialize};
use tidegate_config::{ServiceId, TargetId};

use super::{
    environment::Environment,
    ids::DeploymentId,
    memory::ServiceMemory,
    spec::{DeploymentSpec, SpecProblem},
    step::{HookStep, PlanStep, Releases, UndoStep, Version, WatchSpec},
};
use crate::state::ServiceState;

/// What is known of a service when a deployment of it is compiled.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// The service.
    pub service: &'a ServiceState,
    /// How its environments are handled.
    pub environment: &'a Environment,
    /// What is remembered of it.
    pub memory: &'a ServiceMemory,
}

/// The steps of a deployment, and what is needed to take them back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<PlanStep>,
    /// What is done after everything else was taken back.
    pub bottom: Vec<UndoStep>,
    /// The traffic to go back to.
    pub base: Releases,
    /// The services.
    pub members: Vec<Member>,
    /// What is watched, once a new version has traffic.
    pub watch: Option<WatchSpec>,
    /// Old versions that are stopped some time after the success.
    pub retire: Option<Retire>,
    /// What a person should know before it begins.
    pub warnings: Vec<String>,
}

/// A service of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The service.
    pub service: ServiceId,
    /// The target that carried it.
    pub from: TargetId,
    /// The targets that get a new version: one, or the variants of a test.
    pub to: Vec<TargetId>,
    /// The new version; of a test: the one that won.
    pub version: Version,
    /// The version of `from`.
    pub previous: Option<Version>,
    /// Whether a version that fails is remembered as bad.
    pub mark_bad: bool,
}

impl Member {
    /// Whether the new version takes the old one's place.
    pub fn in_place(&self) -> bool {
        self.to.contains(&self.from)
    }
}

/// Old versions that are stopped some time after the success.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retire {
    /// The time.
    pub after: Duration,
    /// How they are stopped.
    pub hooks: Vec<HookStep>,
    /// How each is brought back, in the same order; the last of each is done first.
    pub undo: Vec<Vec<UndoStep>>,
}

impl Retire {
    /// How what a command stops is brought back.
    pub fn undo_of(&self, stop: &HookStep) -> Vec<UndoStep> {
        let at = self.hooks.iter().position(|hook| hook == stop);
        at.and_then(|at| self.undo.get(at)).cloned().unwrap_or_default()
    }
}

/// That there is no such service, and how there would be one: in a stage it has the stage in its name.
pub(super) fn no_service(service: &ServiceId) -> String {
    let quote = if service.as_str().contains('.') { "\"" } else { "" };
    format!("there is no service {service}: declare it in [service.{quote}{service}{quote}]")
}

/// Compiles a deployment.
///
/// # Errors
/// Everything that does not fit the services as they are now.
pub fn compile(
    id: &DeploymentId,
    spec: &DeploymentSpec,
    around: &BTreeMap<ServiceId, Around<'_>>,
) -> Result<Plan, Vec<SpecProblem>> {
    let mut problems = Vec::new();
    let mut built = Vec::new();
    for (at, member) in spec.members.iter().enumerate() {
        let path = if spec.members.len() == 1 { String::new() } else { format!("member[{at}].") };
        let found = match around.get(&member.service) {
            None => Err(vec![("service", no_service(&member.service))]),
            Some(around) => build::Builder::new(id, spec, member, *around).and_then(strategy::build),
        };
        match found {
            Ok(member) => built.push(member),
            Err(found) => problems
                .extend(found.into_iter().map(|(key, message)| SpecProblem { path: format!("{path}{key}"), message })),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut plan = zip::zip(built);
    if spec.metadata.labels.contains_key("traffic_router") {
        plan.warnings.push("traffic_router is only told to commands: this proxy routes the traffic itself".into());
    }
    Ok(plan)
}
