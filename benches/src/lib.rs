//! Scenes that are measured: services of several shapes, compiled, and requests to decide on.

use std::{collections::BTreeMap, fmt::Debug, str::FromStr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tidegate_config::{
    EndpointSpec, EnvironmentSpec, FlagCondition, FlagName, FlagSource, FlagSpec, FlagType, FlagValue, Flags,
    HealthPolicy, Match, Retry, RouteHost, RouteSpec, RuleSpec, ServiceId, ServiceSpec, SourceSpec, Split, Sticky,
    TargetId, TargetSpec, TextMatch, Timeouts, Weight,
};
use tidegate_core::{
    Change, Draw, Generation, ListenerIdx, RequestHead, ServiceState, State, Wanted,
    flags::{FlagState, Found, Reading, SourceReport},
    stats::Worker,
};

/// Services of the large scene.
pub const SERVICES: usize = 10_000;
/// Routes of each of them.
pub const ROUTES_PER_SERVICE: usize = 10;

fn id<T: FromStr<Err: Debug>>(text: &str) -> T {
    match text.parse() {
        Ok(id) => id,
        Err(error) => unreachable!("{text}: {error:?}"),
    }
}

/// A service with these routes, a split of 90/10 and one endpoint per target.
pub fn service(routes: Vec<RouteSpec>) -> ServiceSpec {
    let target = |name: &str, address: &str| -> (TargetId, TargetSpec) {
        (id(name), TargetSpec { endpoints: vec![EndpointSpec { address: id(address), weight: 1 }] })
    };
    let weights = [("green", 9000), ("blue", 1000)];
    let weights = weights.map(|(target, points)| (id(target), Weight::from_points(points).unwrap_or_default()));
    ServiceSpec {
        listeners: None,
        routes,
        stable: id("green"),
        split: Split::new(weights).unwrap_or_else(|_| Split::all(id("green"))),
        sticky: None,
        health: HealthPolicy::Passive,
        failover: None,
        drain: Duration::from_secs(30),
        timeouts: Timeouts {
            connect: Duration::from_secs(2),
            response: Duration::from_secs(60),
            idle: Duration::from_secs(60),
        },
        retry: Retry { attempts: 2, budget: 20 },
        rules: Vec::new(),
        targets: BTreeMap::from([target("green", "127.0.0.1:3002"), target("blue", "127.0.0.1:3001")]),
        mirrors: BTreeMap::new(),
        pin: None,
        expose: false,
        max_body: None,
        environment: EnvironmentSpec::default(),
    }
}

/// A route without `strip`.
pub fn route(host: RouteHost, path: String) -> RouteSpec {
    RouteSpec { host, path, strip: false }
}

/// One service for everything.
pub fn one() -> ServiceSpec {
    service(vec![route(RouteHost::Any, "/".into())])
}

/// Makes a service sticky by cookie.
#[must_use]
pub fn sticky(mut service: ServiceSpec) -> ServiceSpec {
    service.sticky = Some(Sticky { cookie: "tidegate".into(), header: None, max_age: Duration::from_secs(86400) });
    service
}

/// Gives a service five rules of every kind, none of which matches [`Request::new`].
#[must_use]
pub fn with_rules(mut service: ServiceSpec) -> ServiceSpec {
    let text = |name: &str| BTreeMap::from([(name.to_string(), TextMatch::Exact("1".into()))]);
    let rules = [
        Match { headers: text("x-beta"), ..Match::default() },
        Match { cookies: text("beta"), ..Match::default() },
        Match { query: text("beta"), ..Match::default() },
        Match { methods: vec!["PUT".into()], ..Match::default() },
        Match { path: Some("/admin".into()), ..Match::default() },
    ];
    service.rules = rules.into_iter().map(|when| RuleSpec { when, to: id("blue") }).collect();
    service
}

/// Flags of the scene with flags, all in one store.
pub const FLAGS: usize = 10_000;
/// Rules of its service, each on another flag.
pub const FLAG_RULES: usize = 1_000;
/// A value whose targeting looks at a header, and is off for [`Request::new`].
pub const TARGETED: &str = r#"{"variants":{"on":true,"off":false},"defaultVariant":"off",
    "targeting":{"if":[{"==":[{"var":"headers.x-plan"},"gold"]},"on",null]}}"#;

/// Gives every service 1,000 rules on flags, and the state 10,000 flags with this value.
#[must_use]
pub fn with_flags(mut state: State, value: &str) -> State {
    let flag = |n: usize| id::<FlagName>(&format!("flag-{n}"));
    let spec = FlagSpec {
        kind: FlagType::Boolean,
        default: Some(FlagValue::Boolean(false)),
        key: String::new(),
        source: FlagSource::Named(id("main")),
        header: None,
    };
    let file = SourceSpec::File("flags.json".into());
    let flags = Flags {
        sources: [(id("main"), file)].into(),
        declared: (0..FLAGS).map(|n| (flag(n), FlagSpec { key: format!("flag-{n}"), ..spec.clone() })).collect(),
        values: (0..FLAGS).map(|n| (flag(n), value.to_owned())).collect(),
        ..Flags::default()
    };
    state.flags = Arc::new(FlagState::declared(&flags));
    let rule = |n: usize| {
        // Spread over all flags, as over the memory that they lie in.
        let condition = FlagCondition { name: flag(n * 7919 % FLAGS), is: None };
        RuleSpec { when: Match { flag: Some(condition), ..Match::default() }, to: id("blue") }
    };
    for service in state.services.values_mut() {
        let service = Arc::make_mut(service);
        Arc::make_mut(&mut service.spec).rules = (0..FLAG_RULES).map(rule).collect();
    }
    state
}

