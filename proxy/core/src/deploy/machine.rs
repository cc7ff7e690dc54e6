//! The state machine of one deployment: from what it is and what happens to what it becomes and what is to be done.
//!
//! Total: every input is answered in every state. Nothing is done before it was written down: a [`Stepped`] holds the
//! write, and its effects come after it. Every act has a number and a deadline; an answer to another act than the one
//! that is awaited changes nothing.

mod back;
mod call;
mod command;
mod forward;
mod load;
#[cfg(test)]
mod properties;
mod recover;
#[cfg(test)]
mod tests;
mod types;
mod work;

pub use call::{HookCall, variable};
use tidegate_config::{ServiceId, TargetId};
pub use types::{
    Command, Deadline, Deployment, Doing, Effect, HookEnd, HookReport, Input, Judged, Load, LoadPhase, Outcome,
    PauseReason, Process, Refusal, Retiring, Standing, State, Stepped, Undoing, Verdict, Why, WhyKind, Write,
};

use self::work::Work;
use super::{
    ids::DeploymentId,
    plan::Plan,
    spec::{DeploymentSpec, OnFail},
};
use crate::state::Moment;

impl Deployment {
    /// A deployment that waits to be executed.
    pub fn create(id: DeploymentId, spec: DeploymentSpec, plan: Plan, now: Moment) -> Stepped {
        let deployment = Self {
            id,
            spec,
            traffic: plan.base.clone(),
            plan,
            state: State::Pending,
            undo: Vec::new(),
            standing: Standing::default(),
            queued: false,
            winner: None,
            last_op: 0,
            retiring: None,
            load: None,
            history: super::history::History::default(),
            latest: std::collections::BTreeMap::new(),
            created_unix_ms: now.unix_ms,
            updated_unix_ms: now.unix_ms,
            finished_unix_ms: None,
            retry_of: None,
        };
        let mut work = Work::new(deployment, now);
        work.tell(super::history::Happened::Created);
        work.finish()
    }

    /// Whether it holds its services.
    pub fn is_active(&self) -> bool {
        matches!(self.state, State::Running { .. } | State::Paused { .. } | State::RollingBack { .. })
    }

    /// The moment (monotonic) at which a [`Input::Tick`] has something to do.
    pub fn wakes_at(&self) -> Option<std::time::Duration> {
        let until = match &self.state {
            State::Running { doing, .. } => Some(doing.until()),
            State::Paused { until, .. } => Some(*until),
            State::RollingBack { doing, .. } => Some(doing.until),
            State::Pending | State::Succeeded | State::RolledBack { .. } | State::Failed { .. } | State::Cancelled => {
                None
            }
        };
        let retire = self.retiring.as_ref().map(|retiring| retiring.until);
        until.into_iter().chain(retire).map(|deadline| deadline.mono).min()
    }

    /// Whether a target's new version may have requests.
    pub fn exposes(&self, service: &ServiceId, target: &TargetId) -> bool {
        let new = self.plan.members.iter().any(|member| member.service == *service && member.to.contains(target));
        let weighted =
            self.traffic.get(service).is_some_and(|release| release.split.iter().any(|(named, _)| named == target));
        self.standing.released && new && weighted
    }
}

/// Answers an input.
///
/// # Errors
/// A [`Refusal`] when a command does not fit the state; nothing has changed then.
pub fn step(deployment: &Deployment, input: Input, now: Moment) -> Result<Stepped, Refusal> {
    let mut work = Work::new(deployment.clone(), now);
    match input {
        Input::Execute(plan) => work.execute(*plan)?,
        Input::Command(command) => work.command(command)?,
        Input::Done { op, outcome } => work.done(op, outcome),
        Input::HookStarted { op, process } => work.hook_started(op, process),
        Input::Judged { service, judged } => work.judged(service, judged),
        Input::TargetDown { service, target, reason } => work.target_down(&service, &target, &reason),
        Input::Superseded => work.superseded(),
        Input::Promoted { stage, outcome } => work.promoted(stage, outcome),
        Input::Tick => work.tick(),
    }
    Ok(work.finish())
}

/// Goes on after a restart of the process: what was being done is done again, or taken back.
pub fn recover(deployment: &Deployment, now: Moment) -> Stepped {
    // What is over has nothing more to tell; else every restart would tell its end again.
    let mut work = if deployment.is_active() {
        Work::recovered(deployment.clone(), now)
    } else {
        Work::new(deployment.clone(), now)
    };
    work.recover();
    work.finish()
}

