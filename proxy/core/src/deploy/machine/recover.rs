//! What is done after a restart, for each thing that may have been under way.

use super::{
    types::{Deadline, Doing, Effect, State, Undoing, Why, WhyKind, Write},
    work::Work,
};
use crate::{
    change::ReleaseCause,
    deploy::{
        history::Happened,
        step::{HookStep, OnHookFailure, Pause, PlanStep, Step, UndoStep},
    },
};

/// How often a command is begun, at most: once, and once more after a restart.
const MAX_RUNS: u32 = 2;

impl Work {
    pub(super) fn recover(&mut self) {
        let now = self.now;
        if let Some(retiring) = &mut self.d.retiring {
            retiring.until = retiring.until.rebased(now);
            // Whether it was stopped is not known: it is stopped again.
            if retiring.op.take().is_some() {
                retiring.until = Deadline::after(now, std::time::Duration::ZERO);
            }
        }
        let load = self.d.load;
        match self.d.state.clone() {
            State::Pending | State::Succeeded | State::RolledBack { .. } | State::Failed { .. } | State::Cancelled => {}
            State::Paused { at, reason, until } => {
                self.d.state = State::Paused { at, reason, until: until.rebased(now) };
                self.watch_again();
            }
            State::Running { at, doing } => {
                self.watch_again();
                self.recover_step(at, doing);
            }
            State::RollingBack { doing, .. } => self.recover_undo(&doing),
        }
        // Only where its analysis goes on, another one has taken its place. Traffic that goes back comes first.
        if let Some(load) = load {
            self.forget_load(load);
        }
    }

    fn how(&mut self, how: impl Into<String>) {
        self.tell(Happened::Recovered { how: how.into() });
    }

    fn watch_again(&mut self) {
        if let Some(watch) = self.d.plan.watch.clone().filter(|_| self.d.standing.watching) {
            self.act(Effect::Watch(watch));
        }
    }

    fn recover_step(&mut self, at: usize, doing: Doing) {
        let Some(PlanStep { step, .. }) = self.d.plan.steps.get(at).cloned() else { return };
        let now = self.now;
        match (doing, step) {
            (Doing::Wait { until }, _) => {
                self.d.state = State::Running { at, doing: Doing::Wait { until: until.rebased(now) } };
            }
            (Doing::Again { runs, next, last }, _) => {
                let (next, last) = (next.rebased(now), last.rebased(now));
                self.d.state = State::Running { at, doing: Doing::Again { runs, next, last } };
            }
            (Doing::Analyse { .. }, Step::Analyse(analyse)) => {
                self.how("the analysis goes on; the time without a proxy does not count");
                self.load_again(&analyse, MAX_RUNS);
                self.window(at, &analyse);
            }
            (Doing::Act { runs, until, .. }, Step::Traffic { services, .. }) => {
                self.how("the traffic is set again: it is the whole value, so nothing changes if it was set");
                let op = self.restate(at, runs, until);
                self.act(Effect::Release { op, services, cause: ReleaseCause::Forward });
            }
            (Doing::Act { runs, .. }, Step::Verify(verify)) => {
                self.how("the health is checked again, with its full time");
                let until = Deadline::after(now, verify.timeout.saturating_add(super::work::GRACE));
                let op = self.restate(at, runs, until);
                self.act(Effect::Verify { op, verify });
            }
            (Doing::Act { .. }, Step::Drain(_)) => {
                self.how("nothing runs any more: the connections ended with the process");
                self.pass(at);
            }
            (Doing::Act { runs, process, until, .. }, Step::Hook(hook)) => {
                self.recover_hook(at, &hook, runs, process, until);
            }
            (Doing::Act { runs, process, until, .. }, Step::Pause(Pause::Gate(hook, _))) => {
                self.recover_hook(at, &hook, runs, process, until);
            }
            // A pause, an analysis and the choice of a winner are never acts.
            (Doing::Act { .. } | Doing::Analyse { .. }, _) => self.enter(at),
        }
    }

    fn recover_hook(
        &mut self,
        at: usize,
        hook: &HookStep,
        runs: u32,
        process: Option<super::types::Process>,
        until: Deadline,
    ) {
        if hook.idempotent && runs < MAX_RUNS {
            self.how(format!("{} is run again", hook.role.name()));
            let gate = matches!(self.d.plan.steps.get(at).map(|plan| &plan.step), Some(Step::Pause(_)));
            let last = gate.then(|| until.rebased(self.now));
            return self.again(at, runs + 1, process, last);
        }
        let why = format!("{} was cut off by a restart, and may not be run again", hook.role.name());
        self.how(why.clone());
        if hook.on_failure == OnHookFailure::Report {
            // It may have outlived the proxy; where the deployment fails, that ends it.
            self.end_hook();
        }
        self.fail_at(at, Why::new(WhyKind::Hook, why));
    }

    fn restate(&mut self, at: usize, runs: u32, until: Deadline) -> u64 {
        let op = self.next_op();
        let until = if until.rebased(self.now).is_over(self.now) {
            Deadline::after(self.now, super::work::GRACE)
        } else {
            until.rebased(self.now)
        };
        self.d.state = State::Running { at, doing: Doing::Act { op, runs: runs + 1, until, process: None } };
        self.write(Write::Required);
        op
    }

    fn recover_undo(&mut self, doing: &Undoing) {
        let Some(undo) = self.d.undo.last().cloned() else { return self.next_undo() };
        match &undo {
            UndoStep::Hook(hook) if doing.runs >= MAX_RUNS || !hook.idempotent && doing.runs > 0 => {
                let why = format!("{} was cut off by a restart, and may not be run again", hook.role.name());
                self.tell_anyway(Happened::Recovered { how: why.clone() });
                if let Some(process) = doing.process {
                    self.act(Effect::KillHook { op: doing.op, process: Some(process) });
                }
                self.undone(super::Outcome::Lost(why));
            }
            UndoStep::Traffic(_) | UndoStep::Unplace(_) | UndoStep::Hook(_) | UndoStep::Verify(..) => {
                self.tell_anyway(Happened::Recovered { how: format!("{} is done again", undo.name()) });
                self.begin_undo(&undo, doing.runs + 1, doing.process);
            }
        }
    }
}
