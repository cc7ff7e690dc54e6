//! Scenes for tests: a state in a few words, and requests to decide on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tidegate_config::{
    EndpointSpec, EnvironmentSpec, FailbackMode, FailoverHooks, FailoverPolicy, HealthPolicy, Match, MirrorSpec, Retry,
    RouteHost, RouteSpec, RuleSpec, ServiceId, ServiceSpec, Split, Sticky, TargetId, TargetSpec, Timeouts, Weight,
};

use crate::{
    Draw, Generation, Health, ListenerIdx, Overlay, Plan, RequestHead, Service, ServiceState, Snapshot, State,
    TargetIdx, Wanted, compile::compile, decide::decide, state::Cause, state::Phase, stats::Worker,
};

/// Parses a name or an address.
pub(crate) fn id<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(crate) fn weight(points: u16) -> Weight {
    Weight::from_points(points).unwrap()
}

pub(crate) fn split(weights: &[(&str, u16)]) -> Split {
    Split::new(weights.iter().map(|(target, points)| (id(target), weight(*points)))).unwrap()
}

/// One service `web` at `*` `/`, whose endpoints are all healthy.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub(crate) state: State,
}

impl Scene {
    /// Targets with this many endpoints; the first is stable and has everything.
    pub(crate) fn new(targets: &[(&str, u16)]) -> Self {
        let endpoint = |target: usize, at: u16| EndpointSpec {
            address: id(&format!("127.0.0.1:{}", 1000 * (target as u16 + 1) + at)),
            weight: 1,
        };
        let spec = |(at, (name, count)): (usize, &(&str, u16))| -> (TargetId, TargetSpec) {
            (id(name), TargetSpec { endpoints: (0..*count).map(|n| endpoint(at, n)).collect() })
        };
        let targets: BTreeMap<_, _> = targets.iter().enumerate().map(spec).collect();
        Self::of(spec_of(targets.clone(), id(targets_first(&targets))))
    }

    fn of(spec: ServiceSpec) -> Self {
        let health = |spec: &TargetSpec| spec.endpoints.iter().map(|e| (e.address.clone(), Health::Healthy)).collect();
        let service = ServiceState {
            health: spec.targets.iter().map(|(target, spec)| (target.clone(), health(spec))).collect(),
            wanted: Wanted::declared(&spec),
            spec: Arc::new(spec),
            overlay: None,
            preparation: None,
            resolved: BTreeMap::new(),
            draining: BTreeMap::new(),
            under_test: Default::default(),
        };
        Self {
            state: State {
                generation: Generation(1),
                listeners: [id("public")].into(),
                services: BTreeMap::from([(id("web"), Arc::new(service))]),
                offers: Arc::default(),
                previews: Arc::default(),
                flags: Arc::default(),
            },
        }
    }

    /// Changes the service.
    pub(crate) fn web(mut self, change: impl FnOnce(&mut ServiceState)) -> Self {
        change(Arc::make_mut(self.state.services.get_mut("web").unwrap()));
        self
    }

    /// Changes what the file declares.
    pub(crate) fn spec(self, change: impl FnOnce(&mut ServiceSpec)) -> Self {
        self.web(|web| change(Arc::make_mut(&mut web.spec)))
    }

    pub(crate) fn stable(self, target: &str) -> Self {
        self.web(|web| {
            web.wanted.stable = id(target);
            web.wanted.split = Split::all(id(target));
        })
    }

    pub(crate) fn split(self, weights: &[(&str, u16)]) -> Self {
        self.web(|web| web.wanted.split = split(weights))
    }

    pub(crate) fn health(self, target: &str, health: &[Health]) -> Self {
        self.web(|web| {
            let endpoints = &web.wanted.targets[target].endpoints;
            let all = endpoints.iter().zip(health).map(|(endpoint, health)| (endpoint.address.clone(), *health));
            web.health.insert(id(target), all.collect());
        })
    }

    /// Every endpoint of these targets is unhealthy.
    pub(crate) fn down(self, targets: &[&str]) -> Self {
        targets.iter().fold(self, |scene, target| scene.health(target, &[Health::Unhealthy; 100]))
    }

    pub(crate) fn weights(self, target: &str, weights: &[u16]) -> Self {
        self.web(|web| {
            let endpoints = &mut web.wanted.targets.get_mut(target).unwrap().endpoints;
            endpoints.iter_mut().zip(weights).for_each(|(endpoint, weight)| endpoint.weight = *weight);
        })
    }

    pub(crate) fn drained(self, target: &str) -> Self {
        self.web(|web| web.wanted.drained = BTreeSet::from([id(target)]))
    }

    pub(crate) fn fallback(self, to: &str) -> Self {
        self.spec(|spec| {
            spec.failover =
                Some(FailoverPolicy { to: id(to), failback: FailbackMode::Manual, hooks: FailoverHooks::default() })
        })
    }

    pub(crate) fn overlay(self, to: &str, points: u16) -> Self {
        self.web(|web| {
            web.overlay = Some(Overlay {
                from: web.wanted.stable.clone(),
                to: id(to),
                share: weight(points),
                cause: Cause::Operator,
                since_unix_ms: 0,
                phase: Phase::Holding,
            });
        })
    }

