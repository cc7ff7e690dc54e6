//! Tells event sinks what deployments and the rest of the proxy do: each in the order of the events, also after a restart.
//!
//! Each sink has its own thread, its own files of what it is still to be told, and its own pace, so that one that is dead
//! holds up nobody: not the engine, which only hands events over, not who writes the event log, which a sink's thread
//! reads by itself, and not the others. What it cannot take for too long is dropped, the oldest first, and counted.
//! Dropping the sinks ends their threads, when everything is written down.
//!
//! What deployments do is told at least once: after a restart it is told from their history. What else happens is
//! remembered only from the moment that it is in a sink's file.

use std::{
    future::pending,
    io::ErrorKind,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use http::Uri;
use tidegate_admin::EventLog;
use tidegate_config::{Config, Events, SinkId, SinkSpec, SinkTarget};
use tidegate_core::deploy::cloudevent::{CloudEvent, Naming};
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    time::{Instant, sleep, sleep_until, timeout},
};

use self::{
    boxes::{Boxes, Lane, older},
    deliver::{Failure, Way},
    follow::Follower,
    outbox::Waiting,
};
use crate::observe::families::Family;

mod boxes;
mod deliver;
mod follow;
mod outbox;

/// Batches of events that may wait for a sink's thread to write them down: it waits for nothing but the disk.
const QUEUE: usize = 1024;
/// How long until a sink that failed is tried again: the first time, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// Time between two words about the events that a sink lost.
const LOSSES: Duration = Duration::from_secs(60);

/// Time between two looks whether another process still tells the sink.
const LOCK_AGAIN: Duration = Duration::from_millis(50);
/// How long a command that is being told an event may take to end with the process.
const COMMAND_ENDS: Duration = Duration::from_secs(20);

/// Who is told that a sink lost events: its name, and how many since the last time.
pub(crate) type Lost = Arc<dyn Fn(&SinkId, u64) + Send + Sync>;

/// All sinks.
pub(crate) struct Sinks {
    sinks: Vec<Sink>,
    naming: Naming,
}

struct Sink {
    types: Vec<String>,
    queue: mpsc::Sender<News>,
    counted: Counted,
    thread: JoinHandle<()>,
}

/// Events for a sink.
#[derive(Debug, Clone)]
enum News {
    /// They happened now.
    Fresh(Arc<[CloudEvent]>),
    /// They happened before a restart: those that the sink never heard are told.
    Recalled(Arc<[CloudEvent]>),
}

/// A sink's name, and what is counted of it.
#[derive(Debug, Clone)]
struct Counted {
    name: SinkId,
    counts: Arc<Counts>,
}

/// What is counted of a sink.
#[derive(Debug, Default)]
struct Counts {
    told: AtomicU64,
    failures: AtomicU64,
    dropped: AtomicU64,
    refused: AtomicU64,
    missed: AtomicU64,
    waiting: AtomicU64,
}

impl Sinks {
    /// Starts a thread for each sink, which reads the event log and has its files in `state_dir`.
    pub(crate) fn start(config: &Config, state_dir: &Path, log: &Arc<EventLog>, lost: &Lost) -> std::io::Result<Self> {
        Self::start_with(config, state_dir, log, lost, BACKOFF)
    }

    fn start_with(
        config: &Config,
        state_dir: &Path,
        log: &Arc<EventLog>,
        lost: &Lost,
        backoff: (Duration, Duration),
    ) -> std::io::Result<Self> {
        let dir = state_dir.join("events");
        let Events { prefix, node, sinks } = &config.events;
        let naming = Naming { prefix: prefix.clone(), node: node.clone() };
        let start = |spec: &SinkSpec| {
            let (queue, news) = mpsc::channel(QUEUE);
            let counts = Arc::<Counts>::default();
            let name = spec.name.clone();
            let worker = Worker {
                name: name.clone(),
                dir: dir.clone(),
                way: way(config, &spec.to),
                types: spec.types.clone(),
                prefix: prefix.clone(),
                backlog: u64::from(spec.backlog),
                timeout: spec.timeout,
                backoff,
                counts: Arc::clone(&counts),
                lost: Arc::clone(lost),
            };
            let follower = Follower::new(Arc::clone(log), naming.clone());
            let thread =
                thread::Builder::new().name(format!("sink-{name}")).spawn(move || worker.run(news, follower))?;
            Ok(Sink { types: spec.types.clone(), queue, counted: Counted { name, counts }, thread })
        };
        let sinks = sinks.iter().map(start).collect::<std::io::Result<_>>()?;
        Ok(Self { sinks, naming })
    }

