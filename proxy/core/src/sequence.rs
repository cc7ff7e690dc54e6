//! From a number to a target: ranges of a split, and the low-discrepancy sequence that walks them.
//!
//! Random draws would give a 1 % target 0 or 4 of 100 requests as easily as 1. The sequence gives exact counts.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tidegate_config::Weight;

use crate::{
    hash::NUMBERS,
    snapshot::TargetIdx,
    stats::{Sharded, Worker},
};

/// Steps after which the sequence has visited every number once.
pub const PERIOD: u32 = NUMBERS as u32;

/// The number that follows `n` is `n + STEP` modulo 10,000: a walk by nearly the golden ratio.
///
/// Not the nearest coprime to 10,000 / φ² = 3819.7 (3819, off by up to 2.88 requests in any 100), but the one of those
/// near it that stays within ±2 for every range and every 100 consecutive requests (off by up to 1.98).
pub const STEP: u32 = 3801;

/// The number that comes next, and the walk goes on. Exact also when threads share the counter.
pub fn advance(counter: &AtomicU32) -> u16 {
    let position = counter.fetch_add(1, Relaxed) % PERIOD;
    if position == PERIOD - 1 {
        // 2^32 is no multiple of the period: the counter must not wrap by itself. Just one thread ends each period.
        counter.fetch_sub(PERIOD, Relaxed);
    }
    number_at(position)
}

/// The number that comes next, without going on.
pub fn peek(counter: &AtomicU32) -> u16 {
    number_at(counter.load(Relaxed) % PERIOD)
}

/// Sequences whose counters share a worker's cache lines: as many as fill a shard.
const BLOCK: usize = 32;

/// Where the sequence of a service is, per worker.
///
/// The counters of many services lie side by side, so that a worker finds nearly all of them in its nearest caches. A
/// clone counts on the same counters.
#[derive(Debug, Clone)]
pub struct Sequence {
    block: Sharded<[AtomicU32; BLOCK]>,
    at: u8,
}

impl Sequence {
    /// The counter of a worker; workers beyond the number of shards share.
    pub fn of(&self, worker: Worker) -> &AtomicU32 {
        // Invariant: the index is taken modulo the length of the array.
        #[expect(clippy::indexing_slicing, reason = "the index is taken modulo the length of the array")]
        &self.block.of(worker)[usize::from(self.at) % BLOCK]
    }
}

/// New sequences, all of them at their beginning.
#[derive(Debug)]
pub(crate) struct Sequences {
    workers: usize,
    spare: Vec<Sequence>,
}

impl Sequences {
    /// Sequences for this many workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self { workers, spare: Vec::new() }
    }

    /// One more.
    pub(crate) fn begin(&mut self) -> Sequence {
        self.spare.pop().unwrap_or_else(|| {
            let block = Sharded::new(self.workers);
            self.spare.extend((1..BLOCK as u8).rev().map(|at| Sequence { block: block.clone(), at }));
            Sequence { block, at: 0 }
        })
    }
}

fn number_at(position: u32) -> u16 {
    // Invariant: position < 10,000, so the product is below 2^32, and the remainder is below 10,000.
    (position * STEP % PERIOD) as u16
}

/// Ranges of 0 to 9,999, one per target that has a weight.
///
/// The stable target's range is the last and the others stand in the order of their names. So the range of a newcomer
/// beside a stable target begins at 0, and when it grows, visitors only move into it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SplitTable {
    /// The first ranges, in place: nearly every split has no more, and reading them misses no cache of its own.
    near: [Range; 3],
    far: Box<[Range]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    /// The first number that is not in it. Ends ascend to 10,000; zero: there is no such range.
    end: u16,
    target: TargetIdx,
}

impl Default for Range {
    fn default() -> Self {
        Self { end: 0, target: TargetIdx(0) }
    }
}

impl SplitTable {
    /// Ranges for weights that are given in any order.
    pub fn new(weights: impl IntoIterator<Item = (TargetIdx, Weight)>, stable: TargetIdx) -> Self {
        let mut weights: Vec<_> = weights.into_iter().filter(|(_, weight)| *weight != Weight::ZERO).collect();
        weights.sort_by_key(|(target, _)| (*target == stable, *target));
        let mut ranges = weights.into_iter().scan(0_u16, |end, (target, weight)| {
            *end = end.saturating_add(weight.points());
            Some(Range { end: *end, target })
        });
        let near = [(); 3].map(|()| ranges.next().unwrap_or_default());
        Self { near, far: ranges.collect() }
    }

    /// The target whose range holds this number; `None` when no range does, as in an empty table.
    pub fn pick(&self, number: u16) -> Option<TargetIdx> {
        // Splits have two or three targets: a scan beats a binary search.
        self.near.iter().chain(&self.far).find(|range| number < range.end).map(|range| range.target)
    }

    /// The target that has everything, if there is one: then no number is needed.
    pub fn only(&self) -> Option<TargetIdx> {
        let [first, ..] = self.near;
        (first.end == NUMBERS).then_some(first.target)
    }

    /// The numbers of a target, from the first to before the second; `None` if it has no weight.
    pub fn range_of(&self, target: TargetIdx) -> Option<(u16, u16)> {
        let ranges = self.near.iter().chain(&self.far).scan(0, |before, range| {
            let begin = std::mem::replace(before, range.end);
            Some((begin, range))
        });
        let found = ranges.into_iter().find(|(_, range)| range.target == target && range.end != 0);
        found.map(|(begin, range)| (begin, range.end))
    }
}

#[cfg(test)]
mod tests;
