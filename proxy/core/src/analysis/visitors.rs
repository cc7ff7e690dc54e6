//! Counting visitors instead of requests.
//!
//! Under a sticky split, all requests of a visitor fall on one arm, and one visitor whose account is broken fails again
//! and again. Requests are not independent then: counted per request, a test at 5 % gives false alarms in half of all
//! deployments. So each visitor counts once.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::watch::{Arms, Sample};

/// Bits of a set: 128 KiB. Enough for 100,000 visitors at the fill at which it is called crowded.
const BITS: u32 = 1 << 20;

/// A set of visitors by their [hash](crate::hash::visitor_bits). Two visitors may share a bit: then the second is not
/// counted, on whichever arm. Adding never waits and never allocates.
#[derive(Debug)]
pub struct VisitorSet {
    words: Box<[AtomicU64]>,
    visitors: AtomicU32,
}

impl Default for VisitorSet {
    fn default() -> Self {
        Self { words: (0..BITS / u64::BITS).map(|_| AtomicU64::new(0)).collect(), visitors: AtomicU32::new(0) }
    }
}

impl VisitorSet {
    /// Adds a visitor. True if it was not in the set: each visitor gets that answer once, whichever thread asks.
    pub fn insert(&self, visitor_bits: u32) -> bool {
        let Some((word, bit)) = self.place(visitor_bits) else { return false };
        // Nearly always there already: reading alone leaves the cache line shared.
        let new = word.load(Relaxed) & bit == 0 && word.fetch_or(bit, Relaxed) & bit == 0;
        if new {
            self.visitors.fetch_add(1, Relaxed);
        }
        new
    }

    /// Whether a visitor (or one with the same bit) is in the set.
    pub fn contains(&self, visitor_bits: u32) -> bool {
        self.place(visitor_bits).is_some_and(|(word, bit)| word.load(Relaxed) & bit != 0)
    }

    /// How many were added.
    pub fn len(&self) -> u32 {
        self.visitors.load(Relaxed)
    }

    /// Whether it has nobody.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether more than one in ten new visitors would be taken for a known one, and go uncounted.
    pub fn is_crowded(&self) -> bool {
        self.len() > BITS / 10
    }

    /// The set as text, for a journal: the distances from bit to bit, so that a few visitors are a short text.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut next = 0_u32;
        for (word, index) in self.words.iter().zip(0_u32..) {
            let mut left = word.load(Relaxed);
            while left != 0 {
                let bit = index * u64::BITS + left.trailing_zeros();
                left &= left - 1;
                push_distance(&mut text, bit - next);
                next = bit + 1;
            }
        }
        text
    }

    /// Adds the visitors of a text; what is no such text adds what comes before the fault.
    pub fn add_text(&self, text: &str) {
        let (mut bit, mut distance) = (0_u32, 0_u32);
        for digit in text.chars() {
            let Some(digit) = digit.to_digit(DIGITS) else { return };
            distance = distance << DIGIT_BITS | digit & (MORE - 1);
            if digit & MORE != 0 {
                continue;
            }
            bit = bit.saturating_add(std::mem::take(&mut distance));
            if bit >= BITS {
                return;
            }
            self.insert(bit);
            bit += 1;
        }
    }

    /// Forgets everybody.
    pub fn clear(&self) {
        self.words.iter().for_each(|word| word.store(0, Relaxed));
        self.visitors.store(0, Relaxed);
    }

    fn place(&self, visitor_bits: u32) -> Option<(&AtomicU64, u64)> {
        // The low bits: the bucket, and so the arm, comes from the high ones.
        let bit = visitor_bits % BITS;
        Some((self.words.get((bit / u64::BITS) as usize)?, 1 << (bit % u64::BITS)))
    }
}

/// Of a digit of a distance: whether another one follows. What is left are three bits of the distance.
const MORE: u32 = 8;
/// Bits of a distance in a digit.
const DIGIT_BITS: u32 = 3;
/// Hexadecimal.
const DIGITS: u32 = 16;

/// Writes a distance, its highest digit first.
fn push_distance(text: &mut String, distance: u32) {
    let digits = (u32::BITS - distance.leading_zeros()).div_ceil(DIGIT_BITS).max(1);
    for place in (0..digits).rev() {
        let more = if place > 0 { MORE } else { 0 };
        text.extend(char::from_digit(distance >> (place * DIGIT_BITS) & (MORE - 1) | more, DIGITS));
    }
}

/// Which arm a visitor was on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// The target that is to prove itself.
    Candidate,
    /// What it is compared with.
    Baseline,
}

/// One metric counted per visitor: in each tick, who was at risk and for whom it happened for the first time.
///
/// At risk in a tick is who was there in it and to whom it had never happened before, on either arm. Then, if the
/// candidate is not worse, the arms of those to whom it happens are drawn from the arms of those at risk, whatever was
/// before: the log-rank argument (ter Schure et al. 2020). One set of those to whom it happened serves both arms and
/// all windows: otherwise a broken account that the candidate got by chance would count again after each change of the
/// weights, and be evidence again.
#[derive(Debug, Default)]
pub struct RiskSets {
    present: VisitorSet,
    happened: VisitorSet,
    candidate: Counted,
    baseline: Counted,
}

#[derive(Debug, Default)]
struct Counted {
    at_risk: AtomicU64,
    events: AtomicU64,
}

impl RiskSets {
    /// Notes that a request of a visitor ended on an arm, and whether it was an event.
    pub fn note(&self, visitor_bits: u32, arm: Arm, is_event: bool) {
        let counted = match arm {
            Arm::Candidate => &self.candidate,
            Arm::Baseline => &self.baseline,
        };
        if self.present.insert(visitor_bits) && !self.happened.contains(visitor_bits) {
            counted.at_risk.fetch_add(1, Relaxed);
        }
        if is_event && self.happened.insert(visitor_bits) {
            counted.events.fetch_add(1, Relaxed);
        }
    }

    /// Ends a tick: its counts. Those of a tick that spans a change of weights are not to be used, but must be taken.
    pub fn end_tick(&self) -> Arms<Sample> {
        self.present.clear();
        let take = |counted: &Counted| {
            let events = counted.events.swap(0, Relaxed);
            // A request that ends in the middle of this function may count its event after its presence was taken.
            Sample { of: counted.at_risk.swap(0, Relaxed).max(events), events }
        };
        Arms { candidate: take(&self.candidate), baseline: take(&self.baseline) }
    }

    /// Those to whom it happened: what a restart must not forget.
    pub fn happened(&self) -> &VisitorSet {
        &self.happened
    }

    /// Whether so many visitors were noted that more than one in ten go uncounted.
    pub fn is_crowded(&self) -> bool {
        self.present.is_crowded() || self.happened.is_crowded()
    }
}

#[cfg(test)]
mod tests;
