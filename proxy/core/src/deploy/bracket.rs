//! Documents about brackets, and the names in them: in a stage, a service may be called by what it is called there.

use std::{collections::BTreeMap, sync::Arc};

use tidegate_config::{BracketId, ServiceId};

use super::{
    plan::no_service,
    spec::{DeploymentSpec, MemberSpec, SpecProblem, Strategy, Value, parse_members, parse_open},
    stage::{Stages, in_stage, named_stage},
};
use crate::state::ServiceState;

/// A bracket that is to be opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Opening {
    /// Its name.
    pub name: BracketId,
    /// How its services are released, and those that wait from the beginning.
    pub spec: DeploymentSpec,
    /// Who says how, and so whose commands these are.
    pub from: From,
}

/// Where it is said how a bracket is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// In its document.
    Document,
    /// In a stage of the configuration.
    Stage,
}

/// Reads a bracket: its `name`, and a deployment whose services may be added later. With a `stage` and no `strategy` they
/// are released as the stage says, and the document says no more than `project` and services.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_bracket(document: &Value, stages: &Stages) -> Result<Opening, Vec<SpecProblem>> {
    let Value::Table(entries) = document else { return Err(vec![problem("", "a bracket is a table")]) };
    let name = match entries.get("name") {
        Some(Value::Text(name)) => BracketId::parse(name).map_err(|why| problem("name", why)),
        Some(Value::Null) | None => Err(problem("name", "missing: say what the bracket is called")),
        Some(_) => Err(problem("name", "expected a text")),
    };
    let (from, spec) = match (entries.get("stage"), entries.get("strategy")) {
        (Some(Value::Text(stage)), Some(Value::Null) | None) => (From::Stage, in_template(entries, stage, stages)),
        _ => (From::Document, parse_open(document)),
    };
    let spec = spec.and_then(|spec| match spec.strategy {
        Strategy::AbTesting { .. } => {
            let message = "a test of variants is about one service: create a deployment instead of a bracket";
            Err(vec![problem("strategy", message)])
        }
        _ => Ok(spec),
    });
    match (name, spec) {
        (Ok(name), Ok(spec)) => Ok(Opening { name, spec, from }),
        (name, spec) => Err(name.err().into_iter().chain(spec.err().into_iter().flatten()).collect()),
    }
}

/// A bracket of a stage, as the stage says.
fn in_template(
    entries: &BTreeMap<String, Value>,
    stage: &str,
    stages: &Stages,
) -> Result<DeploymentSpec, Vec<SpecProblem>> {
    let mut spec = named_stage(stages, stage).map_err(|why| vec![why])?.template.clone();
    let mut rest = entries.clone();
    for (key, field) in [("name", &mut spec.name), ("project", &mut spec.project)] {
        match rest.remove(key) {
            Some(Value::Text(text)) if !text.is_empty() && !text.contains('\0') => *field = Some(text),
            Some(Value::Null) | None => {}
            Some(_) => return Err(vec![problem(key, "expected a text that is not empty")]),
        }
    }
    rest.retain(|key, value| key != "stage" && key != "strategy" && *value != Value::Null);
    if !rest.is_empty() {
        spec.members = parse_members(&Value::Table(rest))?;
    }
    Ok(spec)
}

/// Where a document says something of one of its services: `service`, or `member[2].service`.
pub fn place(document: &Value, at: usize, key: &str) -> String {
    let listed = |key: &&str| matches!(document, Value::Table(entries) if entries.contains_key(*key));
    match ["member", "members"].into_iter().find(listed) {
        Some(list) => format!("{list}[{at}].{key}"),
        None => key.to_owned(),
    }
}

/// Gives services their full names, which in a stage may be left out, and says which service or target there is not.
pub fn settle(
    members: &mut [MemberSpec],
    stage: Option<&str>,
    services: &BTreeMap<ServiceId, Arc<ServiceState>>,
    place: impl Fn(usize, &str) -> String,
) -> Vec<SpecProblem> {
    let mut problems = Vec::new();
    for (at, member) in members.iter_mut().enumerate() {
        let staged = stage.and_then(|stage| in_stage(stage, member.service.as_str()).ok());
        if let Some(staged) = staged.filter(|staged| services.contains_key(staged)) {
            member.service = staged;
        }
        let Some(service) = services.get(&member.service) else {
            problems.push(problem(place(at, "service"), no_service(&member.service)));
            continue;
        };
        let targets = &service.wanted.targets;
        if let Some(to) = member.to.as_ref().filter(|to| member.endpoints.is_empty() && !targets.contains_key(*to)) {
            let known: Vec<_> = targets.keys().map(|target| target.as_str()).collect();
            let known = known.join(", ");
            let message = format!("service {} has no target {to}: give endpoints, or use {known}", member.service);
            problems.push(problem(place(at, "to"), message));
        }
    }
    problems
}

