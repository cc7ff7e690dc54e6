//! Runs a follower for each flag source of the configuration in force, tells the controller what they find, and
//! remembers it on disk.
//!
//! A reload starts, ends or replaces followers of sources that are different now, and leaves the others alone. Requests
//! see nothing of all this but the snapshot.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use tidegate_admin::{Actor, Submission};
use tidegate_config::{Flags, SourceId, SourceSpec};
use tidegate_core::{
    Change, State,
    flags::{Reading, SourceReport, SourceStats, reading::keys_of},
};
use tokio::{sync::Notify, task::JoinSet, time::sleep};

use super::{
    document::{self, DocumentFollower},
    failure::Failure,
    follow::{self, Follower, Listener, Taken, Told, Turn},
    link::Freshness,
    marker::{self, Known},
    memory::{self, Remembered, RememberedSource},
    place::Place,
    read::Wanted,
};
use crate::{control::controller::Control, routing::Routing};

/// Time from a change to its being remembered: several are one write, and none is lost for longer than a second.
const REMEMBER: Duration = Duration::from_millis(300);
/// Time between two attempts to write to a disk that refuses.
const REMEMBER_AGAIN: Duration = Duration::from_secs(5);
/// Time after which a follower that broke is started again.
const RESTART: Duration = Duration::from_secs(1);
/// How long the start waits for its sources: with them there, the first request follows the flags as they are.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// What a follower is to do; another job means another follower.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Job {
    pub(super) source: SourceSpec,
    pub(super) wanted: Wanted,
    poll: Duration,
}

impl Job {
    /// The jobs of a configuration.
    pub(super) fn all(flags: &Flags) -> BTreeMap<SourceId, Self> {
        let job = |(id, source): (&SourceId, &SourceSpec)| {
            let (hash, document) = match source {
                SourceSpec::Redis(redis) => (redis.hash.clone(), redis.document.clone()),
                SourceSpec::File(_) => (None, None),
            };
            let keys = keys_of(flags, id).into_iter().map(str::to_owned).collect();
            let wanted = Wanted { keys, hash, document, marker: marker::key(&flags.namespace) };
            (id.clone(), Self { source: source.clone(), wanted, poll: flags.poll })
        };
        flags.sources.iter().map(job).collect()
    }
}

/// What is known of each source, shared with its follower; outlives it.
type KnownSources = BTreeMap<SourceId, Arc<Mutex<Known>>>;

/// What the start found.
pub(crate) struct FirstLook {
    dir: Option<PathBuf>,
    remembered: Remembered,
    known: KnownSources,
}

/// Begins with what is remembered, then with what the sources say now, if they do so at once. Gives a reason for each
/// source that was not read.
pub(crate) async fn first_look(
    state: State,
    dir: Option<PathBuf>,
    now: tidegate_core::Moment,
) -> (State, FirstLook, Vec<String>) {
    let remembered = dir.as_deref().map(memory::load).unwrap_or_default();
    let mut state = state;
    let mut known = KnownSources::new();
    let jobs = Job::all(&state.flags.spec);
    for id in jobs.keys() {
        let before = remembered.sources.get(id).cloned().unwrap_or_default();
        known.insert(id.clone(), Arc::new(Mutex::new(before.known)));
        state = noted(state, id, SourceReport::Remembered(Arc::new(before.memory)), now);
    }
    let mut looks = JoinSet::new();
    for (id, job) in jobs {
        let known = known.get(&id).cloned().unwrap_or_default();
        looks.spawn(async move { (id, look(&job, &known).await) });
    }
    let mut away = Vec::new();
    while let Some(looked) = looks.join_next().await {
        match looked {
            Ok((id, Ok(reading))) => state = noted(state, &id, SourceReport::Read(Arc::new(reading)), now),
            Ok((id, Err(failure))) => {
                let reason = failure.to_string();
                away.push(format!("flag source {id}: {reason}"));
                state = noted(state, &id, SourceReport::Down { reason }, now);
            }
            Err(error) => away.push(format!("a flag source: {error}")),
        }
    }
    (state, FirstLook { dir, remembered, known }, away)
}

fn noted(state: State, id: &SourceId, report: SourceReport, now: tidegate_core::Moment) -> State {
    let change = Change::Readings { source: id.clone(), report };
    // Readings are never refused.
    tidegate_core::apply(&state, &change, now).map_or(state, |applied| applied.state)
}

