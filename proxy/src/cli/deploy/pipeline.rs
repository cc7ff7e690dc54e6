//! What the deployments of a pipeline have in common: a file that is kept beside the pipeline, in its own repository.

use std::{fs, io, path::PathBuf};

use serde_json::{Map, Value};
use tidegate_core::deploy::spec;

use super::document::{self, Name};
use crate::cli::{
    args::{CicdCommand, PipelineName},
    error::{CliError, Format},
    output,
};

/// Keys of one deployment's service: they are judged when it is created.
const OF_SERVICE: [&str; 6] = ["service", "app_name", "to", "version", "image", "endpoints"];

/// `tidegate cicd`.
pub(crate) fn run(command: &CicdCommand, format: Format) -> Result<(), CliError> {
    let CicdCommand::ConfigureDeployment(args) = command;
    let document = document::document(&args.document, Name::OfDeployment).map_err(super::misused)?;
    let problems = problems(&document);
    if !problems.is_empty() {
        let told = problems.into_iter().map(|problem| {
            let option = document::option_of(&problem.path, &args.document, Name::OfDeployment);
            format!("{}: {}", option.unwrap_or(problem.path), problem.message)
        });
        return Err(super::misused(told.collect()));
    }
    let path = path(&args.pipeline);
    let failed = |error| CliError::Io { what: format!("cannot write {}", path.display()), error };
    fs::write(&path, format!("{document:#}\n")).map_err(failed)?;
    match format {
        Format::Json => output::result(&format!("{document}\n"))?,
        Format::Text => output::result(&format!(
            "wrote {}: keep it with the pipeline, and deploy by `tidegate deployment create --pipeline {} ...`\n",
            path.display(),
            args.pipeline.as_str()
        ))?,
    }
    Ok(())
}

fn path(pipeline: &PipelineName) -> PathBuf {
    format!("{}.pipeline.json", pipeline.as_str()).into()
}

/// What is wrong with it, whatever the service.
fn problems(document: &Value) -> Vec<spec::SpecProblem> {
    let mut common = document.clone();
    if let Value::Object(common) = &mut common {
        common.retain(|key, _| !OF_SERVICE.contains(&key.as_str()));
    }
    let document = serde_json::from_value(common).unwrap_or(spec::Value::Null);
    spec::parse_template(&document).err().unwrap_or_default()
}

/// A document with what its pipeline says where it says nothing itself.
pub(super) fn with_defaults(document: Value, pipeline: Option<&PipelineName>) -> Result<Value, CliError> {
    let Some(pipeline) = pipeline else { return Ok(document) };
    let path = path(pipeline);
    let failed = |error: io::Error| CliError::Io {
        what: format!("cannot read {} (write one with `tidegate cicd configure-deployment`)", path.display()),
        error,
    };
    let text = fs::read_to_string(&path).map_err(failed)?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(defaults)) => Ok(merged(defaults, document)),
        Ok(_) => Err(CliError::Failed(format!("{}: this is not a table", path.display()))),
        Err(error) => Err(CliError::Failed(format!("{}: {error}", path.display()))),
    }
}

fn merged(mut defaults: Map<String, Value>, document: Value) -> Value {
    let Value::Object(document) = document else { return document };
    // Two words for the service: whichever is said takes the place of both.
    if ["service", "app_name"].into_iter().any(|key| document.contains_key(key)) {
        defaults.retain(|key, _| key != "service" && key != "app_name");
    }
    for (key, value) in document {
        match (defaults.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
            (_, value) => drop(defaults.insert(key, value)),
        }
    }
    Value::Object(defaults)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(value: Value) -> Map<String, Value> {
        let Value::Object(table) = value else { panic!("{value}") };
        table
    }

    #[test]
    fn options_win_over_what_the_pipeline_says() {
        let defaults = json!({"strategy": "blue-green", "service": "web", "watch": "30s",
            "analyse": {"alpha": 0.01, "min_requests": 100}});
        let document = json!({"app_name": "api", "watch": "1m", "analyse": {"alpha": 0.05}});
        assert_eq!(
            merged(table(defaults), document),
            json!({"strategy": "blue-green", "app_name": "api", "watch": "1m",
                "analyse": {"alpha": 0.05, "min_requests": 100}})
        );
    }

    #[test]
    fn what_a_pipeline_says_is_judged_when_it_is_written() {
        let good = json!({"strategy": "blue-green", "verification_timeout": 60, "app_name": "web", "image": "a"});
        assert_eq!(problems(&good), []);
        let bad = json!({"strategy": "blue-green", "steps": "10,20", "verification_timeout": "soon"});
        let paths: Vec<_> = problems(&bad).into_iter().map(|problem| problem.path).collect();
        assert_eq!(paths, ["verification_timeout", "steps"]);
    }
}
