//! From a document to a [`DeploymentSpec`], or to everything that is wrong with it.
//!
//! Durations are texts with a unit. The keys that came with the commands of Hivemind (`interval`, `duration`,
//! `batch_delay` and those that end in `_timeout`) also take a bare number, which means seconds, as there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tidegate_config::{EndpointAddress, EndpointSpec, ServiceId, TargetId, Weight};

use super::{
    AnalyseSpec, CustomStep, DeploymentSpec, Gate, Goal, HealthSpec, HookRun, Hooks, KeepOld, MemberSpec, Metadata,
    MirrorPolicy, OnFail, OnInconclusive, PauseFor, PreOrder, Rolling, SpecProblem, Strategy, TestHook, TestKind,
    Variant, WhenBusy,
    read::{Node, Report, Table, quoted},
    value::Value,
};
use crate::deploy::watch::Statuses;

/// Keys that belong to some strategies only.
const STRATEGY_KEYS: [&str; 16] = [
    "percentage",
    "steps",
    "interval",
    "max_surge",
    "max_unavailable",
    "batch_size",
    "batch_delay",
    "verification_timeout",
    "watch",
    "duration",
    "goal",
    "variant",
    "variants",
    "mirror",
    "step",
    "load",
];
/// Strategies that judge the new version.
const JUDGING: [&str; 4] = ["blue-green", "canary", "ab-testing", "custom"];
/// Keys of the only service of a deployment.
const SINGLE: [&str; 8] = ["service", "app_name", "to", "target", "version", "image", "artifact", "endpoints"];
/// Keys of several services.
const LISTED: [&str; 2] = ["member", "members"];
/// Most members, variants and steps: more are a mistake.
const MAX_LIST: usize = 64;
/// How long a new version may take to become healthy.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(60);
/// Successes in a row that show health.
const SUCCESSES: i64 = 2;
/// How long a new version is watched after a switch: six probes at the usual interval.
const WATCH: Duration = Duration::from_secs(30);
/// Time of one share of a canary.
const INTERVAL: Duration = Duration::from_secs(300);
/// Time of a test of variants.
const TEST_DURATION: Duration = Duration::from_secs(86_400);
/// Longest wait for a person.
const PATIENCE: Duration = Duration::from_secs(86_400);
/// Requests of each side below which nobody can tell.
const MIN_REQUESTS: i64 = 100;
/// Odds ratio below which a difference does not matter.
const MAX_ODDS: f64 = 1.5;
/// Probability of a false alarm; for tests of variants, where nothing is taken back, five times that.
const ALPHA: f64 = 0.01;
const TEST_ALPHA: f64 = 0.05;

/// Reads a deployment.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(document: &Value) -> Result<DeploymentSpec, Vec<SpecProblem>> {
    let report = Report::default();
    let root = Node { report: &report, path: String::new(), value: document };
    let spec = root.table().map(|table| {
        let (strategy, named) = strategy(&table);
        let members = members(&table, strategy.as_ref()).unwrap_or_default();
        deployment(&table, members, strategy, named)
    });
    outcome(spec, report)
}

/// Reads what the deployments of a stage have in common: everything but services and versions.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_template(document: &Value) -> Result<DeploymentSpec, Vec<SpecProblem>> {
    let report = Report::default();
    let root = Node { report: &report, path: String::new(), value: document };
    let spec = root.table().map(|table| {
        let (strategy, named) = strategy(&table);
        deployment(&table, Vec::new(), strategy, named)
    });
    outcome(spec, report)
}

/// Reads a deployment whose services may still be unknown: if the document names any, it must be whole.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_open(document: &Value) -> Result<DeploymentSpec, Vec<SpecProblem>> {
    let named = |entries: &BTreeMap<String, Value>| {
        let own = |key: &String| SINGLE.iter().chain(&LISTED).any(|known| *known == key.replace('-', "_"));
        entries.iter().any(|(key, value)| own(key) && *value != Value::Null)
    };
    match document {
        Value::Table(entries) if named(entries) => parse(document),
        _ => parse_template(document),
    }
}