/// What is read of the store when the first flag has this value and all others are off.
pub fn read_again(first: &str) -> Change {
    let value = |n: usize| if n == 0 { first } else { "off" };
    let keys = (0..FLAGS).map(|n| (format!("flag-{n}"), Found::Text(value(n).into()))).collect();
    let reading = Reading { keys, marked: true, ..Reading::default() };
    Change::Readings { source: id("main"), report: SourceReport::Read(Arc::new(reading)) }
}

/// Where the routes of the large scene are.
#[derive(Debug, Clone, Copy)]
pub enum Layout {
    /// Each service has its own host.
    ManyHosts,
    /// All services are below one host.
    OneHost,
}

/// 10,000 services with 100,000 routes.
pub fn many(layout: Layout) -> impl Iterator<Item = ServiceSpec> {
    (0..SERVICES).map(move |n| {
        let route = |r| match layout {
            Layout::ManyHosts => route(RouteHost::Exact(format!("service-{n}.example.com")), format!("/api/v{r}")),
            Layout::OneHost => {
                route(RouteHost::Exact("example.com".into()), format!("/team-{}/service-{n}/v{r}", n % 100))
            }
        };
        service((0..ROUTES_PER_SERVICE).map(route).collect())
    })
}

/// Host and path of a request for one of the routes of [`many`].
pub fn url_for(layout: Layout, n: usize) -> (String, String) {
    let (n, r) = (n % SERVICES, n / 7 % ROUTES_PER_SERVICE);
    match layout {
        Layout::ManyHosts => (format!("service-{n}.example.com"), format!("/api/v{r}/items/42")),
        Layout::OneHost => ("example.com".into(), format!("/team-{}/service-{n}/v{r}/items/42", n % 100)),
    }
}

/// A state of these services.
pub fn state(services: impl IntoIterator<Item = ServiceSpec>) -> State {
    let service = |(n, spec): (usize, ServiceSpec)| -> (ServiceId, Arc<ServiceState>) {
        let state = ServiceState {
            wanted: Wanted::declared(&spec),
            spec: Arc::new(spec),
            overlay: None,
            preparation: None,
            health: BTreeMap::new(),
            resolved: BTreeMap::new(),
            draining: BTreeMap::new(),
            under_test: Default::default(),
        };
        (id(&format!("service-{n}")), Arc::new(state))
    };
    State {
        generation: Generation(1),
        listeners: [id("public")].into(),
        services: services.into_iter().enumerate().map(service).collect(),
        offers: Arc::default(),
        previews: Arc::default(),
        flags: Arc::default(),
    }
}

/// A change of one service's split, as an operator makes it.
pub fn change_one(state: &State) -> State {
    let mut state = state.clone();
    state.generation = state.generation.next();
    if let Some(mut service) = state.services.first_entry() {
        Arc::make_mut(service.get_mut()).wanted.split = Split::all(id("green"));
    }
    state
}

/// A request that owns its parts, with the headers of a browser.
#[derive(Debug)]
pub struct Request {
    host: String,
    path: String,
    headers: HeaderMap,
}

impl Request {
    /// A GET.
    pub fn new(host: &str, path: &str) -> Self {
        let headers = [
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
            ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            ("accept-language", "en-US,en;q=0.5"),
            ("accept-encoding", "gzip, deflate, br"),
            ("cookie", "session=0123456789abcdef; theme=dark; tidegate=0123456789abcdef0123456789abcdef"),
        ];
        let pair = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        Self { host: host.into(), path: path.into(), headers: headers.into_iter().map(pair).collect() }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    /// The head of the same request to another host and path.
    pub fn head_to<'a>(&'a self, host: &'a str, path: &'a str) -> RequestHead<'a> {
        RequestHead { host, path, ..self.head() }
    }

    /// Its head.
    pub fn head(&self) -> RequestHead<'_> {
        RequestHead {
            listener: ListenerIdx(0),
            method: &Method::GET,
            host: &self.host,
            path: &self.path,
            query: Some("page=1&sort=name"),
            headers: &self.headers,
            client: None,
            unix_s: 1_700_000_000,
            pin_authorised: false,
        }
    }
}

/// A draw that differs from call to call.
pub fn draw(n: u64) -> Draw {
    let spread = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Draw { worker: Worker(0), random: [spread, spread.rotate_left(32)] }
}
