//! Looks up the names of endpoints in the background, so that no request ever waits for a name server.
//!
//! A name that fails keeps its last addresses: a name server that is away must not take services away.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tidegate_admin::{Actor, Submission};
use tidegate_config::{EndpointAddress, Host};
use tidegate_core::{Change, State};
use tokio::time::{Instant, timeout, timeout_at};

use super::controller::Control;
use crate::routing::Routing;

/// Time between two look-ups of a name: as often as a blue/green move by name can bear, and cheap for a local resolver.
const AGAIN: Duration = Duration::from_secs(5);
/// Longest time for one look-up.
const LONGEST: Duration = Duration::from_secs(5);
/// Look-ups at the same time; each takes a thread of the runtime's blocking pool.
const CONCURRENT: usize = 16;

/// Keeps the addresses of names up to date until the process ends.
pub(crate) async fn run(routing: Arc<Routing>, control: Control) {
    let mut published = routing.published();
    let mut known: BTreeMap<EndpointAddress, Vec<SocketAddr>> = BTreeMap::new();
    let mut next_round = Instant::now();
    loop {
        published.mark_unchanged();
        let names = names(&routing.load_full().state);
        known.retain(|endpoint, _| names.contains(endpoint));
        let round = Instant::now() >= next_round;
        if round {
            next_round = Instant::now() + AGAIN;
        }
        let due: Vec<_> = names.into_iter().filter(|endpoint| round || !known.contains_key(endpoint)).collect();
        let mut found = stream::iter(due).map(look_up).buffer_unordered(CONCURRENT);
        while let Some((endpoint, sockets)) = found.next().await {
            if let Some(sockets) = news(&endpoint, sockets, &mut known) {
                tell(&control, endpoint, sockets).await;
            }
        }
        // A new name is looked up when it is published, not a round later.
        if let Ok(Err(_)) = timeout_at(next_round, published.changed()).await {
            return;
        }
    }
}

/// The endpoints that are given by name.
fn names(state: &State) -> BTreeSet<EndpointAddress> {
    let targets = state.services.values().flat_map(|service| service.wanted.targets.values());
    let endpoints = targets.flat_map(|target| target.endpoints.iter().map(|endpoint| &endpoint.address));
    endpoints.filter(|endpoint| matches!(endpoint.host, Host::Name(..))).cloned().collect()
}

async fn look_up(endpoint: EndpointAddress) -> (EndpointAddress, Result<Vec<SocketAddr>, String>) {
    let sockets = match &endpoint.host {
        Host::Name(name, port) => look_up_name(name, *port).await,
        Host::Ip(_) | Host::Unix(_) => Ok(Vec::new()),
    };
    (endpoint, sockets)
}

async fn look_up_name(name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    match timeout(LONGEST, tokio::net::lookup_host((name, port))).await {
        Ok(Ok(sockets)) => {
            let sockets: BTreeSet<_> = sockets.collect();
            if sockets.is_empty() { Err("the name has no addresses".into()) } else { Ok(sockets.into_iter().collect()) }
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {LONGEST:?}")),
    }
}

/// What the controller does not know yet, if anything.
fn news(
    endpoint: &EndpointAddress,
    sockets: Result<Vec<SocketAddr>, String>,
    known: &mut BTreeMap<EndpointAddress, Vec<SocketAddr>>,
) -> Option<Vec<SocketAddr>> {
    let before = known.get(endpoint);
    let sockets = match sockets {
        Ok(sockets) => sockets,
        Err(problem) if before.is_none() => {
            tracing::warn!(%endpoint, problem, "a name could not be looked up: it is tried again");
            Vec::new()
        }
        Err(problem) => {
            tracing::debug!(%endpoint, problem, "a name could not be looked up: its last addresses stay");
            return None;
        }
    };
    if before == Some(&sockets) {
        return None;
    }
    known.insert(endpoint.clone(), sockets.clone());
    Some(sockets)
}

async fn tell(control: &Control, endpoint: EndpointAddress, sockets: Vec<SocketAddr>) {
    tracing::info!(%endpoint, ?sockets, "addresses of a name changed");
    let change = Change::Resolved { endpoint, sockets };
    let submission = Submission { change, expected: None, dry_run: false, actor: Actor("resolver".into()) };
    if let Err(error) = control.submit(submission).await {
        tracing::warn!(%error, "addresses of a name could not be used");
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::SocketAddr};

    use super::news;

    #[test]
    fn only_changes_are_told_and_failures_keep_the_last_addresses() {
        let endpoint = "app.example:80".parse().unwrap();
        let one: Vec<SocketAddr> = vec!["10.0.0.1:80".parse().unwrap()];
        let two: Vec<SocketAddr> = vec!["10.0.0.2:80".parse().unwrap()];
        let fails = || Err("away".to_owned());
        let mut known = BTreeMap::new();
        // Nothing is known: a failure is worth telling, once.
        assert_eq!(news(&endpoint, fails(), &mut known), Some(vec![]));
        assert_eq!(news(&endpoint, fails(), &mut known), None);
        assert_eq!(news(&endpoint, Ok(one.clone()), &mut known), Some(one.clone()));
        assert_eq!(news(&endpoint, Ok(one.clone()), &mut known), None);
        assert_eq!(news(&endpoint, fails(), &mut known), None);
        assert_eq!(known[&endpoint], one);
        assert_eq!(news(&endpoint, Ok(two.clone()), &mut known), Some(two));
    }

    #[tokio::test]
    async fn a_name_is_looked_up() {
        let (_, sockets) = super::look_up("localhost:8080".parse().unwrap()).await;
        assert!(sockets.unwrap().iter().all(|socket| socket.ip().is_loopback() && socket.port() == 8080));
    }
}
