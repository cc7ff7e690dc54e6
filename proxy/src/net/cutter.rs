//! Ends what still runs on a target when the target's time is up.
//!
//! Looks at the connections of one worker at each new snapshot and at each deadline. Requests on targets that did not
//! change are never touched.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tidegate_config::ServiceId;
use tidegate_core::Snapshot;
use tokio::time::sleep;

use super::{
    link::{Link, Running},
    roster::Roster,
};
use crate::lane::Shared;

/// A request may read a snapshot just before it is replaced, and be seen here only after: so we look again this often
/// while anything drains.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Services that are gone, and when what runs on them is cut (monotonic).
type Gone = HashMap<ServiceId, Duration>;

/// Runs until the worker's runtime ends.
pub(super) async fn run(shared: Arc<Shared>, roster: Arc<Roster>) {
    let mut published = shared.routing.published();
    let mut gone = Gone::new();
    loop {
        published.mark_unchanged();
        let next = look(&shared, &roster, &mut gone);
        let due = async {
            match next {
                Some(wait) => sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = published.changed() => if changed.is_err() { return },
            () = due => {}
        }
    }
}

/// Cuts what is due. Returns how long to wait for the next, if anything drains.
fn look(shared: &Shared, roster: &Roster, gone: &mut Gone) -> Option<Duration> {
    let snapshot = shared.routing.load_full();
    let now = shared.routing.now().mono;
    gone.retain(|service, _| !snapshot.state.services.contains_key(service));
    let mut next = snapshot.state.services.values().any(|service| !service.draining.is_empty()).then_some(LOOK_AGAIN);
    roster.each(|link: &Link| {
        let Some(deadline) = link.running().and_then(|running| deadline(&running, &snapshot, gone, now)) else {
            return;
        };
        match deadline.checked_sub(now).filter(|left| !left.is_zero()) {
            Some(left) => next = Some(next.map_or(left, |next| next.min(left))),
            None => link.cut(),
        }
    });
    next
}

/// When a request must end, if its target is on its way out (monotonic).
fn deadline(running: &Running, snapshot: &Snapshot, gone: &mut Gone, now: Duration) -> Option<Duration> {
    let service = running.snapshot.service(running.service)?;
    let Some(state) = snapshot.state.services.get(&service.id) else {
        return Some(*gone.entry(service.id.clone()).or_insert_with(|| now.saturating_add(service.spec.drain)));
    };
    let target = service.target(running.target)?;
    state.draining.get(&target.id).copied()
}
