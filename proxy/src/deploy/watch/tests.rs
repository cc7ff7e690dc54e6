//! Requests that are decided and counted as the lane does it, on tokio's paused clock.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use http::{HeaderMap, HeaderValue, Method};
use tidegate_config::{Split, TargetId, Weight};
use tidegate_core::{
    Change, Draw, ListenerIdx, Plan, RequestHead, State, apply, compile, decide,
    deploy::{
        machine::Verdict,
        spec::{AnalyseSpec, Gate, Goal, OnFail, OnInconclusive},
        step::Arms,
        watch::Ended,
    },
    stats::Worker,
};

use super::*;

/// Traffic of one second comes in so many parts.
const PARTS: u64 = 10;

/// A service `web` with the targets blue (stable), green and red.
struct Scene {
    routing: Arc<Routing>,
    told: Arc<Mutex<Vec<Judged>>>,
    requests: AtomicUsize,
}

/// How a target answers: the odds of an error and of the goal, in a thousand requests, and its time.
#[derive(Clone, Copy)]
struct Answers {
    errors: u64,
    goals: u64,
    micros: u64,
}

impl Answers {
    fn of_all(self) -> impl Fn(&str) -> Self {
        move |_| self
    }
}

const GOOD: Answers = Answers { errors: 0, goals: 0, micros: 20_000 };

impl Scene {
    fn new(more: &str, split: &[(&str, u16)]) -> Self {
        let text = format!(
            "[service.web]\nstable = \"blue\"\nhealth = false\n{more}\n[service.web.target]\n\
             blue = {{ endpoints = [\"127.0.0.1:1\"] }}\ngreen = {{ endpoints = [\"127.0.0.1:2\"] }}\n\
             red = {{ endpoints = [\"127.0.0.1:3\"] }}\n"
        );
        let config = tidegate_config::parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
        let state = State::load(&config, None).0;
        let routing = Arc::new(Routing::new(compile(&Arc::new(state), None, 2)));
        let scene = Self { routing, told: Arc::default(), requests: AtomicUsize::new(0) };
        scene.split(split);
        scene
    }

    fn split(&self, split: &[(&str, u16)]) {
        let weight = |(target, points): &(&str, u16)| (id(target), Weight::from_points(*points).unwrap());
        let split = Split::new(split.iter().map(weight)).unwrap();
        let before = self.routing.load_full();
        let change = Change::Split { service: ServiceId::parse("web").unwrap(), split };
        let state = apply(&before.state, &change, self.routing.now()).unwrap().state;
        self.routing.publish(Arc::new(compile(&Arc::new(state), Some(&before), 2)));
    }

    fn watch(&self, spec: WatchSpec) -> Watch {
        self.restore(spec, Checkpoint(BTreeMap::new()))
    }

    fn restore(&self, spec: WatchSpec, checkpoint: Checkpoint) -> Watch {
        let told = Arc::clone(&self.told);
        let tell = Arc::new(move |input| match input {
            Input::Judged { judged, .. } => told.lock().unwrap().push(judged),
            other => panic!("{other:?}"),
        });
        let deployment = DeploymentId::parse("dep-1").unwrap();
        Watch::restore(deployment, spec, checkpoint, Arc::clone(&self.routing), tell)
    }

    /// Sends requests of one visitor each for some seconds.
    async fn run(&self, seconds: u64, per_second: u64, answers: impl Fn(&str) -> Answers) {
        for _ in 0..seconds * PARTS {
            for _ in 0..per_second / PARTS {
                let number = self.requests.fetch_add(1, Relaxed) as u64;
                self.request(&format!("visitor-{number}"), number, &answers);
            }
            tokio::time::sleep(Duration::from_millis(1_000 / PARTS)).await;
        }
    }

