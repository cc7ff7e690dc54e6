//! Three services that are released as one: all of them by one change, or none.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use serde_json::{Value, json};
use tidegate_e2e::{Behaviour, Client, Crowd, Origin, Tidegate};
use tokio::{sync::watch, task::JoinHandle};

use super::HEALTH;

const SERVICES: [&str; 3] = ["web", "shop", "api"];

struct Town {
    proxy: Tidegate,
    green: BTreeMap<&'static str, Origin>,
    _blue: Vec<Origin>,
}

impl Town {
    async fn new() -> Self {
        let (mut green, mut blue, mut config) = (BTreeMap::new(), Vec::new(), String::new());
        for service in SERVICES {
            let (old, new) = (Origin::start_counting("blue").await, Origin::start_counting("green").await);
            config.push_str(&format!(
                "[service.{service}]\nroutes = [{{ path = \"/{service}\" }}]\nstable = \"blue\"\nexpose = true\n{HEALTH}\n\
                 [service.{service}.target.blue]\nendpoints = [\"{}\"]\n\
                 [service.{service}.target.green]\nendpoints = [\"{}\"]\n",
                old.address(),
                new.address()
            ));
            blue.push(old);
            green.insert(service, new);
        }
        Self { proxy: Tidegate::start(&config).await, green, _blue: blue }
    }

    /// Opens a bracket, queues all services, and releases it; the deployment's id.
    async fn release(&self, name: &str, timeout: &str) -> String {
        let bracket = json!({
            "name": name, "strategy": "blue-green", "watch": "300ms", "health_check_path": "/ready",
            "health_successes": 1, "health_timeout": timeout,
        });
        self.proxy.done("POST", "/api/brackets", Some(bracket)).await;
        for service in SERVICES {
            let member = json!({ "service": service, "to": "green", "version": "2" });
            self.proxy.done("POST", &format!("/api/brackets/{name}/members"), Some(member)).await;
        }
        let released = self.proxy.done("POST", &format!("/api/brackets/{name}/release"), None).await;
        released["deployment"].as_str().unwrap_or_else(|| panic!("{released:#}")).to_owned()
    }

    async fn stables(&self) -> Vec<Value> {
        let mut stables = Vec::new();
        for service in SERVICES {
            stables.push(self.proxy.service(service).await["stable"].clone());
        }
        stables
    }
}

/// What was answered: the service, the generation in which it was decided, and the target.
type Answer = (&'static str, u64, String);

/// Clients that ask all services in turn.
struct Readers {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<Vec<Answer>>>,
}

impl Readers {
    fn start(address: SocketAddr) -> Self {
        let (stop, stopped) = watch::channel(false);
        let read = |_| tokio::spawn(read(address, stopped.clone()));
        Self { tasks: (0..4).map(read).collect(), stop }
    }

    async fn stop(self) -> Vec<Answer> {
        self.stop.send_replace(true);
        let mut answers = Vec::new();
        for task in self.tasks {
            answers.extend(task.await.unwrap());
        }
        answers
    }
}

async fn read(address: SocketAddr, stopped: watch::Receiver<bool>) -> Vec<Answer> {
    let mut client = Client::connect(address).await.unwrap();
    let mut answers = Vec::new();
    while !*stopped.borrow() {
        for service in SERVICES {
            let answer = client.get(&format!("/{service}")).await.unwrap();
            assert_eq!(answer.status, 200);
            let generation = answer.field("x-tidegate-generation").unwrap().parse().unwrap();
            answers.push((service, generation, answer.field("x-origin").unwrap().to_owned()));
        }
        tokio::task::yield_now().await;
    }
    answers
}

#[tokio::test]
async fn a_bracket_releases_all_of_its_services_by_one_change() {
    let town = Town::new().await;
    let readers = Readers::start(town.proxy.public());
    let id = town.release("spring", "10s").await;
    town.proxy.reaches(&id, "succeeded").await;
    assert_eq!(town.stables().await, ["green"; 3]);
    let events = town.proxy.done("GET", "/api/events?after=0", None).await;
    let switches: Vec<_> =
        events.as_array().unwrap().iter().filter(|event| event["type"] == "traffic.switched").collect();
    let generations: Vec<_> = switches.iter().map(|event| event["generation"].as_u64().unwrap()).collect();
    assert_eq!(switches.len(), 3, "{switches:#?}");
    assert!(generations.iter().all(|generation| *generation == generations[0]), "{generations:?}");
    let answers = readers.stop().await;
    for (service, generation, origin) in &answers {
        let expected = if *generation < generations[0] { "blue" } else { "green" };
        assert_eq!(origin, expected, "{service} in generation {generation}, released in {}", generations[0]);
    }
    assert!(answers.iter().any(|(_, generation, _)| *generation < generations[0]));
    assert!(answers.iter().any(|(_, generation, _)| *generation >= generations[0]));
    let bracket = town.proxy.done("GET", "/api/brackets/spring", None).await;
    assert_eq!(bracket["state"], "released", "{bracket:#}");
    // One rollback for all.
    town.proxy.order(&id, "rollback").await;
    town.proxy.reaches(&id, "rolled-back").await;
    assert_eq!(town.stables().await, ["blue"; 3]);
}

#[tokio::test]
async fn a_bracket_of_which_one_service_fails_releases_none() {
    let town = Town::new().await;
    town.green["api"].set(Behaviour::Status(503));
    let crowd = Crowd::start(town.proxy.public(), 1);
    let readers = Readers::start(town.proxy.public());
    let id = town.release("autumn", "500ms").await;
    let over = town.proxy.reaches(&id, "rolled-back").await;
    assert_eq!(over["why"]["kind"], "health", "{over:#}");
    assert!(over["why"]["message"].as_str().unwrap().contains("api"), "{over:#}");
    assert_eq!(town.stables().await, ["blue"; 3]);
    let answers = readers.stop().await;
    assert!(answers.len() > 10 && answers.iter().all(|(_, _, origin)| origin == "blue"));
    crowd.stop().await;
    let bracket = town.proxy.done("GET", "/api/brackets/autumn", None).await;
    assert_eq!(bracket["state"], "aborted", "{bracket:#}");
    let again = town.proxy.call("POST", "/api/brackets/autumn/release", None).await;
    assert_eq!(again.status, 409, "{}", again.text());
}

#[tokio::test]
async fn a_bracket_whose_service_dies_while_it_is_watched_takes_all_of_them_back() {
    let mut town = Town::new().await;
    let bracket = json!({
        "name": "winter", "strategy": "blue-green", "watch": "60s", "health_successes": 1,
        "members": SERVICES.map(|service| json!({ "service": service, "to": "green", "version": "2" })),
    });
    town.proxy.done("POST", "/api/brackets", Some(bracket)).await;
    let released = town.proxy.done("POST", "/api/brackets/winter/release", None).await;
    let id = released["deployment"].as_str().unwrap().to_owned();
    town.proxy.does(&id, "analyse").await;
    assert_eq!(town.stables().await, ["green"; 3]);
    let crowd = Crowd::asking(town.proxy.public(), 2, &tidegate_e2e::Sent::new("GET", "/shop"));
    crowd.more(10).await;
    town.green.get_mut("shop").unwrap().stop().await;
    town.proxy.reaches(&id, "rolled-back").await;
    assert_eq!(town.stables().await, ["blue"; 3]);
    let before = Arc::new(crowd.so_far());
    crowd.more(20).await;
    let after = crowd.stop().await.since(&before);
    assert_eq!((after.failed(), after.of("blue")), (0, after.total()));
}
