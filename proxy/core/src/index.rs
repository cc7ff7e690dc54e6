//! A flat hash table: built once per snapshot, read by every request with one cache miss a look-up.
//!
//! Its keys come from the configuration, so nobody outside can choose colliding ones, and a fast hash is enough.

const ROUND: u64 = 0x9e37_79b9_7f4a_7c15;
const FINAL: u64 = 0xd6e8_feb8_6659_fd93;

/// Entries by their hash. They lie in the slots themselves: a look-up reads nothing else.
#[derive(Debug)]
pub(crate) struct Index<E> {
    /// None, or a power of two of them, at most half of them taken. An entry is in the first one from its hash on that
    /// was free.
    slots: Box<[Option<E>]>,
    taken: usize,
}

impl<E> Default for Index<E> {
    fn default() -> Self {
        Self { slots: Box::default(), taken: 0 }
    }
}

impl<E> Index<E> {
    /// Room for this many entries.
    pub(crate) fn with_capacity(entries: usize) -> Self {
        Self { slots: (0..(entries * 2).next_power_of_two()).map(|_| None).collect(), taken: 0 }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.taken
    }

    /// The entry under this hash that `is` the one.
    pub(crate) fn find(&self, hash: u64, is: impl Fn(&E) -> bool) -> Option<&E> {
        self.slots.get(self.position(hash, is)?)?.as_ref()
    }

    /// The entry under this hash that `is` the one, else a new one. `None` when there is no room for it.
    pub(crate) fn find_or_insert(
        &mut self,
        hash: u64,
        is: impl Fn(&E) -> bool,
        new: impl FnOnce() -> E,
    ) -> Option<&mut E> {
        let slot = self.slots.get_mut(self.position(hash, is)?)?;
        self.taken += usize::from(slot.is_none());
        Some(slot.get_or_insert_with(new))
    }

    /// Makes room for one more entry.
    pub(crate) fn reserve(&mut self, hash_of: impl Fn(&E) -> u64) {
        if self.taken * 2 < self.slots.len() {
            return;
        }
        let larger = Self::with_capacity(self.taken * 2 + 1);
        let old = std::mem::replace(self, larger);
        for entry in old.slots.into_iter().flatten() {
            self.find_or_insert(hash_of(&entry), |_| false, || entry);
        }
    }

    /// The slot of the entry that `is` the one, else the free one that it would be in.
    fn position(&self, hash: u64, is: impl Fn(&E) -> bool) -> Option<usize> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut probes = (0..self.slots.len()).map(|probe| (hash as usize).wrapping_add(probe) & mask);
        probes.find(|at| self.slots.get(*at).is_some_and(|slot| slot.as_ref().is_none_or(&is)))
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

    fn index_of(texts: &[String], mut index: Index<String>) -> Index<String> {
        for text in texts {
            index.reserve(|text| mix(1, text.as_bytes()));
            index.find_or_insert(mix(1, text.as_bytes()), |other| other == text, || text.clone()).unwrap();
        }
        index
    }

    #[test]
    fn every_entry_is_found_under_its_own_hash() {
        let texts: Vec<String> = (0..10_000).map(|n| format!("/service-{n}")).collect();
        for index in [Index::default(), Index::with_capacity(10), Index::with_capacity(texts.len())] {
            let index = index_of(&texts, index);
            assert_eq!(index.len(), texts.len());
            for text in &texts {
                assert_eq!(index.find(mix(1, text.as_bytes()), |other| other == text), Some(text));
            }
            assert_eq!(index.find(mix(1, b"/absent"), |other| other == "/absent"), None);
        }
        assert_eq!(Index::<()>::default().find(0, |()| true), None);
    }

    #[test]
    fn entries_under_one_hash_are_told_apart() {
        // The last slot: the search goes on at the first.
        for hash in [0, 7, u64::MAX] {
            let mut index = Index::with_capacity(3);
            for number in 0..3 {
                assert_eq!(index.find_or_insert(hash, |other| *other == number, || number), Some(&mut { number }));
            }
            for number in 0..3 {
                assert_eq!(index.find(hash, |other| *other == number), Some(&number));
            }
            assert_eq!(index.find(hash, |other| *other == 3), None);
        }
    }

    #[test]
    fn entry_that_is_there_is_not_inserted_again() {
        let mut index = Index::with_capacity(2);
        for new in ["first", "second"] {
            assert_eq!(index.find_or_insert(5, |_| true, || new).copied(), Some("first"));
        }
        assert_eq!(index.len(), 1);
    }

    #[test]
    fn full_index_refuses_another_entry() {
        let mut index = Index::with_capacity(1);
        for number in 0..2 {
            assert!(index.find_or_insert(0, |_| false, || number).is_some());
        }
        assert_eq!(index.find_or_insert(0, |_| false, || 2), None);
        assert_eq!(Index::default().find_or_insert(0, |_| false, || 2), None);
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
