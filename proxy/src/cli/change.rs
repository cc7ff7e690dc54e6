//! The verbs that change something. What the API answers is told event by event.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};
use tidegate_admin::dto::{ChangeReply, UpgradeReply};
use tidegate_config::{ServiceId, Split, TargetId, Weight};

use crate::cli::{
    args::{
        FailoverArgs, HoldArgs, MirrorArgs, MirrorSetArgs, ReloadArgs, RestoreArgs, SplitArgs, SwitchArgs,
        TargetAddArgs, TargetArgs, TargetDrainArgs, TargetWeight,
    },
    client::Call,
    describe::describe,
    error::{CliError, Format},
    output::{self, Colours, Ink, printable},
    session::{Ask, Session},
    status,
};

/// How long a new process may take until it serves, and a little more: the proxy gives it up before.
const UPGRADE: Duration = Duration::from_secs(100);
/// Time between two looks at a target that drains.
const DRAIN_PAUSE: Duration = Duration::from_millis(500);

/// `tidegate switch`.
pub(crate) async fn switch(session: &Session, args: &SwitchArgs) -> Result<(), CliError> {
    let mut body = json!({ "to": args.target });
    if let (true, Value::Object(body)) = (args.force, &mut body) {
        body.insert("force".into(), true.into());
    }
    let call = Call::post(format!("{}/switch", of(&args.service)), body);
    let what = format!("give all traffic of {} to {}", args.service, args.target);
    let answer = session.change(call, &what, Ask::First, &args.change).await?;
    session.print(&answer, words)
}

/// `tidegate split`.
pub(crate) async fn split(session: &Session, args: &SplitArgs) -> Result<(), CliError> {
    let weights = checked_weights(&args.weights)?;
    let body: Map<String, Value> =
        weights.into_iter().map(|(target, weight)| (target.to_string(), percent(weight))).collect();
    let call = Call::put(format!("{}/split", of(&args.service)), Value::Object(body));
    let answer = session.change(call, "", Ask::Never, &args.change).await?;
    session.print(&answer, words)
}

/// Weights that are a split: each target once, and 100 % together.
fn checked_weights(weights: &[TargetWeight]) -> Result<BTreeMap<TargetId, Weight>, CliError> {
    let mut checked = BTreeMap::new();
    for TargetWeight { target, weight } in weights {
        if checked.insert(target.clone(), *weight).is_some() {
            return Err(CliError::Usage(format!("target {target} is given twice")));
        }
    }
    match Split::new(checked.clone()) {
        Ok(_) => Ok(checked),
        Err(error) => Err(CliError::Usage(error.to_string())),
    }
}

/// A weight as the API takes it: percent, without a fraction where there is none.
fn percent(weight: Weight) -> Value {
    match weight.points() % 100 {
        0 => (weight.points() / 100).into(),
        _ => weight.percent().into(),
    }
}

/// `tidegate failover`.
pub(crate) async fn failover(session: &Session, args: &FailoverArgs) -> Result<(), CliError> {
    let call = Call::post(format!("{}/failover", of(&args.service)), json!({ "to": args.target }));
    let what = format!("move {} to {} at once", args.service, args.target);
    let answer = session.change(call, &what, Ask::First, &args.change).await?;
    session.print(&answer, words)
}

/// `tidegate restore`.
pub(crate) async fn restore(session: &Session, args: &RestoreArgs) -> Result<(), CliError> {
    let call = Call::post(format!("{}/restore", of(&args.service)), json!({}));
    let what = format!("end the failover of {}", args.service);
    let answer = session.change(call, &what, Ask::First, &args.change).await?;
    session.print(&answer, words)
}

/// `tidegate hold`.
pub(crate) async fn hold(session: &Session, args: &HoldArgs) -> Result<(), CliError> {
    let call = Call::post(format!("{}/hold", of(&args.service)), json!({}));
    let what = format!("let the requests of {} wait", args.service);
    let answer = session.change(call, &what, Ask::First, &args.change).await?;
    session.print(&answer, words)
}

