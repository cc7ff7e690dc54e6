//! Clients that ask all the time, and count who answered what.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle, time::sleep};

use crate::client::{Client, Sent};

/// Between two requests of a client: it has to leave some time to the others.
const PACE: Duration = Duration::from_millis(4);

/// What was answered: how often, by the origin's name and the status. A connection that ended without an answer has
/// status 0; an answer of the proxy itself has no origin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcomes(BTreeMap<(String, u16), usize>);

impl Outcomes {
    /// All requests.
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// Answers of an origin.
    pub fn of(&self, origin: &str) -> usize {
        self.count(|name, _| name == origin)
    }

    /// Requests without an answer of success.
    pub fn failed(&self) -> usize {
        self.count(|_, status| !(200..400).contains(&status))
    }

    /// Requests that this says yes to, by origin and status.
    pub fn count(&self, of: impl Fn(&str, u16) -> bool) -> usize {
        self.0.iter().filter(|((origin, status), _)| of(origin, *status)).map(|(_, count)| count).sum()
    }

    /// What was counted since an earlier look.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let new = self.0.iter().map(|(key, count)| (key.clone(), count - earlier.0.get(key).copied().unwrap_or(0)));
        Self(new.filter(|(_, count)| *count > 0).collect())
    }

    fn add(&mut self, origin: &str, status: u16) {
        *self.0.entry((origin.to_owned(), status)).or_default() += 1;
    }
}

/// Clients that ask until they are stopped.
#[derive(Debug)]
pub struct Crowd {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    outcomes: Arc<Mutex<Outcomes>>,
}

impl Crowd {
    /// So many clients, each with a connection of its own and one request at a time.
    pub fn start(address: SocketAddr, clients: usize) -> Self {
        Self::asking(address, clients, &Sent::new("GET", "/"))
    }

    /// Clients that ask for something else.
    pub fn asking(address: SocketAddr, clients: usize, request: &Sent) -> Self {
        let (stop, stopped) = watch::channel(false);
        let outcomes = Arc::new(Mutex::new(Outcomes::default()));
        let client = |_| tokio::spawn(ask(address, request.clone(), Arc::clone(&outcomes), stopped.clone()));
        Self { tasks: (0..clients).map(client).collect(), stop, outcomes }
    }

    /// What was counted so far.
    pub fn so_far(&self) -> Outcomes {
        self.outcomes.lock().unwrap().clone()
    }

    /// Waits until so many more requests were answered, whatever the answer.
    pub async fn more(&self, requests: usize) {
        let goal = self.so_far().total() + requests;
        let reached = || async { (self.so_far().total() >= goal).then_some(()) };
        crate::until("the crowd got its answers", reached).await;
    }

    /// Lets every client finish its request; what was counted.
    pub async fn stop(self) -> Outcomes {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.await.unwrap();
        }
        let outcomes = self.outcomes.lock().unwrap().clone();
        println!("answers: {:?}", outcomes.0);
        outcomes
    }
}

async fn ask(address: SocketAddr, request: Sent, outcomes: Arc<Mutex<Outcomes>>, mut stopped: watch::Receiver<bool>) {
    let mut client = None;
    while !*stopped.borrow_and_update() {
        let answer = match &mut client {
            Some(client) => Client::send(client, &request).await,
            None => match Client::connect(address).await {
                Ok(new) => client.insert(new).send(&request).await,
                Err(error) => Err(error),
            },
        };
        match answer {
            Ok(answer) => {
                outcomes.lock().unwrap().add(answer.field("x-origin").unwrap_or_default(), answer.status);
                if answer.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                    client = None;
                }
            }
            Err(_) => {
                outcomes.lock().unwrap().add("", 0);
                client = None;
            }
        }
        tokio::select! {
            () = sleep(PACE) => {}
            _ = stopped.changed() => {}
        }
    }
}