    /// How events are named.
    pub(crate) fn naming(&self) -> &Naming {
        &self.naming
    }

    /// Whether nobody is told.
    pub(crate) fn is_empty(&self) -> bool {
        self.sinks.is_empty()
    }

    /// Tells events of deployments to all sinks that want them. Never waits.
    pub(crate) fn tell(&self, events: Vec<CloudEvent>) {
        let events: Arc<[CloudEvent]> = events.into();
        self.pass_on(&events, News::Fresh);
    }

    /// Tells those events of deployments before a restart that its end kept from a sink. Never waits.
    pub(crate) fn recall(&self, events: Vec<CloudEvent>) {
        let events: Arc<[CloudEvent]> = events.into();
        self.pass_on(&events, News::Recalled);
    }

    fn pass_on(&self, events: &Arc<[CloudEvent]>, news: impl Fn(Arc<[CloudEvent]>) -> News) {
        for sink in &self.sinks {
            let wanted = events.iter().filter(|event| wants(&sink.types, &self.naming.prefix, event)).count();
            if wanted == 0 {
                continue;
            }
            match sink.queue.try_send(news(Arc::clone(events))) {
                Ok(()) => {}
                Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                    sink.counted.counts.dropped.fetch_add(wanted as u64, Relaxed);
                }
            }
        }
    }

    /// What is counted of sinks, for a scrape; also when they have ended.
    pub(crate) fn families(&self) -> impl Fn() -> Vec<Family> + Send + Sync + use<> {
        let all: Vec<Counted> = self.sinks.iter().map(|sink| sink.counted.clone()).collect();
        move || families(&all)
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        // All ends of queues first, so that the threads end at the same time.
        let threads: Vec<_> = self.sinks.drain(..).map(|sink| (sink.counted.name, sink.thread)).collect();
        for (name, thread) in threads {
            if thread.join().is_err() {
                tracing::error!(sink = %name, "the thread of an event sink panicked");
            }
        }
    }
}

fn families(all: &[Counted]) -> Vec<Family> {
    let mut events = Family::counter("sink_events_total", "Events for a sink, by what became of them.");
    let mut failures = Family::counter("sink_failures_total", "Attempts to tell a sink something that failed.");
    let mut waiting = Family::gauge("sink_waiting", "Events that wait for a sink.");
    for Counted { name, counts } in all {
        let name = ("sink", name.as_str());
        events.add_count(&[name, ("result", "told")], counts.told.load(Relaxed));
        events.add_count(&[name, ("result", "dropped")], counts.dropped.load(Relaxed));
        events.add_count(&[name, ("result", "refused")], counts.refused.load(Relaxed));
        events.add_count(&[name, ("result", "missed")], counts.missed.load(Relaxed));
        failures.add_count(&[name], counts.failures.load(Relaxed));
        waiting.add_count(&[name], counts.waiting.load(Relaxed));
    }
    vec![events, failures, waiting]
}

/// How the configuration tells a sink.
fn way(config: &Config, to: &SinkTarget) -> Way {
    match to {
        // Invariant: the configuration's parse has made sure that it is an address.
        SinkTarget::Url { url, token } => {
            Way::Url { url: url.parse::<Uri>().unwrap_or_default(), token: token.clone() }
        }
        SinkTarget::Command(command) => Way::Command(command.program(&config.hooks).0.to_vec()),
        SinkTarget::File(path) => Way::File(path.as_path().into()),
    }
}

/// Whether a sink wants an event of this type.
fn wants(types: &[String], prefix: &str, event: &CloudEvent) -> bool {
    let kind = event.kind.strip_prefix(prefix).map_or(event.kind.as_str(), |kind| kind.trim_start_matches('.'));
    let fits = |wanted: &String| match wanted.strip_suffix('*') {
        Some(beginning) => kind.starts_with(beginning),
        None => kind == wanted,
    };
    types.is_empty() || types.iter().any(fits)
}

/// What a sink's thread works with.
struct Worker {
    name: SinkId,
    dir: PathBuf,
    way: Way,
    types: Vec<String>,
    prefix: String,
    backlog: u64,
    timeout: Duration,
    backoff: (Duration, Duration),
    counts: Arc<Counts>,
    lost: Lost,
}

