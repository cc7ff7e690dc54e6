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

/// Events after a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Events are missing: the ones that are kept begin after this number.
    pub resumes_after: Option<u64>,
    /// The events, oldest first.
    pub events: Vec<Recorded>,
}

/// The last [`KEPT`] events.
#[derive(Debug)]
pub struct EventLog {
    kept: Mutex<VecDeque<Recorded>>,
    first_seq: u64,
    newest: watch::Sender<u64>,
}

impl EventLog {
    /// An empty log whose first event is `first_seq + 1`.
    pub fn new(first_seq: u64) -> Self {
        Self { kept: Mutex::new(VecDeque::with_capacity(KEPT)), first_seq, newest: watch::Sender::new(first_seq) }
    }

    /// The number after which the events of this process begin.
    pub fn beginning(&self) -> u64 {
        self.first_seq
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

    /// The events after `seq`, and whether events before them are missing. 0 is the beginning of this process.
    pub fn page(&self, seq: u64, limit: usize) -> Page {
        let kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let newest = *self.newest.borrow();
        let before_oldest = kept.front().map_or(newest, |oldest| oldest.seq.saturating_sub(1));
        let asked = if seq == 0 { self.first_seq } else { seq };
        // A number from the future is of a process whose clock was ahead: what came after it cannot be known.
        let missing = asked < before_oldest || asked > newest;
        let after = if missing { before_oldest } else { asked };
        let from = kept.partition_point(|recorded| recorded.seq <= after);
        Page {
            resumes_after: missing.then_some(before_oldest),
            events: kept.iter().skip(from).take(limit).cloned().collect(),
        }
    }

    /// The newest events, oldest first, at most `limit`.
    pub fn last(&self, limit: usize) -> Vec<Recorded> {
        let kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.iter().skip(kept.len().saturating_sub(limit)).cloned().collect()
    }

    /// The number of the newest event; changes with each.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(events: u64) -> EventLog {
        let log = EventLog::new(100);
        for n in 1..=events {
            log.push(n, Generation(1), "test", Event::Unsaved { reason: n.to_string() });
        }
        log
    }

    fn page(log: &EventLog, seq: u64) -> (Option<u64>, Vec<u64>) {
        let page = log.page(seq, KEPT);
        (page.resumes_after, page.events.iter().map(|event| event.seq).collect())
    }

    #[test]
    fn whoever_saw_the_newest_misses_nothing() {
        assert_eq!(page(&log(0), 100), (None, vec![]));
        assert_eq!(page(&log(3), 103), (None, vec![]));
        assert_eq!(page(&log(3), 101), (None, vec![102, 103]));
        assert_eq!(page(&log(3), 100), (None, vec![101, 102, 103]));
    }

    #[test]
    fn zero_is_the_beginning_of_the_process() {
        assert_eq!(page(&log(0), 0), (None, vec![]));
        assert_eq!(page(&log(2), 0), (None, vec![101, 102]));
    }

    #[test]
    fn events_of_an_earlier_process_are_missing() {
        assert_eq!(page(&log(2), 7), (Some(100), vec![101, 102]));
        assert_eq!(page(&log(0), 7), (Some(100), vec![]));
    }

    #[test]
    fn numbers_of_the_future_are_answered_with_what_is_kept() {
        assert_eq!(page(&log(2), 103), (Some(100), vec![101, 102]));
    }

    #[test]
    fn only_the_last_events_are_kept_and_the_rest_is_missing() {
        let full = log(KEPT as u64 + 5);
        assert_eq!(page(&full, 0).0, Some(105));
        assert_eq!(page(&full, 104).0, Some(105));
        assert_eq!(page(&full, 105).0, None);
        assert_eq!(page(&full, 104).1.len(), KEPT);
        assert_eq!(
            full.last(2).iter().map(|event| event.seq).collect::<Vec<_>>(),
            [100 + KEPT as u64 + 4, 100 + KEPT as u64 + 5]
        );
    }
}
