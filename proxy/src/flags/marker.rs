//! Tells an emptied store from one whose flags were deleted.
//!
//! A store that is known carries a marker, an id that was made when it was first seen. A store without it, or with
//! another one, has lost its content or is another store: what is absent there says nothing. It is adopted without
//! asking only if nothing that was known is missing, so a new process that meets an emptied store first and marks it
//! anew changes nothing for those that knew it before.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use tidegate_core::flags::{Fields, Found};

use super::read::FoundThere;

/// The key of the marker of a namespace. The braces keep everything of a namespace in one slot of a cluster.
pub(super) fn key(namespace: &str) -> String {
    format!("tidegate:{{{namespace}}}:flags-init")
}

/// A new marker.
pub(super) fn new_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The store that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// Its marker; absent: none was ever seen.
    pub(crate) marker: Option<String>,
    /// The places that held something when it was last seen whole.
    pub(crate) present: BTreeSet<String>,
}

/// What a read says of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the one that is known: what is absent is gone.
    Whole,
    /// It was never marked: a marker should be made.
    Unmarked,
    /// It is not the one that is known: what is absent says nothing.
    Emptied,
}

impl Known {
    /// Judges a read, and learns from it.
    pub(super) fn judge(&mut self, found: &FoundThere) -> Verdict {
        let present = places(found);
        let verdict = match (&self.marker, &found.marker) {
            (Some(known), Some(there)) if known == there => Verdict::Whole,
            (Some(_), Some(_)) if self.present.is_subset(&present) => Verdict::Whole,
            (Some(_), _) => Verdict::Emptied,
            (None, Some(_)) => Verdict::Whole,
            (None, None) => Verdict::Unmarked,
        };
        if verdict == Verdict::Whole {
            self.marker.clone_from(&found.marker);
            self.present = present;
        }
        verdict
    }
}

/// The places of a store that hold something.
fn places(found: &FoundThere) -> BTreeSet<String> {
    let there = |found: &Found| *found != Found::Absent;
    let keys = found.keys.iter().filter(|(_, value)| there(value)).map(|(key, _)| format!("key {key}"));
    let fields: BTreeSet<String> = match &found.fields {
        Fields::Found(fields) => {
            fields.iter().filter(|(_, value)| there(value)).map(|(name, _)| format!("field {name}")).collect()
        }
        Fields::Unreadable(_) => BTreeSet::new(),
    };
    let document = there(&found.document).then(|| "document".to_owned());
    keys.chain(fields).chain(document).collect()
}

#[cfg(test)]
mod tests {
    use super::{Known, Verdict, key};
    use tidegate_core::flags::Found;

    use crate::flags::read::FoundThere;

    fn store(marker: Option<&str>, keys: &[&str]) -> FoundThere {
        let keys = keys.iter().map(|key| ((*key).to_owned(), Found::Text("on".into()))).collect();
        FoundThere { keys, marker: marker.map(str::to_owned), ..FoundThere::default() }
    }

    #[test]
    fn the_marker_of_a_namespace_has_a_hash_tag() {
        assert_eq!(key("shop"), "tidegate:{shop}:flags-init");
    }

    #[test]
    fn a_known_store_without_its_marker_is_emptied_until_it_is_back() {
        let mut known = Known::default();
        assert_eq!(known.judge(&store(None, &["A"])), Verdict::Unmarked);
        assert_eq!(known.judge(&store(Some("1"), &["A"])), Verdict::Whole);
        assert_eq!(known.judge(&store(None, &[])), Verdict::Emptied);
        // What is set again counts, but does not make the store whole.
        assert_eq!(known.judge(&store(None, &["A"])), Verdict::Emptied);
        assert_eq!(known.judge(&store(Some("1"), &[])), Verdict::Whole);
    }

    #[test]
    fn a_store_that_somebody_else_marked_anew_is_adopted_only_if_nothing_is_missing() {
        let mut known = Known::default();
        known.judge(&store(Some("1"), &["A", "B"]));
        assert_eq!(known.judge(&store(Some("2"), &["A"])), Verdict::Emptied);
        assert_eq!(known.judge(&store(Some("2"), &["A", "B", "C"])), Verdict::Whole);
        assert_eq!(known.marker.as_deref(), Some("2"));
    }

    #[test]
    fn a_deletion_in_a_whole_store_is_a_deletion() {
        let mut known = Known::default();
        known.judge(&store(Some("1"), &["A", "B"]));
        assert_eq!(known.judge(&store(Some("1"), &["B"])), Verdict::Whole);
        assert_eq!(known.judge(&store(Some("2"), &["B"])), Verdict::Whole);
    }
}
