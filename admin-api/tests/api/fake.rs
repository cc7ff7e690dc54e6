//! A process with the real core and no traffic: changes are applied and compiled as the proxy does it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use tidegate_admin::{
    Actor, AuditEntry, Deployments, EventLog, FlagPlace, FlagWriteError, FlagWrites, Outcome, Probed, Process,
    Readiness, ReloadError, Submission, SubmitError, UpgradeError, Upgraded,
};
use tidegate_config::{ServiceId, SourceId, TargetId};
use tidegate_core::{
    Change, Generation, Health, Moment, Snapshot, State, apply,
    change::HealthReport,
    compile,
    flags::{Found, Reading, SourceReport},
};

use crate::deployer::Deployer;

/// The file that the fake process runs on. The mirror's header and the pin are secrets that nothing may show.
pub(crate) const FILE: &str = r#"
[listener.public]
address = "127.0.0.1:1"

[service.web]
routes = [{ host = "*", path = "/" }]
stable = "green"
health = { path = "/" }
failover = { to = "blue", failback = "manual" }

[service.web.target.blue]
endpoints = ["127.0.0.1:3001"]
[service.web.target.green]
endpoints = ["127.0.0.1:3002", { address = "127.0.0.1:3003", weight = 2 }]
[service.web.target.v3]
endpoints = ["127.0.0.1:3004"]

[[service.web.rule]]
when = { header = { x-beta = "1" } }
to = "blue"

[service.web.mirror.audit]
to = "v3"
percent = 100
compare = true
headers = { remove = ["cookie"], set = { authorization = "mirror-secret" } }
"#;

/// When the fake process began and every event happens: 2026-11-03T09:15:00.250Z.
pub(crate) const NOW_MS: u64 = 1_793_697_300_250;

pub(crate) struct Fake {
    current: Mutex<Arc<Snapshot>>,
    events: EventLog,
    audit: Mutex<Vec<AuditEntry>>,
    /// Endpoints that do not pass a probe.
    pub(crate) failing: Mutex<BTreeMap<String, String>>,
    pub(crate) probes: AtomicU64,
    pub(crate) ready: Mutex<Readiness>,
    /// What a reload reads.
    pub(crate) file: Mutex<Option<String>>,
    pub(crate) store_fails: AtomicBool,
    pub(crate) busy: AtomicBool,
    pub(crate) panics: AtomicBool,
    /// What the flag source holds.
    pub(crate) flag_store: Mutex<BTreeMap<String, String>>,
    pub(crate) flags_marked: AtomicBool,
    pub(crate) flag_store_fails: AtomicBool,
    /// The engine, and what its shell would know.
    pub(crate) deployer: Deployer,
}

impl Fake {
    /// A process on [`FILE`] in generation 1, with every endpoint healthy.
    pub(crate) fn start() -> Arc<Self> {
        Self::on(FILE)
    }

    /// A process on this file.
    pub(crate) fn on(file: &str) -> Arc<Self> {
        let config = tidegate_config::parse(file).unwrap();
        let (mut state, _) = State::load(&config, None);
        for service in state.services.values_mut() {
            let service = Arc::make_mut(service);
            for (target, spec) in &service.wanted.targets {
                let healthy = spec.endpoints.iter().map(|endpoint| (endpoint.address.clone(), Health::Healthy));
                service.health.insert(target.clone(), healthy.collect());
            }
        }
        let state = Arc::new(state);
        Arc::new(Self {
            current: Mutex::new(Arc::new(compile(&state, None, 1))),
            events: EventLog::new(1000),
            audit: Mutex::default(),
            failing: Mutex::default(),
            probes: AtomicU64::new(0),
            ready: Mutex::new(Readiness { ready: true, reasons: Vec::new() }),
            file: Mutex::new(Some(file.to_owned())),
            store_fails: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            panics: AtomicBool::new(false),
            flag_store: Mutex::default(),
            flags_marked: AtomicBool::new(true),
            flag_store_fails: AtomicBool::new(false),
            deployer: Deployer::default(),
        })
    }

    /// Makes a change that no client asked for.
    pub(crate) fn make(&self, actor: &str, change: Change) -> Outcome {
        let submission = Submission { change, expected: None, dry_run: false, actor: Actor(actor.to_owned()) };
        self.take(submission).unwrap()
    }

    /// Says what the health checks found.
    pub(crate) fn health(&self, target: &str, endpoint: &str, health: Health, reason: &str) {
        self.health_of("web", target, endpoint, health, reason);
    }

    /// Says what the health checks of a service found.
    pub(crate) fn health_of(&self, service: &str, target: &str, endpoint: &str, health: Health, reason: &str) {
        let report = HealthReport {
            service: service.parse().unwrap(),
            target: target.parse().unwrap(),
            endpoint: endpoint.parse().unwrap(),
            health,
            reason: reason.to_owned(),
        };
        self.make("health", Change::Health { reports: vec![report.clone()] });
        self.hear(&[report]);
    }