    fn request(&self, visitor: &str, number: u64, answers: &impl Fn(&str) -> Answers) {
        let snapshot = self.routing.load_full();
        let mut headers = HeaderMap::new();
        headers.insert("x-user", HeaderValue::from_str(visitor).unwrap());
        let head = RequestHead {
            listener: ListenerIdx(0),
            method: &Method::GET,
            host: "example.com",
            path: "/",
            query: None,
            headers: &headers,
            client: None,
            unix_s: 0,
            pin_authorised: false,
        };
        let worker = Worker(number as usize % 2);
        let Plan::Forward(forward) = decide(&snapshot, &head, Draw { worker, random: [number, !number] }) else {
            panic!("it is forwarded");
        };
        let service = snapshot.service(forward.service).unwrap();
        let Some(tally) = service.stats.watch.tally() else { return };
        let target = service.target(forward.chosen).unwrap();
        let Answers { errors, goals, micros } = answers(target.id.as_str());
        let begun = tally.begin(service, &forward, head.method, head.path, &headers).unwrap();
        // A hash, so that errors are no pattern in the order of the requests.
        let chance = |salt: &str| u64::from(tidegate_core::hash::visitor_bits(salt, visitor.as_bytes())) % 1_000;
        let failed = chance("error") < errors;
        let ended = Ended {
            status: Some(if failed { 500 } else { 200 }),
            failed,
            // A spread of one half, evenly.
            elapsed_us: Some(micros + micros * chance("time") / 2_000),
            goal_named: chance("goal") < goals,
        };
        tally.end(begun, ended, worker);
    }

    fn told(&self) -> Vec<Judged> {
        self.told.lock().unwrap().clone()
    }

    /// The verdicts other than "running", in their order.
    fn verdicts(&self) -> Vec<Verdict> {
        self.told().iter().map(|judged| judged.verdict).filter(|verdict| *verdict != Verdict::Running).collect()
    }

    fn last(&self) -> Judged {
        self.told().pop().unwrap()
    }
}

fn id(target: &str) -> TargetId {
    TargetId::parse(target).unwrap()
}

const STICKY: &str = "sticky = { header = \"x-user\" }";
const CANARY: &[(&str, u16)] = &[("green", 1_000), ("blue", 9_000)];
const HALF: &[(&str, u16)] = &[("green", 5_000), ("blue", 5_000)];

