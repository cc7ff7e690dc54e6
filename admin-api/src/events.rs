//! The last events, numbered, for those who poll and those who follow.

use std::{collections::VecDeque, sync::Mutex};

use serde::{Deserialize, Serialize};
use tidegate_core::{Event, Generation};
use tokio::sync::watch;

/// Events that are kept: enough to bridge a client's reconnect, bounded for a flapping endpoint.
pub const KEPT: usize = 1024;

/// An event and when it happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its number; grows by one, also over a restart (it begins at the start's Unix time in microseconds).
    pub seq: u64,
    /// Milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// The generation that it brought about, or happened in.
    pub generation: Generation,
    /// Who caused it.
    pub actor: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// The last [`KEPT`] events.
#[derive(Debug)]
pub struct EventLog {
    kept: Mutex<VecDeque<Recorded>>,
    newest: watch::Sender<u64>,
}

impl EventLog {
    /// An empty log whose first event is `first_seq + 1`.
    pub fn new(first_seq: u64) -> Self {
        Self { kept: Mutex::new(VecDeque::with_capacity(KEPT)), newest: watch::Sender::new(first_seq) }
    }

    /// Appends an event and wakes the followers.
    pub fn push(&self, at_unix_ms: u64, generation: Generation, actor: &str, event: Event) -> Recorded {
        let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        let seq = self.newest.borrow().saturating_add(1);
        let recorded = Recorded { seq, at_unix_ms, generation, actor: actor.to_owned(), event };
        kept.push_back(recorded.clone());
        self.newest.send_replace(seq);
        recorded
    }

    /// The events after `seq`, oldest first, at most `limit`.
    pub fn after(&self, seq: u64, limit: usize) -> Vec<Recorded> {
        let kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let from = kept.partition_point(|recorded| recorded.seq <= seq);
        kept.iter().skip(from).take(limit).cloned().collect()
    }

    /// The number of the newest event; changes with each.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}
