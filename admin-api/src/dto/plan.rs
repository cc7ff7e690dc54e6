//! The plan of a deployment, step by step. Of a command only the program is shown: its arguments may be secret.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::{
    Hold,
    deploy::{
        machine::{Deployment, State},
        step::{AnalyseMode, Endpoints, HookStep, Pause, PlanStep, Releases, Step, TrafficKind},
    },
};
use utoipa::ToSchema;

use crate::dto::word;

/// The plan of a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    /// The deployment.
    pub id: String,
    /// Its steps, in order.
    pub steps: Vec<PlanStepView>,
    /// What would be done now to take it back, in order.
    pub undo: Vec<String>,
    /// What a person should know before it begins.
    pub warnings: Vec<String>,
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "number": 3, "task": "release", "name": "set weight", "text": "web: blue=5 green=95", "progress": "done",
    "undo": ["restore traffic"]
}))]
pub struct PlanStepView {
    /// Counted from 1.
    pub number: usize,
    /// The part of a delivery that it belongs to.
    pub task: String,
    /// What it does.
    pub name: String,
    /// With which values.
    pub text: String,
    /// `done`, `now` or `next`.
    pub progress: String,
    /// How it is taken back, in order.
    pub undo: Vec<String>,
}

impl From<&Deployment> for PlanView {
    fn from(d: &Deployment) -> Self {
        let at = match &d.state {
            State::Running { at, .. } | State::Paused { at, .. } => Some(*at),
            State::Succeeded => Some(d.plan.steps.len()),
            State::Pending
            | State::RollingBack { .. }
            | State::RolledBack { .. }
            | State::Failed { .. }
            | State::Cancelled => None,
        };
        let progress = |number: usize| match at {
            Some(at) if number < at => "done",
            Some(at) if number == at => "now",
            _ => "next",
        };
        let step = |(number, plan): (usize, &PlanStep)| PlanStepView {
            number: number + 1,
            task: word(&plan.task),
            name: plan.step.name().into(),
            text: text(&plan.step),
            progress: progress(number).into(),
            undo: plan.undo.iter().rev().map(|undo| undo.name().to_owned()).collect(),
        };
        Self {
            id: d.id.to_string(),
            steps: d.plan.steps.iter().enumerate().map(step).collect(),
            undo: d.undo.iter().rev().map(|undo| undo.name().to_owned()).collect(),
            warnings: d.plan.warnings.clone(),
        }
    }
}

/// A step's values in words.
pub(super) fn text(step: &Step) -> String {
    match step {
        Step::Traffic { kind, services } => traffic(*kind, services),
        Step::Pause(Pause::Time(time)) => span(*time),
        Step::Pause(Pause::Manual(deadline)) => format!("until it is promoted, at most {}", span(*deadline)),
        Step::Pause(Pause::Gate(hook, deadline)) => {
            format!("until {} agrees, at most {}", program(hook), span(*deadline))
        }
        Step::Verify(verify) => format!(
            "{} healthy {} times in a row, within {}",
            endpoints(&verify.endpoints),
            verify.successes,
            span(verify.timeout)
        ),
        Step::Analyse(analyse) => {
            let what = match analyse.mode {
                AnalyseMode::Gate => "more traffic only if nothing speaks against it",
                AnalyseMode::Watch => "taken back if something speaks against it",
                AnalyseMode::Contest => "which variant is best",
            };
            let load = analyse.load.as_ref().map_or_else(String::new, |hook| format!(", while {} asks", program(hook)));
            format!("{}: {what}{load}", span(analyse.length))
        }
        Step::Hook(hook) => format!(
            "{} for {} of {}, version {}, at most {}",
            program(hook),
            hook.target,
            hook.service,
            hook.version.name,
            span(hook.timeout)
        ),
        Step::Drain(drain) => format!("{}, at most {}", endpoints(&drain.endpoints), span(drain.timeout)),
        Step::Crown { variants } => {
            let names: Vec<_> = variants.keys().map(ToString::to_string).collect();
            format!("one of {}, and then its own steps", names.join(", "))
        }
    }
}

fn traffic(kind: TrafficKind, services: &Releases) -> String {
    let of = |(service, release): (_, &tidegate_core::change::Release)| {
        let mut parts = Vec::new();
        match kind {
            TrafficKind::Place => parts.extend(release.targets.keys().map(|target| format!("target {target}"))),
            TrafficKind::Hold => parts.push("requests wait".into()),
            TrafficKind::SetWeight | TrafficKind::Mirror => {
                parts.extend(release.split.iter().map(|(target, weight)| format!("{target}={}", weight.percent())));
                if release.hold == Hold::On {
                    parts.push("requests wait".into());
                }
            }
        }
        for mirror in release.mirrors.values().flatten() {
            parts.push(format!("{} copied to {}", mirror.percent, mirror.to));
        }
        format!("{service}: {}", parts.join(" "))
    };
    services.iter().map(of).collect::<Vec<_>>().join("; ")
}

fn endpoints(endpoints: &Endpoints) -> String {
    let of = |(service, targets): (_, &std::collections::BTreeMap<_, Vec<_>>)| {
        let targets: Vec<_> = targets.iter().map(|(target, list)| format!("{target} ({})", list.len())).collect();
        format!("{service}: {}", targets.join(", "))
    };
    endpoints.iter().map(of).collect::<Vec<_>>().join("; ")
}

fn program(hook: &HookStep) -> &str {
    hook.argv.first().map_or("nothing", String::as_str)
}

/// In the longest unit that fits without a rest.
fn span(time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let fits = units.into_iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit));
    fits.map_or_else(|| "0s".into(), |(name, unit)| format!("{}{name}", millis / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_their_longest_whole_unit() {
        for (millis, text) in [(0, "0s"), (1, "1ms"), (1500, "1500ms"), (90_000, "90s"), (3_600_000, "1h")] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }
}