/// Reads services and their new versions, and nothing else: one in the keys of the document itself, or several in
/// `member`.
///
/// # Errors
/// Everything that is wrong with them.
pub fn parse_members(document: &Value) -> Result<Vec<MemberSpec>, Vec<SpecProblem>> {
    let report = Report::default();
    let root = Node { report: &report, path: String::new(), value: document };
    let read = root.table().and_then(|table| {
        let read = members(&table, None);
        table.finish(|_| None);
        read
    });
    outcome(read, report)
}

fn outcome<T>(read: Option<T>, report: Report) -> Result<T, Vec<SpecProblem>> {
    let problems = report.finish();
    match read {
        Some(read) if problems.is_empty() => Ok(read),
        _ => Err(problems),
    }
}

fn deployment(
    t: &Table<'_>,
    members: Vec<MemberSpec>,
    strategy: Option<Strategy>,
    named: &'static str,
) -> DeploymentSpec {
    let name = t.get(&["name"], |node| node.text().map(str::to_owned));
    let blind = matches!(strategy, Some(Strategy::Blind));
    let test = matches!(strategy, Some(Strategy::AbTesting { .. }));
    let spec = DeploymentSpec {
        name,
        project: t.get(&["project"], |node| node.text().map(str::to_owned)),
        stage: t.get(&["stage"], |node| node.text().map(str::to_owned)),
        members,
        hooks: hooks(t, named),
        pre_order: t.get(&["pre_order"], pre_order).unwrap_or_default(),
        health: health(t, named),
        drain: t.get(&["drain_timeout"], |node| node.duration_or_seconds()),
        keep_old: t.get(&["keep_old"], keep_old),
        mark_bad: t.get(&["mark_bad"], |node| node.truth()),
        auto_rollback: t.get(&["auto_rollback"], |node| node.truth()).unwrap_or(!blind),
        force: t.get(&["force"], |node| match node.value {
            Value::Bool(true) => node.refuse("say why, as a text: it is recorded"),
            Value::Bool(false) => None,
            _ => node.text().map(str::to_owned),
        }),
        when_busy: t
            .get(&["supersede"], |node| node.truth())
            .map_or(WhenBusy::Refuse, |supersede| if supersede { WhenBusy::Supersede } else { WhenBusy::Refuse }),
        analyse: t.get(&["analyse"], |node| analyse(&node, test)).unwrap_or_else(|| AnalyseSpec::usual(test)),
        patience: t.get(&["patience"], |node| node.duration()).unwrap_or(PATIENCE),
        fingerprint: t.get(&["fingerprint"], |node| node.texts()).unwrap_or_default(),
        metadata: metadata(t, named),
        strategy: strategy.unwrap_or(Strategy::Recreate),
    };
    t.finish(|key| STRATEGY_KEYS.contains(&key).then(|| format!("strategy {named} has no use for it: leave it out")));
    spec
}

fn strategy(t: &Table<'_>) -> (Option<Strategy>, &'static str) {
    let Some(node) = t.node(&["strategy"]) else { return (Some(Strategy::Recreate), "recreate") };
    let Some(text) = node.text() else { return (None, "") };
    // Tasks of Keptn are called `deploy_direct` and `deploy_blue_green`.
    let dashed = text.strip_prefix("deploy_").unwrap_or(text).replace('_', "-");
    // `direct` is Keptn's word for a deployment in place; `ab` and `rolling` are how people say it.
    let meant = match dashed.as_str() {
        "direct" => "recreate",
        "ab" | "a-b" => "ab-testing",
        "rolling" => "rolling-update",
        other => other,
    };
    let Some(named) = Strategy::NAMES.into_iter().find(|known| *known == meant) else {
        node.refuse::<()>(format!("there is no strategy {}: use one of {}", quoted(text), Strategy::NAMES.join(", ")));
        // What the other keys mean is not known: they are all taken as they are.
        for key in STRATEGY_KEYS {
            t.node(&[key]);
        }
        return (None, "");
    };
    let strategy = match named {
        "simple" => Some(Strategy::Simple),
        "blind" => Some(Strategy::Blind),
        "rolling-update" => rolling(t, 1).map(Strategy::RollingUpdate),
        "zero-downtime" => zero_downtime(t).map(Strategy::ZeroDowntime),
        "blue-green" => Some(Strategy::BlueGreen { watch: t.get(&["watch"], |n| n.duration()).unwrap_or(WATCH) }),
        "canary" => canary(t),
        "ab-testing" => ab_testing(t),
        "shadow" => Some(Strategy::Shadow(shadow(t))),
        "custom" => custom(t),
        _ => Some(Strategy::Recreate),
    };
    (strategy, named)
}

