//! What people want of a deployment, and in which state it may be wanted.

use super::{
    types::{Command, Doing, Effect, PauseReason, Refusal, State, Why, WhyKind},
    work::Work,
};
use crate::deploy::{
    history::Happened,
    step::{AnalyseMode, HookRole, Pause, PlanStep, Step},
};

impl Work {
    pub(super) fn command(&mut self, command: Command) -> Result<(), Refusal> {
        match command {
            Command::Promote => self.promote(),
            Command::PromoteFull => self.promote_full(),
            Command::Pause => self.pause_by_hand(),
            Command::Resume => self.resume(),
            Command::Skip => self.skip(),
            Command::Cancel => self.cancel(),
            Command::Rollback => self.roll_back_by_hand(),
            Command::SelectWinner(target) => self.select_winner(target),
        }
    }

    fn conflict<T>(&self, what: &str) -> Result<T, Refusal> {
        Err(Refusal::Conflict(format!("deployment {} {what}", self.d.id)))
    }

    /// Refuses what only an active deployment can do.
    fn not_active<T>(&self) -> Result<T, Refusal> {
        match self.d.state {
            State::Pending => self.conflict("has not begun: execute it first"),
            State::RollingBack { .. } => self.conflict("is being rolled back"),
            State::Succeeded | State::RolledBack { .. } | State::Failed { .. } | State::Cancelled => {
                self.conflict("is over")
            }
            State::Running { .. } | State::Paused { .. } => self.conflict("cannot do that now"),
        }
    }

    fn step(&self, at: usize) -> Option<PlanStep> {
        self.d.plan.steps.get(at).cloned()
    }

    fn promote(&mut self) -> Result<(), Refusal> {
        match self.d.state.clone() {
            State::Paused { reason: PauseReason::Winner { .. }, .. } => {
                self.conflict("waits for a winner: select one of its variants")
            }
            State::Paused { at, .. } => {
                self.tell(Happened::Resumed);
                self.leave_pause(at);
                Ok(())
            }
            State::Running { at, doing: Doing::Analyse { .. } } if self.is_contest(at) => {
                self.conflict("is a test of variants: select the winner")
            }
            State::Running { at, doing: Doing::Wait { .. } | Doing::Analyse { .. } } => {
                self.pass(at);
                Ok(())
            }
            State::Running { at, doing: Doing::Act { .. } | Doing::Again { .. } } => {
                let name = self.step(at).map_or("a step", |plan| plan.step.name());
                self.conflict(&format!("does something now ({name}), and goes on by itself"))
            }
            State::Pending
            | State::RollingBack { .. }
            | State::Succeeded
            | State::RolledBack { .. }
            | State::Failed { .. }
            | State::Cancelled => self.not_active(),
        }
    }

    fn is_contest(&self, at: usize) -> bool {
        matches!(self.step(at), Some(PlanStep { step: Step::Analyse(analyse), .. })
            if analyse.mode == AnalyseMode::Contest)
    }

    /// Goes on after a pause: with the step that it stands at if that is still to be done, else with the next.
    fn leave_pause(&mut self, at: usize) {
        let State::Paused { reason, .. } = self.d.state.clone() else { return };
        self.d.standing.overruled |= matches!(reason, PauseReason::Failing { .. });
        match (reason, self.step(at).map(|plan| plan.step)) {
            // Promoting ends a wait; anything else at this place is still to be done.
            (_, Some(Step::Pause(_) | Step::Analyse(_))) => self.pass(at),
            (
                PauseReason::Manual
                | PauseReason::Step
                | PauseReason::Inconclusive { .. }
                | PauseReason::Failing { .. }
                | PauseReason::Winner { .. },
                _,
            ) => self.enter(at),
        }
    }

