//! What happened in a deployment, what is wrong with it, and what was counted of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_core::deploy::{
    diagnose,
    history::{Entry, Happened},
    machine::Deployment,
    view,
};
use utoipa::ToSchema;

use crate::{
    deployments::Measured,
    dto::{time::rfc3339, word},
};

/// Something that happened in a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "seq": 3, "at": "2026-11-03T09:15:00.250Z", "at_unix_ms": 1793697300250_u64, "type": "step_started",
    "text": "step 2 begins: set weight: web: blue=10 green=90", "data": { "at": 1, "task": "release", "step": "set weight" }
}))]
pub struct HistoryLine {
    /// Its number within the deployment, from 1: `after` and `Last-Event-ID` take it.
    pub seq: u64,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// What kind of thing.
    #[serde(rename = "type")]
    pub kind: String,
    /// In words.
    pub text: String,
    /// Its values.
    #[schema(value_type = Object)]
    pub data: Value,
}

impl HistoryLine {
    /// An entry of a deployment's history. Where a step begins, the plan says what it is to do.
    pub fn new(deployment: &Deployment, entry: &Entry) -> Self {
        let line = Self::from(entry);
        let Happened::StepStarted { at, step, .. } = &entry.what else { return line };
        let planned = deployment.plan.steps.get(*at).filter(|planned| planned.step.name() == step);
        match planned.map(|planned| super::plan::text(&planned.step)) {
            Some(what) if !what.is_empty() => Self { text: format!("{}: {what}", line.text), ..line },
            _ => line,
        }
    }
}

impl From<&Entry> for HistoryLine {
    fn from(entry: &Entry) -> Self {
        // An entry is a table with the kind in it.
        let mut data = serde_json::to_value(&entry.what).unwrap_or_default();
        let kind = data.as_object_mut().and_then(|fields| fields.remove("happened"));
        Self {
            seq: entry.seq.saturating_add(1),
            at: rfc3339(entry.at_unix_ms),
            at_unix_ms: entry.at_unix_ms,
            kind: kind.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned(),
            text: text(&entry.what),
            data,
        }
    }
}

fn text(what: &Happened) -> String {
    match what {
        Happened::Created => "created".into(),
        Happened::Executed => "begins".into(),
        Happened::StepStarted { at, step, .. } => format!("step {} begins: {step}", at + 1),
        Happened::StepFinished { at, step, .. } => format!("step {} is done: {step}", at + 1),
        Happened::StepSkipped { at, step } => format!("step {} is passed over: {step}", at + 1),
        Happened::StepFailed { at, step, why, .. } => format!("step {} failed: {step}: {}", at + 1, why.message),
        Happened::HookFinished { role, service, target, program, report } => {
            format!("{} of {target} of {service} ({program}): {}", role.name(), report.end)
        }
        Happened::Verdict { service, judged } => {
            format!("analysis of {service}: {}: {}", word(&judged.verdict), judged.reason)
        }
        Happened::Won { target } => format!("{target} won"),
        Happened::Paused { reason } => format!("waits: {reason}"),
        Happened::Resumed => "goes on".into(),
        Happened::RollbackStarted { why } => format!("is being rolled back: {}", why.message),
        Happened::Undone { step } => format!("taken back: {step}"),
        Happened::UndoFailed { step, reason } => format!("could not be taken back: {step}: {reason}"),
        Happened::VersionBad { service, version, why } => {
            format!("version {version} of {service} is marked as bad: {why}")
        }
        Happened::Recovered { how } => format!("the proxy was restarted: {how}"),
        Happened::Promoted { stage, deployment } => format!("stage {stage} gets the same versions by {deployment}"),
        Happened::PromotionFailed { stage, reason } => format!("stage {stage} does not get the versions: {reason}"),
        Happened::Finished { outcome, why: None } => format!("is over: {outcome}"),
        Happened::Finished { outcome, why: Some(why) } => format!("is over: {outcome}: {}", why.message),
    }
}

/// What is wrong with a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DiagnosisView {
    /// The deployment.
    pub id: String,
    /// Its state.
    pub state: String,
    /// What it does, or why it ended.
    pub details: String,
    /// What was found; empty when nothing is known to be wrong.
    pub findings: Vec<FindingView>,
    /// What a person should have known before it began.
    pub warnings: Vec<String>,
}

/// One class of trouble.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "class": "health", "seen": ["web: blue 127.0.0.1:3001: status 503"],
    "advice": ["ask the health path of each endpoint by hand"]
}))]
pub struct FindingView {
    /// `start`, `health`, `traffic` or `rollback`.
    pub class: String,
    /// What was seen, in order.
    pub seen: Vec<String>,
    /// What to look at.
    pub advice: Vec<String>,
}

impl From<&Deployment> for DiagnosisView {
    fn from(d: &Deployment) -> Self {
        let glance = view::glance(d);
        let findings = diagnose::diagnose(d).into_iter().map(|finding| FindingView {
            class: word(&finding.class),
            seen: finding.seen,
            advice: finding.advice.into_iter().map(str::to_owned).collect(),
        });
        Self {
            id: d.id.to_string(),
            state: glance.state.into(),
            details: glance.details,
            findings: findings.collect(),
            warnings: d.plan.warnings.clone(),
        }
    }
}

/// What was counted for a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricsView {
    /// The deployment.
    pub id: String,
    /// By service and target; empty before the new version has had traffic.
    pub variants: Vec<VariantView>,
}

/// What was counted of one target since the new version has had traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "service": "web", "variant": "v2", "requests": 1200, "errors": 6, "error_percent": 0.5, "p50_ms": 12.0,
    "p95_ms": 41.0, "p99_ms": 80.0, "visitors": 310, "conversions": 31, "conversion_percent": 10.0
}))]
pub struct VariantView {
    /// The service.
    pub service: String,
    /// The target.
    pub variant: String,
    /// Requests that ended.
    pub requests: u64,
    /// Those of them that failed: 5xx, no connection, no answer in time.
    pub errors: u64,
    /// The same in percent; null without requests.
    pub error_percent: Option<f64>,
    /// Median of the time to the end of the answer, in milliseconds.
    pub p50_ms: Option<f64>,
    /// The 95th percentile.
    pub p95_ms: Option<f64>,
    /// The 99th percentile.
    pub p99_ms: Option<f64>,
    /// Visitors, where the split is sticky.
    pub visitors: Option<u64>,
    /// Visitors (without stickiness: requests) that reached the goal, in a test of variants.
    pub conversions: Option<u64>,
    /// The same in percent.
    pub conversion_percent: Option<f64>,
}

impl From<&Measured> for VariantView {
    fn from(counted: &Measured) -> Self {
        // Counts are far below what a float holds exactly.
        let percent = |part: u64, whole: u64| (whole > 0).then(|| 100.0 * part as f64 / whole as f64);
        let converting = counted.visitors.unwrap_or(counted.requests);
        Self {
            service: counted.service.to_string(),
            variant: counted.target.to_string(),
            requests: counted.requests,
            errors: counted.errors,
            error_percent: percent(counted.errors, counted.requests),
            p50_ms: counted.p50_ms,
            p95_ms: counted.p95_ms,
            p99_ms: counted.p99_ms,
            visitors: counted.visitors,
            conversions: counted.conversions,
            conversion_percent: counted.conversions.and_then(|conversions| percent(conversions, converting)),
        }
    }
}