fn count(node: &Node<'_>, least: i64) -> Option<u32> {
    u32::try_from(node.integer(least..=1000)?).ok()
}

fn rolling(t: &Table<'_>, surge: u32) -> Option<Rolling> {
    let max_surge = t.get(&["max_surge"], |node| count(&node, 0)).unwrap_or(surge);
    let max_unavailable = t.get(&["max_unavailable"], |node| count(&node, 0)).unwrap_or(0);
    if max_surge == 0 && max_unavailable == 0 {
        t.refuse("max_surge", "max_surge and max_unavailable are both 0: nothing could ever be replaced");
        return None;
    }
    Some(Rolling {
        replicas: t.get(&["replicas"], |node| count(&node, 1)),
        max_surge,
        max_unavailable,
        batch_delay: t.get(&["batch_delay"], |node| node.duration_or_seconds()).unwrap_or(Duration::ZERO),
    })
}

fn zero_downtime(t: &Table<'_>) -> Option<Rolling> {
    Some(Rolling {
        replicas: t.get(&["replicas"], |node| count(&node, 1)),
        max_surge: t.get(&["batch_size", "max_surge"], |node| count(&node, 1)).unwrap_or(1),
        max_unavailable: 0,
        batch_delay: t.get(&["batch_delay"], |node| node.duration_or_seconds()).unwrap_or(Duration::ZERO),
    })
}

fn canary(t: &Table<'_>) -> Option<Strategy> {
    let first = t.get(&["percentage"], |node| node.percent());
    let interval = t.get(&["interval"], |node| node.duration_or_seconds()).unwrap_or(INTERVAL);
    let mut steps = t.get(&["steps"], shares).unwrap_or_default();
    if let Some(first) = first.filter(|first| steps.first() != Some(first)) {
        steps.insert(0, first);
    }
    if steps.is_empty() {
        steps.extend(Weight::from_percent(10.0));
    }
    for (at, pair) in steps.windows(2).enumerate() {
        if let [lower, higher] = pair
            && lower >= higher
        {
            t.refuse("steps", format!("shares must rise, and step {} ({higher}) follows {lower}", at + 1));
        }
    }
    if steps.first() == Some(&Weight::ZERO) {
        t.refuse("steps", "the first share is 0 %: leave it out");
    }
    if steps.last() != Some(&Weight::FULL) {
        steps.push(Weight::FULL);
    }
    if steps.len() > MAX_LIST {
        t.refuse("steps", format!("more than {MAX_LIST} steps"));
    }
    Some(Strategy::Canary { steps, interval })
}

/// `[20, 50, 100]` or `"20,50,100"`.
fn shares(node: Node<'_>) -> Option<Vec<Weight>> {
    if !node.is_text() {
        return node.list(|node| node.percent());
    }
    let text = node.text()?;
    let share = |part: &str| {
        let percent = part.trim().parse::<f64>().ok().and_then(|percent| Weight::from_percent(percent).ok());
        percent.map_or_else(|| node.refuse(format!("{} is not a share in percent", quoted(part))), Some)
    };
    Some(text.split(',').filter_map(share).collect())
}

