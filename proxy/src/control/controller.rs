//! The one writer: every change of the state is made here, one after the other, and only here is a snapshot published.
//!
//! It is a thread of its own, because it may wait for the disk. Its queue is bounded. A change that is refused, for
//! whatever reason, leaves state, file and traffic as they were. When a change is answered it is saved and published,
//! its events can be read, and it stands in the audit log before every later one.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tidegate_admin::{Actor, AuditEntry, EventLog, Outcome, Submission, SubmitError};
use tidegate_core::{Applied, Change, Event, Generation, Saved, State, change::HealthReport, compile};
use tokio::sync::{mpsc, oneshot};

use super::{
    report,
    rest::{self, Pause, Paused, Then},
    stats::ControlStats,
};
use crate::{
    deploy::desk::Desk,
    routing::Routing,
    state::{StateStore, audit::Audit},
};

/// Changes and health reports that may wait. A change beyond is refused; a report beyond waits where it was made.
const QUEUE: usize = 1024;
/// Health reports that are made one change: what the queue holds, so that a flapping fleet costs one publish.
const HEALTH_BATCH: usize = QUEUE;
/// How long a change is asked for again while too many others wait: the queue is emptied in far less.
const SUBMIT: Duration = Duration::from_secs(10);
/// Time between two attempts.
const SUBMIT_AGAIN: Duration = Duration::from_millis(20);
/// Time between two attempts to save what an emergency move left unsaved.
const SAVE_AGAIN: Duration = Duration::from_secs(5);

enum Message {
    Command { submission: Submission, notes: Vec<String>, reply: oneshot::Sender<Result<Outcome, SubmitError>> },
    Health(HealthReport),
    Tick,
    Pause(Pause),
    Stop(oneshot::Sender<()>),
}

/// The end of the queue that the rest of the process holds.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    messages: mpsc::Sender<Message>,
}

impl Control {
    /// Asks for a change and waits for what became of it.
    pub(crate) async fn submit(&self, submission: Submission) -> Result<Outcome, SubmitError> {
        self.submit_noting(submission, Vec::new()).await
    }

    /// [`Control::submit`] of a change that nobody would ask for again: does so itself while too many others wait, up to
    /// a limit.
    pub(crate) async fn submit_patiently(&self, submission: Submission) -> Result<Outcome, SubmitError> {
        let begun = tokio::time::Instant::now();
        loop {
            match self.submit(submission.clone()).await {
                Err(SubmitError::Busy(_)) if begun.elapsed() < SUBMIT => tokio::time::sleep(SUBMIT_AGAIN).await,
                answer => return answer,
            }
        }
    }

    /// [`Control::submit`] of a file that was loaded; `notes` go into its event.
    pub(super) async fn submit_noting(
        &self,
        submission: Submission,
        notes: Vec<String>,
    ) -> Result<Outcome, SubmitError> {
        const GOING_DOWN: SubmitError = SubmitError::Busy("the process is going down");
        let (reply, answer) = oneshot::channel();
        self.messages.try_send(Message::Command { submission, notes, reply }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => SubmitError::Busy("too many changes wait: try again"),
            mpsc::error::TrySendError::Closed(_) => GOING_DOWN,
        })?;
        answer.await.unwrap_or(Err(GOING_DOWN))
    }

    /// Reports a change of an endpoint's health; waits while the queue is full.
    pub(crate) async fn report(&self, health: HealthReport) {
        // Nobody needs a report when the process is going down.
        let _ = self.messages.send(Message::Health(health)).await;
    }

    /// Says that time has passed. Dropped when the queue is full: the next one says the same.
    pub(crate) fn tick(&self) {
        let _ = self.messages.try_send(Message::Tick);
    }

    /// Lets the controller rest when it has made every change that was asked for before. What is asked for meanwhile
    /// waits. `None`: it has ended.
    pub(crate) async fn pause(&self) -> Option<Paused> {
        rest::pause(&self.messages, Message::Pause).await
    }

    /// Ends the controller when it has made every change that was asked for before.
    pub(crate) async fn stop(&self) {
        rest::stop(&self.messages, Message::Stop).await;
    }
}

/// What the controller works with.
pub(crate) struct Controller {
    /// The state in force; the routing's snapshot is compiled from it.
    pub(crate) state: Arc<State>,
    /// Where it is saved.
    pub(crate) store: Box<dyn StateStore>,
    /// Where it is published.
    pub(crate) routing: Arc<Routing>,
    /// Worker threads of the data plane, for the counters of new targets.
    pub(crate) workers: usize,
    /// Where events go.
    pub(crate) events: Arc<EventLog>,
    /// Where changes are recorded.
    pub(crate) audit: Arc<Audit>,
    /// What is counted.
    pub(crate) stats: Arc<ControlStats>,
    /// The deployments that decide about traffic, and that are told of health.
    pub(crate) desk: Arc<Desk>,
}

