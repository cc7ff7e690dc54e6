//! The connections and streams that a worker has open, so that they can be ended.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tidegate_core::deploy::step::Endpoints;
use tokio::sync::Notify;

use super::link::Link;

/// The rosters of all workers.
#[derive(Debug, Default)]
pub(crate) struct Rosters(Mutex<Vec<Arc<Roster>>>);

impl Rosters {
    /// A roster of a new worker.
    pub(super) fn open(&self) -> Arc<Roster> {
        let roster = Arc::<Roster>::default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&roster));
        roster
    }

    /// Ends what runs on these endpoints.
    pub(crate) fn cut(&self, endpoints: &Endpoints) {
        let rosters = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for roster in rosters {
            roster.each(|link| {
                if link.running().is_some_and(|running| running.is_on(endpoints)) {
                    link.cut();
                }
            });
        }
    }
}

/// The open connections and streams of one worker.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    open: Mutex<Open>,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    links: HashMap<u64, Arc<Link>>,
}

/// A place in the roster, until it is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    roster: Arc<Roster>,
    number: u64,
}

impl Roster {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a link.
    pub(super) fn enter(self: &Arc<Self>, link: &Arc<Link>) -> Entry {
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        open.links.insert(number, Arc::clone(link));
        Entry { roster: Arc::clone(self), number }
    }

    /// Calls `each` for every open link.
    pub(super) fn each(&self, mut each: impl FnMut(&Link)) {
        self.open().links.values().for_each(|link| each(link));
    }

    /// Waits until nothing is open.
    pub(super) async fn emptied(&self) {
        while !self.open().links.is_empty() {
            self.emptied.notified().await;
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut open = self.roster.open();
        open.links.remove(&self.number);
        if open.links.is_empty() {
            self.roster.emptied.notify_one();
        }
    }
}
