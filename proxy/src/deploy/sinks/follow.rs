//! What the proxy does outside of deployments, as CloudEvents: read from the event log, by each sink at its own pace.
//!
//! The log is a ring in memory. So whoever writes to it never waits for a sink or for a disk, and a storm of events takes
//! no more memory than the ring: what a sink's thread has not read before it is overwritten is missed, and counted.

use std::{future::pending, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tidegate_admin::{EventLog, Recorded, dto::EventKind};
use tidegate_core::{
    Event,
    deploy::cloudevent::{CloudEvent, Naming},
    time::rfc3339,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Events that are read at once: they are written down together.
const BATCH: usize = 256;
/// Time between two looks at the log, so that a storm is written down in a few large pieces.
const GATHER: Duration = Duration::from_millis(100);
/// Longest text of an event's circumstances: a line of a sink's file has its bounds.
const MAX_DATA: usize = 256 * 1024;

/// Reads the event log for one sink.
pub(super) struct Follower {
    log: Arc<EventLog>,
    newest: watch::Receiver<u64>,
    naming: Naming,
    /// The number of the last event that was read.
    after: u64,
    /// Not before this time.
    next: Instant,
}

impl Follower {
    /// Reads from the beginning of this process.
    pub(super) fn new(log: Arc<EventLog>, naming: Naming) -> Self {
        let (newest, after) = (log.newest(), log.beginning());
        Self { log, newest, naming, after, next: Instant::now() }
    }

    /// Waits until there is something to read. May be given up at any time.
    pub(super) async fn news(&mut self) {
        sleep_until(self.next).await;
        if self.newest.wait_for(|newest| *newest > self.after).await.is_err() {
            pending::<()>().await;
        }
    }

    /// Reads the next events; also says how many were missed before them. Nothing is left when both are none.
    pub(super) fn read(&mut self) -> (Vec<CloudEvent>, u64) {
        let page = self.log.page(self.after, BATCH);
        let from = page.resumes_after.unwrap_or(self.after);
        let missed = from.saturating_sub(self.after);
        self.after = page.events.last().map_or(from, |last| last.seq);
        self.next = Instant::now() + GATHER;
        let told = page.events.iter().filter(|recorded| is_told(&recorded.event));
        (told.map(|recorded| cloud_event(recorded, &self.naming)).collect(), missed)
    }

    /// Whether everything was read.
    pub(super) fn is_done(&self) -> bool {
        *self.newest.borrow() <= self.after
    }
}

/// Whether sinks are told. Deployments tell their progress themselves, in the words of a delivery; of endpoints only what
/// becomes of their target matters outside; and that a sink lost events would be one event more to lose.
fn is_told(event: &Event) -> bool {
    !matches!(event, Event::Deployment { .. } | Event::HealthChanged { .. } | Event::SinkLost { .. })
}

/// An event as it goes out. Its id is its number: the same event always has the same.
fn cloud_event(recorded: &Recorded, naming: &Naming) -> CloudEvent {
    let event = EventKind::from(&recorded.event);
    let mut data = serde_json::to_value(&event).unwrap_or_default();
    let subject = ["service", "flag", "source", "stack"].iter().find_map(|key| data.get(key)?.as_str());
    let subject = subject.map(str::to_owned);
    if data.to_string().len() > MAX_DATA {
        data = json!({ "shortened": true });
    }
    if let Value::Object(fields) = &mut data {
        fields.remove("type");
        fields.insert("generation".into(), recorded.generation.0.into());
        fields.insert("actor".into(), recorded.actor.as_str().into());
    }
    CloudEvent {
        specversion: "1.0".into(),
        id: recorded.seq.to_string(),
        source: naming.source(),
        kind: naming.kind(event.word()),
        subject,
        time: rfc3339(recorded.at_unix_ms),
        datacontenttype: "application/json".into(),
        shkeptncontext: None,
        triggeredid: None,
        data,
    }
}

#[cfg(test)]
mod tests {
    use tidegate_admin::events::KEPT;
    use tidegate_core::{Generation, Health};

    use super::*;

    fn naming() -> Naming {
        Naming { prefix: "dev.tidegate".into(), node: "one".into() }
    }

    fn switched(log: &EventLog) {
        let event = Event::Switched {
            service: "web".parse().unwrap(),
            from: "green".parse().unwrap(),
            to: "blue".parse().unwrap(),
        };
        log.push(1_700_000_000_000, Generation(7), "ci", event);
    }

    #[test]
    fn the_wire_is_this_one() {
        let log = Arc::new(EventLog::new(41));
        let mut follower = Follower::new(Arc::clone(&log), naming());
        switched(&log);
        let (events, missed) = follower.read();
        assert_eq!(
            (serde_json::to_value(events).unwrap(), missed),
            (
                json!([{
                    "specversion": "1.0",
                    "id": "42",
                    "source": "/tidegate/one",
                    "type": "dev.tidegate.traffic.switched",
                    "subject": "web",
                    "time": "2023-11-14T22:13:20.000Z",
                    "datacontenttype": "application/json",
                    "data": {"service": "web", "from": "green", "to": "blue", "generation": 7, "actor": "ci"},
                }]),
                0
            )
        );
        assert!(follower.is_done() && follower.read().0.is_empty());
    }

    #[test]
    fn what_others_tell_and_what_would_feed_itself_is_left_out() {
        let log = Arc::new(EventLog::new(0));
        let mut follower = Follower::new(Arc::clone(&log), naming());
        let health = Event::HealthChanged {
            service: "web".parse().unwrap(),
            target: "green".parse().unwrap(),
            endpoint: "127.0.0.1:1".parse().unwrap(),
            from: Health::Healthy,
            to: Health::Unhealthy,
            reason: "why".into(),
        };
        log.push(1, Generation(1), "health", health);
        log.push(1, Generation(1), "sinks", Event::SinkLost { sink: "keptn".parse().unwrap(), count: 3 });
        assert!(!follower.is_done());
        assert_eq!(follower.read(), (Vec::new(), 0));
        assert!(follower.is_done());
    }

    #[test]
    fn a_storm_is_read_in_pieces_and_what_was_overwritten_is_counted() {
        let log = Arc::new(EventLog::new(1_000));
        let mut follower = Follower::new(Arc::clone(&log), naming());
        for _ in 0..KEPT + 5 {
            switched(&log);
        }
        let (mut ids, mut missed) = (Vec::new(), 0);
        while !follower.is_done() {
            let (events, lost) = follower.read();
            assert!(events.len() <= BATCH);
            ids.extend(events.into_iter().map(|event| event.id));
            missed += lost;
        }
        assert_eq!((ids.len(), missed), (KEPT, 5));
        assert_eq!((ids.first().unwrap().as_str(), ids.last().unwrap().as_str()), ("1006", "2029"));
    }

    #[test]
    fn circumstances_that_are_too_long_for_a_line_are_left_out() {
        let log = Arc::new(EventLog::new(0));
        let mut follower = Follower::new(Arc::clone(&log), naming());
        log.push(1, Generation(1), "reload", Event::ReloadRejected { problems: vec!["x".repeat(MAX_DATA)] });
        let (events, _) = follower.read();
        assert_eq!(events[0].data, json!({"shortened": true, "generation": 1, "actor": "reload"}));
        assert_eq!((events[0].kind.as_str(), &events[0].subject), ("dev.tidegate.config.rejected", &None));
    }
}