fn ab_testing(t: &Table<'_>) -> Option<Strategy> {
    let variants = t.get(&["variant", "variants"], |node| node.list(variant));
    let duration = t.get(&["duration"], |node| node.duration_or_seconds()).unwrap_or(TEST_DURATION);
    let goal = t.get(&["goal"], goal);
    let Some(variants) = variants else {
        if !t.has("variant") && !t.has("variants") {
            t.refuse("variant", "missing: a test needs at least two variants with name and percentage");
        }
        return None;
    };
    if variants.len() < 2 || variants.len() > MAX_LIST {
        t.refuse("variant", format!("a test needs 2 to {MAX_LIST} variants, not {}", variants.len()));
    }
    let mut seen = BTreeSet::new();
    for variant in variants.iter().filter(|variant| !seen.insert(&variant.name)) {
        t.refuse("variant", format!("{} is named twice", variant.name));
    }
    let sum: u32 = variants.iter().map(|variant| u32::from(variant.percentage.points())).sum();
    if sum != u32::from(Weight::FULL.points()) {
        t.refuse("variant", format!("the percentages sum to {} %, not to 100 %", f64::from(sum) / 100.0));
    }
    Some(Strategy::AbTesting { variants, duration, goal })
}

/// A table, or `"name=v1,image=app:1,percentage=50"`.
fn variant(node: Node<'_>) -> Option<Variant> {
    if !node.is_text() {
        let t = node.table()?;
        let name = required(&t, "name", |node| node.parsed(TargetId::parse));
        let image = t.get(&["image"], |node| node.text().map(str::to_owned));
        let percentage = required(&t, "percentage", |node| node.percent());
        t.finish(|_| None);
        return Some(Variant { name: name?, image, percentage: percentage? });
    }
    let text = node.text()?;
    let (mut name, mut image, mut percentage) = (None, None, None);
    for part in text.split(',') {
        let Some((key, value)) = part.split_once('=') else {
            return node.refuse(format!("{} is not of the form key=value", quoted(part)));
        };
        match key.trim() {
            "name" => name = Some(TargetId::parse(value).map_or_else(|why| node.refuse(why.to_string()), Some)?),
            "image" => image = Some(value.to_owned()),
            "percentage" => match value.parse::<f64>().map(Weight::from_percent) {
                Ok(Ok(weight)) => percentage = Some(weight),
                _ => return node.refuse(format!("{} is not a percentage", quoted(value))),
            },
            other => return node.refuse(format!("unknown key {}: use name, image, percentage", quoted(other))),
        }
    }
    match (name, percentage) {
        (Some(name), Some(percentage)) => Some(Variant { name, image, percentage }),
        _ => node.refuse("a variant needs name=.. and percentage=.."),
    }
}

fn goal(node: Node<'_>) -> Option<Goal> {
    let t = node.table()?;
    let name = required(&t, "name", |node| node.text().map(str::to_owned));
    let goal = Goal {
        name: name.unwrap_or_default(),
        method: t.get(&["method"], |node| node.text().map(str::to_ascii_uppercase)),
        path: t.get(&["path"], |node| node.text().map(str::to_owned)),
        status: t.get(&["status"], |node| node.text_or_number()),
    };
    if let Some(Err(why)) = goal.status.as_deref().map(str::parse::<Statuses>) {
        t.refuse("status", why.to_string());
    }
    t.finish(|_| None);
    Some(goal)
}

fn shadow(t: &Table<'_>) -> MirrorPolicy {
    let all = || MirrorPolicy { percent: Weight::FULL, methods: vec!["*".into()] };
    t.get(&["mirror"], |node| mirror(&node, &["*"])).unwrap_or_else(all)
}

fn mirror(node: &Node<'_>, usual: &[&str]) -> Option<MirrorPolicy> {
    let usual = || usual.iter().map(|method| (*method).to_owned()).collect();
    if let Value::Int(_) | Value::Float(_) = node.value {
        return Some(MirrorPolicy { percent: node.percent()?, methods: usual() });
    }
    let t = node.table()?;
    let percent = t.get(&["percent"], |node| node.percent()).unwrap_or(Weight::FULL);
    let methods = t.get(&["methods"], |node| node.list(|node| node.text().map(str::to_ascii_uppercase)));
    t.finish(|_| None);
    Some(MirrorPolicy { percent, methods: methods.unwrap_or_else(usual) })
}

fn custom(t: &Table<'_>) -> Option<Strategy> {
    if !t.has("step") {
        t.refuse("step", "missing: a custom deployment is a list of steps, such as { set = 10 }");
        return None;
    }
    let steps = t.get(&["step"], |node| node.list(custom_step))?;
    if steps.is_empty() || steps.len() > MAX_LIST {
        t.refuse("step", format!("write 1 to {MAX_LIST} steps, not {}", steps.len()));
    }
    Some(Strategy::Custom { steps })
}

