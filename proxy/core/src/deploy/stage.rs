//! Stages that a version passes one after the other, and brackets: services that wait to be released together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_config::{IdError, ServiceId};

use super::{
    ids::DeploymentId,
    machine::{Deployment, Refusal, State},
    spec::{DeploymentSpec, MemberSpec, SpecProblem, Value, parse_template},
};

/// Services of a bracket, at most.
const MAX_MEMBERS: usize = 64;

/// A stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// The stage after this one.
    pub next: Option<String>,
    /// Whether what succeeded here goes there by itself.
    pub auto_promote: bool,
    /// What its deployments have in common; it has no members.
    pub template: DeploymentSpec,
}

/// The stages, by name.
pub type Stages = BTreeMap<String, Stage>;

/// Reads a stage: `next`, `auto_promote`, and the keys of a deployment.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_stage(name: &str, document: &Value) -> Result<Stage, Vec<SpecProblem>> {
    let problem = |key: &str, message: &str| SpecProblem { path: key.into(), message: message.into() };
    let Value::Table(entries) = document else { return Err(vec![problem("", "a stage is a table")]) };
    let mut entries = entries.clone();
    let mut problems = Vec::new();
    let next = match entries.remove("next") {
        None => None,
        Some(Value::Text(next)) => Some(next),
        Some(_) => {
            problems.push(problem("next", "expected the name of a stage"));
            None
        }
    };
    let auto_promote = match entries.remove("auto_promote").or_else(|| entries.remove("auto-promote")) {
        None => false,
        Some(Value::Bool(auto)) => auto,
        Some(_) => {
            problems.push(problem("auto_promote", "expected true or false"));
            false
        }
    };
    if auto_promote && next.is_none() {
        problems.push(problem("auto_promote", "there is no next stage to promote to: add next = \"NAME\""));
    }
    if entries.insert("stage".into(), Value::Text(name.into())).is_some() {
        problems.push(problem("stage", "the stage has its name already: leave it out"));
    }
    match parse_template(&Value::Table(entries)) {
        Ok(template) if problems.is_empty() => Ok(Stage { next, auto_promote, template }),
        Ok(_) => Err(problems),
        Err(found) => Err(problems.into_iter().chain(found).collect()),
    }
}

/// What is wrong with the stages together: a next one that does not exist, or a circle.
pub fn check(stages: &Stages) -> Vec<SpecProblem> {
    let mut problems = Vec::new();
    for (name, stage) in stages {
        let path = format!("stage.{name}.next");
        let mut at = stage.next.as_ref();
        let mut passed = 0;
        while let Some(next) = at {
            let Some(stage) = stages.get(next) else {
                problems.push(SpecProblem { path: path.clone(), message: format!("there is no stage {next}") });
                break;
            };
            passed += 1;
            if passed > stages.len() {
                problems.push(SpecProblem { path: path.clone(), message: "the stages lead in a circle".into() });
                break;
            }
            at = stage.next.as_ref();
        }
    }
    problems
}

/// The service that stands for a name in a stage: `hardening.web`.
///
/// # Errors
/// When the two together are no name.
pub fn in_stage(stage: &str, name: &str) -> Result<ServiceId, IdError> {
    ServiceId::parse(&format!("{stage}.{name}"))
}

/// The stage of this name.
///
/// # Errors
/// Which there are.
pub fn named_stage<'a>(stages: &'a Stages, name: &str) -> Result<&'a Stage, SpecProblem> {
    let missing = || format!("there is no stage {name}; there is {}", names(stages));
    match stages.get(name) {
        Some(stage) => Ok(stage),
        None if stages.is_empty() => Err(no_stage(&format!("there is no stage {name}"))),
        None => Err(SpecProblem { path: "stage".into(), message: missing() }),
    }
}

fn no_stage(what: &str) -> SpecProblem {
    let message = format!("{what}: the configuration has no stages, add some as [stage.NAME]");
    SpecProblem { path: "stage".into(), message }
}

