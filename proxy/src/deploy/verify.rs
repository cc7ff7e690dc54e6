//! Waits until endpoints of a new version are healthy: by probes of its own, and until the proxy would use them.
//!
//! Both, because a deployment may ask another path than the service's health check, and a version that the check calls
//! ill would get no traffic whatever the deployment asked.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use futures_util::{StreamExt as _, stream};
use tidegate_config::{ActiveCheck, EndpointAddress, Expect, HealthPolicy, Host, Probe, ServiceId, TargetId};
use tidegate_core::{
    Endpoint, Health, Service, Snapshot,
    deploy::{machine::Outcome, step::Verify},
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::{
    probe,
    routing::{PassiveSign, PassiveSigns, Routing, Sign},
};

/// Time between two probes of an endpoint.
const INTERVAL: Duration = Duration::from_secs(1);
/// Time between two looks whether the proxy uses what has passed: its own checks may be a moment behind.
const LOOK: Duration = Duration::from_millis(50);
/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Probes that run at the same time.
const AT_ONCE: usize = 32;

/// An endpoint, and what is known of it.
struct Asked {
    service: ServiceId,
    target: TargetId,
    address: EndpointAddress,
    /// Successes in a row.
    passed: u32,
    /// Why it is not well.
    reason: String,
}

/// Probes until every endpoint has passed often enough in a row, or the time is over.
pub(super) async fn run(verify: &Verify, routing: &Routing, signs: &PassiveSigns) -> Outcome {
    let mut asked = asked(verify);
    let deadline = Instant::now() + verify.timeout;
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if tokio::time::timeout_at(deadline, ticks.tick()).await.is_err() {
            return Outcome::Failed(late(verify, &asked));
        }
        let snapshot = routing.load_full();
        let probes = asked.iter().map(|asked| look(verify, &snapshot, asked)).collect::<Vec<_>>();
        let looked = stream::iter(probes).buffered(AT_ONCE).collect::<Vec<_>>();
        let Ok(answers) = tokio::time::timeout_at(deadline, looked).await else {
            return Outcome::Failed(late(verify, &asked));
        };
        for (asked, answer) in asked.iter_mut().zip(answers) {
            match answer {
                Ok(()) => asked.passed = asked.passed.saturating_add(1),
                Err(reason) => (asked.passed, asked.reason) = (0, reason),
            }
        }
        if asked.iter().all(|asked| asked.passed >= verify.successes) {
            for asked in asked.iter().filter(|asked| !in_use(routing, asked)) {
                // The proxy's own check may have most of its interval before it.
                let Asked { service, target, address, .. } = asked;
                let (service, target, endpoint) = (service.clone(), target.clone(), address.clone());
                drop(signs.try_send(PassiveSign { service, target, endpoint, sign: Sign::Started }));
            }
            let again = deadline.min(Instant::now() + INTERVAL);
            while Instant::now() < again {
                if asked.iter().all(|asked| in_use(routing, asked)) {
                    return Outcome::Done;
                }
                sleep(LOOK).await;
            }
        }
    }
}

fn asked(verify: &Verify) -> Vec<Asked> {
    let mut asked = Vec::new();
    for (service, targets) in &verify.endpoints {
        for (target, endpoints) in targets {
            asked.extend(endpoints.iter().map(|address| Asked {
                service: service.clone(),
                target: target.clone(),
                address: address.clone(),
                passed: 0,
                reason: "it was not probed yet".to_owned(),
            }));
        }
    }
    asked
}

/// What the time was not enough for.
fn late(verify: &Verify, asked: &[Asked]) -> String {
    let ill = asked.iter().filter(|asked| asked.passed < verify.successes).map(|asked| {
        format!("{} of target {} of service {}: {}", asked.address, asked.target, asked.service, asked.reason)
    });
    let ill: Vec<String> = ill.collect();
    let what = match ill.first() {
        None => "the health checks of the service did not pass".to_owned(),
        Some(first) if ill.len() == 1 => first.clone(),
        Some(first) => format!("{first} (and {} more)", ill.len() - 1),
    };
    format!("not healthy within {:?}: {what}", verify.timeout)
}

fn found<'a>(snapshot: &'a Snapshot, asked: &Asked) -> Option<(&'a Service, &'a Endpoint)> {
    let service = snapshot.service_named(&asked.service)?;
    let target = service.target_named(asked.target.as_str()).and_then(|idx| service.target(idx))?;
    let endpoint = target.endpoints.iter().find(|endpoint| endpoint.address == asked.address)?;
    Some((service, endpoint))
}

/// Whether the proxy would send requests there.
fn in_use(routing: &Routing, asked: &Asked) -> bool {
    let snapshot = routing.load();
    found(&snapshot, asked).is_none_or(|(_, endpoint)| match endpoint.health {
        Health::Healthy | Health::Suspect => endpoint.is_resolved(),
        Health::Unknown | Health::Unhealthy => false,
    })
}

async fn look(verify: &Verify, snapshot: &Snapshot, asked: &Asked) -> Result<(), String> {
    let (policy, sockets) = match found(snapshot, asked) {
        Some((service, endpoint)) => (Some(&service.spec.health), endpoint.sockets.clone()),
        None => (snapshot.service_named(&asked.service).map(|service| &service.spec.health), own(&asked.address)),
    };
    let (address, sockets) = with_port(&asked.address, sockets, verify.port);
    let check = check(policy, verify.path.as_deref());
    probe::probe(&address, &sockets, &check).await.map_err(|failure| failure.to_string())
}

/// The socket address that an endpoint names itself.
fn own(address: &EndpointAddress) -> Vec<SocketAddr> {
    match &address.host {
        Host::Ip(socket) => vec![*socket],
        Host::Name(..) | Host::Unix(_) => Vec::new(),
    }
}

fn with_port(
    address: &EndpointAddress,
    sockets: Vec<SocketAddr>,
    port: Option<u16>,
) -> (EndpointAddress, Vec<SocketAddr>) {
    let Some(port) = port else { return (address.clone(), sockets) };
    let other = |socket: SocketAddr| SocketAddr::new(socket.ip(), port);
    let host = match &address.host {
        Host::Ip(socket) => Host::Ip(other(*socket)),
        Host::Name(name, _) => Host::Name(name.clone(), port),
        Host::Unix(path) => Host::Unix(path.clone()),
    };
    (EndpointAddress { host, ..address.clone() }, sockets.into_iter().map(other).collect())
}

/// The service's own check, with the path that the deployment wants; without either, a connection is enough.
fn check(policy: Option<&HealthPolicy>, path: Option<&str>) -> ActiveCheck {
    let mut check = match policy {
        Some(HealthPolicy::Active(check)) => check.clone(),
        Some(HealthPolicy::Passive) | None => {
            ActiveCheck { probe: Probe::Tcp, interval: INTERVAL, timeout: ANSWER, fall: 1, rise: 1 }
        }
    };
    if let Some(wanted) = path {
        match &mut check.probe {
            Probe::Http { path, .. } => wanted.clone_into(path),
            Probe::Tcp => check.probe = get(wanted),
        }
    }
    check
}

fn get(path: &str) -> Probe {
    Probe::Http {
        method: "GET".to_owned(),
        path: path.to_owned(),
        host: None,
        headers: BTreeMap::new(),
        expect: Expect { status: vec![200..=399], body: None },
    }
}
