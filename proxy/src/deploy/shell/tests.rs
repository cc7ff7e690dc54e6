//! The shell with a journal on the disk that can be told to fail, and with acts that look what was written before them.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use serde_json::Value;
use tidegate_admin::{EventLog, Order, Placed};
use tidegate_core::{
    State, apply, compile,
    deploy::{
        machine::{Command, HookEnd, HookReport},
        spec::parse,
        view::state_name,
    },
};
use tokio::sync::oneshot;

use super::*;
use crate::{
    deploy::{
        journal::{FILE, FileJournal},
        sinks::Sinks,
    },
    state::audit::{Audit, AuditThread},
};

const CONFIG: &str = r#"
[service.web]
stable = "blue"
health = false
start = ["up"]
stop = ["down"]
[service.web.target]
blue = { endpoints = ["127.0.0.1:1"] }
green = { endpoints = ["127.0.0.1:2"] }
"#;

/// Starts green, checks it, gives it a tenth, and waits for a person.
const DOCUMENT: &str = r#"{"strategy":"custom","service":"web","to":"green","version":"2",
    "step":[{"set":10},{"pause":"manual"},{"set":100}]}"#;

/// A journal on the disk, until it is told to fail.
struct Fragile {
    file: FileJournal,
    fails: Arc<AtomicBool>,
}

impl Fragile {
    fn works(&self) -> Result<(), StoreError> {
        if self.fails.load(Relaxed) { Err(StoreError::Encode("the disk is full".into())) } else { Ok(()) }
    }
}

impl Journal for Fragile {
    fn append(&mut self, group: &Group) -> Result<(), StoreError> {
        self.works()?;
        self.file.append(group)
    }

    fn is_long(&self) -> bool {
        self.file.is_long()
    }

    fn rewrite(&mut self, groups: &[Group]) -> Result<(), StoreError> {
        self.works()?;
        self.file.rewrite(groups)
    }
}

/// What was done, in words, and what an outcome is awaited of.
#[derive(Default)]
struct Done {
    log: Vec<String>,
    awaited: Option<(DeploymentId, u64)>,
}

struct Hands {
    journal: PathBuf,
    fails: Arc<AtomicBool>,
    routing: Arc<Routing>,
    done: Arc<Mutex<Done>>,
}

impl Hands {
    /// What the last line on the disk says about a deployment.
    fn written(&self) -> Value {
        let text = std::fs::read_to_string(&self.journal).unwrap();
        let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        let records = line["body"]["records"].as_array().unwrap();
        let mut deployments = records.iter().map(|record| &record["deployment"]).filter(|known| !known.is_null());
        deployments.next_back().unwrap().clone()
    }

    fn note(&self, what: String) {
        self.done.lock().unwrap().log.push(what);
    }

    fn make(&self, change: &Change) -> Result<Submitted, SubmitError> {
        let before = self.routing.load_full();
        let state = apply(&before.state, change, self.routing.now())?.state;
        let snapshot = compile(&Arc::new(state), Some(&before), 1);
        let generation = snapshot.generation;
        self.routing.publish(Arc::new(snapshot));
        Ok(Submitted { generation, events: Vec::new(), saved: true })
    }
}

impl Acts for Hands {
    fn submit(&mut self, submission: Submission) -> Result<Submitted, SubmitError> {
        let services = match &submission.change {
            Change::Release { services, .. } => services,
            Change::Previews { .. } => return self.make(&submission.change),
            _ => panic!("{submission:?}"),
        };
        let split: Vec<_> = services["web"].split.iter().map(|(target, weight)| format!("{target} {weight}")).collect();
        if !self.fails.load(Relaxed) {
            let intended = &self.written()["traffic"]["web"]["split"];
            assert_eq!(*intended, serde_json::to_value(&services["web"].split).unwrap(), "written before it is done");
        }
        self.note(format!("traffic {}", split.join(", ")));
        self.make(&submission.change)
    }

    fn perform(&mut self, id: &DeploymentId, effect: Effect) {
        let (op, what) = match &effect {
            Effect::Hook { op, call, .. } => (*op, call.hook.role.name()),
            Effect::Verify { op, .. } => (*op, "verify"),
            Effect::Drain { op, .. } => (*op, "drain"),
            Effect::Watch(_) | Effect::StopWatch | Effect::Window { .. } | Effect::KillHook { .. } => return,
            Effect::Release { .. } | Effect::Tell(_) => panic!("the shell does it itself: {effect:?}"),
        };
        if !self.fails.load(Relaxed) {
            assert_eq!(self.written()["state"]["doing"]["op"], op, "{what} is written before it is done");
        }
        if what == "start" {
            let green = tidegate_config::TargetId::parse("green").unwrap();
            let state = &self.routing.load().state;
            assert!(state.services["web"].is_sealed(&green), "nobody reaches what is started");
        }
        self.note(what.to_owned());
        self.done.lock().unwrap().awaited = Some((id.clone(), op));
    }

