//! The counters that requests of a watched service write to.
//!
//! They exist only while somebody watches. Writing neither waits nor allocates; counters are sharded by worker, and sets
//! of visitors are shared, since a visitor's next request may run on another worker.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use arc_swap::ArcSwapOption;
use http::Method;
use serde::{Deserialize, Serialize};

use super::{goal::GoalMatch, lineup::Lineup};
use crate::{
    analysis::{
        self, AtomicHistogram, Histogram, RiskSets, Sample, VisitorSet,
        visitors::Arm::{Baseline, Candidate},
    },
    decide::{Forward, Reason, Visitor},
    hash::visitor_bits,
    request::Headers,
    snapshot::Service,
    stats::{Sharded, Worker},
    visitor::{VisitorText, known},
};

/// Where requests find the tally of their service, if there is one.
#[derive(Debug, Default)]
pub struct WatchSlot {
    /// Most services are not watched: their requests read this and nothing else.
    on: AtomicBool,
    tally: ArcSwapOption<Tally>,
}

impl WatchSlot {
    /// The tally, while somebody watches.
    #[inline]
    pub fn tally(&self) -> Option<Arc<Tally>> {
        if self.on.load(Relaxed) { self.tally.load_full() } else { None }
    }

    /// From now on, requests count here.
    pub fn begin(&self, tally: &Arc<Tally>) {
        self.tally.store(Some(Arc::clone(tally)));
        self.on.store(true, Relaxed);
    }

    /// Whether requests count here.
    pub fn counts_in(&self, tally: &Arc<Tally>) -> bool {
        self.tally.load().as_ref().is_some_and(|present| Arc::ptr_eq(present, tally))
    }

    /// Requests count here no more. Another tally that took the place stays.
    pub fn end(&self, tally: &Arc<Tally>) {
        if self.counts_in(tally) {
            self.on.store(false, Relaxed);
            self.tally.store(None);
        }
    }
}

/// What is independent of each other, and so may be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Each request, where a split is not sticky.
    Requests,
    /// Each visitor once.
    Visitors,
}

/// See the module.
#[derive(Debug)]
pub struct Tally {
    /// Of the hash that tells visitors apart: that of the service when the watch began.
    salt: Arc<str>,
    goal: Option<GoalMatch>,
    lineup: Lineup,
    arms: Vec<Sharded<Shard>>,
    people: Option<People>,
}

/// One worker's counters of a target.
#[derive(Debug, Default)]
struct Shard {
    by_split: Cell,
    by_rule: Cell,
    new_visitors: AtomicU64,
    conversions: AtomicU64,
}

#[derive(Debug, Default)]
struct Cell {
    requests: AtomicU64,
    errors: AtomicU64,
    durations: AtomicHistogram,
}

/// Visitors, where the split is sticky.
#[derive(Debug)]
struct People {
    /// On any arm.
    seen: VisitorSet,
    converted: VisitorSet,
    arms: Vec<ArmPeople>,
    pairs: Vec<Pair>,
}

#[derive(Debug, Default)]
struct ArmPeople {
    ever: VisitorSet,
    /// Those of them whom an earlier process counted.
    remembered: u32,
    in_window: VisitorSet,
}

#[derive(Debug)]
struct Pair {
    candidate: usize,
    baseline: usize,
    errors: RiskSets,
    slow: RiskSets,
    /// From how many microseconds on a request is slow.
    slow_from_us: AtomicU64,
}

/// What a watched request remembers until it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// The position of its target, if that is watched.
    arm: Option<usize>,
    /// Whether chance chose the target: only then are arms comparable.
    by_split: bool,
    visitor: Option<u32>,
    fits_goal: bool,
}

/// How a watched request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The status that the client got.
    pub status: Option<u16>,
    /// Whether its target failed it: another had to answer, the answer was a 5xx, or it was cut short.
    pub failed: bool,
    /// How long its target took; none if another answered, or the time says nothing (a tunnel).
    pub elapsed_us: Option<u64>,
    /// Whether the answer said that the goal was reached.
    pub goal_named: bool,
}