/// Whether what is in force is saved.
#[derive(Debug, Clone, Copy)]
enum Durability {
    Saved,
    Unsaved { retry_at: Instant },
}

struct Running {
    parts: Controller,
    durability: Durability,
    /// The generation of the last save.
    saved: Generation,
}

impl Controller {
    /// Saves what it begins with, and starts the controller's thread. It ends with [`Control::stop`].
    ///
    /// A store that fails does not keep the process from starting: traffic is worth more, and the alarm says so.
    pub(crate) fn start(self) -> std::io::Result<(Control, JoinHandle<()>)> {
        let (messages, queue) = mpsc::channel(QUEUE);
        let mut running = Running::new(self);
        running.save_first();
        let thread = std::thread::Builder::new().name("control".into()).spawn(move || running.run(queue))?;
        Ok((Control { messages }, thread))
    }
}

impl Running {
    fn new(parts: Controller) -> Self {
        let saved = parts.state.generation;
        Self { parts, durability: Durability::Saved, saved }
    }

    /// Generations that were given out are not given out again, and fields that the file has won stay won.
    fn save_first(&mut self) {
        if let Err(reason) = self.save(&Arc::clone(&self.parts.state), None) {
            self.not_saved();
            self.tell(&Actor("start".into()), &[Event::Unsaved { reason }]);
        }
    }

    fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        let mut next = None;
        while let Some(message) = next.take().or_else(|| queue.blocking_recv()) {
            match message {
                Message::Command { submission, notes, reply } => {
                    let outcome = self.make(&submission, &notes);
                    // Whoever asked may be gone; the change is made all the same.
                    let _ = reply.send(outcome);
                }
                Message::Health(first) => {
                    let (reports, other) = drain_reports(first, &mut queue);
                    next = other;
                    self.make_own(Change::Health { reports: reports.clone() }, "health");
                    self.parts.desk.report(&reports);
                }
                Message::Tick => {
                    self.make_own(Change::Tick, "clock");
                    self.save_again();
                }
                Message::Pause(pause) => {
                    if pause.blocking_rest() == Then::HandedOver {
                        return refuse_all(queue);
                    }
                }
                Message::Stop(done) => {
                    self.save_at_end();
                    let _ = done.send(());
                    return;
                }
            }
        }
    }

    /// A change that the process itself asks for, and that is never refused.
    fn make_own(&mut self, change: Change, actor: &str) {
        let submission = Submission { change, expected: None, dry_run: false, actor: Actor(actor.into()) };
        if let Err(error) = self.make(&submission, &[]) {
            tracing::error!(actor, %error, "a change of the process itself was refused");
        }
    }

    fn make(&mut self, submission: &Submission, notes: &[String]) -> Result<Outcome, SubmitError> {
        let current = self.parts.state.generation;
        if let Some(expected) = submission.expected.filter(|expected| *expected != current) {
            return Err(SubmitError::Stale { current, expected });
        }
        self.parts.desk.must_be_free(&submission.change)?;
        let mut applied = tidegate_core::apply(&self.parts.state, &submission.change, self.parts.routing.now())?;
        add_notes(&mut applied, notes);
        if submission.dry_run {
            return Ok(Outcome { generation: applied.state.generation, events: applied.events, saved: true });
        }
        let actor = &submission.actor;
        if applied.state.generation == current {
            self.tell(actor, &applied.events);
            return Ok(Outcome { generation: current, events: applied.events, saved: self.is_saved() });
        }
        self.commit(submission, applied)
    }

    /// Makes a change the one in force: an emergency move at once, every other one when it is saved.
    fn commit(&mut self, submission: &Submission, applied: Applied) -> Result<Outcome, SubmitError> {
        let Applied { state, mut events } = applied;
        let (actor, next) = (&submission.actor, Arc::new(state));
        let entry = self.audit_entry(actor, &next, &events);
        let persists = Change::persists(&self.parts.state, &next);
        if submission.change.is_emergency() {
            self.publish(Arc::clone(&next));
            if persists && let Err(reason) = self.save(&next, entry.as_ref()) {
                self.not_saved();
                events.push(Event::Unsaved { reason });
            }
        } else {
            if persists {
                self.save(&next, entry.as_ref()).map_err(SubmitError::Store)?;
            }
            self.publish(Arc::clone(&next));
        }
        self.tell(actor, &events);
        if let Some(entry) = entry {
            self.parts.audit.append(entry);
        }
        Ok(Outcome { generation: next.generation, events, saved: self.is_saved() })
    }

    fn publish(&mut self, next: Arc<State>) {
        let previous = self.parts.routing.load_full();
        let snapshot = compile(&next, Some(&previous), self.parts.workers);
        self.parts.routing.publish(Arc::new(snapshot));
        self.parts.state = next;
        self.parts.stats.published.fetch_add(1, Relaxed);
    }

    fn save(&mut self, next: &State, entry: Option<&AuditEntry>) -> Result<(), String> {
        self.parts.store.save(&Saved::of(next), entry).map_err(|error| error.to_string())?;
        self.saved = next.generation;
        if let Durability::Unsaved { .. } = self.durability {
            self.durability = Durability::Saved;
            self.parts.stats.set_unsaved(false);
            tracing::info!(generation = next.generation.0, "the state is saved again");
        }
        Ok(())
    }

    fn not_saved(&mut self) {
        self.durability = Durability::Unsaved { retry_at: Instant::now() + SAVE_AGAIN };
        self.parts.stats.set_unsaved(true);
    }

    /// Tries to save what an emergency move left unsaved.
    fn save_again(&mut self) {
        let now = Instant::now();
        if let Durability::Unsaved { retry_at } = self.durability
            && now >= retry_at
            && self.save(&Arc::clone(&self.parts.state), None).is_err()
        {
            self.not_saved();
        }
    }

    /// Saves once more if anything was published since: the next start then goes on from the right generation.
    fn save_at_end(&mut self) {
        if self.saved == self.parts.state.generation && self.is_saved() {
            return;
        }
        if let Err(error) = self.save(&Arc::clone(&self.parts.state), None) {
            tracing::error!(error, "the state could not be saved at the end");
        }
    }

    fn is_saved(&self) -> bool {
        matches!(self.durability, Durability::Saved)
    }

    fn tell(&self, actor: &Actor, events: &[Event]) {
        let (at, generation) = (self.parts.routing.now().unix_ms, self.parts.state.generation);
        for event in events {
            match event {
                Event::FailedOver { service, cause, .. } => self.parts.stats.failed_over(service, *cause),
                Event::FailoverHook { service, hook, failure } => {
                    self.parts.stats.failover_hook(service, *hook, failure.is_none());
                }
                Event::FlagInvalid { .. } => drop(self.parts.stats.flags_invalid.fetch_add(1, Relaxed)),
                _ => {}
            }
            report::log(&self.parts.events.push(at, generation, &actor.0, event.clone()));
        }
    }

    /// The line of the audit log: what was done to services, not what was seen of endpoints.
    fn audit_entry(&self, actor: &Actor, next: &State, events: &[Event]) -> Option<AuditEntry> {
        let events: Vec<_> = events.iter().filter(|event| !event.is_seen()).cloned().collect();
        (!events.is_empty()).then(|| AuditEntry {
            at_unix_ms: self.parts.routing.now().unix_ms,
            actor: actor.0.clone(),
            from: self.parts.state.generation,
            generation: next.generation,
            events,
        })
    }
}

/// What is left to do for a controller whose place another process has taken: to say so.
fn refuse_all(mut queue: mpsc::Receiver<Message>) {
    while let Some(message) = queue.blocking_recv() {
        match message {
            Message::Command { reply, .. } => {
                let _ = reply.send(Err(SubmitError::Busy("a new process has taken over: try again")));
            }
            Message::Health(_) | Message::Tick | Message::Pause(_) => {}
            Message::Stop(done) => {
                let _ = done.send(());
                return;
            }
        }
    }
}

/// The reports that wait now, up to the first message of another kind.
fn drain_reports(first: HealthReport, queue: &mut mpsc::Receiver<Message>) -> (Vec<HealthReport>, Option<Message>) {
    let mut reports = vec![first];
    while reports.len() < HEALTH_BATCH {
        match queue.try_recv() {
            Ok(Message::Health(report)) => reports.push(report),
            Ok(other) => return (reports, Some(other)),
            Err(_) => break,
        }
    }
    (reports, None)
}

/// Adds what is to be said about a loaded file to its event.
fn add_notes(applied: &mut Applied, notes: &[String]) {
    if notes.is_empty() {
        return;
    }
    for event in &mut applied.events {
        if let Event::Reloaded { differences, .. } = event {
            differences.extend_from_slice(notes);
            return;
        }
    }
    applied.events.push(Event::Reloaded { services: applied.state.services.len(), differences: notes.to_vec() });
}

#[cfg(test)]
mod tests;
