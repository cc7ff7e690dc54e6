//! Watches folders of stacks: a folder whose files have changed is deployed as the service of the same name.
//!
//! A deployment is ordered through the same door as by the API, so every rule of deployments holds: one at a time for a
//! service, versions that are marked as bad are refused. What was deployed is known from the deployments themselves: the
//! watch keeps nothing of its own, and a version that it has ordered once it orders again only after another one. So
//! neither a restart nor an operator's rollback makes it work against anybody. The trouble of one stack is told, and
//! leaves the others alone.

pub(crate) mod folder;
mod settings;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tidegate_admin::{Actor, Deployments as _, EventLog, Order, OrderError};
use tidegate_config::{Config, HealthPolicy, HookUse, ServiceId, Watch};
use tidegate_core::{
    Event,
    deploy::{
        DeploymentSpec,
        engine::Engine,
        machine::{HookEnd, HookReport},
        spec::MemberSpec,
        step::Version,
    },
    failover::{Standing, standing},
};
use tokio::sync::{mpsc, oneshot, watch};

use self::folder::{Found, Stack};
use super::{hook, orders::Orders};
use crate::{
    control::{
        report,
        rest::{self, Pause, Paused, Then},
    },
    observe::families::Family,
    routing::Routing,
};

/// The label by which the watch knows its deployments: the name of the stack.
const STACK: &str = "stack";
/// The label that tells commands where its files are.
const FOLDER: &str = "folder";
/// The label of the version that those files are: commands for an earlier version see that it is another.
const VERSION: &str = "stack_version";
/// The label of what the folders' state is called.
const COMMIT: &str = "commit";
/// Longest such name.
const MAX_COMMIT: usize = 100;
/// Characters of a digest that name a version: enough for people, who compare a few.
const NAME: usize = 12;
/// Who acts.
const ACTOR: &str = "watch";

/// What the watch works with.
pub(crate) struct Parts {
    /// The configuration in force.
    pub(crate) config: Box<dyn Fn() -> Arc<Config> + Send + Sync>,
    /// Where deployments are ordered.
    pub(crate) orders: Orders,
    /// The services.
    pub(crate) routing: Arc<Routing>,
    /// Where trouble is told.
    pub(crate) events: Arc<EventLog>,
    /// What is counted.
    pub(crate) stats: Arc<WatchStats>,
}

/// What is counted of the watch.
#[derive(Debug, Default)]
pub(crate) struct WatchStats {
    looks: AtomicU64,
    looks_failed: AtomicU64,
    stacks: AtomicU64,
    deployments: AtomicU64,
    problems: Mutex<BTreeSet<String>>,
}

impl WatchStats {
    /// For a scrape.
    pub(crate) fn families(&self) -> Vec<Family> {
        let mut looks = Family::counter("watch_looks_total", "Looks at the folders of stacks, by what came of them.");
        looks.add_count(&[("result", "done")], self.looks.load(Relaxed));
        looks.add_count(&[("result", "failed")], self.looks_failed.load(Relaxed));
        let mut stacks = Family::gauge("watch_stacks", "Stacks that the last look has found.");
        stacks.add_count(&[], self.stacks.load(Relaxed));
        let mut deployments = Family::counter("watch_deployments_total", "Deployments that the watch has ordered.");
        deployments.add_count(&[], self.deployments.load(Relaxed));
        let mut problems = Family::gauge("watch_problem", "1 for each stack that cannot be deployed as it is.");
        for stack in &*self.problems.lock().unwrap_or_else(PoisonError::into_inner) {
            problems.add_count(&[("stack", stack)], 1);
        }
        vec![looks, stacks, deployments, problems]
    }
}

enum Message {
    Pause(Pause),
    Stop(oneshot::Sender<()>),
}

/// The end that the rest of the process holds.
#[derive(Debug)]
pub(crate) struct Stacks {
    messages: mpsc::Sender<Message>,
}

impl Stacks {
    /// Begins to watch, as soon and as long as the configuration says so.
    pub(crate) fn start(parts: Parts) -> Self {
        let (messages, queue) = mpsc::channel(1);
        tokio::spawn(Watcher { parts, problems: BTreeMap::new() }.run(queue));
        Self { messages }
    }

    /// Lets the watch rest; a look that runs is given up. `None`: it has ended.
    pub(crate) async fn pause(&self) -> Option<Paused> {
        rest::pause(&self.messages, Message::Pause).await
    }

    /// Ends the watch; a look that runs is given up.
    pub(crate) async fn stop(&self) {
        rest::stop(&self.messages, Message::Stop).await;
    }
}

struct Watcher {
    parts: Parts,
    /// What is wrong, by the name of the stack; without one: with the look as a whole. It is told when it changes.
    problems: BTreeMap<Option<String>, String>,
}