    /// Reads the flag source as the proxy would.
    pub(crate) fn read_flags(&self, source: &SourceId, actor: &str) -> Outcome {
        let store = self.flag_store.lock().unwrap().clone();
        let reading = Reading {
            keys: store.iter().map(|(key, value)| (key.clone(), Found::Text(value.as_str().into()))).collect(),
            marked: self.flags_marked.load(SeqCst),
            ..Reading::default()
        };
        let report = SourceReport::Read(Arc::new(reading));
        if let Some(source) = self.snapshot().flags.source(source) {
            source.stats.note_read(self.now().mono);
        }
        self.make(actor, Change::Readings { source: source.clone(), report })
    }

    pub(crate) fn take(
        &self,
        Submission { change, expected, dry_run, actor }: Submission,
    ) -> Result<Outcome, SubmitError> {
        assert!(!self.panics.load(SeqCst), "the fake was told to panic");
        if self.busy.load(SeqCst) {
            return Err(SubmitError::Busy("it goes down"));
        }
        let mut current = self.current.lock().unwrap();
        if let Some(expected) = expected
            && expected != current.generation
        {
            return Err(SubmitError::Stale { current: current.generation, expected });
        }
        let applied = apply(&current.state, &change, self.now())?;
        let saved = !self.store_fails.load(SeqCst);
        if !saved && !change.is_emergency() {
            return Err(SubmitError::Store("the disk is full".into()));
        }
        let outcome = Outcome { generation: applied.state.generation, events: applied.events, saved };
        if !dry_run && outcome.generation != current.generation {
            let from = current.generation;
            let next = compile(&Arc::new(applied.state), Some(&current), 1);
            *current = Arc::new(next);
            for event in &outcome.events {
                self.events.push(NOW_MS, outcome.generation, &actor.0, event.clone());
            }
            self.audit.lock().unwrap().push(AuditEntry {
                at_unix_ms: NOW_MS,
                actor: actor.0,
                from,
                generation: outcome.generation,
                events: outcome.events.clone(),
            });
        }
        Ok(outcome)
    }

    pub(crate) fn generation(&self) -> u64 {
        let Generation(number) = self.current.lock().unwrap().generation;
        number
    }
}

#[async_trait]
impl Process for Fake {
    fn now(&self) -> Moment {
        Moment { mono: Duration::from_secs(60), unix_ms: NOW_MS }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.current.lock().unwrap().clone()
    }

    async fn submit(&self, submission: Submission) -> Result<Outcome, SubmitError> {
        self.take(submission)
    }

    async fn probe(&self, service: &ServiceId, target: &TargetId) -> Vec<Probed> {
        let snapshot = self.snapshot();
        let service = snapshot.service_named(service).unwrap();
        let target = service.target(service.target_named(target.as_str()).unwrap()).unwrap();
        let failing = self.failing.lock().unwrap();
        let probe = |endpoint: &tidegate_core::Endpoint| {
            self.probes.fetch_add(1, SeqCst);
            let endpoint = endpoint.address.clone();
            let failure = failing.get(&endpoint.to_string()).cloned();
            Probed { endpoint, failure, took: Duration::from_millis(1) }
        };
        target.endpoints.iter().map(probe).collect()
    }

    async fn reload(&self, actor: Actor, dry_run: bool) -> Result<Outcome, ReloadError> {
        let text = self.file.lock().unwrap().clone().ok_or(ReloadError::NoFile)?;
        let config = tidegate_config::parse(&text).map_err(|problems| {
            ReloadError::Invalid(problems.iter().map(|p| (p.path.clone(), p.message.clone())).collect())
        })?;
        let change = Change::Reload { config: Arc::new(config) };
        self.take(Submission { change, expected: None, dry_run, actor }).map_err(ReloadError::Submit)
    }

    async fn upgrade(&self, _actor: Actor) -> Result<Upgraded, UpgradeError> {
        Err(UpgradeError("the fake process has no binary".into()))
    }

    async fn write_flags(&self, source: &SourceId, writes: FlagWrites) -> Result<Outcome, FlagWriteError> {
        if self.flag_store_fails.load(SeqCst) {
            return Err(FlagWriteError::Unreachable("connection refused".into()));
        }
        {
            let mut store = self.flag_store.lock().unwrap();
            for (place, value) in writes.values {
                let FlagPlace::Key(key) = place else { panic!("the fake's store has no hash") };
                match value {
                    Some(value) => drop(store.insert(key, value)),
                    None => drop(store.remove(&key)),
                }
            }
        }
        self.flags_marked.fetch_or(writes.mark, SeqCst);
        Ok(self.read_flags(source, &writes.actor.0))
    }

    fn deployments(&self) -> &dyn Deployments {
        self
    }

    fn events(&self) -> &EventLog {
        &self.events
    }

    async fn audit(&self, limit: usize) -> std::io::Result<Vec<AuditEntry>> {
        if self.store_fails.load(SeqCst) {
            return Err(std::io::Error::other("the disk is full"));
        }
        Ok(self.audit.lock().unwrap().iter().rev().take(limit).cloned().collect())
    }

    fn metrics(&self) -> String {
        format!("tidegate_config_generation {}\n", self.generation())
    }

    fn readiness(&self) -> Readiness {
        self.ready.lock().unwrap().clone()
    }

    fn config(&self) -> Value {
        json!({ "service": { "web": {} } })
    }
}