async fn look(job: &Job, known: &Mutex<Known>) -> Result<Reading, Failure> {
    let looked = async {
        match &job.source {
            SourceSpec::Redis(source) => {
                let mut link = Place::new(source).open(None).await?;
                follow::look(&mut link, &job.wanted, known).await
            }
            SourceSpec::File(path) => document::look(path).await,
        }
    };
    tokio::time::timeout(FIRST_LOOK, looked).await.unwrap_or(Err(Failure::Timeout("flags", FIRST_LOOK)))
}

/// A source that is followed.
struct Followed {
    job: Job,
    tracking: Arc<AtomicBool>,
    told: Turn,
    /// Ends with this.
    _task: JoinSet<()>,
}

/// Everything that follows flag sources.
pub(crate) struct FlagSources {
    control: Control,
    routing: Arc<Routing>,
    /// The file that remembers; absent: nothing outlives the process.
    path: Option<PathBuf>,
    known: Mutex<KnownSources>,
    followed: Mutex<BTreeMap<SourceId, Followed>>,
    unsaved: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FlagSources {
    /// Starts following; its tasks end with the runtime.
    pub(crate) fn start(first: FirstLook, control: &Control, routing: &Arc<Routing>) -> Arc<Self> {
        let FirstLook { dir, remembered, known } = first;
        let this = Arc::new(Self {
            control: control.clone(),
            routing: Arc::clone(routing),
            path: dir.map(|dir| memory::path_in(&dir)),
            known: Mutex::new(known),
            followed: Mutex::default(),
            unsaved: AtomicBool::new(false),
        });
        tokio::spawn(Arc::clone(&this).supervise());
        tokio::spawn(Arc::clone(&this).remember(remembered));
        this
    }

    /// Follows what the configuration in force says.
    async fn supervise(self: Arc<Self>) {
        let mut published = self.routing.published();
        let mut spec: Option<Arc<Flags>> = None;
        loop {
            let now = Arc::clone(&self.routing.load().state.flags.spec);
            if spec.as_ref().is_none_or(|before| !Arc::ptr_eq(before, &now)) {
                self.adjust(&now);
                spec = Some(now);
            }
            if published.changed().await.is_err() {
                return;
            }
        }
    }

    fn adjust(&self, flags: &Flags) {
        let jobs = Job::all(flags);
        let mut followed = lock(&self.followed);
        followed.retain(|id, running| jobs.get(id) == Some(&running.job));
        lock(&self.known).retain(|id, _| jobs.contains_key(id));
        for (id, job) in jobs {
            followed.entry(id.clone()).or_insert_with(|| self.follow(&id, job));
        }
    }

    fn follow(&self, id: &SourceId, job: Job) -> Followed {
        let tracking = Arc::new(AtomicBool::new(false));
        let told = Turn::default();
        let teller: Arc<dyn Listener> = Arc::new(Teller {
            id: id.clone(),
            control: self.control.clone(),
            routing: Arc::clone(&self.routing),
            tracking: Arc::clone(&tracking),
        });
        let mut task = JoinSet::new();
        match &job.source {
            SourceSpec::Redis(source) => {
                let follower = Follower {
                    name: id.to_string(),
                    source: (**source).clone(),
                    wanted: job.wanted.clone(),
                    poll: job.poll,
                    known: self.known_of(id),
                    wake: Arc::new(Notify::new()),
                    told: Arc::clone(&told),
                    listener: Arc::clone(&teller),
                };
                task.spawn(for_ever(teller, move || follower.clone().run()));
            }
            SourceSpec::File(path) => {
                let follower = DocumentFollower { path: path.clone(), poll: job.poll, listener: Arc::clone(&teller) };
                task.spawn(for_ever(teller, move || follower.clone().run()));
            }
        }
        Followed { job, told, tracking, _task: task }
    }

    /// Writes what is known whenever it changed.
    async fn remember(self: Arc<Self>, mut saved: Remembered) {
        let Some(path) = self.path.clone() else { return };
        let mut published = self.routing.published();
        loop {
            let snapshot = self.routing.load_full();
            let now = self.remembered(&snapshot.state);
            if now != saved {
                let (path, text, generation) = (path.clone(), now.clone(), snapshot.generation.0);
                let written = tokio::task::spawn_blocking(move || memory::save(&path, &text, generation)).await;
                match written {
                    Ok(Ok(())) => {
                        saved = now;
                        self.unsaved.store(false, Relaxed);
                    }
                    problem => {
                        let problem = match problem {
                            Ok(Err(error)) => error.to_string(),
                            Err(error) => error.to_string(),
                            Ok(Ok(())) => String::new(),
                        };
                        tracing::error!(
                            problem,
                            "flags are not remembered: a restart without their sources would undo the last changes"
                        );
                        self.unsaved.store(true, Relaxed);
                        sleep(REMEMBER_AGAIN).await;
                        continue;
                    }
                }
            }
            if published.changed().await.is_err() {
                return;
            }
            sleep(REMEMBER).await;
            published.mark_unchanged();
        }
    }

    fn remembered(&self, state: &State) -> Remembered {
        let known = lock(&self.known);
        let one = |(id, source): (&SourceId, &tidegate_core::flags::SourceState)| {
            let known = known.get(id).map(|known| lock(known).clone()).unwrap_or_default();
            (id.clone(), RememberedSource { memory: source.memory(), known })
        };
        Remembered { sources: state.flags.sources.iter().map(one).collect() }
    }

    /// What is done for a source that is followed.
    pub(super) fn job_of(&self, id: &SourceId) -> Option<Job> {
        lock(&self.followed).get(id).map(|followed| followed.job.clone())
    }

    /// What was told last of a source.
    pub(super) fn told_of(&self, id: &SourceId) -> Turn {
        lock(&self.followed).get(id).map(|followed| Arc::clone(&followed.told)).unwrap_or_default()
    }

    /// By what a source is known.
    pub(super) fn known_of(&self, id: &SourceId) -> Arc<Mutex<Known>> {
        Arc::clone(lock(&self.known).entry(id.clone()).or_default())
    }

    /// The one writer.
    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    /// The snapshot in force, and what changes it.
    pub(super) fn routing(&self) -> &Routing {
        &self.routing
    }

    /// What is counted here, for a scrape.
    pub(crate) fn tracking(&self) -> Vec<(SourceId, bool)> {
        lock(&self.followed).iter().map(|(id, followed)| (id.clone(), followed.tracking.load(Relaxed))).collect()
    }

    /// Whether a restart without the sources would undo changes.
    pub(crate) fn is_unsaved(&self) -> bool {
        self.unsaved.load(Relaxed)
    }
}

/// Runs a follower again and again, should it break: what follows flags must not depend on one bad answer.
async fn for_ever<F: Future<Output = ()> + Send + 'static>(teller: Arc<dyn Listener>, run: impl Fn() -> F) {
    loop {
        let mut running = JoinSet::new();
        running.spawn(run());
        if let Some(Err(error)) = running.join_next().await {
            let failure = Failure::Broken(error.to_string());
            teller.note_failure(&failure);
            tracing::error!(%failure, "what follows a flag source broke: it is started again");
            teller.tell(Told::Down { reason: failure.to_string() }).await;
        }
        sleep(RESTART).await;
    }
}

