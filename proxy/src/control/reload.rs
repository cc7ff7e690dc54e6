//! Loads the configuration file again: for SIGHUP, for the admin API and for a file that changed, by the same function.
//!
//! A file with problems changes nothing and is reported with all of them. What cannot be changed while the process runs
//! is named, and waits for an upgrade or a restart.

use std::{
    fs, io, iter,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tidegate_admin::{Actor, EventLog, Outcome, ReloadError, Submission};
use tidegate_config::{Config, Listener};
use tidegate_core::{Change, Event};
use tokio::{sync::Mutex, time::sleep};

use super::{
    controller::Control,
    credentials::{self, Credentials, Renewal},
    report,
    secrets::{self, Problem, Secrets},
    stamps::{Stamps, settle},
    stats::ControlStats,
};
use crate::{deploy::environments, routing::Routing};

/// Time between two looks at the file.
const LOOK: Duration = Duration::from_secs(1);

/// Loads the file again.
pub(crate) struct Reloader {
    /// The file; `None` in the demo, which has none.
    path: Option<PathBuf>,
    control: Control,
    routing: Arc<Routing>,
    events: Arc<EventLog>,
    stats: Arc<ControlStats>,
    credentials: Arc<Credentials>,
    loaded: Mutex<Loaded>,
    /// What is in force, for those who show it.
    config: std::sync::Mutex<Arc<Config>>,
}

/// What was loaded last; held for the time of a reload, so that two never overlap.
struct Loaded {
    /// The file, and those with credentials that it names.
    seen: Stamps,
    /// What the process began with: what needs a restart is compared with this.
    started: Arc<Config>,
}

/// Where a reloader belongs.
pub(crate) struct Around {
    /// The one writer.
    pub(crate) control: Control,
    /// What is in force.
    pub(crate) routing: Arc<Routing>,
    /// Where a rejected file is told.
    pub(crate) events: Arc<EventLog>,
    /// Where reloads are counted.
    pub(crate) stats: Arc<ControlStats>,
    /// What the file names and is renewed with it.
    pub(crate) credentials: Credentials,
}

impl Reloader {
    /// A reloader of a file whose content is in force as `config`.
    pub(crate) fn new(path: Option<PathBuf>, config: Arc<Config>, around: Around) -> Self {
        let Around { control, routing, events, stats, credentials } = around;
        let seen = Stamps::of(path.iter().flat_map(|path| followed(path, &config)));
        let loaded = Loaded { seen, started: Arc::clone(&config) };
        let (loaded, config) = (Mutex::new(loaded), std::sync::Mutex::new(config));
        Self { path, control, routing, events, stats, credentials: Arc::new(credentials), loaded, config }
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Loads the file again.
    pub(crate) async fn reload(&self, actor: Actor, dry_run: bool) -> Result<Outcome, ReloadError> {
        let path = self.path.clone().ok_or(ReloadError::NoFile)?;
        let mut loaded = self.loaded.lock().await;
        if !dry_run {
            // Before it is read: what is written meanwhile is seen as another change.
            loaded.seen = loaded.seen.again();
        }
        let result = self.load(path.clone(), &loaded.started, actor.clone(), dry_run).await;
        if !dry_run && result.is_ok() {
            loaded.seen.follow(followed(&path, &self.config()));
        }
        drop(loaded);
        if !dry_run {
            self.account(&actor, &result);
        }
        result
    }

    async fn load(&self, path: PathBuf, started: &Config, actor: Actor, dry_run: bool) -> Result<Outcome, ReloadError> {
        let credentials = Arc::clone(&self.credentials);
        let read = tokio::task::spawn_blocking(move || read_all(&path, &credentials)).await;
        let invalid = |problem: String| ReloadError::Invalid(vec![(String::new(), problem)]);
        let (config, renewal) = read
            .map_err(|panic| invalid(format!("the file could not be read: {panic}")))?
            .map_err(ReloadError::Invalid)?;
        let config = Arc::new(config);
        let change = Change::Reload { config: Arc::clone(&config) };
        let submission = Submission { change, expected: None, dry_run, actor };
        let notes = needs_restart(started, &config);
        let outcome = self.control.submit_noting(submission, notes).await.map_err(ReloadError::Submit)?;
        if !dry_run {
            self.credentials.renew(renewal);
            *self.config.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = config;
        }
        Ok(outcome)
    }

    fn account(&self, actor: &Actor, result: &Result<Outcome, ReloadError>) {
        let problems = match result {
            Ok(outcome) => {
                self.stats.reloads_accepted.fetch_add(1, Relaxed);
                if outcome.events.is_empty() {
                    tracing::info!(actor = actor.0, "configuration loaded: nothing in it changed");
                }
                return;
            }
            Err(ReloadError::Invalid(problems)) => problems.iter().map(problem_text).collect(),
            Err(ReloadError::Submit(error)) => vec![error.to_string()],
            Err(ReloadError::NoFile) => return,
        };
        self.stats.reloads_rejected.fetch_add(1, Relaxed);
        report::announce(&self.events, &self.routing, &actor.0, Event::ReloadRejected { problems });
    }

    /// Reloads whenever the file changed, until the process ends.
    pub(crate) async fn watch(&self) {
        if self.path.is_none() {
            return;
        }
        loop {
            sleep(LOOK).await;
            let Some(seen) = self.changed().await else { continue };
            settle(seen).await;
            // Its outcome is logged and told by `reload` itself.
            let _ = self.reload(Actor("file".into()), false).await;
        }
    }

    /// The files as they are now, if one is another than the one that was loaded last.
    async fn changed(&self) -> Option<Stamps> {
        self.loaded.lock().await.seen.changed()
    }
}

/// The file, and what it names and is renewed with it.
fn followed(path: &Path, config: &Config) -> impl Iterator<Item = PathBuf> + use<> {
    iter::once(path.to_owned()).chain(credentials::files(config))
}

fn read_all(path: &Path, credentials: &Credentials) -> Result<(Config, Renewal), Vec<Problem>> {
    let (config, secrets) = read(path)?;
    let renewal = credentials.read(&config, &secrets)?;
    Ok((config, renewal))
}

/// Reads and checks a file and the secrets that it names.
pub(crate) fn read(path: &Path) -> Result<(Config, Secrets), Vec<Problem>> {
    let text = fs::read_to_string(path).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::NotFound => "give another file with -c, or write one with `tidegate init`",
            io::ErrorKind::InvalidData => "save it as UTF-8",
            _ => "make it readable for this process",
        };
        vec![(String::new(), format!("cannot read the configuration file {}: {error}: {advice}", path.display()))]
    })?;
    let line = |problem: &tidegate_config::Problem| match problem.path.as_str() {
        "" => (String::new(), format!("line {}: {}", problem.line, problem.message)),
        path => (path.to_owned(), format!("{} (line {})", problem.message, problem.line)),
    };
    let config = environments::parse(&text).map_err(|problems| problems.iter().map(line).collect::<Vec<_>>())?;
    let secrets = secrets::load(&config)?;
    Ok((config, secrets))
}