/// What was counted of an arm since the tally began.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Requests that the split gave it.
    pub by_split: Counted,
    /// Requests that rules and failovers gave it.
    pub by_rule: Counted,
    /// Visitors that were seen here before they were seen anywhere else.
    pub new_visitors: u64,
    /// Visitors (or requests) that reached the goal.
    pub conversions: u64,
    /// Visitors that were seen here, without those whom an earlier process had seen.
    pub visitors: u64,
    /// Visitors that were seen here since the window opened.
    pub in_window: u64,
}

/// Requests and how they ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// Requests that ended.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// How long they took.
    pub durations: Histogram,
}

/// What a restart must not forget of visitors: who was seen, and for whom something has happened already. Of a test
/// with very many visitors some 300 KB, otherwise little.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptVisitors {
    seen: Vec<String>,
    converted: String,
    pairs: Vec<[String; 2]>,
}

/// What a tick counted of the visitors of a candidate and the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairSample {
    /// Visitors for whom it failed.
    pub errors: analysis::Arms<Sample>,
    /// Visitors for whom it was slow.
    pub slow: analysis::Arms<Sample>,
}

impl Tally {
    /// Zeroed counters for the targets of a service.
    pub fn new(lineup: Lineup, goal: Option<GoalMatch>, service: Option<&Service>) -> Self {
        let sticky = service.is_some_and(|service| service.sticky.is_some());
        let workers = service.map_or(1, |service| service.stats.active.iter().count());
        let pair = |(candidate, baseline)| Pair {
            candidate,
            baseline,
            errors: RiskSets::default(),
            slow: RiskSets::default(),
            slow_from_us: AtomicU64::new(u64::MAX),
        };
        let people = sticky.then(|| People {
            seen: VisitorSet::default(),
            converted: VisitorSet::default(),
            arms: lineup.targets().iter().map(|_| ArmPeople::default()).collect(),
            pairs: lineup.pairs().map(pair).collect(),
        });
        Self {
            salt: service.map_or_else(|| "".into(), |service| Arc::clone(&service.salt)),
            goal,
            arms: lineup.targets().iter().map(|_| Sharded::new(workers)).collect(),
            lineup,
            people,
        }
    }

    /// What it counts.
    pub fn unit(&self) -> Unit {
        if self.people.is_some() { Unit::Visitors } else { Unit::Requests }
    }

    /// A request was decided on; `None`: it does not count. A pin, a path that names a target, or a preview is
    /// somebody's own test, and counts nowhere.
    pub fn begin(
        &self,
        service: &Service,
        forward: &Forward,
        method: &Method,
        path: &str,
        headers: &dyn Headers,
    ) -> Option<Begun> {
        let (diverted, reason) = (forward.chosen != forward.target, forward.reason);
        let by_split = match reason {
            Reason::Pin | Reason::Path | Reason::Preview => return None,
            Reason::Rule(_) => false,
            Reason::Split => true,
            // To where the failover led: the share of it is no share of the split.
            Reason::Failover => diverted,
        };
        let target = &service.target(forward.chosen)?.id;
        let visitor = self.people.as_ref().and_then(|_| self.visitor(service, forward, headers));
        Some(Begun {
            arm: self.lineup.targets().iter().position(|watched| watched == target),
            by_split,
            visitor,
            fits_goal: self.goal.as_ref().is_some_and(|goal| goal.fits(method, path)),
        })
    }

    fn visitor(&self, service: &Service, forward: &Forward, headers: &dyn Headers) -> Option<u32> {
        match forward.visitor {
            Visitor::None => None,
            Visitor::New(id) => Some(visitor_bits(&self.salt, VisitorText::new(id).as_bytes())),
            Visitor::Known => Some(visitor_bits(&self.salt, known(service.sticky.as_ref()?, headers)?)),
        }
    }

    /// Whether this is the goal that is watched for.
    pub fn has_goal(&self, name: &[u8]) -> bool {
        self.goal.as_ref().is_some_and(|goal| goal.is_named(name))
    }

    /// Whether a goal is watched for.
    pub fn watches_goal(&self) -> bool {
        self.goal.is_some()
    }

