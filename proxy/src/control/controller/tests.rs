use std::sync::{Mutex, PoisonError};

use tidegate_config::{ServiceId, Split, TargetId};
use tidegate_core::{ChangeError, Health};

use super::*;
use crate::state::{Loaded, StoreError, audit::AuditThread};

const FILE: &str = r#"
[service.web]
routes = [{ host = "*", path = "/" }]
stable = "green"
[service.web.target.green]
endpoints = ["127.0.0.1:3001"]
[service.web.target.blue]
endpoints = ["127.0.0.1:3002"]
"#;

/// A store that can be told to fail, and says what it was given.
#[derive(Debug, Clone, Default)]
struct FakeStore(Arc<Mutex<Fake>>);

#[derive(Debug, Default)]
struct Fake {
    fails: bool,
    saves: Vec<Saved>,
}

impl FakeStore {
    fn fail(&self, fails: bool) {
        self.0.lock().unwrap().fails = fails;
    }

    fn saves(&self) -> Vec<Saved> {
        self.0.lock().unwrap().saves.clone()
    }
}

impl StateStore for FakeStore {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        Ok(Loaded::Nothing)
    }

    fn save(&mut self, saved: &Saved, _: Option<&AuditEntry>) -> Result<(), StoreError> {
        let mut fake = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if fake.fails {
            return Err(StoreError::Encode("the disk is full".into()));
        }
        fake.saves.push(saved.clone());
        Ok(())
    }
}

struct Bench {
    running: Running,
    store: FakeStore,
    routing: Arc<Routing>,
    audit: Arc<Audit>,
    _thread: AuditThread,
}

fn bench() -> Bench {
    let config = tidegate_config::parse(FILE).unwrap();
    let state = Arc::new(State::load(&config, None).0);
    let routing = Arc::new(Routing::new(compile(&state, None, 1)));
    let (audit, thread) = Audit::in_memory().unwrap();
    let (store, audit) = (FakeStore::default(), Arc::new(audit));
    let parts = Controller {
        state: Arc::clone(&state),
        store: Box::new(store.clone()),
        routing: Arc::clone(&routing),
        workers: 1,
        events: Arc::new(EventLog::new(0)),
        audit: Arc::clone(&audit),
        stats: Arc::default(),
        desk: Desk::new(Default::default()).0,
    };
    Bench { running: Running::new(parts), store, routing, audit, _thread: thread }
}

fn web() -> ServiceId {
    ServiceId::parse("web").unwrap()
}

fn target(name: &str) -> TargetId {
    TargetId::parse(name).unwrap()
}

fn ask(change: Change) -> Submission {
    Submission { change, expected: None, dry_run: false, actor: Actor("ci".into()) }
}

fn switch(to: &str) -> Submission {
    ask(Change::Switch { service: web(), to: target(to) })
}

fn split(to: &str) -> Submission {
    ask(Change::Split { service: web(), split: Split::all(target(to)) })
}

fn report(health: Health) -> HealthReport {
    let endpoint = "127.0.0.1:3001".parse().unwrap();
    HealthReport { service: web(), target: target("green"), endpoint, health, reason: "a test".into() }
}

impl Bench {
    fn generation(&self) -> u64 {
        self.routing.load().generation.0
    }

    fn events(&self) -> Vec<Event> {
        self.running.parts.events.after(0, 100).into_iter().map(|recorded| recorded.event).collect()
    }

    fn stable(&self) -> String {
        self.routing.load().state.services[&web()].wanted.stable.to_string()
    }
}

#[tokio::test]
async fn a_change_is_saved_published_told_and_recorded_when_it_is_answered() {
    let mut bench = bench();
    let outcome = bench.running.make(&switch("blue"), &[]).unwrap();
    assert!(outcome.saved);
    assert_eq!(outcome.generation.0, bench.generation());
    assert_eq!(bench.stable(), "blue");
    assert_eq!(bench.store.saves().last().unwrap().services[&web()].wanted.stable, target("blue"));
    assert_eq!(bench.events(), outcome.events);
    let recorded = bench.audit.newest(10).await.unwrap();
    assert_eq!(recorded.len(), 1);
    assert_eq!((recorded[0].actor.as_str(), recorded[0].from.0, recorded[0].generation.0), ("ci", 1, 2));
}

#[test]
fn a_failing_store_refuses_a_split_and_lets_a_switch_through() {
    let mut bench = bench();
    bench.store.fail(true);
    let refused = bench.running.make(&split("blue"), &[]).unwrap_err();
    assert!(matches!(&refused, SubmitError::Store(why) if why.contains("the disk is full")), "{refused}");
    assert_eq!((bench.generation(), bench.events().len()), (1, 0));

    let outcome = bench.running.make(&switch("blue"), &[]).unwrap();
    assert!(!outcome.saved);
    assert_eq!(bench.stable(), "blue");
    assert!(matches!(bench.events().last(), Some(Event::Unsaved { reason }) if reason.contains("the disk is full")));
    assert!(bench.running.parts.stats.is_unsaved());
}

#[test]
fn what_was_left_unsaved_is_saved_when_the_store_works_again() {
    let mut bench = bench();
    bench.store.fail(true);
    bench.running.make(&switch("blue"), &[]).unwrap();
    bench.running.durability = Durability::Unsaved { retry_at: Instant::now() };
    bench.running.save_again();
    assert!(bench.running.parts.stats.is_unsaved());
    bench.store.fail(false);
    // Not before its time: a full disk is not hammered.
    bench.running.save_again();
    assert!(bench.store.saves().is_empty());
    bench.running.durability = Durability::Unsaved { retry_at: Instant::now() };
    bench.running.save_again();
    assert!(!bench.running.parts.stats.is_unsaved());
    assert_eq!(bench.store.saves().last().unwrap().services[&web()].wanted.stable, target("blue"));
}