/// `tidegate release`.
pub(crate) async fn release(session: &Session, args: &HoldArgs) -> Result<(), CliError> {
    let call = Call::post(format!("{}/release", of(&args.service)), json!({}));
    let answer = session.change(call, "", Ask::Never, &args.change).await?;
    session.print(&answer, words)
}

/// `tidegate target add`.
pub(crate) async fn target_add(session: &Session, args: &TargetAddArgs) -> Result<(), CliError> {
    let endpoint = |endpoint: &crate::cli::args::EndpointArg| match endpoint.weight {
        None => json!(endpoint.address),
        Some(weight) => json!({ "address": endpoint.address, "weight": weight }),
    };
    let body = json!({ "endpoints": args.endpoints.iter().map(endpoint).collect::<Vec<_>>() });
    let call = Call::put(target_path(&args.service, &args.target), body);
    let answer = session.change(call, "", Ask::Never, &args.change).await?;
    session.print(&answer, words)
}

/// `tidegate target remove`.
pub(crate) async fn target_remove(session: &Session, args: &TargetArgs) -> Result<(), CliError> {
    let call = Call::delete(target_path(&args.service, &args.target));
    let what = format!("remove target {} of {}", args.target, args.service);
    let answer = session.change(call, &what, Ask::First, &args.change).await?;
    session.print(&answer, words)
}

/// `tidegate target drain`.
pub(crate) async fn target_drain(session: &Session, args: &TargetDrainArgs) -> Result<(), CliError> {
    let TargetArgs { service, target, change } = &args.what;
    let call = Call::post(format!("{}/drain", target_path(service, target)), json!({}));
    let what = format!("send no new requests to {target} of {service}");
    let answer = session.change(call, &what, Ask::First, change).await?;
    if args.wait {
        drained(session, service, target).await?;
    }
    session.print(&answer, words)
}

/// Waits until nothing runs on a target any more. The proxy ends what runs longer than the service's `drain`.
async fn drained(session: &Session, service: &ServiceId, target: &TargetId) -> Result<(), CliError> {
    let mut shown = None;
    while let Some(now) = status::target(session, service, target).await?.filter(|target| target.running > 0) {
        if shown.replace(now.running) != Some(now.running) && session.format == Format::Text {
            let closes = now.closes_in_ms.map_or_else(String::new, |ms| format!(", closed in {} s", ms.div_ceil(1000)));
            output::note(&format!("{target}: {} still running{closes}\n", now.running));
        }
        tokio::time::sleep(DRAIN_PAUSE).await;
    }
    Ok(())
}

/// `tidegate mirror set`.
pub(crate) async fn mirror_set(session: &Session, args: &MirrorSetArgs) -> Result<(), CliError> {
    let methods: Vec<_> = args.methods.iter().map(|method| method.trim().to_ascii_uppercase()).collect();
    let body = json!({
        "to": args.to,
        "percent": percent(args.percent),
        "methods": methods,
        "compare": args.compare,
    });
    let call = Call::put(format!("{}/mirrors/{}", of(&args.service), args.mirror), body);
    let answer = session.change(call, "", Ask::Never, &args.change).await?;
    session.print(&answer, words)
}

/// `tidegate mirror remove`.
pub(crate) async fn mirror_remove(session: &Session, args: &MirrorArgs) -> Result<(), CliError> {
    let call = Call::delete(format!("{}/mirrors/{}", of(&args.service), args.mirror));
    let what = format!("remove mirror {} of {}", args.mirror, args.service);
    let answer = session.change(call, &what, Ask::First, &args.change).await?;
    session.print(&answer, words)
}

/// `tidegate reload`.
pub(crate) async fn reload(session: &Session, args: &ReloadArgs) -> Result<(), CliError> {
    let answer = session.change(Call::post("/api/reload", json!({})), "", Ask::Never, &args.change).await?;
    session.print(&answer, words)
}

