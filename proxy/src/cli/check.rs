//! `tidegate check`: everything that is wrong with a configuration file, without running it.

use std::{fmt, path::Path, process::ExitCode};

use serde_json::json;
use tidegate_config::{Config, Problems};
use tidegate_core::{Generation, State};

use crate::{
    cli::{
        args::CheckArgs,
        error::{self, CliError, Format},
        output,
    },
    deploy::{environments, stacks},
    state,
};

/// Services that a summary names before it only counts.
const NAMED: usize = 10;

/// Runs the verb. Problems end it with 2.
pub(crate) fn run(args: &CheckArgs, format: Format) -> ExitCode {
    let file = &args.config;
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            let what = format!("cannot read {} (write one with `tidegate init`)", file.display());
            CliError::Io { what, error }.report(format);
            return ExitCode::from(error::USAGE);
        }
    };
    let (report, code) = match environments::parse(&text) {
        Ok(config) => match stacks::check(&config).as_slice() {
            [] => (valid(file, &config, &Compared::with(&config), format), 0),
            problems => (bad_stacks(problems, format), error::USAGE),
        },
        Err(problems) => (invalid(file, &problems, format), error::USAGE),
    };
    // The result of a check is its answer, and goes to stdout; a list of problems for people is a message.
    let written = match (code, format) {
        (0, _) | (_, Format::Json) => output::result(&report).map_err(CliError::from),
        (_, Format::Text) => {
            output::note(&report);
            Ok(())
        }
    };
    match written {
        Ok(()) => ExitCode::from(code),
        Err(error) => {
            error.report(format);
            ExitCode::from(code.max(error.code()))
        }
    }
}

/// One line per problem: file, line, path, message.
fn invalid(file: &Path, problems: &Problems, format: Format) -> String {
    if format == Format::Json {
        let problems: Vec<_> = problems
            .iter()
            .map(|problem| json!({ "path": problem.path, "line": problem.line, "message": problem.message }))
            .collect();
        return format!("{}\n", json!({ "valid": false, "problems": problems }));
    }
    let line = |problem: &tidegate_config::Problem| {
        let path = if problem.path.is_empty() { String::new() } else { format!("{}: ", problem.path) };
        format!("{}:{}: {path}{}\n", file.display(), problem.line, problem.message)
    };
    problems.iter().map(line).collect()
}

/// What is wrong with the stacks that a valid file watches, one line per stack.
fn bad_stacks(problems: &[(String, String)], format: Format) -> String {
    if format == Format::Json {
        let problems: Vec<_> =
            problems.iter().map(|(place, message)| json!({ "path": place, "message": message })).collect();
        return format!("{}\n", json!({ "valid": false, "problems": problems }));
    }
    let line =
        |(place, message): &(String, String)| format!("{}: {}\n", output::printable(place), output::printable(message));
    problems.iter().map(line).collect()
}

/// How the file compares with what is saved in its state directory.
#[derive(Debug)]
enum Compared {
    /// Nothing is saved: everything will be as the file says.
    Nothing,
    /// This is saved; what differs, and which of the two a start or a reload takes.
    Saved { generation: Generation, differences: Vec<String> },
    /// It could not be read; no fault of the file.
    Unreadable(String),
}

impl Compared {
    fn with(config: &Config) -> Self {
        match state::peek(&config.server.state_dir) {
            Ok(None) => Self::Nothing,
            Ok(Some(saved)) => {
                let (_, differences) = State::load(config, Some(&saved));
                let differences = differences.iter().map(ToString::to_string).collect();
                Self::Saved { generation: saved.generation, differences }
            }
            Err(error) => Self::Unreadable(error.to_string()),
        }
    }

    fn document(&self) -> serde_json::Value {
        match self {
            Self::Nothing => json!(null),
            Self::Saved { generation, differences } => json!({ "generation": generation, "differences": differences }),
            Self::Unreadable(why) => json!({ "error": why }),
        }
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Unreadable(why) => write!(f, "unknown: {}", output::printable(why)),
            Self::Saved { generation, differences } if differences.is_empty() => {
                write!(f, "generation {generation}, as the file says")
            }
            Self::Saved { generation, differences } => {
                write!(f, "generation {generation}, which differs:")?;
                differences.iter().try_for_each(|difference| write!(f, "\n    {}", output::printable(difference)))
            }
        }
    }
}

/// A short summary of a valid file.
fn valid(file: &Path, config: &Config, saved: &Compared, format: Format) -> String {
    let targets: usize = config.services.values().map(|service| service.targets.len()).sum();
    let services: Vec<_> = config.services.keys().map(ToString::to_string).collect();
    let listeners: Vec<_> =
        config.listeners.iter().map(|(name, listener)| format!("{name} {}", listener.address)).collect();
    if format == Format::Json {
        let document = json!({
            "valid": true,
            "services": services,
            "targets": targets,
            "listeners": config.listeners.iter()
                .map(|(name, listener)| (name.to_string(), listener.address.to_string()))
                .collect::<std::collections::BTreeMap<_, _>>(),
            "saved": saved.document(),
        });
        return format!("{document}\n");
    }
    format!(
        "{} is valid\n  services   {}\n  targets    {targets}\n  listeners  {}\n  saved      {saved}\n",
        file.display(),
        some_of(&services),
        some_of(&listeners)
    )
}

