//! Which versions are under test.
//!
//! The whole of it each time, as traffic is: whoever does not know whether it was said says it again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Applied, Draft};
use crate::{
    preview::{Previews, under_test},
    state::{ServiceState, State},
};

/// Seals what is under test now, and opens what is not any more.
pub(super) fn set(state: &State, previews: &Previews) -> Applied {
    let mut edited = BTreeMap::new();
    let members = state.previews.values().chain(previews.values()).flat_map(|preview| preview.members.keys());
    for id in members.collect::<BTreeSet<_>>() {
        let Some(old) = state.services.get(id) else { continue };
        edited.insert(id.clone(), ServiceState { under_test: under_test(previews, id), ..ServiceState::clone(old) });
    }
    Draft { edited, previews: Some(Arc::new(previews.clone())), ..Draft::default() }.finish(state)
}
