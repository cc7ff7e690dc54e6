//! The command that makes requests while an analysis lasts. It begins and ends with the analysis; how it ends by itself is
//! told, and is no verdict: what it was to make possible is judged by what was counted.

use std::time::Duration;

use super::{
    types::{Doing, Effect, Load, LoadPhase, Outcome, Process, State, Write},
    work::Work,
};
use crate::deploy::{
    history::Happened,
    step::{Analyse, HookStep, Step},
};

impl Work {
    /// Has requests made for an analysis, unless they are being made since its last window.
    pub(super) fn begin_load(&mut self, at: usize, analyse: &Analyse) {
        match self.d.load {
            Some(Load { phase: LoadPhase::Running, .. }) => {}
            // It may still take its time to end.
            Some(Load { phase: LoadPhase::Ending, process, .. }) => self.start_load(at, analyse, 1, process),
            None => self.start_load(at, analyse, 1, None),
        }
    }

    fn start_load(&mut self, at: usize, analyse: &Analyse, runs: u32, earlier: Option<Process>) {
        let Some(hook) = &analyse.load else { return };
        let op = self.next_op();
        let mut call = self.call(hook);
        call.hook.timeout = longest(analyse);
        // Until it says where it runs, a restart knows of the one before.
        self.d.load = Some(Load { op, at, runs, process: earlier, phase: LoadPhase::Running });
        self.act(Effect::Hook { op, call, kill: earlier });
    }

    /// No more requests are to be made.
    pub(super) fn end_load(&mut self) {
        if let Some(load) = self.d.load.as_mut().filter(|load| load.phase == LoadPhase::Running) {
            load.phase = LoadPhase::Ending;
            let (op, process) = (load.op, load.process);
            self.act(Effect::KillHook { op, process });
        }
    }

    /// Ends it when no analysis lasts any more, however that came. After everything else: traffic does not wait for it.
    pub(super) fn end_stray_load(&mut self) {
        if !matches!(self.d.state, State::Running { doing: Doing::Analyse { .. }, .. }) {
            self.end_load();
        }
    }

    /// Whether an act is the command's.
    pub(super) fn is_load(&self, op: u64) -> bool {
        self.d.load.is_some_and(|load| load.op == op)
    }

    pub(super) fn load_runs(&mut self, process: Process) {
        if let Some(load) = &mut self.d.load {
            load.process = Some(process);
            self.write(Write::BestEffort);
        }
    }

    pub(super) fn load_ended(&mut self, outcome: Outcome) {
        let Some(load) = self.d.load.take() else { return };
        self.write(Write::BestEffort);
        // That it ended when it was told to is no news.
        if let (Outcome::Hook(report), Some(hook), LoadPhase::Running) = (outcome, self.load_of(load), load.phase) {
            self.tell_anyway(Happened::HookFinished {
                role: hook.role,
                service: hook.service,
                target: hook.target,
                program: hook.argv.into_iter().next().unwrap_or_default(),
                report,
            });
        }
    }

    fn load_of(&self, load: Load) -> Option<HookStep> {
        match &self.d.plan.steps.get(load.at)?.step {
            Step::Analyse(analyse) => analyse.load.as_deref().cloned(),
            _ => None,
        }
    }

    /// After a restart, where its analysis goes on: the one of the earlier process ends, and another begins, if it may.
    pub(super) fn load_again(&mut self, analyse: &Analyse, max_runs: u32) {
        let (Some(load), Some(hook)) = (self.d.load, &analyse.load) else { return };
        if load.phase == LoadPhase::Running && load.runs < max_runs && hook.idempotent {
            return self.start_load(load.at, analyse, load.runs + 1, load.process);
        }
        self.forget_load(load);
        let how = "load was cut off by a restart, and may not be run again: the analysis goes on without it";
        self.tell(Happened::Recovered { how: how.into() });
    }

    /// Ends one that an earlier process began: nobody will say that it has ended.
    pub(super) fn forget_load(&mut self, load: Load) {
        if self.is_load(load.op) {
            self.d.load = None;
            self.act(Effect::KillHook { op: load.op, process: load.process });
            self.write(Write::Required);
        }
    }
}

/// More than the windows of an analysis can take: what ends it is its end.
fn longest(analyse: &Analyse) -> Duration {
    super::forward::window_limit(analyse).saturating_mul(super::forward::EXTENSIONS + 1)
}

#[cfg(test)]
mod tests;