impl Watcher {
    async fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        loop {
            let (give_up, given_up) = watch::channel(false);
            let message = {
                let mut round = std::pin::pin!(self.round(given_up));
                tokio::select! {
                    () = &mut round => continue,
                    message = queue.recv() => {
                        give_up.send_replace(true);
                        round.await;
                        message
                    }
                }
            };
            match message {
                Some(Message::Pause(pause)) => {
                    if pause.rest().await == Then::HandedOver {
                        // The next one watches. Whoever ends this one finds nobody, which is as good.
                        return;
                    }
                }
                // Whoever asked may be gone.
                Some(Message::Stop(done)) => {
                    let _ = done.send(());
                    return;
                }
                None => return,
            }
        }
    }

    /// One look, and the time until the next.
    async fn round(&mut self, mut given_up: watch::Receiver<bool>) {
        let mut published = self.parts.routing.published();
        published.mark_unchanged();
        let watched = (self.parts.config)().watch.clone();
        if let Some(watched) = &watched {
            self.look(watched, &given_up).await;
        }
        let next = async {
            match &watched {
                Some(watched) => tokio::time::sleep(watched.interval).await,
                // It may come with a file that is loaded later, and that is published.
                None => drop(published.changed().await),
            }
        };
        tokio::select! {
            () = next => {}
            _ = given_up.wait_for(|given_up| *given_up) => {}
        }
    }

    async fn look(&mut self, watched: &Watch, given_up: &watch::Receiver<bool>) {
        let mut problems = BTreeMap::new();
        let looked = self.look_at(watched, given_up, &mut problems).await;
        if *given_up.borrow() {
            return;
        }
        let stats = &self.parts.stats;
        match looked {
            Ok(()) => drop(stats.looks.fetch_add(1, Relaxed)),
            Err(why) => {
                stats.looks_failed.fetch_add(1, Relaxed);
                // Nothing new is known of the stacks.
                problems.clone_from(&self.problems);
                problems.insert(None, why);
            }
        }
        self.tell(problems);
    }

    async fn look_at(
        &self,
        watched: &Watch,
        given_up: &watch::Receiver<bool>,
        problems: &mut BTreeMap<Option<String>, String>,
    ) -> Result<(), String> {
        if let Some(fetch) = &watched.fetch {
            let report = self.run_command(fetch, given_up).await;
            if let Some(why) = hook::failure(&report) {
                return Err(format!("the fetch command failed, so nothing is deployed: {why}"));
            }
        }
        let commit = match &watched.commit {
            Some(commit) => Some(commit_of(&self.run_command(commit, given_up).await)?),
            None => None,
        };
        let scanned = watched.clone();
        let found = tokio::task::spawn_blocking(move || folder::scan(&scanned)).await;
        let found = found.map_err(|panic| panic.to_string())??;
        self.parts.stats.stacks.store(found.len() as u64, Relaxed);
        for found in found {
            if *given_up.borrow() {
                return Ok(());
            }
            let name = found.name.clone();
            if let Err(why) = self.follow(found, commit.as_deref()).await {
                problems.insert(Some(name), why);
            }
        }
        Ok(())
    }

    async fn run_command(&self, command: &HookUse, given_up: &watch::Receiver<bool>) -> HookReport {
        let config = (self.parts.config)();
        let (argv, timeout) = command.program(&config.hooks);
        let env = BTreeMap::from([("TIDEGATE_ROLE".to_owned(), ACTOR.to_owned())]);
        let program = hook::Program { argv, env: &env, input: None, timeout };
        hook::execute(program, |_| {}, given_up.clone()).await
    }

    /// Orders a deployment of a stack, if it has to be deployed.
    async fn follow(&self, found: Found, commit: Option<&str>) -> Result<(), String> {
        let Found { name, folder, stack } = found;
        let stack = stack?;
        if !stack.settings.deploy {
            return Ok(());
        }
        let service = service_of(&name, |service| self.parts.routing.load().state.services.contains_key(service))?;
        let stable = self.parts.routing.load().state.services.get(&service).map(|state| state.wanted.stable.clone());
        let engine = self.parts.orders.engine();
        let running = stable.and_then(|stable| Some(engine.memory(&service)?.running.get(&stable)?.version.clone()));
        match verdict(&engine, &service, running.as_ref(), &stack.digest) {
            Verdict::Unchanged | Verdict::Busy => return Ok(()),
            // Whether this is the first version is known when main was probed: the next look sees.
            Verdict::Changed if running.is_none() && self.is_undecided(&service) => return Ok(()),
            Verdict::Changed => {}
        }
        let spec = spec(&name, &folder, service, stack, commit);
        let order = Order::Create { spec: Box::new(spec), execute: true, key: None };
        match self.parts.orders.place(order, false, Actor(ACTOR.into())).await {
            Ok(placed) => {
                self.parts.stats.deployments.fetch_add(1, Relaxed);
                let deployment = placed.deployment.map(|deployment| deployment.id.to_string());
                tracing::info!(stack = name, deployment, commit, "stack has changed: it is deployed");
                Ok(())
            }
            // The next look asks again.
            Err(OrderError::Busy(_)) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether the stable target is probed, and was not yet.
    fn is_undecided(&self, service: &ServiceId) -> bool {
        let snapshot = self.parts.routing.load();
        snapshot.state.services.get(service).is_some_and(|state| {
            matches!(state.spec.health, HealthPolicy::Active(_))
                && standing(state, &state.wanted.stable) == Standing::Undecided
        })
    }

    /// Tells what is wrong now and was not, or was otherwise.
    fn tell(&mut self, problems: BTreeMap<Option<String>, String>) {
        for (stack, reason) in problems.iter().filter(|(stack, reason)| self.problems.get(*stack) != Some(*reason)) {
            let event = Event::WatchProblem { stack: stack.clone(), reason: reason.clone() };
            report::announce(&self.parts.events, &self.parts.routing, ACTOR, event);
        }
        for stack in self.problems.keys().filter(|stack| !problems.contains_key(*stack)) {
            tracing::info!(stack = stack.as_deref(), "what was wrong with the watched stacks is over");
        }
        let named = problems.keys().flatten().cloned().collect();
        *self.parts.stats.problems.lock().unwrap_or_else(PoisonError::into_inner) = named;
        self.problems = problems;
    }
}

/// The service of a stack: the one that is called the same.
fn service_of(name: &str, exists: impl Fn(&ServiceId) -> bool) -> Result<ServiceId, String> {
    let service = ServiceId::parse(name).map_err(|error| {
        format!(
            "a service cannot be called that ({error}): rename the folder, or write deploy: false into its deploy.yaml"
        )
    })?;
    if exists(&service) {
        return Ok(service);
    }
    Err(format!("there is no [service.{name}]: declare it, or write deploy: false into its deploy.yaml"))
}

/// What is to be done with a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It runs, or was deployed already and something came of it.
    Unchanged,
    /// The service has a deployment that is not over: the next look sees.
    Busy,
    /// It is to be deployed.
    Changed,
}