    fn promote_full(&mut self) -> Result<(), Refusal> {
        let waits_for_winner = match &self.d.state {
            State::Paused { reason: PauseReason::Winner { .. }, .. } => true,
            State::Running { at, .. } | State::Paused { at, .. } => {
                self.d.winner.is_none() && (self.is_contest(*at) || self.contest_ahead(*at))
            }
            _ => false,
        };
        if waits_for_winner {
            return self.conflict("is a test of variants: select the winner");
        }
        match self.d.state.clone() {
            State::Paused { at, .. } => {
                self.d.standing.full = true;
                self.tell(Happened::Resumed);
                self.leave_pause(at);
                Ok(())
            }
            State::Running { at, doing } => {
                self.d.standing.full = true;
                self.d.standing.pausing = false;
                let gate = matches!(self.step(at), Some(PlanStep { step: Step::Pause(Pause::Gate(..)), .. }));
                match doing {
                    Doing::Wait { .. } | Doing::Analyse { .. } => self.pass(at),
                    Doing::Act { op, process, .. } if gate => {
                        self.act(Effect::KillHook { op, process });
                        self.pass(at);
                    }
                    Doing::Again { .. } if gate => self.pass(at),
                    Doing::Act { .. } | Doing::Again { .. } => self.tell(Happened::Resumed),
                }
                Ok(())
            }
            State::Pending
            | State::RollingBack { .. }
            | State::Succeeded
            | State::RolledBack { .. }
            | State::Failed { .. }
            | State::Cancelled => self.not_active(),
        }
    }

    fn contest_ahead(&self, at: usize) -> bool {
        self.d.plan.steps.iter().skip(at).any(|plan| matches!(plan.step, Step::Crown { .. }))
    }

    fn pause_by_hand(&mut self) -> Result<(), Refusal> {
        match self.d.state.clone() {
            State::Running { at, doing: Doing::Wait { .. } | Doing::Analyse { .. } } => {
                self.pause(at, PauseReason::Manual);
                Ok(())
            }
            State::Running { doing: Doing::Act { .. } | Doing::Again { .. }, .. } => {
                self.d.standing.pausing = true;
                self.write(super::Write::Required);
                Ok(())
            }
            State::Paused { .. } => Ok(()),
            State::Pending
            | State::RollingBack { .. }
            | State::Succeeded
            | State::RolledBack { .. }
            | State::Failed { .. }
            | State::Cancelled => self.not_active(),
        }
    }

    /// Goes on after a pause. A wait that was interrupted begins anew; one that is over is over.
    fn resume(&mut self) -> Result<(), Refusal> {
        match self.d.state.clone() {
            State::Paused { reason: PauseReason::Winner { .. }, .. } => {
                self.conflict("waits for a winner: select one of its variants")
            }
            State::Paused { at, reason: PauseReason::Step, .. } => {
                self.tell(Happened::Resumed);
                self.pass(at);
                Ok(())
            }
            State::Paused { at, .. } => {
                self.tell(Happened::Resumed);
                self.enter(at);
                Ok(())
            }
            State::Running { .. } if self.d.standing.pausing => {
                self.d.standing.pausing = false;
                self.write(super::Write::Required);
                Ok(())
            }
            State::Running { .. } => self.conflict("is not paused"),
            State::Pending
            | State::RollingBack { .. }
            | State::Succeeded
            | State::RolledBack { .. }
            | State::Failed { .. }
            | State::Cancelled => self.not_active(),
        }
    }

    /// Passes over the present step, if the deployment is safe without it.
    fn skip(&mut self) -> Result<(), Refusal> {
        let (at, doing) = match self.d.state.clone() {
            State::Running { at, doing } => (at, Some(doing)),
            State::Paused { at, .. } => (at, None),
            State::Pending
            | State::RollingBack { .. }
            | State::Succeeded
            | State::RolledBack { .. }
            | State::Failed { .. }
            | State::Cancelled => return self.not_active(),
        };
        let Some(plan) = self.step(at) else { return self.not_active() };
        let may = match &plan.step {
            Step::Pause(_) | Step::Drain(_) => true,
            Step::Analyse(analyse) => analyse.mode != AnalyseMode::Contest,
            Step::Hook(hook) => match hook.role {
                HookRole::Test(_)
                | HookRole::Post
                | HookRole::Save
                | HookRole::Custom
                | HookRole::Gate
                | HookRole::Load => true,
                HookRole::Start | HookRole::Stop | HookRole::Install | HookRole::Pre | HookRole::Rollback => false,
            },
            Step::Traffic { .. } | Step::Verify(_) | Step::Crown { .. } => false,
        };
        if !may {
            return self.conflict(&format!("cannot go on without this step ({})", plan.step.name()));
        }
        if let (Some(Doing::Act { op, process, .. }), Step::Hook(_) | Step::Pause(_)) = (doing, &plan.step) {
            self.act(Effect::KillHook { op, process });
        }
        self.tell(Happened::StepSkipped { at, step: plan.step.name().into() });
        self.enter(at + 1);
        Ok(())
    }

