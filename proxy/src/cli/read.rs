//! The verbs that only read: a mirror, the audit log, the configuration.

use serde_json::Value;
use tidegate_admin::dto::AuditLine;

use crate::cli::{
    args::{HistoryArgs, MirrorShowArgs},
    client::Call,
    describe::describe,
    error::CliError,
    output::{Colours, Ink, printable},
    session::Session,
};

/// `tidegate mirror show`.
pub(crate) async fn mirror(session: &Session, args: &MirrorShowArgs) -> Result<(), CliError> {
    let call = Call::get(format!("/api/services/{}/mirrors/{}", args.service, args.mirror));
    session.show(&call, |answer, _| indented(answer)).await
}

/// `tidegate history`.
pub(crate) async fn history(session: &Session, args: &HistoryArgs) -> Result<(), CliError> {
    session.show(&Call::get(format!("/api/audit?limit={}", args.limit)), audit).await
}

/// `tidegate config`.
pub(crate) async fn config(session: &Session) -> Result<(), CliError> {
    session.show(&Call::get("/api/config"), |answer, _| indented(answer)).await
}

/// JSON over several lines: documents that people look into, but whose fields this program need not know.
fn indented(answer: &Value) -> String {
    format!("{answer:#}\n")
}

/// The audit log: a line for each thing that a change did.
fn audit(answer: &Value, colours: Colours) -> String {
    match answer.as_array().map(Vec::as_slice).unwrap_or_default() {
        [] => "no changes\n".to_owned(),
        entries => entries.iter().map(|entry| change(entry, colours)).collect(),
    }
}

fn change(value: &Value, colours: Colours) -> String {
    // Of a newer server: shown as it is.
    let Ok(entry) = serde_json::from_value::<AuditLine>(value.clone()) else {
        return format!("{}\n", printable(&value.to_string()));
    };
    let head = format!("{} gen {} -> {} {}", entry.at, entry.from, entry.generation, entry.actor);
    let head = Ink::Dim.paint(&printable(&head), colours);
    let line = |event| {
        let (ink, text) = describe(event);
        format!("{head}  {}\n", ink.paint(&text, colours))
    };
    entry.events.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_says_who_when_and_what() {
        let entry = json!({"at": "2026-11-03T09:15:00.250Z", "at_unix_ms": 0, "actor": "ci", "from": 7, "generation": 8, "events": [
            {"type": "target.drained", "service": "web", "target": "blue"},
            {"type": "target.removed", "service": "web", "target": "blue"},
        ]});
        assert_eq!(
            audit(&json!([entry]), Colours::Off),
            "2026-11-03T09:15:00.250Z gen 7 -> 8 ci  web: target blue drains\n\
             2026-11-03T09:15:00.250Z gen 7 -> 8 ci  web: target blue removed\n"
        );
        assert_eq!(audit(&json!([]), Colours::Off), "no changes\n");
    }
}