fn verdict(engine: &Engine, service: &ServiceId, running: Option<&Version>, digest: &str) -> Verdict {
    if running.is_some_and(|running| running.key() == digest) {
        return Verdict::Unchanged;
    }
    if engine.active(service).is_some() {
        return Verdict::Busy;
    }
    let deployments = engine.memory(service).map(|memory| memory.deployments.iter().rev()).into_iter().flatten();
    let mut ordered =
        deployments.filter_map(|id| engine.get(id)).filter(|d| d.spec.metadata.labels.contains_key(STACK));
    let last = ordered.next().and_then(|deployment| deployment.spec.members.first()?.digest.as_deref());
    if last == Some(digest) { Verdict::Unchanged } else { Verdict::Changed }
}

fn spec(name: &str, folder: &Path, service: ServiceId, stack: Stack, commit: Option<&str>) -> DeploymentSpec {
    let Stack { settings, digest } = stack;
    let mut spec = settings.template;
    spec.name = Some(format!("stack {name}"));
    let version: String = digest.rsplit(':').next().unwrap_or_default().chars().take(NAME).collect();
    spec.members = vec![MemberSpec {
        service,
        to: None,
        version: Some(version.clone()),
        image: None,
        endpoints: Vec::new(),
        digest: Some(digest),
    }];
    let labels = [(STACK, name.to_owned()), (FOLDER, folder.display().to_string()), (VERSION, version)].into_iter();
    let labels = labels.chain(commit.map(|commit| (COMMIT, commit.to_owned())));
    spec.metadata.labels.extend(labels.map(|(label, value)| (label.to_owned(), value)));
    spec
}

/// What the commit command has printed.
fn commit_of(report: &HookReport) -> Result<String, String> {
    if report.end != HookEnd::Exit(0) {
        let why = hook::failure(report).unwrap_or_default();
        return Err(format!("the commit command failed, so nothing is deployed: {why}"));
    }
    let last = report.output.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if last.is_empty() || last.len() > MAX_COMMIT || last.chars().any(char::is_control) {
        return Err(format!(
            "the commit command must print one name of at most {MAX_COMMIT} bytes: correct [watch] commit"
        ));
    }
    Ok(last.to_owned())
}

/// What is wrong with the stacks that a configuration watches, as far as they are there.
pub(crate) fn check(config: &Config) -> Vec<(String, String)> {
    let Some(watched) = &config.watch else { return Vec::new() };
    let found = match folder::scan(watched) {
        Ok(found) => found,
        Err(problem) => return vec![("watch.stacks".to_owned(), problem)],
    };
    let problem = |found: Found| {
        let wrong = match found.stack {
            Ok(stack) if stack.settings.deploy => {
                service_of(&found.name, |service| config.services.contains_key(service)).err()
            }
            Ok(_) => None,
            Err(problem) => Some(problem),
        };
        wrong.map(|wrong| (found.folder.display().to_string(), wrong))
    };
    found.into_iter().filter_map(problem).collect()
}

#[cfg(test)]
mod tests;
