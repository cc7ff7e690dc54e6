//! The versions of a service: which is main, which are shadows, and which are known to be good or bad.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_core::{
    ServiceState,
    deploy::{
        ServiceMemory,
        memory::{Bad, Known},
        shadow::{self, Listed},
    },
};
use utoipa::ToSchema;

use crate::dto::{deployment::DeploymentView, plan::PlanView, time::rfc3339};

/// Longest name of a version in bytes, as people write them: an image with its registry and digest.
pub const MAX_VERSION: usize = 512;

/// The versions of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VersionsView {
    /// The service.
    pub service: String,
    /// The target whose answers are the service's.
    pub main: String,
    /// Every target, and the version that runs there.
    pub versions: Vec<VersionView>,
    /// What is remembered of versions, also of those that do not run.
    pub known: Vec<KnownView>,
}

/// A target and its version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "main": true, "target": "v1", "version": "1.0.0", "status": "running", "since": "2026-11-03T09:15:00.250Z"
}))]
pub struct VersionView {
    /// Whether its answers are the service's; otherwise it is a shadow, or waits.
    pub main: bool,
    /// The target.
    pub target: String,
    /// Its version, if a deployment brought it.
    pub version: Option<String>,
    /// `running`: it can answer; `down`: it cannot.
    pub status: String,
    /// Since when it runs, RFC 3339 in UTC, if a deployment brought it.
    pub since: Option<String>,
}

/// What is remembered of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct KnownView {
    /// What it is remembered under: the digest of its files, or its name.
    pub key: String,
    /// Its name.
    pub name: String,
    /// Its image or artifact.
    pub image: Option<String>,
    /// When it was last seen healthy.
    pub good_at: Option<String>,
    /// Why it is bad, and will not be deployed again.
    pub bad: Option<BadView>,
}

/// Why a version is bad.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BadView {
    /// Why.
    pub why: String,
    /// Since when.
    pub at: String,
    /// Labels of the deployment that found it, such as its commit.
    pub labels: BTreeMap<String, String>,
}

/// Body that makes a shadow main.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "version": "2.0.0" }))]
pub struct MainInput {
    /// A version that runs, or the target that it runs in.
    #[schema(min_length = 1, max_length = 512)]
    pub version: String,
}

/// Body that marks a version as bad.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "why": "loses carts" }))]
pub struct BadInput {
    /// Why.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 1024)]
    pub why: Option<String>,
    /// Labels, such as its commit.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Answer to a change of versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VersionsReply {
    /// The generation of the state when it was answered.
    pub generation: u64,
    /// Whether nothing was done, as asked: then the versions are shown as they are.
    pub dry_run: bool,
    /// The versions now.
    #[serde(flatten)]
    pub versions: VersionsView,
    /// The deployment that does it, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentView>,
    /// In a dry run: its plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanView>,
}

impl VersionsView {
    /// The versions of a service.
    pub fn new(name: &str, service: &ServiceState, memory: &ServiceMemory) -> Self {
        Self {
            service: name.to_owned(),
            main: service.wanted.stable.to_string(),
            versions: shadow::list(service, memory).into_iter().map(VersionView::from).collect(),
            known: memory.versions.iter().map(KnownView::from).collect(),
        }
    }
}

impl From<Listed> for VersionView {
    fn from(listed: Listed) -> Self {
        Self {
            main: listed.main,
            target: listed.target.to_string(),
            version: listed.version,
            status: if listed.up { "running" } else { "down" }.into(),
            since: listed.since_unix_ms.map(rfc3339),
        }
    }
}

impl From<(&String, &Known)> for KnownView {
    fn from((key, known): (&String, &Known)) -> Self {
        Self {
            key: key.clone(),
            name: known.version.name.clone(),
            image: known.version.image.clone(),
            good_at: known.good_unix_ms.map(rfc3339),
            bad: known.bad.as_ref().map(BadView::from),
        }
    }
}

impl From<&Bad> for BadView {
    fn from(bad: &Bad) -> Self {
        Self { why: bad.why.clone(), at: rfc3339(bad.at_unix_ms), labels: bad.labels.clone() }
    }
}
