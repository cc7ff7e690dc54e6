//! `tidegate trigger`: artifacts for a stage, or for a bracket of it.

use serde_json::{Map, Value, json};
use tidegate_admin::dto::bracket::TriggerReply;

use super::{DONE, bracket, idempotency_key, picture, wait::Wish, watch_if};
use crate::cli::{
    args::{ConfigurationChangeArgs, TriggerCommand},
    client::Call,
    error::{CliError, Format},
    output::{self, Colours, printable},
    session::{Ask, Session},
};

/// `tidegate trigger`: the exit code.
pub(crate) async fn run(session: &Session, command: &TriggerCommand) -> Result<u8, CliError> {
    let TriggerCommand::ConfigurationChange(args) = command;
    let (services, doubts) = services(&args.services, &args.artifacts).map_err(CliError::Usage)?;
    for doubt in doubts.iter().filter(|_| session.format == Format::Text) {
        output::note(&format!("warning: {}\n", printable(doubt)));
    }
    let call = Call {
        key: Some(idempotency_key()),
        ..Call::post("/api/trigger/configuration-change", Value::Object(body(args, services)))
    };
    let answer = session.change(call, "", Ask::Never, &args.change).await.map_err(in_options)?;
    match session.client.decode::<TriggerReply>(&answer)? {
        TriggerReply::Deployment(made) if !made.dry_run => {
            watch_if(session, &answer, &made.deployment.status.id, Wish::Success, &args.wait, picture::reply).await
        }
        TriggerReply::Deployment(_) | TriggerReply::Bracket(_) => session.print(&answer, reply).map(|()| DONE),
    }
}

fn reply(answer: &Value, colours: Colours) -> String {
    // Of the two only a bracket has members that may wait for a target.
    if answer.get("progress").is_some() { picture::reply(answer, colours) } else { bracket::reply(answer, colours) }
}

fn body(args: &ConfigurationChangeArgs, services: Vec<Value>) -> Map<String, Value> {
    let mut body = Map::from_iter([("services".to_owned(), Value::Array(services))]);
    let bracket = args.bracket.as_ref().map(ToString::to_string);
    for (key, value) in [("project", &args.project), ("stage", &args.stage), ("bracket", &bracket)] {
        body.extend(value.as_ref().map(|value| (key.to_owned(), json!(value))));
    }
    body
}

fn in_options(error: CliError) -> CliError {
    let option = |path: &str| match path {
        "project" | "stage" | "bracket" => Some(format!("--{path}")),
        _ => {
            let at = path.strip_prefix("services[")?.split(']').next()?.parse::<usize>().ok()?;
            Some(format!("--service ({})", at + 1))
        }
    };
    match error {
        CliError::Refused(problem) => CliError::Refused(Box::new(problem.renamed(option))),
        other => other,
    }
}

/// Pairs each service with its artifact, and tells what had to be guessed.
///
/// One service cannot get two artifacts: where it is named twice, an artifact of another name is that service's.
fn services(services: &[String], artifacts: &[String]) -> Result<(Vec<Value>, Vec<String>), String> {
    if services.is_empty() {
        return Ok((artifacts.iter().map(|artifact| json!(artifact)).collect(), Vec::new()));
    }
    if services.len() != artifacts.len() {
        let (have, want) = (artifacts.len(), services.len());
        return Err(format!("{want} --service and {have} --artifact: give one --artifact for each --service"));
    }
    let mut doubts = Vec::new();
    let pair = |(service, artifact): (&String, &String)| {
        let own = artifact.rsplit('/').next().unwrap_or(artifact).split([':', '@']).next().unwrap_or_default();
        let twice = services.iter().filter(|other| *other == service).count() > 1;
        let free = !own.is_empty() && !services.iter().any(|other| other == own);
        if twice && free {
            doubts.push(format!("--service {service} is given twice: {artifact} is taken for {own}"));
            return json!({ "service": own, "artifact": artifact });
        }
        json!({ "service": service, "artifact": artifact })
    };
    let paired = services.iter().zip(artifacts).map(pair).collect();
    Ok((paired, doubts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn check(given: &[&str], artifacts: &[&str], expected: Value, doubts: usize) {
        let (paired, told) = services(&texts(given), &texts(artifacts)).unwrap();
        assert_eq!((Value::Array(paired), told.len()), (expected, doubts), "{given:?} {artifacts:?}");
    }

    #[test]
    fn each_service_gets_its_artifact() {
        check(
            &["foobar-backend"],
            &["foobar-backend:0.22.3.rc"],
            json!([{"service": "foobar-backend", "artifact": "foobar-backend:0.22.3.rc"}]),
            0,
        );
        check(&[], &["web:1", "api:2"], json!(["web:1", "api:2"]), 0);
        check(&["web"], &["registry/other:1"], json!([{"service": "web", "artifact": "registry/other:1"}]), 0);
    }

    #[test]
    fn a_service_that_is_named_twice_is_told_apart_by_the_artifacts() {
        check(
            &["foobar-frontend", "foobar-frontend"],
            &["foobar-backend:0.22.3.rc", "foobar-frontend:0.9.42"],
            json!([{"service": "foobar-backend", "artifact": "foobar-backend:0.22.3.rc"},
                {"service": "foobar-frontend", "artifact": "foobar-frontend:0.9.42"}]),
            1,
        );
    }

    #[test]
    fn services_and_artifacts_come_in_pairs() {
        let error = services(&texts(&["a", "b"]), &texts(&["a:1"])).unwrap_err();
        assert_eq!(error, "2 --service and 1 --artifact: give one --artifact for each --service");
    }
}
