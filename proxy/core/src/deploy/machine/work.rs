//! One step in the making: the deployment that is edited, and what is to be done for it.

use std::{collections::BTreeMap, time::Duration};

use tidegate_config::ServiceId;

use super::{
    call::{HookCall, variable},
    types::{Deployment, Effect, Stepped, Write},
};
use crate::{
    deploy::{history::Happened, memory::Note, step::HookStep},
    state::Moment,
};

pub(super) struct Work {
    pub(super) d: Deployment,
    pub(super) now: Moment,
    write: Write,
    notes: Vec<(ServiceId, Note)>,
    effects: Vec<Effect>,
}

impl Work {
    pub(super) fn new(mut d: Deployment, now: Moment) -> Self {
        d.history.begin();
        Self { d, now, write: Write::No, notes: Vec::new(), effects: Vec::new() }
    }

    /// Tells the latest group of entries again, together with what is new.
    pub(super) fn recovered(d: Deployment, now: Moment) -> Self {
        Self { d, now, write: Write::No, notes: Vec::new(), effects: Vec::new() }
    }

    pub(super) fn finish(mut self) -> Stepped {
        self.end_stray_load();
        let fresh = self.d.history.fresh();
        if !fresh.is_empty() {
            self.effects.push(Effect::Tell(fresh));
        }
        Stepped { deployment: self.d, write: self.write, notes: self.notes, effects: self.effects }
    }

    /// Has it written down. What leads away from trouble does not wait for the disk, whatever else is to be written.
    pub(super) fn write(&mut self, write: Write) {
        self.d.updated_unix_ms = self.now.unix_ms;
        self.write = match (self.write, write) {
            (Write::BestEffort, _) | (_, Write::BestEffort) => Write::BestEffort,
            (Write::Required, _) | (_, Write::Required) => Write::Required,
            (Write::No, Write::No) => Write::No,
        };
    }

    pub(super) fn tell(&mut self, what: Happened) {
        self.d.history.add(what, self.now.unix_ms);
        self.write(Write::Required);
    }

    /// Tells what is no reason to wait for the disk.
    pub(super) fn tell_anyway(&mut self, what: Happened) {
        self.d.history.add(what, self.now.unix_ms);
        self.write(Write::BestEffort);
    }

    pub(super) fn note(&mut self, service: &ServiceId, note: Note) {
        self.notes.push((service.clone(), note));
    }

    pub(super) fn act(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn next_op(&mut self) -> u64 {
        self.d.last_op += 1;
        self.d.last_op
    }

    /// A command with its arguments and environment complete.
    pub(super) fn call(&self, hook: &HookStep) -> Box<HookCall> {
        let metadata = &self.d.spec.metadata;
        let mut env: BTreeMap<String, String> = metadata.env.clone();
        env.extend(metadata.labels.iter().map(|(l, value)| (format!("TIDEGATE_LABEL_{}", variable(l)), value.clone())));
        env.insert("TIDEGATE_DEPLOYMENT".into(), self.d.id.to_string());
        let volumes = metadata.volumes.join(" ");
        if !volumes.is_empty() {
            env.insert("TIDEGATE_VOLUMES".into(), volumes);
        }
        Box::new(HookCall::new(hook.clone(), env))
    }
}

/// How much longer than the act itself its outcome may take: a command is asked to end, then is ended, then its output
/// is read.
pub(super) const GRACE: Duration = Duration::from_secs(30);