fn custom_step(node: Node<'_>) -> Option<CustomStep> {
    let t = node.table()?;
    let deadline = t.get(&["deadline"], |node| node.duration());
    let mut found: Vec<Option<CustomStep>> = Vec::new();
    let mut note = |step: Option<Option<CustomStep>>| found.extend(step);
    note(t.node(&["set"]).map(|node| node.percent().map(CustomStep::Set)));
    note(t.node(&["analyse"]).map(|node| node.duration().map(CustomStep::Analyse)));
    note(t.node(&["hook"]).map(|node| hook(node).map(CustomStep::Hook)));
    note(t.node(&["mirror"]).map(|node| mirror(&node, &["GET", "HEAD", "OPTIONS"]).map(CustomStep::Mirror)));
    note(t.node(&["verify"]).map(|node| node.truth().map(|_| CustomStep::Verify)));
    note(t.node(&["gate"]).map(|node| hook(node).map(|hook| CustomStep::Pause(PauseFor::Gate { hook, deadline }))));
    note(t.node(&["pause"]).map(|node| match node.value {
        Value::Text(text) if text == "manual" => Some(CustomStep::Pause(PauseFor::Manual { deadline })),
        _ => node.duration().map(|time| CustomStep::Pause(PauseFor::Time(time))),
    }));
    t.finish(|_| None);
    let [step] = <[_; 1]>::try_from(found).map_or_else(
        |_| node.refuse("a step is exactly one of set, analyse, pause, gate, hook, mirror, verify"),
        Some,
    )?;
    let waits = matches!(step, Some(CustomStep::Pause(PauseFor::Manual { .. } | PauseFor::Gate { .. })));
    if deadline.is_some() && step.is_some() && !waits {
        t.refuse("deadline", "only pause = \"manual\" and gate have a deadline");
    }
    step
}

fn required<'a, T>(t: &Table<'a>, key: &str, read: impl FnOnce(Node<'a>) -> Option<T>) -> Option<T> {
    match t.node(&[key]) {
        Some(node) => read(node),
        None => {
            t.refuse(key, "missing");
            None
        }
    }
}

/// Several services in `member`, or one in the keys of the document itself.
fn members(t: &Table<'_>, strategy: Option<&Strategy>) -> Option<Vec<MemberSpec>> {
    let variants = matches!(strategy, Some(Strategy::AbTesting { .. }));
    let Some(node) = t.node(&LISTED) else {
        return member(t, variants).map(|member| vec![member]);
    };
    for key in SINGLE {
        if t.node(&[key]).is_some() {
            t.refuse(key, "the services are given as members: say it there");
        }
    }
    let members = node.list(|node| {
        let t = node.table()?;
        let member = member(&t, variants);
        t.finish(|_| None);
        member
    })?;
    if members.is_empty() || members.len() > MAX_LIST {
        node.refuse::<()>(format!("name 1 to {MAX_LIST} services, not {}", members.len()));
    }
    if variants && members.len() > 1 {
        node.refuse::<()>("a test of variants is about one service");
    }
    let mut seen = BTreeSet::new();
    for member in members.iter().filter(|member| !seen.insert(&member.service)) {
        node.refuse::<()>(format!("service {} is named twice", member.service));
    }
    Some(members)
}

fn member(t: &Table<'_>, variants: bool) -> Option<MemberSpec> {
    let service = match t.node(&["service", "app_name"]) {
        Some(node) => node.parsed(ServiceId::parse),
        None => {
            t.refuse("service", "missing: say which service is deployed");
            None
        }
    };
    let to = t.get(&["to", "target"], |node| node.parsed(TargetId::parse));
    if variants && to.is_some() {
        t.refuse("to", "a test of variants names its targets in variant: leave it out");
    }
    let endpoints = t.get(&["endpoints"], |node| node.list(endpoint)).unwrap_or_default();
    let mut seen = BTreeSet::new();
    for endpoint in endpoints.iter().filter(|endpoint| !seen.insert(&endpoint.address)) {
        t.refuse("endpoints", format!("{} is named twice", endpoint.address));
    }
    Some(MemberSpec {
        to,
        version: t.get(&["version"], |node| node.text_or_number()),
        image: t.get(&["image", "artifact"], |node| node.text().map(str::to_owned)),
        endpoints,
        digest: None,
        service: service?,
    })
}

