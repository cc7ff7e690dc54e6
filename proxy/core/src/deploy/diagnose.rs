//! Why a deployment is in trouble, and what to look at: rules over its history.

use serde::Serialize;

use super::{
    history::{Entry, Happened},
    machine::{Deployment, HookEnd, HookReport, State, Verdict, WhyKind},
};

/// Lines of a command's output that are shown.
const OUTPUT_LINES: usize = 10;

/// A class of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The new version does not start.
    Start,
    /// The new version is not healthy, or worse than the old one.
    Health,
    /// Traffic does not go where it should, or too little of it for a verdict.
    Traffic,
    /// It could not be taken back.
    Rollback,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its class.
    pub class: Class,
    /// What was seen, in order.
    pub seen: Vec<String>,
    /// What to look at.
    pub advice: Vec<&'static str>,
}

/// What an entry is a sign of, in words.
type Rule = fn(&Entry) -> Option<String>;

/// Finds what is wrong; empty when nothing is known to be.
pub fn diagnose(d: &Deployment) -> Vec<Finding> {
    let rules: [(Class, &[&'static str], Rule); 4] = [
        (
            Class::Start,
            &[
                "run the command by hand, as the user that runs the proxy",
                "check that the image or artifact exists and can be fetched",
                "check memory, disk and ports",
                "a command is a list of arguments, and no shell reads it",
            ],
            start,
        ),
        (
            Class::Health,
            &[
                "ask the health path of each endpoint by hand",
                "check health_check_path, health_check_port, and what the service expects",
                "raise health_timeout if the version needs longer to start",
                "read the application's own log",
                "compare the versions: `tidegate metrics get --deployment-id ID`",
            ],
            health,
        ),
        (
            Class::Traffic,
            &[
                "check with `tidegate explain` where requests go, and with `tidegate status` which targets are healthy",
                "without enough requests nothing is promoted: lengthen the steps, lower min_requests, or promote by hand",
                "a failover, a reload of the file or a change by hand may have come between",
            ],
            traffic,
        ),
        (
            Class::Rollback,
            &[
                "check that the previous version can still be started",
                "check the stop, start and rollback commands",
                "switch by hand: `tidegate switch SERVICE TARGET`",
            ],
            rollback,
        ),
    ];
    let mut findings = Vec::new();
    for (class, advice, rule) in rules {
        let mut seen: Vec<String> = d.history.iter().filter_map(rule).collect();
        seen.dedup();
        if class == Class::Traffic
            && let State::Paused { reason, .. } = &d.state
        {
            seen.push(reason.to_string());
        }
        if !seen.is_empty() {
            findings.push(Finding { class, seen, advice: advice.to_vec() });
        }
    }
    findings
}

fn start(entry: &Entry) -> Option<String> {
    match &entry.what {
        Happened::StepFailed { why, .. } if matches!(why.kind, WhyKind::Start | WhyKind::Hook | WhyKind::Test) => {
            Some(why.message.clone())
        }
        Happened::HookFinished { role, target, program, report, .. } if report.end != HookEnd::Exit(0) => {
            Some(format!("{} of {target} ({program}): {}{}", role.name(), report.end, tail(report)))
        }
        _ => None,
    }
}

fn health(entry: &Entry) -> Option<String> {
    match &entry.what {
        Happened::StepFailed { why, .. } | Happened::RollbackStarted { why } if why.kind == WhyKind::Health => {
            Some(why.message.clone())
        }
        Happened::Verdict { service, judged } if judged.verdict == Verdict::Fail => {
            Some(format!("{service}: {}", judged.reason))
        }
        _ => None,
    }
}

fn traffic(entry: &Entry) -> Option<String> {
    match &entry.what {
        Happened::StepFailed { why, .. } if why.kind == WhyKind::Traffic => Some(why.message.clone()),
        Happened::Verdict { service, judged } => match judged.verdict {
            Verdict::InsufficientData | Verdict::Inconclusive => Some(format!("{service}: {}", judged.reason)),
            Verdict::Pass | Verdict::Running | Verdict::Fail => None,
        },
        _ => None,
    }
}

fn rollback(entry: &Entry) -> Option<String> {
    match &entry.what {
        Happened::UndoFailed { step, reason } => Some(format!("{step}: {reason}")),
        _ => None,
    }
}

/// The end of what a command printed.
fn tail(report: &HookReport) -> String {
    let lines: Vec<&str> = report.output.lines().rev().take(OUTPUT_LINES).collect();
    lines.into_iter().rev().map(|line| format!("\n  {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::testing::{Rig, Script};

    fn classes(script: Script) -> Vec<Class> {
        let mut rig = Rig::new(script);
        rig.deploy(1, r#"{"strategy":"recreate","service":"web","version":"2"}"#);
        diagnose(rig.journal.as_ref().unwrap()).into_iter().map(|finding| finding.class).collect()
    }

    #[test]
    fn each_trouble_has_its_class() {
        let fails = |role, end| Script { hooks: [((role, "green"), end)].into(), ..Script::default() };
        assert_eq!(classes(Script::default()), []);
        assert_eq!(classes(fails("install", HookEnd::Exit(1))), [Class::Start, Class::Rollback]);
        assert_eq!(classes(Script { ill: ["green"].into(), ..Script::default() }), [Class::Health, Class::Rollback]);
        let mut rig = Rig::new(Script { verdict: Verdict::InsufficientData, ..Script::default() });
        rig.deploy(1, r#"{"strategy":"canary","service":"web","to":"blue"}"#);
        let found = diagnose(rig.journal.as_ref().unwrap());
        assert_eq!(found.iter().map(|f| f.class).collect::<Vec<_>>(), [Class::Traffic]);
        let mut rig = Rig::new(Script { verdict: Verdict::Fail, ..Script::default() });
        rig.deploy(1, r#"{"strategy":"canary","service":"web","to":"blue"}"#);
        let found = diagnose(rig.journal.as_ref().unwrap());
        assert_eq!(found.iter().map(|f| f.class).collect::<Vec<_>>(), [Class::Health], "a worse version is ill");
    }
}