impl Worker {
    fn run(self, news: mpsc::Receiver<News>, follower: Follower) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let told = runtime.and_then(|runtime| runtime.block_on(self.tell(news, follower)));
        if let Err(error) = told {
            let dir = self.dir.display();
            tracing::error!(sink = %self.name, %error, %dir, "events of this sink are lost: make the directory usable and restart");
        }
    }

    async fn tell(&self, news: mpsc::Receiver<News>, follower: Follower) -> std::io::Result<()> {
        let boxes = loop {
            // The process whose place this one takes ends soon, and must not write any more then.
            match Boxes::open(&self.dir, self.name.as_str()) {
                Err(error) if error.kind() == ErrorKind::WouldBlock && !(news.is_closed() && news.is_empty()) => {
                    sleep(LOCK_AGAIN).await;
                }
                other => break other?,
            }
        };
        Telling::new(self, boxes).run(news, follower).await;
        Ok(())
    }
}

/// An attempt to tell a sink what waits longest; `None`: that could not be read.
type Attempt<'a> = Pin<Box<dyn Future<Output = (Option<(Lane, Waiting)>, Result<(), Failure>)> + 'a>>;

/// A sink that is being told.
struct Telling<'a> {
    worker: &'a Worker,
    boxes: Boxes,
    /// Failures in a row.
    failed: u32,
    /// Not before this time, after a failure.
    next: Instant,
    /// Ends a command that is being told something.
    kill: watch::Sender<bool>,
    /// Of the lost events, so many were spoken of, and when that was.
    spoken_of: u64,
    spoken: Option<Instant>,
}

impl<'a> Telling<'a> {
    fn new(worker: &'a Worker, boxes: Boxes) -> Self {
        Self {
            worker,
            boxes,
            failed: 0,
            next: Instant::now(),
            kill: watch::channel(false).0,
            spoken_of: 0,
            spoken: None,
        }
    }

    /// Writes events down as they come, and tells them as the sink takes them, until nobody has events any more.
    async fn run(mut self, mut news: mpsc::Receiver<News>, mut follower: Follower) {
        let mut attempt: Option<Attempt<'a>> = None;
        loop {
            self.worker.counts.waiting.store(self.boxes.waiting(), Relaxed);
            let speak_at = self.speak_of_losses();
            if attempt.is_none() {
                attempt = self.attempt();
            }
            let telling = async {
                match attempt.as_mut() {
                    Some(attempt) => attempt.await,
                    None => pending().await,
                }
            };
            let speaking = async {
                match speak_at {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                batch = news.recv() => match batch {
                    Some(News::Fresh(batch)) => self.write_down(Lane::Deployments, &batch.iter().collect::<Vec<_>>()),
                    Some(News::Recalled(batch)) => {
                        let lacking = batch.iter().filter(|event| self.boxes.lacks(event));
                        self.write_down(Lane::Deployments, &lacking.collect::<Vec<_>>());
                    }
                    None => break,
                },
                () = follower.news() => self.read(&mut follower),
                (event, told) = telling => {
                    attempt = None;
                    self.settle(event.as_ref(), told);
                }
                () = speaking => {}
            }
        }
        while !follower.is_done() {
            self.read(&mut follower);
        }
        if let (Some(attempt), Way::Command(_), true) = (attempt, &self.worker.way, Instant::now() >= self.next) {
            // A process must not be left to itself.
            self.kill.send_replace(true);
            if let Ok((event, told)) = timeout(COMMAND_ENDS, attempt).await {
                self.settle(event.as_ref(), told);
            }
        }
    }

    /// Writes down what else the proxy did.
    fn read(&mut self, follower: &mut Follower) {
        let (events, missed) = follower.read();
        self.worker.counts.missed.fetch_add(missed, Relaxed);
        self.write_down(Lane::Proxy, &events.iter().collect::<Vec<_>>());
    }

    fn write_down(&mut self, lane: Lane, batch: &[&CloudEvent]) {
        let worker = self.worker;
        let wanted = batch.iter().filter(|event| wants(&worker.types, &worker.prefix, event));
        let wanted: Vec<&CloudEvent> = wanted.copied().collect();
        if wanted.is_empty() {
            return;
        }
        if let Err(error) = self.boxes.push(lane, &wanted) {
            worker.counts.dropped.fetch_add(wanted.len() as u64, Relaxed);
            tracing::error!(sink = %worker.name, %error, "events cannot be written down for this sink, and are lost");
        }
        while self.boxes.waiting_in(lane) > worker.backlog {
            worker.counts.dropped.fetch_add(1, Relaxed);
            if let Some(oldest) = self.first_in(lane) {
                self.pass(lane, &oldest);
            } else {
                return;
            }
        }
    }

    /// What waits longest and can be read.
    fn first(&mut self) -> Option<(Lane, Waiting)> {
        older(self.first_in(Lane::Deployments), self.first_in(Lane::Proxy))
    }

    fn first_in(&mut self, lane: Lane) -> Option<Waiting> {
        loop {
            match self.boxes.first_in(lane) {
                Ok(None) => return None,
                Ok(Some(Ok(event))) => return Some(event),
                Ok(Some(Err(unreadable))) => {
                    self.worker.counts.dropped.fetch_add(1, Relaxed);
                    tracing::error!(sink = %self.worker.name, "a line of this sink's file is damaged, and passed over");
                    let _ = self.boxes.pass_unreadable(lane, &unreadable);
                }
                Err(error) => {
                    tracing::error!(sink = %self.worker.name, %error, "this sink's file cannot be read");
                    return None;
                }
            }
        }
    }

    fn attempt(&mut self) -> Option<Attempt<'a>> {
        if self.boxes.waiting() == 0 {
            return None;
        }
        let (worker, next, event, kill) = (self.worker, self.next, self.first(), self.kill.subscribe());
        if event.is_none() && self.boxes.waiting() == 0 {
            return None;
        }
        Some(Box::pin(async move {
            sleep_until(next).await;
            let told = match &event {
                Some((_, event)) => worker.way.tell(&event.json, worker.timeout, kill).await,
                None => Err(Failure::Later("its own file cannot be read".into())),
            };
            (event, told)
        }))
    }