    /// A request that had begun has ended.
    pub fn end(&self, begun: Begun, ended: Ended, worker: Worker) {
        if let Some((arm, shards)) = begun.arm.and_then(|arm| Some((arm, self.arms.get(arm)?))) {
            let shard = shards.of(worker);
            let cell = if begun.by_split { &shard.by_split } else { &shard.by_rule };
            cell.count(ended);
            if let (Some(people), Some(visitor), true) = (&self.people, begun.visitor, begun.by_split) {
                people.note(arm, visitor, ended, shard);
            }
        }
        let fits = begun.fits_goal
            && self.goal.as_ref().zip(ended.status).is_some_and(|(goal, status)| goal.is_success(status));
        if fits || ended.goal_named {
            self.reached(begun, worker);
        }
    }

    /// A request reached the goal. It counts for the arm that its visitor has been seen on, wherever it went itself.
    fn reached(&self, begun: Begun, worker: Worker) {
        let arm = match (&self.people, begun.visitor) {
            (Some(people), Some(visitor)) => people.convert(visitor),
            (Some(_), None) => None,
            (None, _) => begun.arm.filter(|_| begun.by_split),
        };
        if let Some(shards) = arm.and_then(|arm| self.arms.get(arm)) {
            shards.of(worker).conversions.fetch_add(1, Relaxed);
        }
    }

    /// A back end reports that a visitor reached a goal; `false`: this goal is not watched for, or visitors are not
    /// known. Who was never seen on any arm takes no part, and a second report of the same visitor counts nothing.
    pub fn convert(&self, visitor: &[u8], goal: &[u8]) -> bool {
        let Some(people) = self.people.as_ref().filter(|_| self.has_goal(goal)) else { return false };
        if let Some(shards) = people.convert(visitor_bits(&self.salt, visitor)).and_then(|arm| self.arms.get(arm)) {
            shards.of(Worker(0)).conversions.fetch_add(1, Relaxed);
        }
        true
    }

    /// What was counted so far, in the order of the lineup.
    pub fn read(&self) -> Vec<Reading> {
        let people = |arm: usize| self.people.as_ref().and_then(|people| people.arms.get(arm));
        let reading = |(arm, shards): (usize, &Sharded<Shard>)| {
            let mut reading = Reading::default();
            for shard in shards.iter() {
                reading.by_split.add(&shard.by_split.read());
                reading.by_rule.add(&shard.by_rule.read());
                reading.new_visitors += shard.new_visitors.load(Relaxed);
                reading.conversions += shard.conversions.load(Relaxed);
            }
            if let Some(people) = people(arm) {
                reading.visitors = people.ever.len().saturating_sub(people.remembered).into();
                reading.in_window = people.in_window.len().into();
            }
            reading
        };
        self.arms.iter().enumerate().map(reading).collect()
    }

    /// Requests that the split gave each arm so far: cheaper than a whole reading.
    pub fn requests(&self) -> Vec<u64> {
        let sum = |shards: &Sharded<Shard>| shards.iter().map(|shard| shard.by_split.requests.load(Relaxed)).sum();
        self.arms.iter().map(sum).collect()
    }

    /// Ends a tick of the visitors: one sample for each pair of the lineup; none where requests are counted.
    pub fn end_tick(&self) -> Vec<PairSample> {
        let pairs = self.people.iter().flat_map(|people| &people.pairs);
        pairs.map(|pair| PairSample { errors: pair.errors.end_tick(), slow: pair.slow.end_tick() }).collect()
    }

    /// The visitors, for a restart.
    pub fn kept(&self) -> KeptVisitors {
        let Some(people) = &self.people else { return KeptVisitors::default() };
        KeptVisitors {
            seen: people.arms.iter().map(|arm| arm.ever.to_text()).collect(),
            converted: people.converted.to_text(),
            pairs: people.pairs.iter().map(|pair| [&pair.errors, &pair.slow].map(|s| s.happened().to_text())).collect(),
        }
    }

