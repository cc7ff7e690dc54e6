//! Services for the tests of changes.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use tidegate_config::{
    AccessLog, ActiveCheck, Admin, Config, EndpointAddress, EndpointSpec, EnvironmentSpec, Events, Expect,
    FailbackMode, FailoverHooks, FailoverPolicy, Flags, HealthPolicy, Limits, Listener, ListenerId, MirrorId,
    MirrorSpec, Probe, Retry, RouteHost, RouteSpec, Server, ServiceId, ServiceSpec, Split, TargetId, TargetSpec,
    Timeouts, Weight, server::AdminAddress,
};

use crate::{
    change::{Applied, Change, ChangeError, HealthReport, apply},
    health::Health,
    state::{Moment, ServiceState, State},
};

pub(crate) fn web() -> ServiceId {
    ServiceId::parse("web").unwrap()
}

pub(crate) fn target(name: &str) -> TargetId {
    TargetId::parse(name).unwrap()
}

pub(crate) fn mirror(name: &str) -> MirrorId {
    MirrorId::parse(name).unwrap()
}

pub(crate) fn endpoint(address: &str) -> EndpointAddress {
    address.parse().unwrap()
}

/// A target of these endpoints.
pub(crate) fn endpoints(addresses: &[&str]) -> TargetSpec {
    let endpoints = addresses.iter().map(|address| EndpointSpec { address: endpoint(address), weight: 1 }).collect();
    TargetSpec { endpoints }
}

/// A split from percents.
pub(crate) fn split(percents: &[(&str, f64)]) -> Split {
    Split::new(percents.iter().map(|(name, percent)| (target(name), Weight::from_percent(*percent).unwrap()))).unwrap()
}

pub(crate) fn mirror_to(name: &str) -> MirrorSpec {
    MirrorSpec {
        to: target(name),
        percent: Weight::FULL,
        methods: vec!["GET".into()],
        max_body: 65_536,
        compare: false,
        ignore: Vec::new(),
        remove_headers: Vec::new(),
        set_headers: BTreeMap::new(),
        flag: None,
    }
}

/// Service `web`: stable green with two endpoints, beside it blue and v3 with one each; fails over to blue.
pub(crate) fn spec(failback: FailbackMode) -> ServiceSpec {
    ServiceSpec {
        listeners: None,
        routes: vec![RouteSpec { host: RouteHost::Any, path: "/".into(), strip: false }],
        stable: target("green"),
        split: Split::all(target("green")),
        sticky: None,
        health: HealthPolicy::Active(ActiveCheck {
            probe: Probe::Http {
                method: "GET".into(),
                path: "/".into(),
                host: None,
                headers: BTreeMap::new(),
                expect: Expect { status: vec![200..=399], body: None },
            },
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            fall: 2,
            rise: 2,
        }),
        failover: Some(FailoverPolicy { to: target("blue"), failback, hooks: FailoverHooks::default() }),
        drain: Duration::from_secs(30),
        timeouts: Timeouts {
            connect: Duration::from_secs(2),
            response: Duration::from_secs(60),
            idle: Duration::from_secs(60),
        },
        retry: Retry { attempts: 2, budget: 20 },
        rules: Vec::new(),
        targets: BTreeMap::from([
            (target("green"), endpoints(&["10.0.0.1:80", "10.0.0.2:80"])),
            (target("blue"), endpoints(&["10.0.1.1:80"])),
            (target("v3"), endpoints(&["10.0.2.1:80"])),
        ]),
        mirrors: BTreeMap::new(),
        pin: None,
        expose: false,
        max_body: None,
        environment: EnvironmentSpec::default(),
    }
}

/// A file with these services and one listener.
pub(crate) fn file(services: impl IntoIterator<Item = (ServiceId, ServiceSpec)>) -> Config {
    let listener = Listener {
        address: "127.0.0.1:0".parse().unwrap(),
        tls: None,
        h2c: false,
        service_paths: false,
        preview: None,
    };
    Config {
        server: Server {
            threads: None,
            state_dir: PathBuf::from("state"),
            grace: Duration::from_secs(30),
            trusted_proxies: Vec::new(),
            limits: Limits {
                header_bytes: 65_536,
                header_fields: 100,
                header_timeout: Duration::from_secs(10),
                body_min_rate: 500,
                connections: 10_000,
                connections_per_client: 1_000,
            },
            access_log: AccessLog { sample: 0.0 },
            forwarded: false,
        },
        admin: Admin {
            listen: AdminAddress::Tcp("127.0.0.1:0".parse().unwrap()),
            tokens: Vec::new(),
            hosts: Vec::new(),
            metrics_auth: false,
        },
        listeners: BTreeMap::from([(ListenerId::parse("public").unwrap(), listener)]),
        services: services.into_iter().collect(),
        flags: Flags::default(),
        hooks: BTreeMap::new(),
        stages: BTreeMap::new(),
        watch: None,
        events: Events::default(),
    }
}

/// A state that tests move through time.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) now: Moment,
}

impl World {
    /// The state of a fresh start with these services; nothing is known of any endpoint.
    pub(crate) fn fresh(services: impl IntoIterator<Item = (ServiceId, ServiceSpec)>) -> Self {
        let (state, differences) = State::load(&file(services), None);
        assert_eq!(differences, []);
        Self { state, now: Moment { mono: Duration::from_secs(1_000), unix_ms: 1_700_000_000_000 } }
    }

    /// Service `web`, every endpoint healthy.
    pub(crate) fn web(failback: FailbackMode) -> Self {
        let mut world = Self::fresh([(web(), spec(failback))]);
        let all = [("green", "10.0.0.1:80"), ("green", "10.0.0.2:80"), ("blue", "10.0.1.1:80"), ("v3", "10.0.2.1:80")];
        world.see(&all.map(|(target, address)| (target, address, Health::Healthy)));
        world
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        self.now.mono += Duration::from_secs(seconds);
        self.now.unix_ms += seconds * 1_000;
    }

    /// Applies a change that must succeed, and goes on from there.
    pub(crate) fn apply(&mut self, change: &Change) -> Applied {
        let applied = self.try_apply(change).unwrap();
        self.state = applied.state.clone();
        applied
    }

    pub(crate) fn try_apply(&self, change: &Change) -> Result<Applied, ChangeError> {
        apply(&self.state, change, self.now)
    }

    /// Reports the health of endpoints of `web`.
    pub(crate) fn see(&mut self, found: &[(&str, &str, Health)]) -> Applied {
        let report = |(name, address, health): &(&str, &str, Health)| HealthReport {
            service: web(),
            target: target(name),
            endpoint: endpoint(address),
            health: *health,
            reason: "a test says so".into(),
        };
        self.apply(&Change::Health { reports: found.iter().map(report).collect() })
    }

    /// Reports the health of green's two endpoints.
    pub(crate) fn see_green(&mut self, health: Health) -> Applied {
        self.see(&[("green", "10.0.0.1:80", health), ("green", "10.0.0.2:80", health)])
    }

    pub(crate) fn service(&self) -> &Arc<ServiceState> {
        &self.state.services["web"]
    }
}
