//! Brackets, and the changes of configuration that lead to deployments.

use serde::{Deserialize, Serialize};
use tidegate_core::deploy::{
    spec::MemberSpec,
    stage::{Bracket, BracketState, artifact_name},
};
use utoipa::ToSchema;

use crate::{
    dto::{
        deployment::{DeploymentReply, DeploymentView},
        plan::PlanView,
        time::rfc3339,
    },
    problem::ProblemPart,
};

/// Services of a change, at most: as many as a deployment has.
const MAX_SERVICES: usize = 64;

/// A bracket: services that wait to be released together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "name": "spring", "state": "open", "strategy": "blue-green", "deployment": null, "why": null,
    "members": [{ "service": "web", "to": "blue", "version": null, "image": "web:2" }],
    "created_at": "2026-11-03T09:15:00.250Z"
}))]
pub struct BracketView {
    /// Its name.
    pub name: String,
    /// `open`, `releasing`, `released` or `aborted`.
    pub state: String,
    /// How its services are released.
    pub strategy: String,
    /// The services that wait.
    pub members: Vec<QueuedView>,
    /// The deployment that releases it.
    pub deployment: Option<String>,
    /// Why it was aborted.
    pub why: Option<String>,
    /// When it was opened.
    pub created_at: String,
}

/// A service that waits in a bracket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueuedView {
    /// The service.
    pub service: String,
    /// The target that gets the new version; null: the one that is free.
    pub to: Option<String>,
    /// The version.
    pub version: Option<String>,
    /// Its image or artifact.
    pub image: Option<String>,
}

/// Answer to an order about a bracket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BracketReply {
    /// The generation of the state when it was answered.
    pub generation: u64,
    /// Whether nothing was done, as asked.
    pub dry_run: bool,
    /// The bracket.
    #[serde(flatten)]
    pub bracket: BracketView,
    /// The deployment that releases it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<DeploymentView>,
    /// In a dry run of the release: its plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanView>,
}

/// Body that gives a bracket up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "why": "the performance test of the couple failed" }))]
pub struct AbortInput {
    /// Why.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 1024)]
    pub why: Option<String>,
}

/// Body of a change of configuration: one service and its artifact, or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "project": "foo", "stage": "hardening", "services": ["foobar-frontend:0.9.42", "foobar-backend:0.22.3.rc"]
}))]
pub struct TriggerInput {
    /// The kind of the event that it came from; it means nothing here.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The stage; absent: the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// A single service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Its artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// Queue the services in this bracket, to be released together later; it is opened if need be. Absent: they are
    /// deployed at once, together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bracket: Option<String>,
    /// Several services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 64)]
    pub services: Vec<ArtifactInput>,
}

/// A service and its artifact: `{"service", "artifact"}`, or an artifact `service:tag` whose name is the service's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "write \"service:tag\", or a table with service and artifact")]
pub enum ArtifactInput {
    /// `foobar-backend:1.2.3`.
    Tagged(String),
    /// Each by itself.
    Named(NamedArtifact),
}

/// A service and its artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedArtifact {
    /// The service.
    pub service: String,
    /// Its artifact.
    pub artifact: String,
}

/// Answer to a change of configuration: the deployment that it began, or the bracket that it queued services in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum TriggerReply {
    /// A deployment.
    Deployment(Box<DeploymentReply>),
    /// A bracket.
    Bracket(Box<BracketReply>),
}

impl TriggerInput {
    /// The services and their artifacts, the single one first.
    pub(crate) fn artifacts(&self) -> Result<Vec<(String, String)>, Vec<ProblemPart>> {
        let single = match (&self.service, &self.artifact) {
            (Some(service), Some(artifact)) => Some((service.clone(), artifact.clone())),
            (None, None) => None,
            (Some(service), None) => {
                let message = format!("missing: say which artifact service {service} gets");
                return Err(vec![ProblemPart::new("artifact", message)]);
            }
            (None, Some(_)) => return Err(vec![ProblemPart::new("service", "missing: say which service gets it")]),
        };
        if self.project.as_ref().is_some_and(|project| project.is_empty() || project.contains('\0')) {
            return Err(vec![ProblemPart::new("project", "expected a text that is not empty")]);
        }
        if self.services.len() > MAX_SERVICES {
            return Err(vec![ProblemPart::new("services", format!("name at most {MAX_SERVICES} services"))]);
        }
        let several = self.services.iter().map(|artifact| match artifact {
            ArtifactInput::Tagged(artifact) => (artifact_name(artifact).to_owned(), artifact.clone()),
            ArtifactInput::Named(NamedArtifact { service, artifact }) => (service.clone(), artifact.clone()),
        });
        let all: Vec<_> = single.into_iter().chain(several).collect();
        let first = usize::from(self.service.is_some());
        let place = |at: usize| match at.checked_sub(first) {
            None => "artifact".to_owned(),
            Some(at) => format!("services[{at}]"),
        };
        let wrong: Vec<_> = all
            .iter()
            .enumerate()
            .filter(|(_, (_, artifact))| artifact.is_empty() || artifact.contains('\0'))
            .map(|(at, _)| ProblemPart::new(place(at), "an artifact is a text such as \"name:tag\""))
            .collect();
        if wrong.is_empty() { Ok(all) } else { Err(wrong) }
    }
}

impl From<&MemberSpec> for QueuedView {
    fn from(member: &MemberSpec) -> Self {
        Self {
            service: member.service.to_string(),
            to: member.to.as_ref().map(ToString::to_string),
            version: member.version.clone(),
            image: member.image.clone(),
        }
    }
}

impl From<&Bracket> for BracketView {
    fn from(bracket: &Bracket) -> Self {
        let (state, deployment, why) = match &bracket.state {
            BracketState::Open => ("open", None, None),
            BracketState::Releasing { deployment } => ("releasing", Some(deployment.to_string()), None),
            BracketState::Released { deployment } => ("released", Some(deployment.to_string()), None),
            BracketState::Aborted { why } => ("aborted", None, Some(why.clone())),
        };
        Self {
            name: bracket.name.clone(),
            state: state.into(),
            strategy: bracket.spec.strategy.name().into(),
            members: bracket.spec.members.iter().map(QueuedView::from).collect(),
            deployment,
            why,
            created_at: rfc3339(bracket.created_unix_ms),
        }
    }
}
