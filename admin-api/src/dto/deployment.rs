//! Deployments: what is shown of one, and of its status.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_core::deploy::{
    machine::{Deployment, Judged, State, Why},
    view,
};
use utoipa::ToSchema;

use crate::dto::{
    percent::{Weights, weights},
    plan::PlanView,
    time::rfc3339,
    word,
};

/// How far a deployment is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "id": "dep-01K9", "status": "in_progress", "state": "running", "progress": 40,
    "details": "step 3 of 7: analyse", "created_at": "2026-11-03T09:15:00.250Z",
    "updated_at": "2026-11-03T09:20:00.250Z", "completed": false, "successful": false, "exit_code": null, "labels": {}
}))]
pub struct StatusView {
    /// Its name.
    pub id: String,
    /// `pending`, `in_progress`, `completed` or `failed`.
    pub status: String,
    /// More exactly: `pending`, `running`, `paused`, `rolling-back`, `succeeded`, `rolled-back`, `failed`, `cancelled`.
    pub state: String,
    /// How much of it is done, in percent; 100 only after success.
    #[schema(maximum = 100)]
    pub progress: u8,
    /// What it does, or why it ended.
    pub details: String,
    /// When it was created, RFC 3339 in UTC.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
    /// Whether it is over.
    pub completed: bool,
    /// Whether it succeeded.
    pub successful: bool,
    /// What a program that waits for it ends with: 0 succeeded, 1 rolled back, 2 failed, 3 paused; null: it waits on.
    pub exit_code: Option<u8>,
    /// Labels that came with it, such as its commit or where its metrics are.
    pub labels: BTreeMap<String, String>,
}

impl From<&Deployment> for StatusView {
    fn from(d: &Deployment) -> Self {
        let glance = view::glance(d);
        Self {
            id: d.id.to_string(),
            status: word(&glance.status),
            state: glance.state.into(),
            progress: glance.progress,
            details: glance.details,
            created_at: rfc3339(glance.created_unix_ms),
            updated_at: rfc3339(glance.updated_unix_ms),
            completed: glance.completed,
            successful: glance.successful,
            exit_code: view::exit_code(&d.state),
            labels: d.spec.metadata.labels.clone(),
        }
    }
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentView {
    /// How far it is.
    #[serde(flatten)]
    pub status: StatusView,
    /// What people call it.
    pub name: Option<String>,
    /// Its project.
    pub project: Option<String>,
    /// The stage that its services are in.
    pub stage: Option<String>,
    /// How it goes about it.
    pub strategy: String,
    /// Its services, which are released together.
    pub members: Vec<MemberView>,
    /// Where it stands in its plan; null when it does no step.
    pub step: Option<StepAt>,
    /// What it waits for, while it is paused.
    pub paused: Option<PausedView>,
    /// Why it did not succeed, or is being taken back.
    pub why: Option<WhyView>,
    /// What could not be taken back.
    pub troubles: Vec<String>,
    /// The variant that won.
    pub winner: Option<String>,
    /// The weights that it asked for last, in percent, by service.
    pub traffic: BTreeMap<String, Weights>,
    /// What the analysis of each service said last.
    pub verdicts: BTreeMap<String, VerdictView>,
    /// What a person should know before it begins.
    pub warnings: Vec<String>,
    /// Whether it begins by itself when the deployment that it supersedes is over.
    pub queued: bool,
    /// The deployment that it repeats.
    pub retry_of: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// Names of the environment variables that its commands get; their values may be secret.
    pub env: Vec<String>,
}

/// A service of a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// The service.
    pub service: String,
    /// The target that carried it.
    pub from: String,
    /// The targets that get a new version: one, or the variants of a test.
    pub to: Vec<String>,
    /// The new version.
    pub version: String,
    /// Its image or artifact.
    pub image: Option<String>,
    /// The version before, as far as it is known.
    pub previous: Option<String>,
}

/// A place in a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepAt {
    /// The step, counted from 1.
    pub number: usize,
    /// How many steps the plan has.
    pub of: usize,
    /// What it does.
    pub name: String,
}

/// What a paused deployment waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PausedView {
    /// In words.
    pub reason: String,
    /// Until when; then it fails.
    pub until: String,
}

/// Why a deployment did not succeed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WhyView {
    /// The class: `start`, `health`, `analysis`, `inconclusive`, `test`, `hook`, `traffic`, `deadline`, `operator`.
    pub kind: String,
    /// In words.
    pub message: String,
}