    fn cancel(&mut self) -> Result<(), Refusal> {
        match self.d.state {
            State::Pending => {
                self.over(State::Cancelled, "cancelled", None);
                Ok(())
            }
            State::Running { .. } | State::Paused { .. } => self.conflict("has begun: roll it back instead"),
            State::RollingBack { .. }
            | State::Succeeded
            | State::RolledBack { .. }
            | State::Failed { .. }
            | State::Cancelled => self.not_active(),
        }
    }

    fn roll_back_by_hand(&mut self) -> Result<(), Refusal> {
        let why = Why::new(WhyKind::Operator, "an operator asked for it");
        match &self.d.state {
            State::Running { .. } | State::Paused { .. } => self.roll_back(why),
            // Asked twice is asked once.
            State::RollingBack { .. } => {}
            State::Succeeded if self.d.undo.is_empty() => {
                return self.conflict("was followed by another deployment: there is nothing left to go back to");
            }
            State::Failed { troubles, .. } if self.d.undo.is_empty() || !troubles.is_empty() => {
                return self.conflict("failed, and nothing is left that could be taken back");
            }
            State::Succeeded | State::Failed { .. } => {
                self.d.finished_unix_ms = None;
                self.roll_back(why);
            }
            State::Pending => return self.conflict("has not begun: cancel it"),
            State::RolledBack { .. } => return self.conflict("was rolled back already"),
            State::Cancelled => return self.conflict("was cancelled"),
        }
        Ok(())
    }

    fn select_winner(&mut self, target: tidegate_config::TargetId) -> Result<(), Refusal> {
        let crown = self.d.plan.steps.iter().find_map(|plan| match &plan.step {
            Step::Crown { variants } => Some(variants.keys().cloned().collect::<Vec<_>>()),
            _ => None,
        });
        let Some(variants) = crown else { return self.conflict("is not a test of variants, or has its winner") };
        if !variants.contains(&target) {
            let known: Vec<String> = variants.iter().map(ToString::to_string).collect();
            return Err(Refusal::Invalid(format!("there is no variant {target}: choose one of {}", known.join(", "))));
        }
        match self.d.state.clone() {
            State::Paused { at, reason: PauseReason::Winner { .. }, .. } => {
                self.win(target);
                self.tell(Happened::Resumed);
                if self.is_contest(at) {
                    self.pass(at)
                } else {
                    self.enter(at)
                }
                Ok(())
            }
            State::Running { at, doing: Doing::Analyse { .. } } if self.is_contest(at) => {
                self.win(target);
                self.pass(at);
                Ok(())
            }
            State::Paused { at, .. } if self.is_contest(at) => {
                self.win(target);
                self.tell(Happened::Resumed);
                self.pass(at);
                Ok(())
            }
            State::Running { .. } | State::Paused { .. } => self.conflict("has not come to its test yet"),
            State::Pending
            | State::RollingBack { .. }
            | State::Succeeded
            | State::RolledBack { .. }
            | State::Failed { .. }
            | State::Cancelled => self.not_active(),
        }
    }

    fn win(&mut self, target: tidegate_config::TargetId) {
        self.d.winner = Some(target.clone());
        self.tell(Happened::Won { target });
    }
}
