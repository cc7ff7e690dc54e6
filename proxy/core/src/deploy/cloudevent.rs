//! CloudEvents 1.0, and a deployment's history as such, shaped as Keptn's sequences are: a delivery of tasks, each
//! triggered, started and finished.
//!
//! The same entry always gives the same events with the same ids, so that whoever gets them twice knows it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    history::{Entry, Happened},
    machine::Deployment,
    spec::Strategy,
    step::Task,
};
use crate::time::rfc3339;

/// How events are named, and who tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    /// What the type of each event begins with: `dev.tidegate`, or `sh.keptn.event`.
    pub prefix: String,
    /// The name of this proxy.
    pub node: String,
}

impl Naming {
    /// The type of an event of this name.
    pub fn kind(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// Who tells it.
    pub fn source(&self) -> String {
        format!("/tidegate/{}", self.node)
    }
}

/// An event as it goes out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CloudEvent {
    /// Always `1.0`.
    pub specversion: String,
    /// The same for the same event, whenever it is told.
    pub id: String,
    /// Who tells it.
    pub source: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When, RFC 3339.
    pub time: String,
    /// Always JSON.
    pub datacontenttype: String,
    /// The deployment that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shkeptncontext: Option<String>,
    /// The event that asked for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub triggeredid: Option<String>,
    /// The rest.
    pub data: Value,
}

/// What the whole delivery is called.
const DELIVERY: &str = "configuration-change";

/// The events that an entry of a deployment's history means.
pub fn events_of(d: &Deployment, entry: &Entry, naming: &Naming) -> Vec<CloudEvent> {
    let teller = Teller { d, entry, naming };
    match &entry.what {
        Happened::Created => vec![teller.event("deployment.created", None, json!({}))],
        Happened::Executed => vec![
            teller.event(&format!("{DELIVERY}.triggered"), None, json!({})),
            teller.event(&format!("{DELIVERY}.started"), Some(teller.id(DELIVERY)), json!({})),
        ],
        Happened::StepStarted { task, .. } if teller.begins(*task) => {
            let name = teller.task(*task);
            vec![
                teller.event(&format!("{name}.triggered"), None, json!({})),
                teller.event(&format!("{name}.started"), Some(teller.id(&name)), json!({})),
            ]
        }
        Happened::StepFinished { at, task, .. } if teller.ends(*at, *task) => {
            vec![teller.finished(*task, "succeeded", "pass", json!({}))]
        }
        Happened::StepFailed { task, why, .. } => {
            vec![teller.finished(*task, "errored", "fail", json!({ "message": why.message }))]
        }
        Happened::StepStarted { .. } | Happened::StepFinished { .. } | Happened::StepSkipped { .. } => Vec::new(),
        Happened::HookFinished { .. } => vec![teller.plain("hook.finished")],
        Happened::Verdict { .. } => vec![teller.plain("analysis.verdict")],
        Happened::Won { .. } => vec![teller.plain("analysis.winner")],
        Happened::Paused { .. } => vec![teller.plain("deployment.paused")],
        Happened::Resumed => vec![teller.plain("deployment.resumed")],
        Happened::RollbackStarted { .. } => vec![
            teller.plain("rollback.triggered"),
            teller.event("rollback.started", Some(teller.id("rollback")), json!({})),
        ],
        Happened::Undone { .. } | Happened::UndoFailed { .. } => vec![teller.plain("rollback.step")],
        Happened::VersionBad { .. } => vec![teller.plain("version.bad")],
        Happened::Recovered { .. } => vec![teller.plain("engine.recovered")],
        Happened::Promoted { .. } => vec![
            teller.plain("promote.triggered"),
            teller.event("promote.started", Some(teller.id("promote")), json!({})),
            teller.finished(Task::Promote, "succeeded", "pass", json!({})),
        ],
        Happened::PromotionFailed { reason, .. } => {
            vec![teller.finished(Task::Promote, "errored", "fail", json!({ "message": reason }))]
        }
        Happened::Finished { outcome, why } => teller.over(outcome, why.as_ref().map(|why| why.message.as_str())),
    }
}