fn names(stages: &Stages) -> String {
    stages.keys().cloned().collect::<Vec<_>>().join(", ")
}

/// The tag of an artifact `name:tag`, which is what people call the version. The port of a registry is none.
fn tag(artifact: &str) -> Option<&str> {
    artifact.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.is_empty() && !tag.contains('/'))
}

/// The name of an artifact `name:tag`, without its registry.
pub fn artifact_name(artifact: &str) -> &str {
    let name = tag(artifact).and_then(|tag| artifact.strip_suffix(tag)?.strip_suffix(':')).unwrap_or(artifact);
    name.rsplit_once('/').map_or(name, |(_, name)| name)
}

/// The deployment that brings artifacts to a stage; without a stage, to the first one.
///
/// # Errors
/// What does not fit.
pub fn trigger(
    stages: &Stages,
    project: Option<&str>,
    stage: Option<&str>,
    artifacts: &[(String, String)],
) -> Result<DeploymentSpec, Vec<SpecProblem>> {
    let problem = |key: &str, message: String| vec![SpecProblem { path: key.into(), message }];
    let is_next = |name: &String| stages.values().any(|stage| stage.next.as_ref() == Some(name));
    let mut firsts = stages.keys().filter(|name| !is_next(name));
    let name = match (stage, firsts.next(), firsts.next()) {
        (Some(stage), _, _) => stage.to_owned(),
        (None, Some(only), None) => only.clone(),
        (None, None, _) => return Err(vec![no_stage("say which")]),
        (None, _, _) => return Err(problem("stage", format!("say which stage: {}", names(stages)))),
    };
    let stage = named_stage(stages, &name).map_err(|why| vec![why])?;
    let mut spec = stage.template.clone();
    spec.project = project.map(str::to_owned).or(spec.project);
    let mut problems = Vec::new();
    for (at, (service, artifact)) in artifacts.iter().enumerate() {
        match in_stage(&name, service) {
            Ok(id) if spec.members.iter().any(|member| member.service == id) => {
                problems.extend(problem(&format!("services[{at}]"), format!("{service} is named twice")));
            }
            Ok(service) => {
                let version = tag(artifact).map(str::to_owned);
                spec.members.push(MemberSpec { version, ..member(service, Some(artifact.clone())) });
            }
            Err(why) => problems.extend(problem(&format!("services[{at}]"), why.to_string())),
        }
    }
    if artifacts.is_empty() {
        problems.extend(problem("service", "name at least one service and its artifact".into()));
    }
    if problems.is_empty() { Ok(spec) } else { Err(problems) }
}

fn member(service: ServiceId, image: Option<String>) -> MemberSpec {
    MemberSpec { service, to: None, version: None, image, endpoints: Vec::new(), digest: None }
}

/// A deployment in the next stage, or why there is none.
pub(super) struct Promotion {
    pub(super) stage: String,
    pub(super) made: Result<(DeploymentId, DeploymentSpec), String>,
}

/// The deployment that follows one that succeeded, in the next stage: its name is made of the first one's, so that it
/// is the same however often it is asked for.
pub(super) fn promotion(d: &Deployment, stages: &Stages) -> Option<Promotion> {
    let here = d.spec.stage.as_ref()?;
    let stage = stages.get(here).filter(|stage| stage.auto_promote)?;
    let next = stage.next.clone()?;
    let made = || {
        let template = &stages.get(&next).ok_or_else(|| format!("there is no stage {next}"))?.template;
        let id = DeploymentId::parse(&format!("{}n", d.id)).map_err(|why| why.to_string())?;
        let mut spec = template.clone();
        spec.project.clone_from(&d.spec.project);
        for old in &d.spec.members {
            let name = old.service.as_str().strip_prefix(&format!("{here}.")).unwrap_or(old.service.as_str());
            let service = in_stage(&next, name).map_err(|why| why.to_string())?;
            let new = MemberSpec {
                version: old.version.clone(),
                digest: old.digest.clone(),
                ..member(service, old.image.clone())
            };
            spec.members.push(new);
        }
        Ok((id, spec))
    };
    let made = made();
    Some(Promotion { stage: next, made })
}

