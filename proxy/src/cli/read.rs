//! The verbs that only read: a mirror, the audit log, the configuration.

use std::collections::BTreeMap;

use serde_json::Value;
use tidegate_admin::dto::{
    AuditLine, HealthTransition,
    mirror::{AnswerView, DifferingPair, MirrorDetail},
};

use crate::cli::{
    args::{HistoryArgs, MirrorShowArgs},
    client::Call,
    describe::{self, describe},
    error::CliError,
    output::{Colours, Ink, printable},
    session::Session,
    table::{Cell, render},
};

/// `tidegate mirror show`.
pub(crate) async fn mirror(session: &Session, args: &MirrorShowArgs) -> Result<(), CliError> {
    let call = Call::get(format!("/api/services/{}/mirrors/{}", args.service, args.mirror));
    session.show(&call, results).await
}

/// `tidegate history`.
pub(crate) async fn history(session: &Session, args: &HistoryArgs) -> Result<(), CliError> {
    let Some(service) = &args.service else {
        return session.show(&Call::get(format!("/api/audit?limit={}", args.limit)), audit).await;
    };
    let call = Call::get(format!("/api/services/{service}/health-history"));
    let most = usize::try_from(args.limit).unwrap_or(usize::MAX);
    session.show(&call, |answer, colours| health(answer, most, colours)).await
}

/// `tidegate config`.
pub(crate) async fn config(session: &Session) -> Result<(), CliError> {
    session.show(&Call::get("/api/config"), |answer, _| indented(answer)).await
}

/// JSON over several lines: documents that people look into, but whose fields this program need not know.
fn indented(answer: &Value) -> String {
    format!("{answer:#}\n")
}

/// A mirror, how its copies ended, and the last pairs of answers that differed.
fn results(answer: &Value, colours: Colours) -> String {
    // Of a newer server: shown as it is.
    let Ok(detail) = serde_json::from_value::<MirrorDetail>(answer.clone()) else { return indented(answer) };
    let mirror = &detail.mirror;
    let head = format!(
        "mirror {} -> {}: {} % of {}",
        mirror.name,
        mirror.to,
        mirror.percent.0,
        if mirror.methods.iter().any(|method| method == "*") {
            "all methods".to_owned()
        } else {
            mirror.methods.join(", ")
        }
    );
    let mut lines = format!("{}\n", Ink::Strong.paint(&printable(&head), colours));
    lines.push_str(&format!("  copies    {}, {} running\n", counts(&mirror.results), mirror.in_flight));
    lines.push_str(&format!("  answers   {}\n", counts(&mirror.statuses)));
    if mirror.compare {
        lines.push_str(&format!("  compared  {}: {}\n", mirror.compared, counts(&mirror.differences)));
    }
    for pair in &detail.recent_differences {
        lines.push_str(&format!("{}\n", printable(&difference(pair))));
    }
    lines
}

/// Counters that are not zero.
fn counts(counts: &BTreeMap<String, u64>) -> String {
    let some: Vec<_> = counts.iter().filter(|(_, n)| **n > 0).map(|(name, n)| format!("{name} {n}")).collect();
    if some.is_empty() { "none".to_owned() } else { some.join(", ") }
}

fn difference(pair: &DifferingPair) -> String {
    let answer = |answer: &AnswerView| {
        format!("{} in {:.1} ms, {} bytes", answer.status, answer.latency_us as f64 / 1000.0, answer.body_bytes)
    };
    let at = pair.pointer.as_ref().map_or_else(String::new, |pointer| format!(" at {pointer}"));
    format!(
        "{} {} {}: {}{at}; primary {}; shadow {}; request {}",
        pair.at,
        pair.method,
        pair.path,
        pair.kinds.join(" and "),
        answer(&pair.primary),
        answer(&pair.shadow),
        pair.request_id
    )
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

/// How the health of a service changed, newest first.
fn health(answer: &Value, most: usize, colours: Colours) -> String {
    let Ok(changes) = serde_json::from_value::<Vec<HealthTransition>>(answer.clone()) else { return indented(answer) };
    if changes.is_empty() {
        return "nothing is known to have changed\n".to_owned();
    }
    let head = ["WHEN", "TARGET", "ENDPOINT", "HEALTH", "VERSION", "COMMIT", "REASON"];
    let mut rows = vec![head.map(|title| Cell::text(title).ink(Ink::Strong)).to_vec()];
    rows.extend(changes.iter().take(most).map(|change| {
        let (word, ink) = describe::health(change.to);
        vec![
            Cell::text(printable(&change.at)),
            Cell::text(printable(&change.target)),
            Cell::text(printable(&change.endpoint)),
            Cell::text(word).ink(ink),
            Cell::text(printable(change.version.as_deref().unwrap_or("-"))),
            Cell::text(printable(change.commit.as_deref().unwrap_or("-"))),
            Cell::text(printable(&change.reason)),
        ]
    }));
    render(&rows, colours)
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

    #[test]
    fn the_health_of_a_service_is_told_newest_first_and_bounded() {
        let change = |to: &str, version: Option<&str>| {
            json!({"seq": 7, "at": "2026-11-03T09:15:00.250Z", "at_unix_ms": 0, "target": "green",
                "endpoint": "127.0.0.1:3002", "version": version, "commit": version.map(|_| "4a5b6c7"),
                "from": "healthy", "to": to, "reason": "status 500"})
        };
        let answer = json!([change("unhealthy", Some("2.0")), change("healthy", None), change("healthy", None)]);
        assert_eq!(
            health(&answer, 2, Colours::Off),
            "\
WHEN                      TARGET  ENDPOINT        HEALTH     VERSION  COMMIT   REASON
2026-11-03T09:15:00.250Z  green   127.0.0.1:3002  unhealthy  2.0      4a5b6c7  status 500
2026-11-03T09:15:00.250Z  green   127.0.0.1:3002  healthy    -        -        status 500
"
        );
        assert_eq!(health(&json!([]), 2, Colours::Off), "nothing is known to have changed\n");
    }

    #[test]
    fn a_mirror_is_shown_with_its_last_differences() {
        let answer = |status: u16, bytes: u64| json!({"status": status, "latency_us": 3100, "body_bytes": bytes, "body_sha256": ""});
        let detail = json!({"generation": 7, "name": "audit", "to": "v3", "percent": 12.5, "methods": ["GET", "HEAD"],
            "max_body": 0, "compare": true, "ignore": [], "remove_headers": [], "set_headers": [], "in_flight": 1,
            "results": {"sent": 10, "timeout": 2, "aborted": 0}, "statuses": {}, "compared": 10,
            "differences": {"status": 1}, "recent_differences": [{"at": "2026-11-03T09:15:00.250Z", "at_unix_ms": 0,
                "request_id": "r1", "method": "GET", "path": "/cart", "kinds": ["status", "body"], "pointer": "/a",
                "primary": answer(200, 12), "shadow": answer(500, 0)}]});
        assert_eq!(
            results(&detail, Colours::Off),
            "\
mirror audit -> v3: 12.5 % of GET, HEAD
  copies    sent 10, timeout 2, 1 running
  answers   none
  compared  10: status 1
2026-11-03T09:15:00.250Z GET /cart: status and body at /a; primary 200 in 3.1 ms, 12 bytes; \
shadow 500 in 3.1 ms, 0 bytes; request r1
"
        );
    }
}