/// Tells the controller.
struct Teller {
    id: SourceId,
    control: Control,
    routing: Arc<Routing>,
    tracking: Arc<AtomicBool>,
}

impl Teller {
    fn stats(&self) -> Option<Arc<SourceStats>> {
        self.routing.load().flags.source(&self.id).map(|source| Arc::clone(&source.stats))
    }

    fn count(&self, counter: impl Fn(&SourceStats) -> &AtomicU64) {
        if let Some(stats) = self.stats() {
            counter(&stats).fetch_add(1, Relaxed);
        }
    }
}

#[async_trait]
impl Listener for Teller {
    async fn tell(&self, told: Told) -> Taken {
        let report = match told {
            Told::Read(reading) => SourceReport::Read(reading),
            Told::Down { reason } => SourceReport::Down { reason },
        };
        let change = Change::Readings { source: self.id.clone(), report };
        let actor = Actor(format!("flags:{}", self.id));
        let submission = Submission { change, expected: None, dry_run: false, actor };
        match self.control.submit(submission).await {
            Ok(_) => Taken::Yes,
            Err(error) => {
                tracing::warn!(source = %self.id, %error, "what a flag source says could not be put in force: it is tried again");
                Taken::NotNow
            }
        }
    }

    fn note_read(&self) {
        let now = self.routing.now().mono;
        if let Some(stats) = self.stats() {
            stats.note_read(now);
        }
    }

    fn note_link(&self, freshness: Freshness) {
        self.tracking.store(freshness == Freshness::Tracking, Relaxed);
        self.count(|stats| &stats.connects);
    }

    fn note_failure(&self, _: &Failure) {
        self.tracking.store(false, Relaxed);
        self.count(|stats| &stats.failures);
    }

    fn note_wakeup(&self) {
        self.count(|stats| &stats.wakeups);
    }
}