fn problem(path: impl Into<String>, message: impl ToString) -> SpecProblem {
    SpecProblem { path: path.into(), message: message.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::{
        stage::{artifact_name, parse_stage},
        testing::world,
    };

    fn value(json: &str) -> Value {
        serde_json::from_str(json).unwrap()
    }

    fn stages() -> Stages {
        let dev = parse_stage("dev", &value(r#"{"strategy":"deploy_blue_green","performance_tests":["load"]}"#));
        Stages::from([("dev".to_owned(), dev.unwrap())])
    }

    fn paths(json: &str) -> Vec<String> {
        parse_bracket(&value(json), &stages()).unwrap_err().into_iter().map(|problem| problem.path).collect()
    }

    #[test]
    fn a_bracket_needs_a_name_and_may_be_empty() {
        let opening = parse_bracket(&value(r#"{"name":"spring","strategy":"canary"}"#), &stages()).unwrap();
        assert_eq!((opening.name.as_str(), opening.spec.strategy.name()), ("spring", "canary"));
        assert!(opening.spec.members.is_empty());
        assert_eq!(paths(r#"{"strategy":"canary"}"#), ["name"]);
        assert_eq!(paths(r#"{"name":"a b","strategy":"no"}"#), ["name", "strategy"]);
        assert_eq!(paths(r#"{"name":"b","service":"web","member":[{"service":"web"}]}"#), ["service"]);
        assert_eq!(paths(r#"{"name":"b","to":"blue"}"#), ["service"]);
        let test = r#"{"name":"b","strategy":"ab","variant":["name=a,percentage=50","name=b,percentage=50"]}"#;
        assert_eq!(paths(test), ["strategy"]);
        assert_eq!(paths("[]"), [""]);
    }

    #[test]
    fn a_bracket_of_a_stage_is_released_as_the_stage_says() {
        let json = r#"{"name":"b","stage":"dev","project":"foo","member":[{"service":"web","image":"web:2"}]}"#;
        let spec = parse_bracket(&value(json), &stages()).unwrap().spec;
        assert_eq!((spec.strategy.name(), spec.stage.as_deref()), ("blue-green", Some("dev")));
        assert_eq!((spec.project.as_deref(), spec.hooks.tests.len(), spec.members.len()), (Some("foo"), 1, 1));
        assert_eq!(paths(r#"{"name":"b","stage":"moon"}"#), ["stage"]);
        assert_eq!(paths(r#"{"name":"b","stage":"dev","steps":[1],"service":"web"}"#), ["steps"]);
        let own = parse_bracket(&value(r#"{"name":"b","stage":"moon","strategy":"canary"}"#), &stages()).unwrap();
        assert_eq!(own.spec.stage.as_deref(), Some("moon"), "whoever says the strategy needs no stage of the file");
    }

    #[test]
    fn the_name_of_an_artifact_is_without_registry_and_tag() {
        for (artifact, name) in
            [("web:1", "web"), ("host:5000/a/web:1", "web"), ("host:5000/web", "web"), ("web", "web")]
        {
            assert_eq!(artifact_name(artifact), name);
        }
    }

    #[test]
    fn services_are_found_by_their_names_in_the_stage_and_problems_have_their_places() {
        let world = world();
        let mut services = world.state.services.clone();
        services.insert(in_stage("dev", "web").unwrap(), Arc::clone(&services["web"]));
        let document = value(r#"{"member":[{"service":"web"},{"service":"moon"},{"service":"shop","to":"x"}]}"#);
        let mut members = parse_members(&document).unwrap();
        let problems = settle(&mut members, Some("dev"), &services, |at, key| place(&document, at, key));
        assert_eq!(members[0].service.as_str(), "dev.web");
        let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["member[1].service", "member[2].to"]);
        assert_eq!(problems[0].message, "there is no service moon: declare it in [service.moon]");
        let mut plain = parse_members(&value(r#"{"service":"web","to":"x","endpoints":["10.0.0.9:1"]}"#)).unwrap();
        assert_eq!(settle(&mut plain, None, &services, |_, key| key.to_owned()), []);
        assert_eq!(plain[0].service.as_str(), "web");
    }
}