    /// The same counters, which know the visitors of an earlier process: they are not new any more.
    #[must_use]
    pub fn remembering(mut self, kept: &KeptVisitors) -> Self {
        let Some(people) = &mut self.people else { return self };
        for (arm, seen) in people.arms.iter_mut().zip(&kept.seen) {
            arm.ever.add_text(seen);
            arm.remembered = arm.ever.len();
            people.seen.add_text(seen);
        }
        people.converted.add_text(&kept.converted);
        for (pair, happened) in people.pairs.iter().zip(&kept.pairs) {
            let sets = [&pair.errors, &pair.slow];
            sets.iter().zip(happened).for_each(|(sets, happened)| sets.happened().add_text(happened));
        }
        self
    }

    /// Says from when on requests of a pair are slow.
    pub fn set_slow(&self, pair: usize, from_us: Option<u64>) {
        if let Some(pair) = self.people.as_ref().and_then(|people| people.pairs.get(pair)) {
            pair.slow_from_us.store(from_us.unwrap_or(u64::MAX), Relaxed);
        }
    }

    /// Visitors of the window count from here.
    pub fn open_window(&self) {
        self.people.iter().flat_map(|people| &people.arms).for_each(|arm| arm.in_window.clear());
    }

    /// Whether there were so many visitors that more than one in ten new ones go uncounted.
    pub fn is_crowded(&self) -> bool {
        self.people.as_ref().is_some_and(|people| people.seen.is_crowded())
    }

    /// The arms.
    pub fn lineup(&self) -> &Lineup {
        &self.lineup
    }
}

impl Cell {
    fn count(&self, ended: Ended) {
        self.requests.fetch_add(1, Relaxed);
        if ended.failed {
            self.errors.fetch_add(1, Relaxed);
        }
        if let Some(elapsed_us) = ended.elapsed_us {
            self.durations.count(elapsed_us);
        }
    }

    fn read(&self) -> Counted {
        // Errors first: a request in between must not look like an error without a request.
        let errors = self.errors.load(Relaxed);
        Counted { requests: self.requests.load(Relaxed), errors, durations: self.durations.read() }
    }
}

impl People {
    fn note(&self, arm: usize, visitor: u32, ended: Ended, shard: &Shard) {
        if self.seen.insert(visitor) {
            shard.new_visitors.fetch_add(1, Relaxed);
        }
        if let Some(people) = self.arms.get(arm) {
            people.ever.insert(visitor);
            people.in_window.insert(visitor);
        }
        for pair in &self.pairs {
            let side = if pair.candidate == arm {
                Candidate
            } else if pair.baseline == arm {
                Baseline
            } else {
                continue;
            };
            pair.errors.note(visitor, side, ended.failed);
            let slow_from_us = pair.slow_from_us.load(Relaxed);
            if let Some(elapsed_us) = ended.elapsed_us.filter(|_| slow_from_us != u64::MAX) {
                pair.slow.note(visitor, side, elapsed_us >= slow_from_us);
            }
        }
    }

    /// The arm of a visitor who reaches the goal for the first time.
    fn convert(&self, visitor: u32) -> Option<usize> {
        let arm = self.arms.iter().position(|arm| arm.ever.contains(visitor))?;
        self.converted.insert(visitor).then_some(arm)
    }
}

impl Counted {
    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.durations.add(&other.durations);
    }

    /// What was counted since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            durations: self.durations.since(&earlier.durations),
        }
    }
}

impl Reading {
    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.by_split.add(&other.by_split);
        self.by_rule.add(&other.by_rule);
        self.new_visitors = self.new_visitors.saturating_add(other.new_visitors);
        self.conversions = self.conversions.saturating_add(other.conversions);
        self.visitors = self.visitors.saturating_add(other.visitors);
        self.in_window = self.in_window.saturating_add(other.in_window);
    }

    /// What was counted since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            by_split: self.by_split.since(&earlier.by_split),
            by_rule: self.by_rule.since(&earlier.by_rule),
            new_visitors: self.new_visitors.saturating_sub(earlier.new_visitors),
            conversions: self.conversions.saturating_sub(earlier.conversions),
            visitors: self.visitors.saturating_sub(earlier.visitors),
            in_window: self.in_window.saturating_sub(earlier.in_window),
        }
    }

    /// Whatever gave them to it.
    #[must_use]
    pub fn all(&self) -> Counted {
        let mut all = self.by_split.clone();
        all.add(&self.by_rule);
        all
    }
}

#[cfg(test)]
mod tests;
