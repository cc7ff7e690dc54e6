//! How a stack says that it is to be deployed: in `deploy.yaml`, or in a block of comments of its compose file.
//!
//! Beside `deploy`, `methode` (or `method`), `test` and `fingerprint` it may use the keys of a deployment that say how,
//! and none that name a command: the files come from a repository, and commands are the proxy's own file's business.

use std::collections::BTreeMap;

use tidegate_config::{StackMethod, Watch};
use tidegate_core::deploy::spec::{DeploymentSpec, Value, parse_template};

const BEGIN: &str = "# Deploy Start #";
const END: &str = "# Deploy End #";
/// Keys of a deployment that a stack may use.
const KEYS: [&str; 12] = [
    "analyse",
    "auto_rollback",
    "drain_timeout",
    "health_timeout",
    "interval",
    "keep_old",
    "mark_bad",
    "percentage",
    "pre_order",
    "steps",
    "verification_timeout",
    "watch",
];
/// What `test.KEY` is called among the labels, and so in the environment of commands: `TIDEGATE_LABEL_TEST_KEY`.
const TEST: &str = "test_";

/// How a stack is deployed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// Whether it is.
    pub(crate) deploy: bool,
    /// How; without any service.
    pub(crate) template: DeploymentSpec,
    /// Patterns of the files that are its version, within its folder; empty: all of them.
    pub(crate) fingerprint: Vec<String>,
}

impl Settings {
    /// Reads what a stack says, with what the proxy's file says for stacks that say nothing.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn parse(yaml: Option<&str>, watch: &Watch) -> Result<Self, String> {
        let mut said = match yaml {
            Some(yaml) => table(yaml)?,
            None => BTreeMap::new(),
        };
        let mut problems = Vec::new();
        let mut note = |problem: String| problems.push(problem);
        let deploy = match said.remove("deploy") {
            None | Some(Value::Null) => watch.deploy,
            Some(Value::Bool(deploy)) => deploy,
            Some(_) => {
                note("deploy: write true or false".into());
                false
            }
        };
        let method = method(&mut said, watch.method).unwrap_or_else(|problem| {
            note(problem);
            watch.method
        });
        let labels = said.remove("test").map_or_else(|| Ok(Vec::new()), tests).unwrap_or_else(|problem| {
            note(problem);
            Vec::new()
        });
        let fingerprint =
            said.remove("fingerprint").map_or_else(|| Ok(Vec::new()), patterns).unwrap_or_else(|problem| {
                note(problem);
                Vec::new()
            });
        said.retain(|key, _| {
            let known = KEYS.contains(&key.as_str());
            if !known {
                let all = KEYS.join(", ");
                note(format!("{key}: a stack may say deploy, methode, test, fingerprint, {all}; commands stand in the proxy's file"));
            }
            known
        });
        said.insert("strategy".into(), Value::Text(strategy(method).into()));
        let template = parse_template(&Value::Table(said));
        let template = template.map_err(|found| found.iter().for_each(|problem| note(problem.to_string())));
        match (template, problems.is_empty()) {
            (Ok(mut template), true) => {
                template.metadata.labels.extend(labels);
                Ok(Self { deploy, template, fingerprint })
            }
            _ => Err(problems.join("; ")),
        }
    }
}

fn table(yaml: &str) -> Result<BTreeMap<String, Value>, String> {
    // By way of JSON, so that a key is a text whatever YAML takes it for (`n` is a truth value there).
    let document = serde_saphyr::from_str::<serde_json::Value>(yaml)
        // Its messages draw the place over several lines; the first one says where and what.
        .map_err(|error| error.to_string().lines().next().unwrap_or("it is no YAML").trim().to_owned())?;
    match serde_json::from_value(document).map_err(|error| error.to_string())? {
        Value::Table(table) => Ok(table),
        Value::Null => Ok(BTreeMap::new()),
        _ => Err("it holds no keys and values: write deploy: true".into()),
    }
}

