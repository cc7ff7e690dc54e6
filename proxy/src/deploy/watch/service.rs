//! One watched service: its counters, its judge, and when its ticks end.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tidegate_admin::Measured;
use tidegate_config::{ServiceId, TargetId, Weight};
use tidegate_core::{
    Snapshot,
    analysis::{
        Histogram, Quantile,
        latency::{BUCKETS, end_of},
    },
    deploy::{
        machine::{Judged, Verdict},
        step::{AnalyseMode, Arms, WatchSpec},
        watch::{GoalMatch, Judge, KeptVisitors, Lineup, Past, Tally, Unit, WatchTick},
    },
    snapshot::Service,
    state::{Hold, Overlay, ServiceState},
};
use tokio::time::Instant;

use super::{GUARD_TICK, LONGEST_TICK, SHORTEST_TICK, TICKS_OF_A_WINDOW};

/// Time between two findings that say nothing new but their numbers.
const FRESH_NUMBERS: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(super) struct WatchedService {
    tally: Arc<Tally>,
    judge: Judge,
    /// The service in force at the last look; none: it is gone.
    service: Option<Arc<Service>>,
    traffic: Traffic,
    /// Whether the traffic was changed since the last tick.
    changed: bool,
    ticked: Instant,
    /// When the present tick may end.
    next: Instant,
    told: Option<(Verdict, Instant)>,
}

/// What is kept over a restart.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    judge: Judge,
    visitors: KeptVisitors,
}

/// What decides how requests fall on targets. When any of it changes, a tick is not to be used.
#[derive(Debug, Clone, Default, PartialEq)]
struct Traffic {
    weights: BTreeMap<TargetId, u16>,
    stable: Option<TargetId>,
    salt: String,
    hold: Hold,
    overlay: Option<(TargetId, Weight)>,
}

impl Traffic {
    fn of(state: &ServiceState) -> Self {
        let wanted = &state.wanted;
        Self {
            weights: wanted.split.iter().map(|(target, weight)| (target.clone(), weight.points())).collect(),
            stable: Some(wanted.stable.clone()),
            salt: wanted.salt.clone(),
            hold: wanted.hold,
            overlay: state.overlay.as_ref().map(|Overlay { to, share, .. }| (to.clone(), *share)),
        }
    }
}