/// An address, or `{ address = "..", weight = 2 }`.
fn endpoint(node: Node<'_>) -> Option<EndpointSpec> {
    let address = |node: Node<'_>| node.parsed(str::parse::<EndpointAddress>);
    if node.is_text() {
        return Some(EndpointSpec { address: address(node)?, weight: 1 });
    }
    let t = node.table()?;
    let address = required(&t, "address", address);
    let weight = t.get(&["weight"], |node| u16::try_from(node.integer(1..=1000)?).ok()).unwrap_or(1);
    t.finish(|_| None);
    Some(EndpointSpec { address: address?, weight })
}

fn hooks(t: &Table<'_>, strategy: &str) -> Hooks {
    let of = |key: &str| t.get(&[key], hook);
    let mut tests = Vec::new();
    for (kind, keys) in [
        (TestKind::Functional, &["test_hook", "tests", "functional_tests"][..]),
        (TestKind::Performance, &["performance_tests"][..]),
    ] {
        let runs = t.get(keys, |node| match node.value {
            Value::List(_) => node.list(hook),
            _ => hook(node).map(|run| vec![run]),
        });
        tests.extend(runs.into_iter().flatten().map(|run| TestHook { kind, run }));
    }
    Hooks {
        start: of("start"),
        stop: of("stop"),
        save: of("save"),
        install: of("install"),
        pre: of("pre_hook"),
        post: of("post_hook"),
        rollback: of("rollback_hook"),
        load: JUDGING.contains(&strategy).then(|| of("load")).flatten(),
        tests,
    }
}

/// A name, or a program and its arguments.
fn hook(node: Node<'_>) -> Option<HookRun> {
    if !node.is_text() {
        let argv = node.texts()?;
        return if argv.is_empty() { node.refuse("a command needs a program") } else { Some(HookRun::Argv(argv)) };
    }
    let text = node.text()?;
    if text.chars().any(char::is_whitespace) {
        return node.refuse("a command with arguments is a list: no shell takes it apart");
    }
    Some(HookRun::Named(text.to_owned()))
}

fn pre_order(node: Node<'_>) -> Option<PreOrder> {
    match node.text()? {
        "first" => Some(PreOrder::First),
        "after-stop" => Some(PreOrder::AfterStop),
        other => node.refuse(format!("{} is unknown: use first or after-stop", quoted(other))),
    }
}

fn keep_old(node: Node<'_>) -> Option<KeepOld> {
    match node.value {
        Value::Bool(true) => Some(KeepOld::UntilNext),
        Value::Bool(false) => Some(KeepOld::No),
        Value::Text(text) if text == "until-next" => Some(KeepOld::UntilNext),
        _ => node.duration().map(KeepOld::For),
    }
}

fn health(t: &Table<'_>, strategy: &str) -> HealthSpec {
    let path = t.get(&["health_check_path"], |node| match node.text()? {
        text if text.starts_with('/') => Some(text.to_owned()),
        text => node.refuse(format!("{} is not a path: begin it with '/'", quoted(text))),
    });
    let timeouts: &[&str] = match strategy {
        "blue-green" => &["health_timeout", "health_check_timeout", "verification_timeout"],
        _ => &["health_timeout", "health_check_timeout"],
    };
    let timeout = t.get(timeouts, |node| match node.duration_or_seconds()? {
        Duration::ZERO => node.refuse("nothing becomes healthy in no time: write a longer duration"),
        timeout => Some(timeout),
    });
    HealthSpec {
        path,
        port: t.get(&["health_check_port"], |node| u16::try_from(node.integer(1..=65_535)?).ok()),
        timeout: timeout.unwrap_or(HEALTH_TIMEOUT),
        successes: t
            .get(&["health_successes"], |node| node.integer(1..=100))
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(SUCCESSES as u32),
    }
}