/// `tidegate upgrade`.
pub(crate) async fn upgrade(session: &Session) -> Result<(), CliError> {
    let answer = session.client.send_patiently(&Call::post("/api/upgrade", json!({})), UPGRADE).await?;
    session.print(&answer, |answer, _| match serde_json::from_value::<UpgradeReply>(answer.clone()) {
        Ok(reply) => format!(
            "process {} has taken over after {} ms; the one before finishes what runs\n",
            reply.pid, reply.took_ms
        ),
        Err(_) => format!("{}\n", printable(&answer.to_string())),
    })
}

/// What a change did, in words.
pub(super) fn words(answer: &Value, colours: Colours) -> String {
    let Ok(change) = serde_json::from_value::<ChangeReply>(answer.clone()) else {
        // Of a newer server: shown as it is.
        return format!("{}\n", printable(&answer.to_string()));
    };
    let mut lines = String::new();
    for event in &change.events {
        let (ink, text) = describe(event);
        let text = if change.dry_run { format!("would be: {text}") } else { text };
        lines.push_str(&format!("{}\n", ink.paint(&text, colours)));
    }
    if change.events.is_empty() {
        lines.push_str("nothing to change\n");
    }
    if !change.saved && !change.dry_run {
        let text = "this could not be saved and holds only until a restart";
        lines.push_str(&format!("{}\n", Ink::Bad.paint(text, colours)));
    }
    let took =
        answer.get("elapsed_ms").and_then(Value::as_f64).map_or_else(String::new, |ms| format!(", took {ms:.1} ms"));
    let dry = if change.dry_run { " (dry run: nothing was changed)" } else { "" };
    lines.push_str(&Ink::Dim.paint(&format!("generation {}{took}{dry}", change.generation), colours));
    lines.push('\n');
    lines
}

fn of(service: &ServiceId) -> String {
    format!("/api/services/{service}")
}

fn target_path(service: &ServiceId, target: &TargetId) -> String {
    format!("{}/targets/{target}", of(service))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(texts: &[&str]) -> Result<Value, CliError> {
        let parsed: Vec<TargetWeight> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let checked = checked_weights(&parsed)?;
        Ok(checked.into_iter().map(|(target, weight)| (target.to_string(), percent(weight))).collect())
    }

    #[test]
    fn a_split_is_sent_in_percent() {
        assert_eq!(weights(&["green=95", "blue=5"]).unwrap(), json!({"green": 95, "blue": 5}));
        assert_eq!(weights(&["a=99.93", "b=0.07%"]).unwrap(), json!({"a": 99.93, "b": 0.07}));
        assert_eq!(weights(&["a=100", "b=0"]).unwrap(), json!({"a": 100, "b": 0}));
    }

    #[test]
    fn weights_that_are_no_split_are_bad_usage() {
        for (texts, message) in
            [(["a=50", "b=40"], "weights sum to 90 %, not to 100 %"), (["a=50", "a=50"], "target a is given twice")]
        {
            let error = weights(&texts).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.code()), (message, 2));
        }
    }

    #[test]
    fn a_change_is_told_event_by_event() {
        let event = json!({"type": "traffic.switched", "service": "web", "from": "green", "to": "blue"});
        let answer = json!({"generation": 8, "events": [event], "saved": true, "dry_run": false, "elapsed_ms": 1.26});
        assert_eq!(words(&answer, Colours::Off), "web: switched from green to blue\ngeneration 8, took 1.3 ms\n");
        let answer = json!({"generation": 7, "events": [event], "saved": true, "dry_run": true});
        assert_eq!(
            words(&answer, Colours::Off),
            "would be: web: switched from green to blue\ngeneration 7 (dry run: nothing was changed)\n"
        );
        let answer = json!({"generation": 7, "events": [], "saved": true, "dry_run": false});
        assert_eq!(words(&answer, Colours::Off), "nothing to change\ngeneration 7\n");
    }

    #[test]
    fn an_unsaved_change_is_said_aloud() {
        let answer = json!({"generation": 8, "events": [], "saved": false, "dry_run": false});
        assert!(words(&answer, Colours::Off).contains("holds only until a restart"));
    }
}