impl Work {
    fn done(&mut self, op: u64, outcome: Outcome) {
        if self.d.retiring.as_ref().is_some_and(|retiring| retiring.op == Some(op)) {
            return self.retired(outcome);
        }
        if self.is_load(op) {
            return self.load_ended(outcome);
        }
        match &self.d.state {
            State::Running { at, doing: Doing::Act { op: awaited, .. } } if *awaited == op => {
                let at = *at;
                self.acted(at, outcome);
            }
            State::RollingBack { doing, .. } if doing.op == op => self.undone(outcome),
            State::Running { .. }
            | State::RollingBack { .. }
            | State::Pending
            | State::Paused { .. }
            | State::Succeeded
            | State::RolledBack { .. }
            | State::Failed { .. }
            | State::Cancelled => {}
        }
    }

    fn hook_started(&mut self, op: u64, started: Process) {
        if self.is_load(op) {
            return self.load_runs(started);
        }
        let slot = match &mut self.d.state {
            State::Running { doing: Doing::Act { op: awaited, process, .. }, .. } if *awaited == op => process,
            State::RollingBack { doing, .. } if doing.op == op => &mut doing.process,
            State::Running { .. }
            | State::RollingBack { .. }
            | State::Pending
            | State::Paused { .. }
            | State::Succeeded
            | State::RolledBack { .. }
            | State::Failed { .. }
            | State::Cancelled => return,
        };
        *slot = Some(started);
        // Without it a restart cannot end the process, but the process runs already.
        self.write(Write::BestEffort);
    }

    fn target_down(&mut self, service: &ServiceId, target: &TargetId, reason: &str) {
        if !self.d.spec.strategy.verifies() || !self.d.exposes(service, target) {
            return;
        }
        let why = Why::new(WhyKind::Health, format!("target {target} of service {service} is down: {reason}"));
        match self.d.state {
            State::Running { .. } | State::Paused { .. } => self.fail(why),
            State::Pending
            | State::RollingBack { .. }
            | State::Succeeded
            | State::RolledBack { .. }
            | State::Failed { .. }
            | State::Cancelled => {}
        }
    }

    fn judged(&mut self, service: ServiceId, judged: Judged) {
        let known = self.d.latest.insert(service.clone(), judged.clone());
        let new = known.is_none_or(|known| known.verdict != judged.verdict);
        match (&self.d.state, judged.verdict) {
            (State::Running { .. } | State::Paused { .. }, Verdict::Fail) if !self.d.standing.overruled => {
                if new {
                    self.tell(super::history::Happened::Verdict { service, judged: judged.clone() });
                }
                let why = Why::new(WhyKind::Analysis, judged.reason);
                match (self.d.spec.analyse.on_fail, &self.d.state) {
                    (OnFail::Rollback, _) => self.fail(why),
                    (OnFail::Pause, State::Running { at, doing: Doing::Analyse { .. } | Doing::Wait { .. } }) => {
                        let at = *at;
                        self.pause(at, PauseReason::Failing { why: why.message });
                    }
                    // It pauses as soon as nothing is being done.
                    (OnFail::Pause, State::Running { .. }) => self.d.standing.pausing = true,
                    (OnFail::Pause, _) => {}
                }
            }
            (State::Running { at, doing: Doing::Analyse { .. } }, _) => {
                let at = *at;
                self.analysed(at, service, judged);
            }
            (
                State::Running { .. }
                | State::Paused { .. }
                | State::Pending
                | State::RollingBack { .. }
                | State::Succeeded
                | State::RolledBack { .. }
                | State::Failed { .. }
                | State::Cancelled,
                _,
            ) => {}
        }
    }

    fn tick(&mut self) {
        if self.d.retiring.as_ref().is_some_and(|retiring| retiring.until.is_over(self.now)) {
            self.retire();
        }
        match &self.d.state {
            State::Running { at, doing } if doing.until().is_over(self.now) => {
                let at = *at;
                self.timed_out(at);
            }
            State::Paused { until, reason, .. } if until.is_over(self.now) => {
                let why = format!("nobody decided in time: {reason}");
                self.fail(Why::new(WhyKind::Deadline, why));
            }
            State::RollingBack { doing, .. } if doing.until.is_over(self.now) => {
                self.undone(Outcome::Lost("there was no answer in time".into()));
            }
            State::Running { .. }
            | State::Paused { .. }
            | State::RollingBack { .. }
            | State::Pending
            | State::Succeeded
            | State::RolledBack { .. }
            | State::Failed { .. }
            | State::Cancelled => {}
        }
    }

    fn promoted(&mut self, stage: String, outcome: Result<DeploymentId, String>) {
        self.tell(match outcome {
            Ok(deployment) => super::history::Happened::Promoted { stage, deployment },
            Err(reason) => super::history::Happened::PromotionFailed { stage, reason },
        });
    }

    /// Another deployment of a service begins: what is kept for a rollback is that one's now.
    fn superseded(&mut self) {
        if self.d.is_active() || (self.d.undo.is_empty() && self.d.retiring.is_none()) {
            return;
        }
        self.d.undo.clear();
        self.d.retiring = None;
        self.write(Write::Required);
    }
}