impl AnalyseSpec {
    fn usual(test: bool) -> Self {
        Self {
            min_requests: MIN_REQUESTS.unsigned_abs(),
            max_odds: MAX_ODDS,
            alpha: if test { TEST_ALPHA } else { ALPHA },
            gate: Gate::NoHarm,
            on_fail: OnFail::Rollback,
            on_inconclusive: OnInconclusive::Pause,
        }
    }
}

fn analyse(node: &Node<'_>, test: bool) -> Option<AnalyseSpec> {
    let t = node.table()?;
    let usual = AnalyseSpec::usual(test);
    let between = |node: Node<'_>, least: f64, most: f64| match node.number()? {
        number if number >= least && number <= most => Some(number),
        number => node.refuse(format!("{number} is not from {least} to {most}")),
    };
    let spec = AnalyseSpec {
        min_requests: t
            .get(&["min_requests"], |n| n.integer(1..=1 << 32))
            .map_or(usual.min_requests, i64::unsigned_abs),
        max_odds: t.get(&["max_odds"], |node| between(node, 1.0, 100.0)).unwrap_or(usual.max_odds),
        alpha: t.get(&["alpha"], |node| between(node, 1e-6, 0.5)).unwrap_or(usual.alpha),
        gate: t
            .get(&["gate"], |node| match node.text()? {
                "no-harm" => Some(Gate::NoHarm),
                "non-inferior" => Some(Gate::NonInferior),
                other => node.refuse(format!("{} is unknown: use no-harm or non-inferior", quoted(other))),
            })
            .unwrap_or_default(),
        on_fail: t
            .get(&["on_fail"], |node| match node.text()? {
                "rollback" => Some(OnFail::Rollback),
                "pause" => Some(OnFail::Pause),
                other => node.refuse(format!("{} is unknown: use rollback or pause", quoted(other))),
            })
            .unwrap_or_default(),
        on_inconclusive: t
            .get(&["on_inconclusive"], |node| match node.text()? {
                "pause" => Some(OnInconclusive::Pause),
                "extend" => Some(OnInconclusive::Extend),
                "promote" => Some(OnInconclusive::Promote),
                "rollback" => Some(OnInconclusive::Rollback),
                other => node.refuse(format!("{} is unknown: use pause, extend, promote or rollback", quoted(other))),
            })
            .unwrap_or_default(),
    };
    t.finish(|_| None);
    Some(spec)
}

fn metadata(t: &Table<'_>, strategy: &str) -> Metadata {
    let mut labels = t.get(&["labels"], |node| node.map()).unwrap_or_default();
    // Strategies that replace endpoints in batches count with it; with all others it is the start command's business.
    if !matches!(strategy, "rolling-update" | "zero-downtime") {
        let replicas = t.get(&["replicas"], |node| count(&node, 1));
        labels.extend(replicas.map(|count| ("replicas".to_owned(), count.to_string())));
    }
    for key in ["commit", "cpu", "memory", "cloud_provider", "traffic_router", "metrics_endpoint"] {
        labels.extend(t.get(&[key], |node| node.text_or_number()).map(|text| (key.to_owned(), text)));
    }
    Metadata {
        labels,
        env: t.get(&["env"], environment).unwrap_or_default(),
        volumes: t
            .get(
                &["volume", "volumes"],
                |node| if node.is_text() { Some(vec![node.text()?.into()]) } else { node.texts() },
            )
            .unwrap_or_default(),
    }
}

/// A table, or a list of `KEY=value`.
fn environment(node: Node<'_>) -> Option<std::collections::BTreeMap<String, String>> {
    let entries = match node.value {
        Value::Table(_) => node.map()?,
        _ => {
            let pairs = node.list(|node| match node.text()?.split_once('=') {
                Some((key, value)) => Some((key.to_owned(), value.to_owned())),
                None => node.refuse("write KEY=value"),
            })?;
            pairs.into_iter().collect()
        }
    };
    let named = |key: &str| {
        key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    for key in entries.keys().filter(|key| !named(key)) {
        node.refuse::<()>(format!("{} is not the name of an environment variable", quoted(key)));
    }
    Some(entries)
}