#[test]
fn a_stale_generation_is_refused() {
    let mut bench = bench();
    bench.running.make(&switch("blue"), &[]).unwrap();
    let stale = Submission { expected: Some(Generation(1)), ..switch("green") };
    let refused = bench.running.make(&stale, &[]).unwrap_err();
    assert!(matches!(refused, SubmitError::Stale { current: Generation(2), expected: Generation(1) }), "{refused}");
    assert_eq!(bench.stable(), "blue");
    let fresh = Submission { expected: Some(Generation(2)), ..switch("green") };
    assert_eq!(bench.running.make(&fresh, &[]).unwrap().generation.0, 3);
}

#[test]
fn a_dry_run_says_what_would_happen_and_changes_nothing() {
    let mut bench = bench();
    let outcome = bench.running.make(&Submission { dry_run: true, ..switch("blue") }, &[]).unwrap();
    assert_eq!(outcome.generation.0, 2);
    assert!(matches!(outcome.events[..], [Event::Switched { .. }, ..]), "{:?}", outcome.events);
    assert_eq!((bench.generation(), bench.stable().as_str()), (1, "green"));
    assert!(bench.store.saves().is_empty() && bench.events().is_empty());
}

#[test]
fn a_refused_change_changes_nothing() {
    let mut bench = bench();
    let refused = bench.running.make(&split("red"), &[]).unwrap_err();
    assert!(matches!(refused, SubmitError::Refused(ChangeError::Invalid { .. })), "{refused}");
    assert_eq!((bench.generation(), bench.store.saves().len(), bench.events().len()), (1, 0, 0));
}

#[test]
fn a_change_that_changes_nothing_keeps_the_generation() {
    let mut bench = bench();
    let outcome = bench.running.make(&switch("green"), &[]).unwrap();
    assert_eq!((outcome.generation.0, outcome.events.len(), bench.store.saves().len()), (1, 0, 0));
}

#[test]
fn a_flood_of_health_reports_costs_one_publish_and_no_write() {
    let bench = bench();
    let (messages, queue) = mpsc::channel(QUEUE);
    let flapping = [Health::Unhealthy, Health::Healthy].into_iter().cycle();
    for health in flapping.take(QUEUE - 1) {
        messages.try_send(Message::Health(report(health))).unwrap();
    }
    drop(messages);
    let stats = Arc::clone(&bench.running.parts.stats);
    bench.running.run(queue);
    assert_eq!(stats.published.load(Relaxed), 1);
    assert!(bench.store.saves().is_empty());
}

#[test]
fn a_change_between_health_reports_is_made_in_its_turn() {
    let bench = bench();
    let (messages, queue) = mpsc::channel(QUEUE);
    let (reply, mut answer) = oneshot::channel();
    messages.try_send(Message::Health(report(Health::Healthy))).unwrap();
    messages.try_send(Message::Command { submission: switch("blue"), notes: Vec::new(), reply }).unwrap();
    messages.try_send(Message::Health(report(Health::Unhealthy))).unwrap();
    drop(messages);
    bench.running.run(queue);
    assert_eq!(answer.try_recv().unwrap().unwrap().generation.0, 3);
    assert_eq!(bench.routing.load().generation.0, 4);
}

#[test]
fn the_end_saves_the_generation_that_health_has_reached() {
    let bench = bench();
    let (messages, queue) = mpsc::channel(QUEUE);
    let (done, mut stopped) = oneshot::channel();
    messages.try_send(Message::Health(report(Health::Healthy))).unwrap();
    messages.try_send(Message::Stop(done)).unwrap();
    bench.running.run(queue);
    stopped.try_recv().unwrap();
    assert_eq!(bench.store.saves().last().unwrap().generation, Generation(2));
}

#[test]
fn a_store_that_fails_at_the_start_is_an_alarm_and_no_obstacle() {
    let mut bench = bench();
    bench.store.fail(true);
    bench.running.save_first();
    assert!(matches!(bench.events()[..], [Event::Unsaved { .. }]));
    assert!(bench.running.parts.stats.is_unsaved());
    bench.store.fail(false);
    assert!(bench.running.make(&split("blue"), &[]).unwrap().saved);
    assert!(!bench.running.parts.stats.is_unsaved());
}

#[tokio::test]
async fn a_full_queue_and_an_ended_controller_are_said() {
    let (messages, queue) = mpsc::channel(1);
    let control = Control { messages };
    control.messages.try_send(Message::Tick).unwrap();
    let busy = control.submit(switch("blue")).await.unwrap_err();
    assert!(busy.to_string().contains("too many changes wait"), "{busy}");
    drop(queue);
    let busy = control.submit(switch("blue")).await.unwrap_err();
    assert!(busy.to_string().contains("going down"), "{busy}");
}

#[test]
fn notes_on_a_file_are_part_of_its_event() {
    let mut bench = bench();
    let config = Arc::new(tidegate_config::parse(FILE).unwrap());
    let notes = ["server.threads changed".to_owned()];
    let outcome = bench.running.make(&ask(Change::Reload { config }), &notes).unwrap();
    // Nothing else changed: the generation stays, and it is told all the same.
    assert_eq!(outcome.generation.0, 1);
    assert!(
        matches!(&bench.events()[..], [Event::Reloaded { services: 1, differences }] if differences == &notes),
        "{:?}",
        bench.events()
    );
}
