//! Both outboxes of one sink: what deployments told, and what else the proxy told.
//!
//! Each has its own bound, so that a storm of the one kind never pushes out the other. The sink hears both as one row:
//! of the two that wait longest, the older one first.

use std::{io, path::Path};

use serde::Deserialize;
use tidegate_core::deploy::cloudevent::CloudEvent;

use super::outbox::{Outbox, Unreadable, Waiting};

/// Where the outboxes of the other events are, below those of deployments.
const PROXY: &str = "proxy";

/// Who told an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// A deployment.
    Deployments,
    /// Any other part of the proxy.
    Proxy,
}

/// The outboxes of a sink.
#[derive(Debug)]
pub(super) struct Boxes {
    deployments: Outbox,
    proxy: Outbox,
}

/// What is compared of two events.
#[derive(Deserialize)]
struct When {
    time: String,
}

impl Boxes {
    /// Opens both, or makes them. The error is [`io::ErrorKind::WouldBlock`] while another process has one.
    pub(super) fn open(dir: &Path, name: &str) -> io::Result<Self> {
        Ok(Self { deployments: Outbox::open(dir, name)?, proxy: Outbox::open(&dir.join(PROXY), name)? })
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> u64 {
        self.deployments.waiting() + self.proxy.waiting()
    }

    /// How many of one kind wait.
    pub(super) fn waiting_in(&self, lane: Lane) -> u64 {
        self.of(lane).waiting()
    }

    /// Writes events down behind those that wait. When it fails, none of them is there.
    pub(super) fn push(&mut self, lane: Lane, events: &[&CloudEvent]) -> io::Result<()> {
        self.of_mut(lane).push(events)
    }

    /// Whether an event of a deployment never came here that should have.
    pub(super) fn lacks(&self, event: &CloudEvent) -> bool {
        self.deployments.lacks(event)
    }

    /// The event of one kind that waits longest.
    pub(super) fn first_in(&self, lane: Lane) -> io::Result<Option<Result<Waiting, Unreadable>>> {
        self.of(lane).first()
    }

    /// Notes that an event was told, or is not to be told any more.
    pub(super) fn pass(&mut self, lane: Lane, event: &Waiting) -> io::Result<()> {
        self.of_mut(lane).pass(event)
    }

    /// Passes over a line that nobody can read.
    pub(super) fn pass_unreadable(&mut self, lane: Lane, line: &Unreadable) -> io::Result<()> {
        self.of_mut(lane).pass_unreadable(line)
    }

    fn of(&self, lane: Lane) -> &Outbox {
        match lane {
            Lane::Deployments => &self.deployments,
            Lane::Proxy => &self.proxy,
        }
    }

    fn of_mut(&mut self, lane: Lane) -> &mut Outbox {
        match lane {
            Lane::Deployments => &mut self.deployments,
            Lane::Proxy => &mut self.proxy,
        }
    }
}

/// Which of two events that wait is told first: the older one.
pub(super) fn older(deployments: Option<Waiting>, proxy: Option<Waiting>) -> Option<(Lane, Waiting)> {
    match (deployments, proxy) {
        (Some(one), Some(other)) if time(&other) < time(&one) => Some((Lane::Proxy, other)),
        (Some(one), _) => Some((Lane::Deployments, one)),
        (None, other) => other.map(|other| (Lane::Proxy, other)),
    }
}

/// Times of RFC 3339 in UTC with as many digits each: in the order of their texts.
fn time(event: &Waiting) -> String {
    serde_json::from_str::<When>(&event.json).map(|when| when.time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::event, *};

    fn at(id: &str, second: u32) -> CloudEvent {
        CloudEvent { time: format!("2026-01-01T00:00:{second:02}.000Z"), ..event(id) }
    }

    fn told(boxes: &mut Boxes) -> Option<String> {
        let first = |lane| boxes.first_in(lane).unwrap().map(Result::unwrap);
        let (lane, event) = older(first(Lane::Deployments), first(Lane::Proxy))?;
        boxes.pass(lane, &event).unwrap();
        let json: serde_json::Value = serde_json::from_str(&event.json).unwrap();
        Some(json["id"].as_str().unwrap().to_owned())
    }

    #[test]
    fn both_kinds_are_one_row_in_the_order_of_their_times_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let mut boxes = Boxes::open(dir.path(), "a").unwrap();
        boxes.push(Lane::Deployments, &[&at("d1", 1), &at("d3", 3), &at("d9", 9)]).unwrap();
        boxes.push(Lane::Proxy, &[&at("p1", 1), &at("p2", 2), &at("p4", 4)]).unwrap();
        assert_eq!(told(&mut boxes).as_deref(), Some("d1"));
        assert_eq!(told(&mut boxes).as_deref(), Some("p1"));
        assert_eq!((boxes.waiting(), boxes.waiting_in(Lane::Proxy)), (4, 2));
        drop(boxes);
        let mut boxes = Boxes::open(dir.path(), "a").unwrap();
        for id in ["p2", "d3", "p4", "d9"] {
            assert_eq!(told(&mut boxes).as_deref(), Some(id));
        }
        assert_eq!(told(&mut boxes), None);
    }

    #[test]
    fn a_sink_named_like_the_directory_has_its_own_files() {
        let dir = tempfile::tempdir().unwrap();
        let _both = [Boxes::open(dir.path(), PROXY).unwrap(), Boxes::open(dir.path(), "a").unwrap()];
        assert!(Boxes::open(dir.path(), PROXY).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
    }
}