impl WatchedService {
    /// Begins to count.
    pub(super) fn new(
        id: &ServiceId,
        arms: &Arms,
        spec: &WatchSpec,
        kept: Option<Kept>,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Self {
        let lineup = Lineup::new(arms);
        let goal = spec.goal.as_ref().map(GoalMatch::new);
        let service = snapshot.service_named(id).cloned();
        let mut tally = Tally::new(lineup.clone(), goal, service.as_deref());
        let kept = kept.filter(|kept| *kept.judge.lineup() == lineup && kept.judge.unit() == tally.unit());
        let judge = match kept {
            Some(kept) => {
                tally = tally.remembering(&kept.visitors);
                kept.judge.restarted()
            }
            None => Judge::new(lineup, tally.unit(), &spec.rules, past(service.as_deref(), &arms.baseline)),
        };
        let mut watched = Self {
            tally: Arc::new(tally),
            judge,
            service: None,
            traffic: Traffic::default(),
            changed: false,
            ticked: now,
            next: now,
            told: None,
        };
        watched.look(id, snapshot);
        watched.changed = false;
        watched.next = now + watched.tick_length(now);
        watched
    }

    /// Looks at the service as it is now.
    pub(super) fn look(&mut self, id: &ServiceId, snapshot: &Snapshot) {
        let service = snapshot.service_named(id);
        let same = match (&self.service, service) {
            (Some(known), Some(service)) => Arc::ptr_eq(known, service),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if same {
            return;
        }
        let traffic = snapshot.state.services.get(id).map(|state| Traffic::of(state)).unwrap_or_default();
        self.changed |= traffic != self.traffic;
        self.traffic = traffic;
        if let Some(service) = service.filter(|service| !service.stats.watch.counts_in(&self.tally)) {
            self.detach();
            service.stats.watch.begin(&self.tally);
        }
        self.service = service.cloned();
    }

    /// Ends the present tick if it is due; says what there is to tell.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Judged> {
        if now < self.next {
            return None;
        }
        let length = now - self.ticked;
        let informative = self.judge.is_informative(&self.tally.requests(), &self.traffic.weights);
        let over = self.judge.left().is_some_and(|left| left <= length);
        if !informative && !over && !self.changed && length < LONGEST_TICK {
            self.next = now + self.tick_length(now);
            return None;
        }
        let judged = self.end_tick(now);
        self.is_news(&judged, now).then_some(judged)
    }

    /// Ends the present tick, whatever was counted in it.
    fn end_tick(&mut self, now: Instant) -> Judged {
        let length = now - self.ticked;
        self.ticked = now;
        let mut judged = self.judge.feed(WatchTick {
            length,
            changed: std::mem::take(&mut self.changed),
            weights: &self.traffic.weights,
            readings: self.tally.read(),
            pairs: self.tally.end_tick(),
        });
        if self.tally.is_crowded() {
            judged.reason.push_str("; there are so many visitors that more than one in ten new ones go uncounted");
        }
        for (pair, from_us) in self.judge.slow_from_us().enumerate() {
            self.tally.set_slow(pair, from_us);
        }
        self.next = now + self.tick_length(now);
        judged
    }

    /// Whether a finding is told: a new verdict, and from time to time fresh numbers. A verdict that ends a window is
    /// told once, for the engine would take a second one for that of the next window.
    fn is_news(&mut self, judged: &Judged, now: Instant) -> bool {
        let news = self.told.is_none_or(|(verdict, at)| {
            verdict != judged.verdict || judged.verdict == Verdict::Running && now - at >= FRESH_NUMBERS
        });
        if news {
            self.told = Some((judged.verdict, now));
        }
        news
    }

    /// When the present tick may end.
    pub(super) fn next_tick(&self) -> Instant {
        self.next
    }

    /// How long the next tick is to be: no longer than the open window still needs.
    fn tick_length(&self, now: Instant) -> Duration {
        let usual = match self.judge.window() {
            Some(window) => (window / TICKS_OF_A_WINDOW).clamp(SHORTEST_TICK, LONGEST_TICK),
            None => GUARD_TICK,
        };
        let left = self.judge.left().map(|left| left.saturating_sub(now - self.ticked));
        usual.min(left.unwrap_or(usual)).max(Duration::from_millis(1))
    }

    /// Opens a window of the judge, unless the new version was just found to be worse: then it says that.
    pub(super) fn open_window(&mut self, now: Instant, length: Duration, mode: AnalyseMode) -> Option<Judged> {
        let overruled = self.told.is_some_and(|(verdict, _)| verdict == Verdict::Fail);
        // What was counted until now is not of this window, and a verdict of the last one is not told any more.
        let judged = self.end_tick(now);
        if judged.verdict == Verdict::Fail && !overruled {
            self.told = Some((Verdict::Fail, now));
            return Some(judged);
        }
        self.tally.open_window();
        self.judge.open_window(length, mode, &self.traffic.weights);
        // The same verdict as in the last window is news in this one.
        self.told = None;
        self.next = now + self.tick_length(now);
        None
    }

    /// What was counted of each target.
    pub(super) fn measured(&self, id: &ServiceId) -> Vec<Measured> {
        let total = self.judge.total(&self.tally.read());
        let per_visitor = self.tally.unit() == Unit::Visitors;
        let measured = |(target, reading): (&TargetId, tidegate_core::deploy::watch::Reading)| {
            let all = reading.all();
            Measured {
                service: id.clone(),
                target: target.clone(),
                requests: all.requests,
                errors: all.errors,
                p50_ms: quantile_ms(&all.durations, Quantile::P50),
                p95_ms: quantile_ms(&all.durations, Quantile::P95),
                p99_ms: quantile_ms(&all.durations, Quantile::P99),
                visitors: per_visitor.then_some(reading.visitors),
                conversions: self.tally.watches_goal().then_some(reading.conversions),
            }
        };
        self.tally.lineup().targets().iter().zip(total).map(measured).collect()
    }

    /// Counts a conversion that a back end reports.
    pub(super) fn convert(&self, visitor: &str, goal: &str) -> bool {
        self.tally.convert(visitor.as_bytes(), goal.as_bytes())
    }

    /// What a restart needs to go on.
    pub(super) fn kept(&self) -> Kept {
        Kept { judge: self.judge.checkpoint(&self.tally.read()), visitors: self.tally.kept() }
    }

    /// Counts no more.
    pub(super) fn detach(&mut self) {
        if let Some(service) = &self.service {
            service.stats.watch.end(&self.tally);
        }
    }
}

/// What a target did until now, as far as this process knows.
fn past(service: Option<&Service>, target: &TargetId) -> Past {
    let target = service.and_then(|service| service.target(service.target_named(target.as_str())?));
    let mut past = Past::default();
    for shard in target.iter().flat_map(|target| target.stats.shards.iter()) {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        let [_, classes @ ..] = &shard.classes;
        past.requests += classes.iter().map(count).sum::<u64>();
        past.errors += classes.last().map_or(0, count);
    }
    past
}

fn quantile_ms(durations: &Histogram, quantile: Quantile) -> Option<f64> {
    let bucket = durations.bucket_at(quantile)?;
    // Of the last bucket only the beginning is known.
    let end_us = end_of(bucket).or_else(|| end_of(BUCKETS - 2))?;
    Some(end_us as f64 / 1_000.0)
}