struct Teller<'a> {
    d: &'a Deployment,
    entry: &'a Entry,
    naming: &'a Naming,
}

impl Teller<'_> {
    /// What a task is called: that of the first part names its strategy.
    fn task(&self, task: Task) -> String {
        match task {
            Task::Deploy => match &self.d.spec.strategy {
                Strategy::Simple | Strategy::Blind | Strategy::Recreate => "deploy_direct".into(),
                other => format!("deploy_{}", other.name().replace('-', "_")),
            },
            Task::FunctionalTests => "functional_tests".into(),
            Task::PerformanceTests => "performance_tests".into(),
            Task::Evaluation => "evaluation".into(),
            Task::Release => "release".into(),
            Task::Promote => "promote".into(),
            Task::Rollback => "rollback".into(),
        }
    }

    /// Whether a step is the first of its task's.
    fn begins(&self, task: Task) -> bool {
        let before = self.d.history.iter().rev().filter(|entry| entry.seq < self.entry.seq);
        let last = before.into_iter().find_map(|entry| match &entry.what {
            Happened::StepStarted { task, .. } => Some(*task),
            _ => None,
        });
        last != Some(task)
    }

    /// Whether a step is the last of its task's.
    fn ends(&self, at: usize, task: Task) -> bool {
        self.d.plan.steps.get(at + 1).is_none_or(|next| next.task != task)
    }

    /// The id of the event that asked for a task: told before this entry, or with it.
    fn id(&self, name: &str) -> String {
        let asked = self.d.history.iter().rev().filter(|entry| entry.seq <= self.entry.seq).find(|entry| {
            let teller = Teller { entry, ..*self };
            match &entry.what {
                Happened::Executed => name == DELIVERY,
                Happened::StepStarted { task, .. } => teller.task(*task) == name && teller.begins(*task),
                Happened::RollbackStarted { .. } => name == "rollback",
                Happened::Promoted { .. } => name == "promote",
                _ => false,
            }
        });
        let seq = asked.map_or(self.entry.seq, |entry| entry.seq);
        format!("{}.{seq}.{name}.triggered", self.d.id)
    }

    fn finished(&self, task: Task, status: &str, result: &str, more: Value) -> CloudEvent {
        let name = self.task(task);
        let mut data = json!({ "status": status, "result": result });
        merge(&mut data, more);
        self.event(&format!("{name}.finished"), Some(self.id(&name)), data)
    }

    fn over(&self, outcome: &str, why: Option<&str>) -> Vec<CloudEvent> {
        let (status, result) = match outcome {
            "succeeded" => ("succeeded", "pass"),
            "cancelled" => ("aborted", "fail"),
            _ => ("errored", "fail"),
        };
        let data = || json!({ "status": status, "result": result, "outcome": outcome, "message": why });
        let mut events = Vec::new();
        if outcome == "rolled-back" || self.d.history.iter().any(|e| matches!(e.what, Happened::RollbackStarted { .. }))
        {
            let result = if outcome == "rolled-back" { "pass" } else { "fail" };
            events.push(self.event(
                "rollback.finished",
                Some(self.id("rollback")),
                json!({ "status": "succeeded", "result": result }),
            ));
        }
        events.push(self.event("deployment.finished", None, data()));
        events.push(self.event(&format!("{DELIVERY}.finished"), Some(self.id(DELIVERY)), data()));
        events
    }

    /// An event that says what the entry says.
    fn plain(&self, name: &str) -> CloudEvent {
        let mut data = serde_json::to_value(&self.entry.what).unwrap_or_default();
        if let Value::Object(fields) = &mut data {
            fields.remove("happened");
        }
        self.event(name, None, data)
    }

    fn event(&self, name: &str, triggered: Option<String>, more: Value) -> CloudEvent {
        let services: Vec<_> = self.d.spec.members.iter().map(|member| member.service.as_str()).collect();
        let versions: Vec<_> =
            self.d.plan.members.iter().map(|m| format!("{}:{}", m.service, m.version.name)).collect();
        let mut data = json!({
            "deployment": self.d.id,
            "strategy": self.d.spec.strategy.name(),
            "stage": self.d.spec.stage,
            "services": versions,
        });
        merge(&mut data, more);
        CloudEvent {
            specversion: "1.0".into(),
            id: format!("{}.{}.{name}", self.d.id, self.entry.seq),
            source: self.naming.source(),
            kind: self.naming.kind(name),
            subject: Some(services.join(",")),
            time: rfc3339(self.entry.at_unix_ms),
            datacontenttype: "application/json".into(),
            shkeptncontext: Some(self.d.id.to_string()),
            triggeredid: triggered,
            data,
        }
    }
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend::<Map<String, Value>>(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::{
        machine::Verdict,
        testing::{Rig, Script},
    };

    fn told(script: Script, json: &str) -> Vec<CloudEvent> {
        let mut rig = Rig::new(script);
        rig.deploy(1, json);
        let d = rig.journal.unwrap();
        let naming = Naming { prefix: "sh.keptn.event".into(), node: "one".into() };
        d.history.iter().flat_map(|entry| events_of(&d, entry, &naming)).collect()
    }

    #[test]
    fn a_delivery_is_a_tree_of_tasks() {
        let events = told(
            Script::default(),
            r#"{"strategy":"blue-green","service":"web","to":"blue","version":"2","performance_tests":["load"]}"#,
        );
        let tasks: Vec<_> = events
            .iter()
            .map(|event| event.kind.trim_start_matches("sh.keptn.event."))
            .filter(|kind| {
                !kind.starts_with("hook") && !kind.starts_with("analysis") && !kind.starts_with("deployment")
            })
            .collect();
        assert_eq!(
            tasks,
            [
                "configuration-change.triggered",
                "configuration-change.started",
                "deploy_blue_green.triggered",
                "deploy_blue_green.started",
                "deploy_blue_green.finished",
                "performance_tests.triggered",
                "performance_tests.started",
                "performance_tests.finished",
                "release.triggered",
                "release.started",
                "release.finished",
                "evaluation.triggered",
                "evaluation.started",
                "evaluation.finished",
                "configuration-change.finished",
            ]
        );
        for event in events.iter().filter(|event| event.kind.ends_with(".finished") && event.triggeredid.is_some()) {
            let asked = event.triggeredid.as_deref().unwrap();
            assert!(events.iter().any(|other| other.id == asked), "{asked} was told");
            assert_eq!(event.data["result"], "pass");
        }
        let mut ids: Vec<_> = events.iter().map(|event| &event.id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), events.len(), "no id twice");
    }

    #[test]
    fn the_wire_is_this_one() {
        let events = told(Script::default(), r#"{"strategy":"canary","service":"web","to":"blue","image":"web:2"}"#);
        assert_eq!(
            serde_json::to_value(&events[2]).unwrap(),
            json!({
                "specversion": "1.0",
                "id": "dep-1.1.configuration-change.started",
                "source": "/tidegate/one",
                "type": "sh.keptn.event.configuration-change.started",
                "subject": "web",
                "time": "2023-11-14T22:13:20.000Z",
                "datacontenttype": "application/json",
                "shkeptncontext": "dep-1",
                "triggeredid": "dep-1.1.configuration-change.triggered",
                "data": {"deployment": "dep-1", "strategy": "canary", "stage": null, "services": ["web:web:2"]},
            })
        );
    }

    #[test]
    fn what_fails_is_finished_too() {
        let events = told(
            Script { verdict: Verdict::Fail, ..Script::default() },
            r#"{"strategy":"canary","service":"web","to":"blue"}"#,
        );
        let finished =
            |name: &str| events.iter().find(|event| event.kind.ends_with(name)).map(|e| e.data["result"].clone());
        assert_eq!(finished("rollback.finished"), Some("pass".into()));
        assert_eq!(finished("configuration-change.finished"), Some("fail".into()));
        assert_eq!(finished("version.bad").map(|_| ()), Some(()));
    }
}