    fn kill(&mut self, _: Kill) {
        panic!("nobody asked for that");
    }

    fn checkpoint(&mut self, _: Moment) {}

    fn leave(&mut self) {}
}

struct Rig {
    running: Running,
    fails: Arc<AtomicBool>,
    done: Arc<Mutex<Done>>,
    routing: Arc<Routing>,
    stats: Arc<ControlStats>,
    /// How far the clock went beyond the real one.
    later: Arc<Mutex<Duration>>,
    _queue: mpsc::Receiver<Message>,
    _audit: AuditThread,
}

impl Rig {
    /// A process whose journal is in a directory; a second one goes on where the first one ended.
    fn start(dir: &Path) -> Self {
        let config = tidegate_config::parse(CONFIG).unwrap();
        let routing = Arc::new(Routing::new(compile(&Arc::new(State::load(&config, None).0), None, 1)));
        let (file, groups) = FileJournal::open(dir).unwrap();
        let (fails, done) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Done>>::default());
        let (desk, queue) = Desk::new(Engine::load(groups.into_iter().flat_map(|group| group.records)));
        let hands = Hands {
            journal: dir.join(FILE),
            fails: Arc::clone(&fails),
            routing: Arc::clone(&routing),
            done: Arc::clone(&done),
        };
        let (audit, thread) = Audit::in_memory().unwrap();
        let lost: crate::deploy::sinks::Lost = Arc::new(|_, _| {});
        let events = Arc::new(EventLog::new(0));
        let teller = Teller {
            events: Arc::clone(&events),
            audit: Arc::new(audit),
            routing: Arc::clone(&routing),
            sinks: Arc::new(Sinks::start(&config, dir, &events, &lost).unwrap()),
        };
        let (stats, later) = (Arc::<ControlStats>::default(), Arc::<Mutex<Duration>>::default());
        let (config, clock, ahead) = (Arc::new(config), Arc::clone(&routing), Arc::clone(&later));
        let core = Core {
            desk,
            journal: Box::new(Fragile { file, fails: Arc::clone(&fails) }),
            keys: Keys::default(),
            routing: Arc::clone(&routing),
            grounds: Arc::new(Grounds::new(move || Arc::clone(&config))),
            acts: Box::new(hands),
            teller,
            stats: Arc::clone(&stats),
            now: Box::new(move || {
                let (now, later) = (clock.now(), *ahead.lock().unwrap());
                Moment { mono: now.mono + later, unix_ms: now.unix_ms + later.as_millis() as u64 }
            }),
        };
        let mut running = Running::new(core);
        running.recover();
        Self { running, fails, done, routing, stats, later, _queue: queue, _audit: thread }
    }

    fn order(&mut self, order: Order) -> Result<Placed, OrderError> {
        let (reply, mut answer) = oneshot::channel();
        let (order, actor) = (Box::new(order), Actor("a test".into()));
        self.running.take(Message::Order { order, dry_run: false, actor, reply });
        self.running.turn();
        answer.try_recv().unwrap()
    }

    fn deploy(&mut self) -> Result<DeploymentId, OrderError> {
        let spec = Box::new(parse(&serde_json::from_str(DOCUMENT).unwrap()).unwrap());
        let placed = self.order(Order::Create { spec, execute: true, key: None })?;
        Ok(placed.deployment.unwrap().id.clone())
    }

    /// What was begun last has succeeded.
    fn succeeds(&mut self) {
        let done = std::mem::take(&mut self.done.lock().unwrap().awaited);
        let (id, op) = done.expect("nothing is awaited");
        let is_command = self.log().last().is_some_and(|what| what == "start" || what == "stop");
        let outcome = if is_command {
            Outcome::Hook(HookReport { end: HookEnd::Exit(0), output: String::new() })
        } else {
            Outcome::Done
        };
        self.running.take(Message::Input(id, Input::Done { op, outcome }));
        self.running.turn();
    }

    /// Time passes, and the shell has its turn.
    fn wait(&mut self, time: Duration) {
        *self.later.lock().unwrap() += time;
        self.running.turn();
    }

    fn fail(&self, fails: bool) {
        self.fails.store(fails, Relaxed);
    }

    fn log(&self) -> Vec<String> {
        self.done.lock().unwrap().log.clone()
    }

    fn state(&self, id: &DeploymentId) -> &'static str {
        self.running.engine.get(id).map_or("none", |deployment| state_name(&deployment.state))
    }

    fn split(&self) -> String {
        let snapshot = self.routing.load_full();
        let wanted = &snapshot.state.services["web"].wanted;
        wanted.split.iter().map(|(target, weight)| format!("{target} {weight}")).collect::<Vec<_>>().join(", ")
    }
}

