//! Secrets, read once from where the configuration says they are, for those who keep them as hashes.
//!
//! Every problem names the token or service, where its secret was looked for, and what to do; none shows a secret.

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use tidegate_config::{Config, Secret, SecretSource, ServiceId, SinkTarget, SourceSpec, Token};

/// Longest secret in bytes: the admin API compares no longer ones.
const MAX_BYTES: u64 = 1024;

/// A problem: where in the configuration, and what.
pub(crate) type Problem = (String, String);

/// The secrets of a configuration.
#[derive(Debug)]
pub(crate) struct Secrets {
    /// The admin API's tokens with their secrets.
    pub(crate) tokens: Vec<(Token, Secret)>,
    /// What authorises a pin, by service.
    pub(crate) pins: BTreeMap<ServiceId, Secret>,
}

/// Reads the secrets of a configuration; all problems at once.
pub(crate) fn load(config: &Config) -> Result<Secrets, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut read_or_note = |path: String, source: &SecretSource| match read(source) {
        Ok(secret) => Some(secret),
        Err(message) => {
            problems.push((path, message));
            None
        }
    };
    let mut tokens = Vec::new();
    for (at, token) in config.admin.tokens.iter().enumerate() {
        if let Some(secret) = read_or_note(format!("admin.tokens[{at}] ({})", token.name), &token.secret) {
            tokens.push((token.clone(), secret));
        }
    }
    let mut pins = BTreeMap::new();
    for (id, service) in &config.services {
        let secret = service.pin.as_ref().and_then(|source| read_or_note(format!("service.{id}.pin"), source));
        pins.extend(secret.map(|secret| (id.clone(), secret)));
    }
    for (at, sink) in config.events.sinks.iter().enumerate() {
        if let SinkTarget::Url { token: Some(source), .. } = &sink.to {
            // It is read anew whenever the sink is told something; what is wrong with it is said at the start.
            read_or_note(format!("events.sink[{at}] ({}).token", sink.name), source);
        }
    }
    if problems.is_empty() { Ok(Secrets { tokens, pins }) } else { Err(problems) }
}

/// The environment variables that hold secrets of the proxy: nobody else is to see them.
pub(crate) fn variables(config: &Config) -> Vec<String> {
    let tokens = config.admin.tokens.iter().map(|token| &token.secret);
    let pins = config.services.values().filter_map(|service| service.pin.as_ref());
    let stores = config.flags.sources.values().filter_map(|source| match source {
        SourceSpec::Redis(store) => Some(store),
        SourceSpec::File(_) => None,
    });
    let passwords = stores.flat_map(|store| store.password.iter().chain(&store.sentinel_password));
    let sinks = config.events.sinks.iter().filter_map(|sink| match &sink.to {
        SinkTarget::Url { token, .. } => token.as_ref(),
        SinkTarget::Command(_) | SinkTarget::File(_) => None,
    });
    let sources = tokens.chain(pins).chain(passwords).chain(sinks);
    let name = |source: &SecretSource| match source {
        SecretSource::Env(name) => Some(name.clone()),
        SecretSource::File(_) => None,
    };
    sources.filter_map(name).collect()
}

pub(crate) fn read(source: &SecretSource) -> Result<Secret, String> {
    let (text, origin, advice) = match source {
        SecretSource::Env(name) => (
            env::var(name).map_err(|error| match error {
                env::VarError::NotPresent => {
                    format!("the environment variable {name} is not set: set it to the secret before the start")
                }
                env::VarError::NotUnicode(_) => {
                    format!("the environment variable {name} is not UTF-8: set another secret")
                }
            })?,
            format!("the environment variable {name}"),
            "set it to the secret",
        ),
        SecretSource::File(path) => (
            read_file(path).map_err(|error| {
                format!(
                    "cannot read the secret's file {}: {error}: correct the path, or make it readable for this process",
                    path.display()
                )
            })?,
            format!("the secret's file {}", path.display()),
            "write the secret into it",
        ),
    };
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("{origin} is empty: {advice}"));
    }
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("{origin} holds more than {MAX_BYTES} bytes: use a shorter secret"));
    }
    Ok(Secret::new(text.to_owned()))
}

fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    // A little more than a secret may have, and white space: what is longer is refused all the same.
    File::open(path)?.take(MAX_BYTES * 2).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tidegate_config::SecretSource;

    use super::{read, variables};

    fn problem(source: &SecretSource) -> String {
        read(source).unwrap_err()
    }

    #[test]
    fn a_secret_is_read_from_a_file_without_the_white_space_around_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "  s3cret\n").unwrap();
        assert_eq!(read(&SecretSource::File(path)).unwrap().expose(), "s3cret");
    }

    #[test]
    fn every_variable_that_holds_a_secret_is_known() {
        let text = r#"
            admin.tokens = [{ name = "a", role = "read", env = "A" }, { name = "b", role = "read", file = "/b" }]
            events.sink = [{ name = "s", url = "http://s/", token = { env = "S" } }, { name = "f", file = "f" }]
            [flags.source.main]
            url = "redis+sentinel://127.0.0.1:26379/m"
            password = { env = "P" }
            sentinel_password = { env = "Q" }
            [service.web]
            pin = { env = "W" }
            target.green.endpoints = ["127.0.0.1:3001"]
        "#;
        let mut names = variables(&tidegate_config::parse(text).unwrap());
        names.sort();
        assert_eq!(names, ["A", "P", "Q", "S", "W"]);
    }

    #[test]
    fn problems_say_where_was_looked_and_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let text = problem(&SecretSource::File(missing.clone()));
        assert!(text.contains(&missing.display().to_string()) && text.contains("correct the path"), "{text}");
        let empty = dir.path().join("empty");
        fs::write(&empty, " \n").unwrap();
        assert!(problem(&SecretSource::File(empty)).contains("is empty: write the secret"));
        let text = problem(&SecretSource::Env("TIDEGATE_TEST_NOT_SET".into()));
        assert!(text.contains("TIDEGATE_TEST_NOT_SET is not set"), "{text}");
        let long = dir.path().join("long");
        fs::write(&long, "x".repeat(5000)).unwrap();
        let text = problem(&SecretSource::File(long));
        assert!(text.contains("more than 1024 bytes") && !text.contains("xxx"), "{text}");
    }
}
