//! A flat hash index over texts: built once per snapshot, read by every request with one cache miss a probe.
//!
//! Its keys come from the configuration, so nobody outside can choose colliding ones, and a fast hash is enough.

const ROUND: u64 = 0x9e37_79b9_7f4a_7c15;
const FINAL: u64 = 0xd6e8_feb8_6659_fd93;

/// From a hash to the numbers that were put in under it.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// A power of two of slots, at most half of them taken.
    slots: Box<[Slot]>,
    taken: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Upper half of the hash: nearly every wrong entry is passed over without a look at its text.
    tag: u32,
    /// The number plus one; zero: the slot is free.
    number: u32,
    /// What it leads to: known here already, so that the processor can go on with it before the text is compared.
    value: u32,
}

impl Index {
    /// Room for this many numbers.
    pub(crate) fn with_capacity(numbers: usize) -> Self {
        Self { slots: vec![Slot::default(); (numbers * 2).next_power_of_two()].into(), taken: 0 }
    }

    /// Whether nothing was put in.
    pub(crate) fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// Puts a number in, and what it leads to. There must be room for it.
    pub(crate) fn insert(&mut self, hash: u64, number: u32, value: u32) {
        let mask = self.slots.len() - 1;
        for probe in 0..self.slots.len() {
            if let Some(slot) = self.slots.get_mut((hash as usize).wrapping_add(probe) & mask)
                && slot.number == 0
            {
                self.taken += 1;
                *slot = Slot { tag: (hash >> 32) as u32, number: number.saturating_add(1), value };
                return;
            }
        }
    }

    /// The first number under this hash that `is` the one, and what it leads to.
    pub(crate) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<(u32, u32)> {
        let mask = self.slots.len().wrapping_sub(1);
        let tag = (hash >> 32) as u32;
        for probe in 0..self.slots.len() {
            let slot = self.slots.get((hash as usize).wrapping_add(probe) & mask)?;
            if slot.number == 0 {
                return None;
            }
            if slot.tag == tag && is(slot.number - 1) {
                return Some((slot.number - 1, slot.value));
            }
        }
        None
    }
}

/// Goes on with a hash over more bytes.
pub(crate) fn mix(hash: u64, bytes: &[u8]) -> u64 {
    let mut hash = hash ^ (bytes.len() as u64).wrapping_mul(FINAL);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        hash = fold(hash ^ word.first_chunk().map_or(0, |word| u64::from_le_bytes(*word)));
    }
    let rest = words.remainder();
    if rest.is_empty() {
        return hash;
    }
    let last = match (bytes.last_chunk::<8>(), rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        (Some(word), _, _) => u64::from_le_bytes(*word),
        (None, Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
        }
        _ => rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    fold(hash ^ last)
}

fn fold(word: u64) -> u64 {
    let product = u128::from(word ^ FINAL) * u128::from(ROUND);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_found_under_its_own_hash() {
        let texts: Vec<String> = (0..10_000).map(|n| format!("/service-{n}")).collect();
        let mut index = Index::with_capacity(texts.len());
        for (number, text) in texts.iter().enumerate() {
            index.insert(mix(1, text.as_bytes()), number as u32, 7 * number as u32);
        }
        for (number, text) in texts.iter().enumerate() {
            let found = index.find(mix(1, text.as_bytes()), |at| texts[at as usize] == *text);
            assert_eq!(found, Some((number as u32, 7 * number as u32)));
        }
        assert_eq!(index.find(mix(1, b"/absent"), |at| texts[at as usize] == "/absent"), None);
        assert_eq!(Index::default().find(0, |_| true), None);
    }

    #[test]
    fn numbers_under_one_hash_are_told_apart_by_their_text() {
        let mut index = Index::with_capacity(3);
        (0..3).for_each(|number| index.insert(7, number, number + 1));
        for number in 0..3 {
            assert_eq!(index.find(7, |at| at == number), Some((number, number + 1)));
        }
        assert_eq!(index.find(7, |at| at == 3), None);
    }

    #[test]
    fn hashes_of_all_short_texts_differ() {
        let mut seen = std::collections::HashSet::new();
        let alphabet = b"/ab-01";
        let mut texts = vec![Vec::new()];
        for _ in 0..6 {
            texts = texts
                .iter()
                .flat_map(|t: &Vec<u8>| alphabet.iter().map(move |b| [t.as_slice(), &[*b]].concat()))
                .collect();
            for text in &texts {
                assert!(seen.insert(mix(0, text)), "{text:?}");
            }
        }
    }
}