    /// Draws the consequences of an attempt.
    fn settle(&mut self, event: Option<&(Lane, Waiting)>, told: Result<(), Failure>) {
        let (counts, sink) = (&self.worker.counts, self.worker.name.as_str());
        match told {
            Ok(()) => {
                counts.told.fetch_add(1, Relaxed);
                if self.failed > 0 {
                    tracing::info!(sink, waiting = self.boxes.waiting(), "event sink takes events again");
                }
            }
            Err(Failure::Refused(reason)) => {
                counts.refused.fetch_add(1, Relaxed);
                tracing::warn!(sink, reason, "event sink will never take this event: it is passed over");
            }
            Err(Failure::Later(reason)) => {
                counts.failures.fetch_add(1, Relaxed);
                if self.failed == 0 {
                    tracing::warn!(sink, reason, "event sink cannot be told: trying again");
                }
                self.failed = self.failed.saturating_add(1);
                self.next = Instant::now() + self.worker.pause(self.failed);
                return;
            }
        }
        self.failed = 0;
        self.next = Instant::now();
        if let Some((lane, event)) = event {
            self.pass(*lane, event);
        }
    }

    fn pass(&mut self, lane: Lane, event: &Waiting) {
        if let Err(error) = self.boxes.pass(lane, event) {
            tracing::warn!(sink = %self.worker.name, %error, "what a sink was told cannot be noted: a restart tells it again");
        }
    }

    /// Says that events were lost, now and then. Gives back when there is more to say.
    fn speak_of_losses(&mut self) -> Option<Instant> {
        let counts = &self.worker.counts;
        let lost = counts.dropped.load(Relaxed) + counts.missed.load(Relaxed);
        let news = lost.saturating_sub(self.spoken_of);
        if news == 0 {
            return None;
        }
        let at = self.spoken.map(|spoken| spoken + LOSSES);
        if at.is_some_and(|at| Instant::now() < at) {
            return at;
        }
        (self.worker.lost)(&self.worker.name, news);
        (self.spoken_of, self.spoken) = (lost, Some(Instant::now()));
        None
    }
}

impl Worker {
    /// How long until the next attempt: twice as long each time, and spread, so that sinks of one server do not meet.
    fn pause(&self, failed: u32) -> Duration {
        let (first, longest) = self.backoff;
        let doubled = first.saturating_mul(2_u32.saturating_pow(failed.saturating_sub(1)));
        doubled.min(longest).mul_f64(rand::random_range(0.8..1.2))
    }
}

#[cfg(test)]
mod tests;