/// Services that wait to be released together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bracket {
    /// Its name.
    pub name: String,
    /// What is done for all of its services; members are added to it.
    pub spec: DeploymentSpec,
    /// How far it is.
    pub state: BracketState,
    /// When it was opened.
    pub created_unix_ms: u64,
}

/// How far a bracket is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum BracketState {
    /// Services may be added.
    Open,
    /// Its deployment was created.
    Releasing {
        /// The deployment.
        deployment: DeploymentId,
    },
    /// All of its services have their new versions.
    Released {
        /// The deployment.
        deployment: DeploymentId,
    },
    /// None of its services has.
    Aborted {
        /// Why.
        why: String,
    },
}

impl Bracket {
    /// Queues a service; one that waits already gets the newer version.
    ///
    /// # Errors
    /// When the bracket is no longer open, or full.
    pub fn add(&mut self, member: MemberSpec) -> Result<(), Refusal> {
        self.must_be_open()?;
        let full = self.spec.members.len() >= MAX_MEMBERS;
        match self.spec.members.iter_mut().find(|known| known.service == member.service) {
            Some(known) => *known = member,
            None if full => {
                return Err(Refusal::Conflict(format!("bracket {} has {MAX_MEMBERS} services already", self.name)));
            }
            None => self.spec.members.push(member),
        }
        Ok(())
    }

    /// Begins the release: the deployment that does it.
    ///
    /// # Errors
    /// When the bracket is no longer open, or empty.
    pub fn release(&mut self, deployment: DeploymentId) -> Result<DeploymentSpec, Refusal> {
        self.must_be_open()?;
        if self.spec.members.is_empty() {
            return Err(Refusal::Conflict(format!("bracket {} has no services yet: add some", self.name)));
        }
        self.state = BracketState::Releasing { deployment };
        Ok(self.spec.clone())
    }

    /// Gives it up.
    ///
    /// # Errors
    /// When it is no longer open.
    pub fn abort(&mut self, why: &str) -> Result<(), Refusal> {
        self.must_be_open()?;
        self.state = BracketState::Aborted { why: why.to_owned() };
        Ok(())
    }

    /// Follows its deployment. `false`: nothing changed.
    pub fn follow(&mut self, d: &Deployment) -> bool {
        let mine = match &self.state {
            BracketState::Releasing { deployment } | BracketState::Released { deployment } => *deployment == d.id,
            BracketState::Open | BracketState::Aborted { .. } => false,
        };
        let state = match &d.state {
            _ if !mine => return false,
            State::Succeeded => BracketState::Released { deployment: d.id.clone() },
            State::RolledBack { why } | State::Failed { why, .. } => BracketState::Aborted { why: why.message.clone() },
            State::Cancelled => BracketState::Aborted { why: "its deployment was cancelled".into() },
            State::Pending | State::Running { .. } | State::Paused { .. } | State::RollingBack { .. } => {
                BracketState::Releasing { deployment: d.id.clone() }
            }
        };
        std::mem::replace(&mut self.state, state.clone()) != state
    }

    fn must_be_open(&self) -> Result<(), Refusal> {
        match &self.state {
            BracketState::Open => Ok(()),
            BracketState::Releasing { deployment } | BracketState::Released { deployment } => {
                Err(Refusal::Conflict(format!("bracket {} is released by deployment {deployment}", self.name)))
            }
            BracketState::Aborted { why } => {
                Err(Refusal::Conflict(format!("bracket {} was aborted: {why}", self.name)))
            }
        }
    }
}
