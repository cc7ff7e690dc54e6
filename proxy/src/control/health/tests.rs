use std::{net::TcpListener, time::Duration};

use tidegate_admin::{Actor, EventLog, Outcome, Submission};
use tidegate_config::{EndpointSpec, Split, TargetSpec, Weight};
use tidegate_core::{Change, State, compile, health::Observation};
use tokio::time::timeout;

use super::*;
use crate::{
    control::controller::Controller,
    deploy::desk::Desk,
    state::{MemoryStore, audit::Audit},
};

/// Long enough for any machine; nothing waits for it unless something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

struct Bench {
    routing: Arc<Routing>,
    control: Control,
    signs: mpsc::Sender<PassiveSign>,
}

/// A controller with health checks over services `web`, with an endpoint of its own for each target.
fn bench(health: &str, green: &TcpListener, blue: &TcpListener) -> Bench {
    let (bench, seen) = bench_without_checks(health, green, blue);
    tokio::spawn(run(Arc::clone(&bench.routing), bench.control.clone(), seen));
    bench
}

fn bench_without_checks(health: &str, green: &TcpListener, blue: &TcpListener) -> (Bench, mpsc::Receiver<PassiveSign>) {
    let file = format!(
        r#"
        [service.web]
        routes = [{{ host = "*", path = "/" }}]
        stable = "green"
        health = {health}
        [service.web.target.green]
        endpoints = ["{}"]
        [service.web.target.blue]
        endpoints = ["{}"]
        "#,
        green.local_addr().unwrap(),
        blue.local_addr().unwrap(),
    );
    let state = Arc::new(State::load(&tidegate_config::parse(&file).unwrap(), None).0);
    let routing = Arc::new(Routing::new(compile(&state, None, 1)));
    let controller = Controller {
        state,
        store: Box::new(MemoryStore::default()),
        routing: Arc::clone(&routing),
        workers: 1,
        events: Arc::new(EventLog::new(0)),
        audit: Arc::new(Audit::in_memory().unwrap().0),
        stats: Arc::default(),
        desk: Desk::new(Default::default()).0,
    };
    let (control, _) = controller.start().unwrap();
    let (signs, seen) = mpsc::channel(8);
    (Bench { routing, control, signs }, seen)
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn web() -> ServiceId {
    "web".parse().unwrap()
}

impl Bench {
    fn health(&self, target: &str) -> Health {
        let snapshot = self.routing.load_full();
        let service = snapshot.service_named(&web()).unwrap();
        service.target(service.target_named(target).unwrap()).unwrap().endpoints[0].health
    }

    async fn until(&self, target: &str, health: Health) {
        let mut published = self.routing.published();
        let waited = timeout(PATIENCE, async {
            while self.health(target) != health {
                published.changed().await.unwrap();
            }
        });
        assert!(waited.await.is_ok(), "{target} is {:?} and not {health:?}", self.health(target));
    }

    async fn ask(&self, change: Change) -> Outcome {
        let submission = Submission { change, expected: None, dry_run: false, actor: Actor("ci".into()) };
        self.control.submit(submission).await.unwrap()
    }

    async fn sign(&self, target: &str, listener: &TcpListener, seen: Observation) {
        let endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
        let sign = PassiveSign { service: web(), target: target.parse().unwrap(), endpoint, sign: Sign::Seen(seen) };
        self.signs.send(sign).await.unwrap();
    }
}

const TCP_SOON: &str = r#"{ tcp = true, interval = "50ms", fall = 2, rise = 2 }"#;
/// So rarely that only the first probe and asked-for ones happen within a test.
const TCP_RARELY: &str = r#"{ tcp = true, interval = "1h", fall = 1 }"#;

#[tokio::test]
async fn endpoints_are_probed_at_once_and_again() {
    let (green, blue) = (listener(), listener());
    let bench = bench(TCP_SOON, &green, &blue);
    bench.until("green", Health::Healthy).await;
    bench.until("blue", Health::Healthy).await;
    let address = green.local_addr().unwrap();
    drop(green);
    bench.until("green", Health::Unhealthy).await;
    let _back = TcpListener::bind(address).unwrap();
    bench.until("green", Health::Healthy).await;
}

#[tokio::test]
async fn a_sign_of_live_traffic_wakes_the_probe_at_once() {
    let (green, blue) = (listener(), listener());
    let bench = bench(TCP_RARELY, &green, &blue);
    bench.until("green", Health::Healthy).await;
    bench.until("blue", Health::Healthy).await;
    bench.sign("green", &green, Observation::ServerErrors).await;
    bench.until("green", Health::Suspect).await;
    // Nothing listens there any more when the probe that the sign asks for arrives.
    let endpoint = blue.local_addr().unwrap().to_string().parse().unwrap();
    drop(blue);
    let target = "blue".parse().unwrap();
    let sign = PassiveSign { service: web(), target, endpoint, sign: Sign::Seen(Observation::ServerErrors) };
    bench.signs.send(sign).await.unwrap();
    bench.until("blue", Health::Unhealthy).await;
}

#[tokio::test]
async fn what_a_deployment_started_is_probed_at_once() {
    let (green, blue) = (listener(), listener());
    let bench = bench(TCP_RARELY, &green, &blue);
    bench.until("blue", Health::Healthy).await;
    let address = blue.local_addr().unwrap();
    drop(blue);
    let look = || {
        let endpoint = address.to_string().parse().unwrap();
        bench.signs.send(PassiveSign { service: web(), target: "blue".parse().unwrap(), endpoint, sign: Sign::Started })
    };
    look().await.unwrap();
    bench.until("blue", Health::Unhealthy).await;
    let _back = TcpListener::bind(address).unwrap();
    look().await.unwrap();
    bench.until("blue", Health::Healthy).await;
}

#[tokio::test]
async fn an_endpoint_without_a_check_is_probed_only_while_traffic_speaks_against_it() {
    let (green, blue) = (listener(), listener());
    let bench = bench("false", &green, &blue);
    assert_eq!(bench.health("green"), Health::Healthy);
    bench.sign("green", &green, Observation::ConnectFailed).await;
    bench.until("green", Health::Suspect).await;
    // It can be connected to: the probe that the sign asked for clears it.
    bench.until("green", Health::Healthy).await;
}

fn checks(bench: &Bench) -> Checks {
    Checks {
        routing: Arc::clone(&bench.routing),
        control: bench.control.clone(),
        permits: Arc::new(Semaphore::new(1)),
        services: BTreeMap::new(),
    }
}

impl Checks {
    fn task_ids(&self) -> Vec<(String, tokio::task::Id)> {
        let tasks = self.services.values().flat_map(|checked| &checked.tasks);
        let mut ids: Vec<_> = tasks.map(|((target, _), task)| (target.to_string(), task.handle.id())).collect();
        ids.sort();
        ids
    }
}

#[tokio::test]
async fn a_service_without_a_check_has_no_tasks() {
    let (green, blue) = (listener(), listener());
    let (bench, _seen) = bench_without_checks("false", &green, &blue);
    let mut checks = checks(&bench);
    checks.follow(&bench.routing.load_full());
    assert!(checks.task_ids().is_empty());
}

#[tokio::test]
async fn a_changed_weight_touches_no_task_and_a_removed_target_ends_its_own() {
    let (green, blue) = (listener(), listener());
    let (bench, _seen) = bench_without_checks(TCP_RARELY, &green, &blue);
    let mut checks = checks(&bench);
    checks.follow(&bench.routing.load_full());
    let before = checks.task_ids();
    assert_eq!(before.len(), 2);

    let half = Weight::from_points(5_000).unwrap();
    let split = Split::new([("green".parse().unwrap(), half), ("blue".parse().unwrap(), half)]).unwrap();
    bench.ask(Change::Split { service: web(), split }).await;
    // Another weight of the endpoint itself is no other endpoint either.
    let address = blue.local_addr().unwrap().to_string().parse().unwrap();
    let spec = TargetSpec { endpoints: vec![EndpointSpec { address, weight: 7 }] };
    bench.ask(Change::PutTarget { service: web(), target: "blue".parse().unwrap(), spec }).await;
    checks.follow(&bench.routing.load_full());
    assert_eq!(checks.task_ids(), before);

    bench.ask(Change::Switch { service: web(), to: "green".parse().unwrap() }).await;
    bench.ask(Change::RemoveTarget { service: web(), target: "blue".parse().unwrap() }).await;
    checks.follow(&bench.routing.load_full());
    assert_eq!(checks.task_ids(), before[1..], "green's task goes on");
    assert_eq!(before[1].0, "green");
}

#[tokio::test]
async fn a_target_that_is_added_is_probed_from_then_on() {
    let (green, blue, red) = (listener(), listener(), listener());
    let bench = bench(TCP_RARELY, &green, &blue);
    let address = red.local_addr().unwrap().to_string().parse().unwrap();
    let spec = TargetSpec { endpoints: vec![EndpointSpec { address, weight: 1 }] };
    bench.ask(Change::PutTarget { service: web(), target: "red".parse().unwrap(), spec }).await;
    bench.until("red", Health::Healthy).await;
}