/// How many there are, and the names of the first ones.
fn some_of(names: &[String]) -> String {
    let first: Vec<_> = names.iter().take(NAMED).map(String::as_str).collect();
    match names.len() {
        0 => "0".to_owned(),
        all if all > NAMED => format!("{all}: {}, ...", first.join(", ")),
        all => format!("{all}: {}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::{Saved, Wanted, state::SavedService};

    use super::*;
    use crate::state::{FileStore, StateStore as _};

    const VALID: &str = "\
[listener.public]
address = \"127.0.0.1:3090\"
[service.web]
stable = \"green\"
[service.web.target.green]
endpoints = [\"127.0.0.1:3002\"]
[service.web.target.blue]
endpoints = [\"127.0.0.1:3001\"]
";

    fn shown(saved: &Compared, format: Format) -> String {
        valid(Path::new("t.toml"), &tidegate_config::parse(VALID).unwrap(), saved, format)
    }

    #[test]
    fn a_valid_file_is_summed_up() {
        assert_eq!(
            shown(&Compared::Nothing, Format::Text),
            "t.toml is valid\n  services   1: web\n  targets    2\n  listeners  1: public 127.0.0.1:3090\n  saved      nothing\n"
        );
        let document: serde_json::Value = serde_json::from_str(&shown(&Compared::Nothing, Format::Json)).unwrap();
        assert_eq!(
            document,
            json!({"valid": true, "services": ["web"], "targets": 2, "listeners": {"public": "127.0.0.1:3090"},
                "saved": null})
        );
    }

    #[test]
    fn what_is_saved_is_compared_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("[server]\nstate_dir = {:?}\n{VALID}", dir.path());
        let config = tidegate_config::parse(&text).unwrap();
        assert!(matches!(Compared::with(&config), Compared::Nothing));

        let spec = config.services.values().next().unwrap();
        let file = Wanted::declared(spec);
        let mut wanted = file.clone();
        wanted.stable = "blue".parse().unwrap();
        let saved = SavedService { file, wanted, overlay: None };
        let saved =
            Saved { generation: Generation(7), services: [("web".parse().unwrap(), saved)].into(), ..Saved::default() };
        FileStore::open(dir.path()).unwrap().save(&saved, None).unwrap();

        let compared = Compared::with(&config);
        let text = shown(&compared, Format::Text);
        assert!(text.contains("  saved      generation 7, which differs:\n    service web: stable"), "{text}");
        assert_eq!(compared.document()["generation"], 7);

        std::fs::write(dir.path().join("state.json"), "{").unwrap();
        assert!(shown(&Compared::with(&config), Format::Text).contains("saved      unknown: "));
    }

    #[test]
    fn every_problem_has_its_file_line_and_path() {
        let text = VALID.replace("\"green\"\n", "\"red\"\nspeed = 1\n");
        let problems = tidegate_config::parse(&text).unwrap_err();
        let shown = invalid(Path::new("t.toml"), &problems, Format::Text);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines.len(), 2, "{shown}");
        assert!(lines[0].starts_with("t.toml:4: service.web.stable: "), "{shown}");
        assert!(lines[1].starts_with("t.toml:5: service.web.speed: "), "{shown}");

        let document: serde_json::Value =
            serde_json::from_str(&invalid(Path::new("t.toml"), &problems, Format::Json)).unwrap();
        assert_eq!(document["valid"], false);
        assert_eq!(document["problems"][1]["path"], "service.web.speed");
        assert_eq!(document["problems"][1]["line"], 5);
    }

    #[test]
    fn text_that_is_not_toml_is_a_problem_of_its_line() {
        let problems = tidegate_config::parse("[server]\nthreads = = 2\n").unwrap_err();
        assert!(invalid(Path::new("t.toml"), &problems, Format::Text).starts_with("t.toml:2: "));
    }

    #[test]
    fn a_stage_that_cannot_be_is_a_bad_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.toml");
        std::fs::write(&file, format!("[stage.a]\nstrategy = \"fast\"\n{VALID}")).unwrap();
        assert_eq!(run(&CheckArgs { config: file }, Format::Text), ExitCode::from(2));
    }

    #[test]
    fn a_stack_that_cannot_be_deployed_is_a_bad_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.toml");
        std::fs::write(&file, format!("{VALID}[watch]\nstacks = \"{}/stacks/*\"\n", dir.path().display())).unwrap();
        let args = CheckArgs { config: file };
        assert_eq!(run(&args, Format::Text), ExitCode::SUCCESS, "there is no stack yet");
        let stack = dir.path().join("stacks/web");
        std::fs::create_dir_all(&stack).unwrap();
        std::fs::write(stack.join("deploy.yaml"), "methode: canary\n").unwrap();
        assert_eq!(run(&args, Format::Text), ExitCode::SUCCESS);
        std::fs::write(stack.join("deploy.yaml"), "methode: fast\n").unwrap();
        assert_eq!(run(&args, Format::Json), ExitCode::from(2));
        std::fs::write(stack.join("deploy.yaml"), "deploy: true\n").unwrap();
        std::fs::rename(&stack, dir.path().join("stacks/other")).unwrap();
        assert_eq!(run(&args, Format::Text), ExitCode::from(2), "no service is called that");
        std::fs::write(dir.path().join("stacks/other/deploy.yaml"), "deploy: false\n").unwrap();
        assert_eq!(run(&args, Format::Text), ExitCode::SUCCESS);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_a_bad_configuration() {
        let args = CheckArgs { config: "/nowhere/tidegate.toml".into() };
        assert_eq!(run(&args, Format::Text), ExitCode::from(2));
    }

    #[test]
    fn many_services_are_counted_and_not_all_named() {
        let names: Vec<_> = (0..11).map(|n| format!("s{n}")).collect();
        assert_eq!(some_of(&names), "11: s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, ...");
        assert_eq!(some_of(&[]), "0");
    }
}