/// One line for a problem.
pub(crate) fn problem_text((path, message): &Problem) -> String {
    if path.is_empty() { message.clone() } else { format!("{path}: {message}") }
}

/// What a new file changes that the process cannot change while it runs.
fn needs_restart(started: &Config, new: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |same: bool, what: &str| {
        if !same {
            notes.push(format!("{what} changed in the file: `tidegate upgrade` puts it in force"));
        }
    };
    let (old, now) = (&started.server, &new.server);
    note(old.threads == now.threads, "server.threads");
    note(old.state_dir == now.state_dir, "server.state_dir");
    note(old.trusted_proxies == now.trusted_proxies, "server.trusted_proxies");
    note(old.limits == now.limits, "server.limits");
    note(old.access_log == now.access_log, "server.access_log");
    note(old.forwarded == now.forwarded, "server.forwarded");
    note(started.admin.listen == new.admin.listen, "admin.listen");
    note(started.events == new.events, "events");
    for (id, listener) in &new.listeners {
        let same = |old: &Listener| {
            let tls = old.tls.is_some() == listener.tls.is_some();
            tls && old.address == listener.address && old.h2c == listener.h2c
        };
        note(started.listeners.get(id).is_none_or(same), &format!("listener.{id}"));
    }
    notes
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use arc_swap::ArcSwap;
    use tempfile::TempDir;
    use tidegate_core::{Change, State, compile};
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        control::controller::Controller,
        deploy::desk::Desk,
        lane::Shared,
        mirror::Mirrors,
        state::{MemoryStore, audit::Audit},
    };

    fn file(split: &str, more: &str) -> String {
        format!(
            r#"{more}
            [service.web]
            routes = [{{ host = "*", path = "/" }}]
            stable = "green"
            split = {{ {split} }}
            [service.web.target.green]
            endpoints = ["127.0.0.1:3001"]
            [service.web.target.blue]
            endpoints = ["127.0.0.1:3002"]
            "#
        )
    }

    struct Bench {
        dir: TempDir,
        path: PathBuf,
        reloader: Reloader,
        control: Control,
        stats: Arc<ControlStats>,
        events: Arc<EventLog>,
        routing: Arc<Routing>,
    }

    fn bench() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tidegate.toml");
        fs::write(&path, file("green = 100", "")).unwrap();
        let (config, secrets) = read(&path).unwrap();
        let state = Arc::new(State::load(&config, None).0);
        let routing = Arc::new(Routing::new(compile(&state, None, 1)));
        let (stats, events) = (Arc::<ControlStats>::default(), Arc::new(EventLog::new(0)));
        let controller = Controller {
            state,
            store: Box::new(MemoryStore::default()),
            routing: Arc::clone(&routing),
            workers: 1,
            events: Arc::clone(&events),
            audit: Arc::new(Audit::in_memory().unwrap().0),
            stats: Arc::clone(&stats),
            desk: Desk::new(Default::default()).0,
        };
        let (control, _) = controller.start().unwrap();
        let access = Arc::new(ArcSwap::from_pointee(credentials::access(&config, &secrets)));
        let pins = credentials::pin_keys(&secrets);
        let shared = Shared::new(&config, Arc::clone(&routing), mpsc::channel(1).0, pins, Mirrors::new());
        let around = Around {
            control: control.clone(),
            routing: Arc::clone(&routing),
            events: Arc::clone(&events),
            stats: Arc::clone(&stats),
            credentials: Credentials::new(&config, access, Arc::new(shared), Arc::default()),
        };
        let reloader = Reloader::new(Some(path.clone()), Arc::new(config), around);
        Bench { dir, path, reloader, control, stats, events, routing }
    }

    impl Bench {
        async fn reload(&self) -> Result<Outcome, ReloadError> {
            self.reloader.reload(Actor("ci".into()), false).await
        }

        fn blue(&self) -> u16 {
            let snapshot = self.routing.load_full();
            let wanted = &snapshot.state.services.values().next().unwrap().wanted;
            wanted.split.weight(&"blue".parse().unwrap()).points()
        }

        fn counted(&self) -> (u64, u64) {
            (self.stats.reloads_accepted.load(Relaxed), self.stats.reloads_rejected.load(Relaxed))
        }
    }

    #[tokio::test]
    async fn an_edited_file_is_put_in_force() {
        let bench = bench();
        fs::write(&bench.path, file("green = 90, blue = 10", "")).unwrap();
        let outcome = bench.reload().await.unwrap();
        assert!(outcome.events.iter().any(|event| matches!(event, Event::Reloaded { services: 1, .. })));
        assert_eq!((bench.blue(), bench.counted()), (1_000, (1, 0)));
        let config = bench.reloader.config();
        assert_eq!(config.services.values().next().unwrap().split.weight(&"blue".parse().unwrap()).points(), 1_000);
    }

    #[tokio::test]
    async fn a_file_with_problems_changes_nothing_and_all_of_them_are_told() {
        let bench = bench();
        fs::write(&bench.path, file("green = 90, blue = 20", "[server]\nthreds = 3")).unwrap();
        let Err(ReloadError::Invalid(problems)) = bench.reload().await else { panic!("it was taken") };
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert_eq!((bench.blue(), bench.routing.load().generation.0, bench.counted()), (0, 1, (0, 1)));
        let told = bench.events.after(0, 10);
        assert!(
            matches!(&told[..], [one] if matches!(&one.event, Event::ReloadRejected { problems } if problems.len() == 2))
        );
    }

    #[tokio::test]
    async fn a_secret_that_cannot_be_read_rejects_the_file() {
        let bench = bench();
        let admin = r#"admin.tokens = [{ name = "ci", role = "read", file = "/nonexistent/token" }]"#;
        fs::write(&bench.path, file("green = 90, blue = 10", admin)).unwrap();
        let Err(ReloadError::Invalid(problems)) = bench.reload().await else { panic!("it was taken") };
        assert!(
            matches!(&problems[..], [(path, text)] if path.contains("(ci)") && text.contains("/nonexistent/token"))
        );
        assert_eq!(bench.blue(), 0);
    }

    #[tokio::test]
    async fn a_dry_run_is_neither_made_nor_counted() {
        let bench = bench();
        fs::write(&bench.path, file("green = 90, blue = 10", "")).unwrap();
        let outcome = bench.reloader.reload(Actor("ci".into()), true).await.unwrap();
        assert_eq!((outcome.generation.0, bench.blue(), bench.counted()), (2, 0, (0, 0)));
        // The file is still one that was not loaded.
        assert!(bench.reloader.changed().await.is_some());
    }

    #[tokio::test]
    async fn what_needs_a_restart_is_named() {
        let bench = bench();
        fs::write(&bench.path, file("green = 100", "[server]\nthreads = 7\n[admin]\nlisten = '127.0.0.1:9'")).unwrap();
        let outcome = bench.reload().await.unwrap();
        let Some(Event::Reloaded { differences, .. }) = outcome.events.first() else { panic!("{outcome:?}") };
        assert!(differences.iter().any(|line| line.starts_with("server.threads changed")), "{differences:?}");
        assert!(differences.iter().any(|line| line.starts_with("admin.listen changed")), "{differences:?}");
    }

    #[tokio::test]
    async fn what_an_operator_changed_outlives_the_reload_of_another_field() {
        let bench = bench();
        let to = "blue".parse().unwrap();
        let change = Change::Switch { service: "web".parse().unwrap(), to };
        let submission = Submission { change, expected: None, dry_run: false, actor: Actor("ci".into()) };
        bench.control.submit(submission).await.unwrap();
        fs::write(&bench.path, file("green = 100", "").replace("3001", "3003")).unwrap();
        bench.reload().await.unwrap();
        assert_eq!(bench.blue(), 10_000);
    }

    #[tokio::test]
    async fn a_change_of_the_file_is_seen_however_it_is_made() {
        let bench = bench();
        assert_eq!(bench.reloader.changed().await, None);
        // In place, as long as before.
        fs::write(&bench.path, file("blue = 1000", "").replace("1000", "100 ")).unwrap();
        assert!(bench.reloader.changed().await.is_some());
        bench.reload().await.unwrap();
        assert_eq!(bench.reloader.changed().await, None);
        // By another file with the same size and time that takes its place.
        let other = bench.dir.path().join("other");
        fs::copy(&bench.path, &other).unwrap();
        let modified = fs::metadata(&bench.path).unwrap().modified().unwrap();
        fs::File::options().append(true).open(&other).unwrap().set_modified(modified).unwrap();
        fs::rename(&other, &bench.path).unwrap();
        assert!(bench.reloader.changed().await.is_some());
        bench.reload().await.unwrap();
        // By a link that is moved, as Kubernetes does it.
        let (first, second) = (bench.dir.path().join("1"), bench.dir.path().join("2"));
        fs::write(&first, file("green = 100", "")).unwrap();
        fs::write(&second, file("green = 100", "")).unwrap();
        fs::remove_file(&bench.path).unwrap();
        assert_eq!(bench.reloader.changed().await, None, "a file that is gone is no change");
        symlink(&first, &bench.path).unwrap();
        bench.reload().await.unwrap();
        assert_eq!(bench.reloader.changed().await, None);
        fs::remove_file(&bench.path).unwrap();
        symlink(&second, &bench.path).unwrap();
        assert!(bench.reloader.changed().await.is_some());
    }
}
