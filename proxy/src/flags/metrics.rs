//! What is shown of flag sources: metrics, and what readiness says of them.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use tidegate_core::{Snapshot, flags::Standing};

use super::sources::FlagSources;
use crate::observe::families::Family;

impl FlagSources {
    /// What is counted of flag sources, for a scrape.
    pub(crate) fn families(&self) -> Vec<Family> {
        let (snapshot, now) = (self.routing().load_full(), self.routing().now().mono);
        let mut age = Family::gauge(
            "flags_snapshot_age_seconds",
            "Time since the flag source that was read least recently was read, or since the start.",
        );
        let mut up = Family::gauge("flags_source_up", "1 while a flag source can be read.");
        let mut whole = Family::gauge("flags_source_whole", "0 while a flag source is missing what it had.");
        let mut reads = Family::counter("flags_reads_total", "Reads of flag sources, by how they ended.");
        let mut connects = Family::counter("flags_connects_total", "Connections that were made to flag sources.");
        let mut wakeups = Family::counter("flags_wakeups_total", "Changes that flag sources told of themselves.");
        for source in snapshot.flags.sources() {
            let (name, stats) = (("source", source.id.as_str()), &source.stats);
            let labels = [name];
            up.add_count(&labels, u64::from(source.standing == Standing::Up));
            whole.add_count(&labels, u64::from(!source.emptied));
            reads.add_count(&[name, ("result", "ok")], stats.reads.load(Relaxed));
            reads.add_count(&[name, ("result", "failed")], stats.failures.load(Relaxed));
            connects.add_count(&labels, stats.connects.load(Relaxed));
            wakeups.add_count(&labels, stats.wakeups.load(Relaxed));
        }
        if let Some(oldest) = oldest(&snapshot, now) {
            age.add(&[], oldest.as_secs_f64());
        }
        let mut tracking = Family::gauge("flags_source_tracking", "1 while a flag source tells of changes itself.");
        for (id, tracks) in self.tracking() {
            tracking.add_count(&[("source", id.as_str())], u64::from(tracks));
        }
        let mut invalid = Family::gauge("flags_invalid", "Flags whose value cannot be used.");
        let faults = snapshot.flags.iter().filter(|flag| flag.fault.is_some()).count();
        invalid.add_count(&[], u64::try_from(faults).unwrap_or(u64::MAX));
        let mut unsaved = Family::gauge("flags_unsaved", "1 while a restart without the sources would undo changes.");
        unsaved.add_count(&[], u64::from(self.is_unsaved()));
        vec![age, up, whole, reads, connects, wakeups, tracking, invalid, unsaved]
    }

    /// What is wrong with flag sources. It does not make the process unready: flags keep their last values.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let snapshot = self.routing().load_full();
        let now = self.routing().now().mono;
        let mut reasons = Vec::new();
        for source in snapshot.flags.sources() {
            let age = source.stats.age(now).map_or_else(
                || "it was never read since the start".to_owned(),
                |age| format!("it was read {} s ago", age.as_secs()),
            );
            match &source.standing {
                Standing::Up => {}
                Standing::Waiting => reasons.push(format!("flag source {}: not read yet", source.id)),
                Standing::Down { reason, .. } => {
                    reasons
                        .push(format!("flag source {}: {reason}; {age}, and its flags keep their values", source.id));
                }
            }
            if source.emptied {
                reasons.push(format!(
                    "flag source {}: it was emptied or replaced, and missing flags keep their values until it is accepted or restored",
                    source.id
                ));
            }
        }
        if self.is_unsaved() {
            reasons
                .push("flags are not remembered: a restart without their sources would undo the last changes".into());
        }
        reasons
    }
}

fn oldest(snapshot: &Snapshot, now: Duration) -> Option<Duration> {
    snapshot.flags.sources().map(|source| source.stats.age(now).unwrap_or(now)).max()
}
