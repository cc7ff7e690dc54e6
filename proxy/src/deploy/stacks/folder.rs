//! Finds the folders of stacks and reads them: how each is to be deployed, and the digest that is its version.

use std::{
    fs::File,
    io::{self, ErrorKind, Read as _},
    path::{Path, PathBuf},
};

use tidegate_config::Watch;

use super::settings::{self, Settings};
use crate::deploy::files;

/// Files that make a folder a stack; of each pair the first counts.
const COMPOSE: [&str; 2] = ["compose.yaml", "compose.yml"];
const DEPLOY: [&str; 2] = ["deploy.yaml", "deploy.yml"];
/// Longest file that is read for settings: such files have some hundred lines.
const MAX_FILE: u64 = 1 << 20;
/// Stacks that are looked at; more are a pattern that is wrong.
const MAX_STACKS: usize = 1_000;

/// A folder that is a stack.
#[derive(Debug)]
pub(crate) struct Found {
    /// Its name: that of the folder, and of the service.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) folder: PathBuf,
    /// What is in it, or what is wrong with it.
    pub(crate) stack: Result<Stack, String>,
}

/// What is in a stack's folder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stack {
    /// How it is to be deployed.
    pub(crate) settings: Settings,
    /// The digest of its files.
    pub(crate) digest: String,
}

/// All stacks, in the order of the patterns. One that cannot be read does not keep the others from being read.
///
/// # Errors
/// When a pattern cannot be followed at all.
pub(crate) fn scan(watch: &Watch) -> Result<Vec<Found>, String> {
    let mut all: Vec<Found> = Vec::new();
    for pattern in &watch.stacks {
        let folders = files::expand(pattern).map_err(|error| error.to_string())?;
        for folder in folders.into_iter().filter(|path| is_stack(path)) {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if all.iter().any(|known| known.folder == folder) {
                continue;
            }
            let stack = match all.iter().find(|known| known.name == name) {
                Some(other) => Err(format!("{} is called the same: rename one of them", other.folder.display())),
                None => read(&folder, watch),
            };
            all.push(Found { name, folder, stack });
            if all.len() > MAX_STACKS {
                return Err(format!("{pattern} matches too much: at most {MAX_STACKS} stacks are watched"));
            }
        }
    }
    Ok(all)
}

fn is_stack(folder: &Path) -> bool {
    COMPOSE.iter().chain(&DEPLOY).any(|name| folder.join(name).is_file())
}

fn read(folder: &Path, watch: &Watch) -> Result<Stack, String> {
    let settings = read_settings(folder, watch)?;
    let patterns = match settings.fingerprint.as_slice() {
        [] => vec!["**/*".to_owned(), "**/.*".to_owned()],
        named => named.to_vec(),
    };
    let digest = files::digest_within(folder, &patterns).map_err(|error| error.to_string())?;
    Ok(Stack { settings, digest })
}

fn read_settings(folder: &Path, watch: &Watch) -> Result<Settings, String> {
    let first = |names: [&'static str; 2]| names.into_iter().find(|name| folder.join(name).is_file());
    let (file, yaml) = match (first(DEPLOY), first(COMPOSE)) {
        (Some(deploy), _) => (deploy, Some(text(folder, deploy)?)),
        (None, Some(compose)) => {
            let block = settings::block(&text(folder, compose)?).map_err(|problem| format!("{compose}: {problem}"))?;
            (compose, block)
        }
        (None, None) => (DEPLOY[0], None),
    };
    Settings::parse(yaml.as_deref(), watch).map_err(|problem| format!("{file}: {problem}"))
}

fn text(folder: &Path, name: &str) -> Result<String, String> {
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::InvalidData => format!("{name}: it is no UTF-8 text"),
        _ => format!("{name}: it cannot be read: {error}"),
    };
    let mut text = String::new();
    let file = File::open(folder.join(name)).map_err(failed)?;
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(format!("{name}: it is longer than 1 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use tidegate_config::StackMethod;
    use tidegate_core::deploy::spec::Strategy;

    use super::*;
    use crate::deploy::files::tests::made;

    fn scanned(dir: &Path) -> Vec<Found> {
        let stacks = vec![format!("{}/*", dir.display()), format!("{}/more/*", dir.display())];
        let (interval, method) = (Duration::from_secs(60), StackMethod::Simple);
        scan(&Watch { interval, fetch: None, commit: None, stacks, deploy: true, method }).unwrap()
    }

    fn strategy(found: &Found) -> &Strategy {
        &found.stack.as_ref().unwrap().settings.template.strategy
    }

    #[test]
    fn deploy_yaml_comes_before_the_block_and_the_block_before_the_defaults() {
        let block = "# Deploy Start #\n# methode: blind\n# Deploy End #\nservices: {}\n";
        let dir = made(&[
            ("api/compose.yml", block),
            ("db/compose.yaml", "services: {}\n"),
            ("web/compose.yaml", block),
            ("web/deploy.yml", "methode: blue-green\n"),
            ("notes/README.md", "no stack"),
        ]);
        let found = scanned(dir.path());
        let names: Vec<_> = found.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, ["api", "db", "web"]);
        assert_eq!(strategy(&found[0]), &Strategy::Blind);
        assert_eq!(strategy(&found[1]), &Strategy::Recreate);
        assert_eq!(strategy(&found[2]).name(), "blue-green");
    }

    #[test]
    fn a_stack_that_cannot_be_read_leaves_the_others_alone() {
        let dir = made(&[
            ("api/deploy.yaml", "methode: fast\n"),
            ("db/compose.yaml", "services: {}\n"),
            ("more/db/compose.yaml", "services: {}\n"),
            ("web/deploy.yaml", "deploy: true\n"),
        ]);
        fs::write(dir.path().join("web/deploy.yaml"), [0xff, 0xfe]).unwrap();
        let found = scanned(dir.path());
        let problem = |name: &str| found.iter().rfind(|f| f.name == name).unwrap().stack.as_ref().unwrap_err().clone();
        assert!(problem("api").starts_with("deploy.yaml: method: there is no fast"), "{}", problem("api"));
        assert_eq!(problem("web"), "deploy.yaml: it is no UTF-8 text");
        assert!(problem("db").contains("is called the same"), "{}", problem("db"));
        assert!(found.iter().find(|f| f.name == "db").unwrap().stack.is_ok());
    }

    #[test]
    fn any_file_makes_another_version_unless_the_stack_says_which_count() {
        let dir = made(&[("web/compose.yaml", "a"), ("web/conf/x", "1"), ("web/.env", "A=1"), ("web/run.pid", "1")]);
        let digest = || scanned(dir.path()).remove(0).stack.unwrap().digest;
        let mut seen = vec![digest()];
        for (name, text) in [("conf/x", "2"), (".env", "A=2"), ("run.pid", "2"), ("conf/new", "")] {
            fs::write(dir.path().join("web").join(name), text).unwrap();
            seen.push(digest());
        }
        fs::write(dir.path().join("web/deploy.yaml"), "fingerprint: [compose.yaml]\n").unwrap();
        seen.push(digest());
        let named = digest();
        fs::write(dir.path().join("web/run.pid"), "3").unwrap();
        assert_eq!(digest(), named, "what is written while it runs does not count");
        let all = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }

    #[test]
    fn the_same_files_are_the_same_version_wherever_they_are() {
        let (here, there) = (made(&[("web/compose.yaml", "a")]), made(&[("web/compose.yaml", "a")]));
        let digest = |dir: &Path| scanned(dir).remove(0).stack.unwrap().digest;
        assert_eq!(digest(here.path()), digest(there.path()));
    }
}