#[test]
fn everything_is_written_before_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let id = rig.deploy().unwrap();
    rig.succeeds();
    rig.succeeds();
    assert_eq!(rig.state(&id), "paused");
    rig.order(Order::Command(id.clone(), Command::Promote)).unwrap();
    assert_eq!(rig.state(&id), "succeeded");
    // That it was written before is looked at by the acts themselves.
    assert_eq!(rig.log(), ["start", "verify", "traffic blue 90 %, green 10 %", "traffic green 100 %"]);
}

#[test]
fn an_order_that_cannot_be_written_is_refused_and_nothing_begins() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    rig.fail(true);
    assert!(matches!(rig.deploy(), Err(OrderError::Store(_))));
    assert_eq!((rig.log(), rig.running.engine.iter().count()), (Vec::new(), 0));
    assert!(!rig.stats.are_deployments_unsaved(), "nothing is missing");
    rig.fail(false);
    assert!(rig.deploy().is_ok());
    assert_eq!(rig.log(), ["start"]);
}

#[test]
fn what_came_of_an_act_waits_until_it_can_be_written_and_only_then_does_it_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let id = rig.deploy().unwrap();
    rig.fail(true);
    rig.succeeds();
    rig.wait(Duration::from_secs(5));
    assert_eq!(rig.log(), ["start"], "nothing is begun that is not written");
    assert!(rig.stats.are_deployments_unsaved());
    rig.fail(false);
    rig.wait(Duration::from_secs(5));
    assert_eq!(rig.log(), ["start", "verify"]);
    rig.succeeds();
    assert_eq!(rig.state(&id), "paused");
    assert!(!rig.stats.are_deployments_unsaved());
}

#[test]
fn a_rollback_brings_the_traffic_back_although_nothing_can_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let id = rig.deploy().unwrap();
    rig.succeeds();
    rig.succeeds();
    assert_eq!(rig.split(), "blue 90 %, green 10 %");
    rig.fail(true);
    let refused = rig.order(Order::Command(id.clone(), Command::Promote));
    assert!(matches!(refused, Err(OrderError::Store(_))), "forward needs the disk");
    rig.order(Order::Command(id.clone(), Command::Rollback)).unwrap();
    assert_eq!(rig.split(), "blue 100 %");
    rig.succeeds();
    assert_eq!(rig.state(&id), "rolled-back");
    assert!(rig.stats.are_deployments_unsaved(), "the alarm");
    rig.fail(false);
    rig.wait(Duration::from_secs(5));
    assert!(!rig.stats.are_deployments_unsaved());
    drop(rig);
    let again = Rig::start(dir.path());
    assert_eq!(again.state(&id), "rolled-back", "it was written as soon as it could be");
    assert_eq!(again.log(), [""; 0]);
}

#[test]
fn a_process_that_could_not_write_a_rollback_goes_on_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let id = rig.deploy().unwrap();
    rig.succeeds();
    rig.succeeds();
    rig.fail(true);
    rig.order(Order::Command(id.clone(), Command::Rollback)).unwrap();
    drop(rig);
    let mut again = Rig::start(dir.path());
    assert_eq!(again.state(&id), "paused", "a person may ask again");
    again.order(Order::Command(id.clone(), Command::Rollback)).unwrap();
    assert_eq!(again.split(), "blue 100 %");
}

#[test]
fn a_command_that_a_death_cut_off_is_run_once_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path());
    let id = rig.deploy().unwrap();
    drop(rig);
    let mut second = Rig::start(dir.path());
    assert_eq!((second.log(), second.state(&id)), (vec!["start".to_owned()], "running"));
    drop(second);
    second = Rig::start(dir.path());
    assert_eq!(second.state(&id), "rolling-back", "twice is enough");
    assert_eq!(second.log(), ["stop"]);
}