    pub(crate) fn sticky(self) -> Self {
        let sticky = Sticky { cookie: "tidegate".into(), header: Some("x-user".into()), max_age: Duration::ZERO };
        self.spec(|spec| spec.sticky = Some(sticky))
    }

    pub(crate) fn rule(self, when: Match, to: &str) -> Self {
        self.spec(|spec| spec.rules.push(RuleSpec { when, to: id(to) }))
    }

    pub(crate) fn mirror(self, name: &str, to: &str, points: u16) -> Self {
        let spec = MirrorSpec {
            to: id(to),
            percent: weight(points),
            methods: vec!["GET".into(), "HEAD".into()],
            max_body: 65536,
            compare: false,
            ignore: Vec::new(),
            remove_headers: Vec::new(),
            set_headers: BTreeMap::new(),
            flag: None,
        };
        self.web(|web| drop(web.wanted.mirrors.insert(id(name), spec)))
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        compile(&Arc::new(self.state.clone()), None, 1)
    }
}

fn targets_first(targets: &BTreeMap<TargetId, TargetSpec>) -> &str {
    let by_port = |spec: &TargetSpec| spec.endpoints.first().map(|endpoint| endpoint.address.clone());
    targets.iter().min_by_key(|(_, spec)| by_port(spec)).unwrap().0.as_str()
}

pub(crate) fn route(host: RouteHost, path: &str) -> RouteSpec {
    RouteSpec { host, path: path.into(), strip: false }
}

fn spec_of(targets: BTreeMap<TargetId, TargetSpec>, stable: TargetId) -> ServiceSpec {
    ServiceSpec {
        listeners: None,
        routes: vec![route(RouteHost::Any, "/")],
        split: Split::all(stable.clone()),
        stable,
        sticky: None,
        health: HealthPolicy::Active(tidegate_config::ActiveCheck {
            probe: tidegate_config::Probe::Tcp,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            fall: 2,
            rise: 2,
        }),
        failover: None,
        drain: Duration::from_secs(30),
        timeouts: Timeouts {
            connect: Duration::from_secs(2),
            response: Duration::from_secs(60),
            idle: Duration::from_secs(60),
        },
        retry: Retry { attempts: 2, budget: 20 },
        rules: Vec::new(),
        targets,
        mirrors: BTreeMap::new(),
        pin: None,
        expose: false,
        max_body: None,
        environment: EnvironmentSpec::default(),
    }
}

/// The service `web` of a snapshot.
pub(crate) fn web(snapshot: &Snapshot) -> &Service {
    snapshot.service_named(&id::<ServiceId>("web")).unwrap()
}

/// The position of a target of `web`.
pub(crate) fn at(snapshot: &Snapshot, target: &str) -> TargetIdx {
    web(snapshot).target_named(target).unwrap()
}

/// The name of a target of `web`.
pub(crate) fn named(snapshot: &Snapshot, target: TargetIdx) -> String {
    web(snapshot).target(target).unwrap().id.to_string()
}

/// A request that owns its parts.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) pin_authorised: bool,
}

impl Request {
    pub(crate) fn get(path: &str) -> Self {
        Self {
            method: Method::GET,
            host: "example.com".into(),
            path: path.into(),
            query: None,
            headers: HeaderMap::new(),
            pin_authorised: false,
        }
    }

    pub(crate) fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    pub(crate) fn query(mut self, query: &str) -> Self {
        self.query = Some(query.into());
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.append(HeaderName::from_str(name).unwrap(), HeaderValue::from_str(value).unwrap());
        self
    }

    /// Carries an authorised pin.
    pub(crate) fn pin(mut self, target: &str) -> Self {
        self.pin_authorised = true;
        self.header("x-tidegate-target", target)
    }

    pub(crate) fn head(&self) -> RequestHead<'_> {
        RequestHead {
            listener: ListenerIdx(0),
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            client: None,
            unix_s: 1_700_000_000,
            pin_authorised: self.pin_authorised,
        }
    }

    pub(crate) fn decide(&self, snapshot: &Snapshot, random: u64) -> Plan {
        decide(snapshot, &self.head(), draw(random))
    }
}

/// Spreads a small number over all random bits.
pub(crate) fn draw(random: u64) -> Draw {
    let spread = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    Draw { worker: Worker(0), random: [spread(2 * random + 1), spread(2 * random + 2)] }
}

/// What `[flags]` says in a file with this text and the targets blue and green.
pub(crate) fn flags_of(text: &str) -> tidegate_config::Flags {
    let service = "service.web = { stable = \"blue\", target = { blue = { endpoints = [\"127.0.0.1:1\"] }, \
                   green = { endpoints = [\"127.0.0.1:2\"] } } }";
    tidegate_config::parse(&format!("{service}\n{text}")).unwrap().flags
}

/// Flags with these values in the process.
pub(crate) fn flag_values(values: &[(&str, &str)]) -> tidegate_config::Flags {
    let lines: String = values.iter().map(|(name, value)| format!("{name:?} = {value:?}\n")).collect();
    flags_of(&format!("[flags.values]\n{lines}"))
}