fn method(said: &mut BTreeMap<String, Value>, usual: StackMethod) -> Result<StackMethod, String> {
    let word = match (said.remove("methode"), said.remove("method")) {
        (Some(_), Some(_)) => return Err("method: methode says the same: leave one of them out".into()),
        (Some(word), None) | (None, Some(word)) => word,
        (None, None) => return Ok(usual),
    };
    let known = || StackMethod::WORDS.map(|(word, _)| word).join(", ");
    match word {
        Value::Text(word) => {
            let found = StackMethod::WORDS.into_iter().find(|(known, _)| *known == word);
            found.map(|(_, method)| method).ok_or_else(|| format!("method: there is no {word}: use one of {}", known()))
        }
        Value::Null => Ok(usual),
        _ => Err(format!("method: use one of {}", known())),
    }
}

fn strategy(method: StackMethod) -> &'static str {
    match method {
        StackMethod::Blind => "blind",
        // It is this one that checks the new version, and brings the old one back.
        StackMethod::Simple => "recreate",
        StackMethod::Canary => "canary",
        StackMethod::BlueGreen => "blue-green",
    }
}

/// `test.*` as labels, for the commands.
fn tests(said: Value) -> Result<Vec<(String, String)>, String> {
    let Value::Table(table) = said else { return Err("test: write keys and values".into()) };
    let label = |(key, value): (String, Value)| {
        let text = match value {
            Value::Bool(truth) => truth.to_string(),
            Value::Int(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Text(text) => text,
            Value::Null => String::new(),
            Value::List(_) | Value::Table(_) => return Err(format!("test.{key}: write a text or a number")),
        };
        Ok((format!("{TEST}{key}"), text))
    };
    table.into_iter().map(label).collect()
}

/// Patterns that cannot leave the stack's folder.
fn patterns(said: Value) -> Result<Vec<String>, String> {
    let advice = || "fingerprint: write patterns of files in the folder: [\"compose.yaml\", \"conf/*\"]".to_owned();
    let list = match said {
        Value::List(list) => list,
        one @ Value::Text(_) => vec![one],
        _ => return Err(advice()),
    };
    let pattern = |value: Value| match value {
        Value::Text(text) if text.starts_with('/') || text.split('/').any(|part| part == "..") => {
            Err(format!("fingerprint: {text} leads out of the folder"))
        }
        Value::Text(text) if !text.is_empty() => Ok(text),
        _ => Err(advice()),
    };
    list.into_iter().map(pattern).collect()
}

/// The YAML in the block of comments of a compose file; `None`: there is no such block.
///
/// # Errors
/// When the block does not end.
pub(crate) fn block(compose: &str) -> Result<Option<String>, String> {
    let mut lines = compose.lines().map(str::trim);
    if !lines.any(|line| line == BEGIN) {
        return Ok(None);
    }
    let mut yaml = String::new();
    for line in lines {
        if line == END {
            return Ok(Some(yaml));
        }
        // One space after the sign belongs to it; more is YAML's.
        let line = line.strip_prefix('#').map_or(line, |line| line.strip_prefix(' ').unwrap_or(line));
        yaml.push_str(line);
        yaml.push('\n');
    }
    Err(format!("its {BEGIN} is not followed by {END}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_core::deploy::spec::Strategy;

    use super::*;

    fn watch() -> Watch {
        Watch {
            interval: Duration::from_secs(60),
            fetch: None,
            commit: None,
            stacks: vec!["stacks/*".into()],
            deploy: true,
            method: StackMethod::Simple,
        }
    }

    fn read(yaml: &str) -> Settings {
        Settings::parse(Some(yaml), &watch()).unwrap_or_else(|problem| panic!("{yaml}: {problem}"))
    }

    fn refused(yaml: &str) -> String {
        Settings::parse(Some(yaml), &watch()).unwrap_err()
    }

    #[test]
    fn a_stack_that_says_nothing_is_deployed_as_the_proxys_file_says() {
        for nothing in ["", "# only a comment\n", "deploy:\nmethode:\n"] {
            let settings = read(nothing);
            assert_eq!((settings.deploy, &settings.template.strategy), (true, &Strategy::Recreate), "{nothing:?}");
        }
        let other = Watch { deploy: false, method: StackMethod::Blind, ..watch() };
        let settings = Settings::parse(None, &other).unwrap();
        assert_eq!((settings.deploy, settings.template.strategy), (false, Strategy::Blind));
    }

    #[test]
    fn both_spellings_of_the_method_are_known() {
        assert_eq!(read("methode: \"blind\"").template.strategy, Strategy::Blind);
        assert_eq!(read("method: canary").template.strategy.name(), "canary");
        assert_eq!(read("methode: simple").template.strategy, Strategy::Recreate);
        assert!(refused("method: blind\nmethode: blind").contains("leave one of them out"));
        assert!(refused("methode: fast").contains("there is no fast: use one of blind, simple"));
    }

    #[test]
    fn tests_are_labels_and_the_keys_of_a_deployment_are_its_own() {
        let settings = read(
            "deploy: true\nmethode: canary\npercentage: 5\nsteps: [20, 100]\ninterval: 30s\ntest:\n    option1: value\n    \
             retries: 3\nfingerprint: [\"compose.yaml\", \"conf/*\"]\n",
        );
        let labels = &settings.template.metadata.labels;
        assert_eq!((labels["test_option1"].as_str(), labels["test_retries"].as_str()), ("value", "3"));
        let Strategy::Canary { steps, interval } = &settings.template.strategy else { panic!("no canary") };
        assert_eq!((steps.len(), *interval), (3, Duration::from_secs(30)));
        assert_eq!(settings.fingerprint, ["compose.yaml", "conf/*"]);
    }

    #[test]
    fn a_stack_cannot_bring_commands_nor_leave_its_folder() {
        for key in ["start", "pre_hook", "functional_tests", "env", "service", "force", "strategy"] {
            assert!(refused(&format!("{key}: [\"sh\"]")).contains("commands stand in the proxy's file"), "{key}");
        }
        assert!(refused("fingerprint: [\"../../etc/passwd\"]").contains("leads out of the folder"));
        assert!(refused("fingerprint: /etc/passwd").contains("leads out of the folder"));
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let problems = refused("deploy: perhaps\nmethode: fast\nspeed: 3\ntest: [1]\nsteps: [20]\n");
        for part in ["deploy: write true", "there is no fast", "speed: ", "test: write keys", "steps: "] {
            assert!(problems.contains(part), "{part} is missing in {problems}");
        }
    }

    #[test]
    fn what_is_no_yaml_or_too_much_of_it_is_a_problem_and_no_more() {
        assert!(refused("deploy: [true").contains("line"), "{}", refused("deploy: [true"));
        assert!(!refused("deploy: true\ndeploy: false").is_empty(), "the same key twice");
        assert!(refused("- a\n- b").contains("no keys and values"));
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for n in 1..30 {
            let before = vec![format!("*a{}", n - 1); 9].join(", ");
            bomb.push_str(&format!("a{n}: &a{n} [{before}]\n"));
        }
        assert!(!refused(&bomb).is_empty());
        assert!(!refused(&"[".repeat(100_000)).is_empty());
    }

    #[test]
    fn the_block_of_comments_of_the_seed_is_read() {
        let compose = "\
# Deploy Start #
#
# deploy: true
# methode: \"blind\"
# test:
#     option1: value
#
# Deploy End #

services:
    web:
        image: nginx
";
        let yaml = block(compose).unwrap().unwrap();
        let settings = read(&yaml);
        assert_eq!(settings.template.strategy, Strategy::Blind);
        assert_eq!(settings.template.metadata.labels["test_option1"], "value");
        assert_eq!(block("services: {}\n").unwrap(), None);
        assert!(block("# Deploy Start #\n# deploy: true\n").unwrap_err().contains("# Deploy End #"));
    }
}