/// What an analysis says, with the numbers that decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VerdictView {
    /// `running`, `pass`, `fail`, `inconclusive` or `insufficient-data`.
    pub verdict: String,
    /// Of a test of variants: the best.
    pub winner: Option<String>,
    /// Why.
    pub reason: String,
    /// The evidence.
    pub evidence: Option<f64>,
    /// What it must reach.
    pub threshold: Option<f64>,
    /// Requests or visitors of the new version that it rests on.
    pub samples: u64,
    /// Those of what it is compared with.
    pub baseline_samples: u64,
}

/// Answer to an order about a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentReply {
    /// The generation of the state when it was answered.
    pub generation: u64,
    /// Whether nothing was done, as asked.
    pub dry_run: bool,
    /// The deployment as it is; in a dry run, as it would be.
    #[serde(flatten)]
    pub deployment: DeploymentView,
    /// In a dry run: its plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanView>,
}

/// Body of a promotion.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "full": true }))]
pub struct PromoteInput {
    /// `true`: pass over every pause and analysis that is left, but no check of health and no command.
    #[serde(default)]
    pub full: bool,
}

/// Body that chooses a variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "variant": "v2" }))]
pub struct WinnerInput {
    /// The variant.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    pub variant: String,
}

/// Body that reports a conversion which a back end knows of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "visitor": "7f3a", "goal": "buy" }))]
pub struct ConversionInput {
    /// Who: the value of the service's sticky cookie or header.
    #[schema(min_length = 1, max_length = 256)]
    pub visitor: String,
    /// What was reached.
    #[schema(min_length = 1, max_length = 256)]
    pub goal: String,
}

/// Answer to a conversion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConversionReply {
    /// Always `true`: what is not counted is refused.
    pub counted: bool,
}

impl From<&Deployment> for DeploymentView {
    fn from(d: &Deployment) -> Self {
        let image = |at: usize| d.spec.members.get(at).and_then(|member| member.image.clone());
        let members = d.plan.members.iter().enumerate().map(|(at, member)| MemberView {
            service: member.service.to_string(),
            from: member.from.to_string(),
            to: member.to.iter().map(ToString::to_string).collect(),
            version: member.version.name.clone(),
            image: image(at),
            previous: member.previous.as_ref().map(|version| version.name.clone()),
        });
        let step = |at: usize| {
            let name = d.plan.steps.get(at)?.step.name().to_owned();
            Some(StepAt { number: at + 1, of: d.plan.steps.len(), name })
        };
        let (mut at, mut paused, mut cause, mut left) = (None, None, None, Vec::new());
        match &d.state {
            State::Running { at: standing, .. } => at = step(*standing),
            State::Paused { at: standing, reason, until } => {
                at = step(*standing);
                paused = Some(PausedView { reason: reason.to_string(), until: rfc3339(until.unix_ms) });
            }
            State::RolledBack { why } => cause = Some(why.into()),
            State::RollingBack { why, troubles, .. } | State::Failed { why, troubles } => {
                cause = Some(why.into());
                left.clone_from(troubles);
            }
            State::Pending | State::Succeeded | State::Cancelled => {}
        }
        Self {
            status: d.into(),
            name: d.spec.name.clone(),
            project: d.spec.project.clone(),
            stage: d.spec.stage.clone(),
            strategy: d.spec.strategy.name().into(),
            members: members.collect(),
            step: at,
            paused,
            why: cause,
            troubles: left,
            winner: d.winner.as_ref().map(ToString::to_string),
            traffic: d.traffic.iter().map(|(id, release)| (id.to_string(), weights(&release.split))).collect(),
            verdicts: d.latest.iter().map(|(id, judged)| (id.to_string(), judged.into())).collect(),
            warnings: d.plan.warnings.clone(),
            queued: d.queued,
            retry_of: d.retry_of.as_ref().map(ToString::to_string),
            finished_at: d.finished_unix_ms.map(rfc3339),
            env: d.spec.metadata.env.keys().cloned().collect(),
        }
    }
}

impl From<&Why> for WhyView {
    fn from(why: &Why) -> Self {
        Self { kind: word(&why.kind), message: why.message.clone() }
    }
}

impl From<&Judged> for VerdictView {
    fn from(judged: &Judged) -> Self {
        let finite = |number: f64| number.is_finite().then_some(number);
        Self {
            verdict: word(&judged.verdict),
            winner: judged.winner.as_ref().map(ToString::to_string),
            reason: judged.reason.clone(),
            evidence: finite(judged.evidence),
            threshold: finite(judged.threshold),
            samples: judged.samples.0,
            baseline_samples: judged.samples.1,
        }
    }
}