fn spec(candidates: &[&str], goal: Option<&str>) -> WatchSpec {
    let arms = Arms { candidates: candidates.iter().map(|target| id(target)).collect(), baseline: id("blue") };
    let named = |name: &str| Goal { name: name.to_owned(), method: None, path: None, status: None };
    WatchSpec {
        arms: BTreeMap::from([(ServiceId::parse("web").unwrap(), arms)]),
        rules: AnalyseSpec {
            min_requests: 100,
            max_odds: 1.5,
            alpha: 0.01,
            gate: Gate::NoHarm,
            on_fail: OnFail::Rollback,
            on_inconclusive: OnInconclusive::Pause,
        },
        goal: goal.map(named),
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn failing(errors: u64) -> impl Fn(&str) -> Answers {
    move |target| if target == "green" { Answers { errors, ..GOOD } } else { Answers { errors: 10, ..GOOD } }
}

#[tokio::test(start_paused = true)]
async fn good_canary_passes_when_its_time_is_over_and_not_before() {
    for more in ["", STICKY] {
        let scene = Scene::new(more, CANARY);
        let watch = scene.watch(spec(&["green"], None));
        watch.window(1, seconds(60), AnalyseMode::Gate);
        scene.run(59, 50, |_| GOOD).await;
        assert_eq!(scene.verdicts(), []);
        scene.run(2, 50, |_| GOOD).await;
        assert_eq!(scene.verdicts(), [Verdict::Pass], "{:?}", scene.last());
        // The guard goes on, and a verdict is told once.
        scene.run(60, 50, |_| GOOD).await;
        assert_eq!(scene.verdicts(), [Verdict::Pass]);
        assert_eq!(scene.last().verdict, Verdict::Running);
    }
}

#[tokio::test(start_paused = true)]
async fn bad_canary_fails_within_the_ticks_that_were_promised() {
    for more in ["", STICKY] {
        // 1 % against 5 % at a share of 10 %, 250 requests in a tick of 5 s, tolerating 1.5 times the odds: 12 ticks.
        let scene = Scene::new(more, CANARY);
        let watch = scene.watch(spec(&["green"], None));
        watch.window(1, seconds(600), AnalyseMode::Gate);
        scene.run(60, 50, failing(50)).await;
        assert_eq!(scene.verdicts(), [Verdict::Fail], "{:?}", scene.last());
        let found = scene.last();
        assert!(found.evidence >= found.threshold, "{found:?}");
        // Nothing more is told of it.
        scene.run(60, 50, failing(50)).await;
        assert_eq!(scene.verdicts(), [Verdict::Fail]);
        drop(watch);
    }
}

#[tokio::test(start_paused = true)]
async fn broken_canary_fails_at_once_also_when_no_window_is_open() {
    let scene = Scene::new("", CANARY);
    let _watch = scene.watch(spec(&["green"], None));
    scene.run(3, 100, failing(500)).await;
    assert_eq!(scene.verdicts(), [Verdict::Fail]);
}

#[tokio::test(start_paused = true)]
async fn slow_canary_fails() {
    let scene = Scene::new("", CANARY);
    let watch = scene.watch(spec(&["green"], None));
    watch.window(1, seconds(600), AnalyseMode::Gate);
    let slow = |target: &str| Answers { micros: if target == "green" { 30_000 } else { 20_000 }, ..GOOD };
    scene.run(60, 100, slow).await;
    assert_eq!(scene.verdicts(), [Verdict::Fail]);
    assert!(scene.last().reason.contains("slower than p95"), "{:?}", scene.last());
}

#[tokio::test(start_paused = true)]
async fn difference_that_nobody_notices_is_no_failure() {
    let scene = Scene::new("", CANARY);
    let watch = scene.watch(spec(&["green"], None));
    watch.window(1, seconds(60), AnalyseMode::Gate);
    let slow = |target: &str| Answers { micros: if target == "green" { 900 } else { 300 }, ..GOOD };
    scene.run(61, 100, slow).await;
    assert_eq!(scene.verdicts(), [Verdict::Pass]);
}

#[tokio::test(start_paused = true)]
async fn without_traffic_there_is_insufficient_data() {
    let scene = Scene::new("", CANARY);
    let watch = scene.watch(spec(&["green"], None));
    watch.window(1, seconds(10), AnalyseMode::Gate);
    tokio::time::sleep(seconds(11)).await;
    assert_eq!(scene.verdicts(), [Verdict::InsufficientData]);
    // The next window says so again.
    watch.window(2, seconds(10), AnalyseMode::Gate);
    tokio::time::sleep(seconds(11)).await;
    assert_eq!(scene.verdicts(), [Verdict::InsufficientData; 2]);
}

#[tokio::test(start_paused = true)]
async fn short_windows_end_in_time_with_their_verdict() {
    let scene = Scene::new("", HALF);
    let watch = scene.watch(spec(&["green"], None));
    watch.window(1, seconds(1), AnalyseMode::Gate);
    scene.run(1, 500, |_| GOOD).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(scene.verdicts(), [Verdict::Pass], "{:?}", scene.last());
}

#[tokio::test(start_paused = true)]
async fn shared_outage_while_the_weight_changes_does_no_harm() {
    let scene = Scene::new("", &[("green", 500), ("blue", 9_500)]);
    let watch = scene.watch(spec(&["green"], None));
    watch.window(1, seconds(60), AnalyseMode::Gate);
    scene.run(20, 100, |_| GOOD).await;
    // Half of a tick has one share and no errors, the other half another share and an outage.
    scene.run(2, 100, |_| GOOD).await;
    scene.split(HALF);
    scene.run(10, 100, |_| Answers { errors: 600, ..GOOD }).await;
    scene.run(29, 100, |_| GOOD).await;
    assert_eq!(scene.verdicts(), [Verdict::Pass], "{:?}", scene.last());
}

#[tokio::test(start_paused = true)]
async fn new_version_that_has_everything_is_held_to_a_limit() {
    for (errors, expected) in [(0, Verdict::Pass), (300, Verdict::Fail)] {
        let scene = Scene::new("", &[("green", 10_000)]);
        let watch = scene.watch(spec(&["green"], None));
        watch.window(1, seconds(20), AnalyseMode::Watch);
        scene.run(21, 50, failing(errors)).await;
        assert_eq!(scene.verdicts(), [expected], "{:?}", scene.last());
    }
}

#[tokio::test(start_paused = true)]
async fn restart_goes_on_from_the_checkpoint() {
    let scene = Scene::new("", CANARY);
    let watch = scene.watch(spec(&["green"], None));
    watch.window(1, seconds(60), AnalyseMode::Gate);
    scene.run(40, 50, |_| GOOD).await;
    let text = serde_json::to_string(&watch.checkpoint()).unwrap();
    let before = watch.measured();
    drop(watch);
    // What happens meanwhile, nobody sees.
    scene.run(100, 50, |_| GOOD).await;
    let watch = scene.restore(spec(&["green"], None), serde_json::from_str(&text).unwrap());
    watch.window(2, seconds(60), AnalyseMode::Gate);
    assert_eq!(watch.measured(), before);
    scene.run(19, 50, |_| GOOD).await;
    assert_eq!(scene.verdicts(), []);
    // One tick may have been cut off.
    scene.run(6, 50, |_| GOOD).await;
    assert_eq!(scene.verdicts(), [Verdict::Pass]);
    let after = watch.measured();
    assert!(after[0].requests > before[0].requests && after[1].requests > before[1].requests);
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_on_after_a_failure_gets_a_new_judgement() {
    let scene = Scene::new("", CANARY);
    let watch = scene.watch(spec(&["green"], None));
    scene.run(3, 100, failing(500)).await;
    assert_eq!(scene.verdicts(), [Verdict::Fail]);
    watch.window(1, seconds(30), AnalyseMode::Gate);
    scene.run(31, 100, |_| GOOD).await;
    assert_eq!(scene.verdicts(), [Verdict::Fail, Verdict::Pass]);
}

#[tokio::test(start_paused = true)]
async fn failure_that_was_not_told_yet_is_told_before_a_window_opens() {
    let scene = Scene::new("", CANARY);
    let watch = scene.watch(spec(&["green"], None));
    // All in less than a tick.
    for number in 0..400 {
        scene.request(&format!("visitor-{number}"), number, &failing(900));
    }
    watch.window(1, seconds(30), AnalyseMode::Gate);
    assert_eq!(scene.verdicts(), [Verdict::Fail]);
}

#[tokio::test(start_paused = true)]
async fn ended_watch_counts_and_tells_nothing() {
    let scene = Scene::new("", CANARY);
    let watch = scene.watch(spec(&["green"], None));
    watch.window(1, seconds(5), AnalyseMode::Gate);
    drop(watch);
    let service = scene.routing.load_full().service_named(&ServiceId::parse("web").unwrap()).cloned().unwrap();
    assert!(service.stats.watch.tally().is_none());
    scene.run(10, 50, failing(500)).await;
    assert_eq!(scene.told(), []);
}

fn converting(blue: u64, green: u64) -> impl Fn(&str) -> Answers {
    move |target| Answers { goals: if target == "green" { green } else { blue }, ..GOOD }
}

#[tokio::test(start_paused = true)]
async fn variant_that_is_clearly_better_wins() {
    for more in ["", STICKY] {
        let scene = Scene::new(more, HALF);
        let watch = scene.watch(spec(&["blue", "green"], Some("buy")));
        watch.window(1, seconds(600), AnalyseMode::Contest);
        scene.run(600, 50, converting(50, 90)).await;
        assert_eq!(scene.verdicts(), [Verdict::Pass], "{:?}", scene.last());
        let won = scene.told().into_iter().find(|judged| judged.verdict == Verdict::Pass).unwrap();
        assert_eq!(won.winner, Some(id("green")));
    }
}

#[tokio::test(start_paused = true)]
async fn test_of_equal_variants_ends_without_a_winner_and_can_go_on() {
    let scene = Scene::new(STICKY, HALF);
    let watch = scene.watch(spec(&["blue", "green"], Some("buy")));
    watch.window(1, seconds(60), AnalyseMode::Contest);
    scene.run(61, 50, converting(50, 50)).await;
    assert_eq!(scene.verdicts(), [Verdict::Inconclusive], "{:?}", scene.last());
    watch.window(2, seconds(600), AnalyseMode::Contest);
    scene.run(600, 50, converting(10, 100)).await;
    assert_eq!(scene.verdicts(), [Verdict::Inconclusive, Verdict::Pass], "{:?}", scene.last());
}

#[tokio::test(start_paused = true)]
async fn variant_that_fails_is_taken_out_by_the_guard() {
    let scene = Scene::new(STICKY, HALF);
    let watch = scene.watch(spec(&["blue", "green"], Some("buy")));
    watch.window(1, seconds(600), AnalyseMode::Contest);
    scene.run(20, 50, failing(300)).await;
    assert_eq!(scene.verdicts(), [Verdict::Fail], "{:?}", scene.last());
}

#[tokio::test(start_paused = true)]
async fn test_whose_visitors_do_not_come_by_the_weights_is_invalid() {
    let scene = Scene::new(STICKY, HALF);
    let watch = scene.watch(spec(&["blue", "green"], Some("buy")));
    watch.window(1, seconds(600), AnalyseMode::Contest);
    let snapshot = scene.routing.load_full();
    let service = snapshot.service_named(&ServiceId::parse("web").unwrap()).unwrap();
    // Something in front of us keeps half of those away that would get green.
    for number in 0..6_000_u64 {
        let visitor = format!("visitor-{number}");
        let bucket = tidegate_core::hash::bucket(&service.salt, visitor.as_bytes());
        if bucket >= 5_000 || number % 2 == 0 {
            scene.request(&visitor, number, &converting(50, 500));
        }
        if number % 100 == 0 {
            tokio::time::sleep(seconds(1)).await;
        }
    }
    assert_eq!(scene.verdicts(), [Verdict::Inconclusive], "{:?}", scene.last());
    let told = scene.told().into_iter().find(|judged| judged.verdict == Verdict::Inconclusive).unwrap();
    assert!(told.reason.starts_with("invalid: visitors do not arrive"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn reported_conversion_counts_once_and_only_for_who_takes_part() {
    let scene = Scene::new(STICKY, HALF);
    let watch = scene.watch(spec(&["blue", "green"], Some("buy")));
    let conversions = || watch.measured().iter().map(|target| target.conversions.unwrap()).sum::<u64>();
    scene.request("ann", 1, &GOOD.of_all());
    assert!(watch.convert("ann", "buy") && watch.convert("ann", "buy"));
    assert_eq!(conversions(), 1);
    assert!(watch.convert("somebody who was never here", "buy"));
    assert_eq!(conversions(), 1);
    assert!(!watch.convert("ann", "sell"));
    // A request that reaches the goal later counts for the same visitor, so not again.
    scene.request("ann", 2, &converting(1_000, 1_000));
    assert_eq!(conversions(), 1);
    assert_eq!(watch.measured().iter().map(|target| target.visitors.unwrap()).sum::<u64>(), 1);
}

#[tokio::test(start_paused = true)]
async fn visitor_who_converted_before_a_restart_does_not_convert_again() {
    let scene = Scene::new(STICKY, HALF);
    let spec = || spec(&["blue", "green"], Some("buy"));
    let watch = scene.watch(spec());
    scene.request("ann", 1, &GOOD.of_all());
    scene.request("bob", 2, &GOOD.of_all());
    assert!(watch.convert("ann", "buy"));
    let text = serde_json::to_string(&watch.checkpoint()).unwrap();
    drop(watch);
    let watch = scene.restore(spec(), serde_json::from_str(&text).unwrap());
    let sum = |of: fn(&Measured) -> Option<u64>| watch.measured().iter().map(|m| of(m).unwrap()).sum::<u64>();
    scene.request("ann", 3, &GOOD.of_all());
    assert!(watch.convert("ann", "buy"));
    assert_eq!((sum(|m| m.conversions), sum(|m| m.visitors)), (1, 2));
    // Bob was seen before, and his order is reported late.
    assert!(watch.convert("bob", "buy"));
    assert_eq!((sum(|m| m.conversions), sum(|m| m.visitors)), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn measured_is_what_was_counted_of_each_target() {
    let scene = Scene::new("", HALF);
    let watch = scene.watch(spec(&["green"], None));
    scene.run(10, 100, failing(1_000)).await;
    let [green, blue] = &watch.measured()[..] else { panic!("two targets") };
    assert_eq!((green.target.as_str(), green.requests, green.errors), ("green", 500, 500));
    assert_eq!((blue.target.as_str(), blue.requests), ("blue", 500));
    assert!(blue.errors < 20);
    // Between 20 and 30 ms, evenly; buckets are 12.5 % wide.
    for (quantile, expected) in [(blue.p50_ms, 25.0), (blue.p95_ms, 29.5), (blue.p99_ms, 29.9)] {
        let quantile = quantile.unwrap();
        assert!((expected..expected * 1.25).contains(&quantile), "{quantile} for {expected}");
    }
    assert_eq!((blue.visitors, blue.conversions), (None, None));
}
