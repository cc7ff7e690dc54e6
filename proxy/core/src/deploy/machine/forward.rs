//! A deployment that goes forward: step by step.

use std::{collections::BTreeMap, time::Duration};

use tidegate_config::ServiceId;

use super::{
    types::{
        Deadline, Doing, Effect, HookEnd, HookReport, Judged, Outcome, PauseReason, Refusal, Retiring, State, Verdict,
        Why, WhyKind, Write,
    },
    work::{GRACE, Work},
};
use crate::{
    change::ReleaseCause,
    deploy::{
        history::Happened,
        memory::Note,
        plan::Plan,
        spec::OnInconclusive,
        step::{
            Analyse, AnalyseMode, HookRole, HookStep, OnHookFailure, Pause, PlanStep, Step, Task, TrafficKind, UndoStep,
        },
    },
};

/// What a command exits with when it is to be asked again.
const TEMPORARY: i32 = 75;
/// How long after that.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long a change of traffic may take: it waits for the disk, and for nothing else.
const RELEASE: Duration = Duration::from_secs(30);
/// How often an analysis is extended before a person is asked.
pub(super) const EXTENSIONS: u32 = 3;

impl Work {
    pub(super) fn execute(&mut self, plan: Plan) -> Result<(), Refusal> {
        match &self.d.state {
            State::Pending => {}
            State::Running { .. } | State::Paused { .. } | State::RollingBack { .. } => {
                return Err(Refusal::Conflict(format!("deployment {} runs already", self.d.id)));
            }
            State::Succeeded | State::RolledBack { .. } | State::Failed { .. } | State::Cancelled => {
                return Err(Refusal::Conflict(format!(
                    "deployment {} is over: retry it, or create another",
                    self.d.id
                )));
            }
        }
        self.d.undo.clone_from(&plan.bottom);
        self.d.traffic.clone_from(&plan.base);
        self.d.plan = plan;
        self.tell(Happened::Executed);
        self.enter(0);
        Ok(())
    }

    fn step_at(&self, at: usize) -> Option<PlanStep> {
        self.d.plan.steps.get(at).cloned()
    }

    /// Begins the step at a position, or the first after it that is not passed over.
    pub(super) fn enter(&mut self, from: usize) {
        let mut at = from;
        loop {
            let Some(plan) = self.step_at(at) else { return self.succeed() };
            if std::mem::take(&mut self.d.standing.pausing) {
                return self.pause(at, PauseReason::Manual);
            }
            if self.d.standing.full && is_wait(&plan.step) {
                self.tell(Happened::StepSkipped { at, step: plan.step.name().into() });
                at += 1;
                continue;
            }
            self.tell(Happened::StepStarted { at, task: plan.task, step: plan.step.name().into() });
            return self.begin(at, plan, 1);
        }
    }

    /// Writes down what is about to be done and how it is taken back, and has it done.
    fn begin(&mut self, at: usize, plan: PlanStep, runs: u32) {
        self.d.undo.extend(plan.undo);
        let act = |work: &mut Self, length: Duration| {
            let op = work.next_op();
            let until = Deadline::after(work.now, length);
            work.d.state = State::Running { at, doing: Doing::Act { op, runs, until, process: None } };
            op
        };
        match plan.step {
            Step::Traffic { kind, services } => {
                let op = act(self, RELEASE);
                self.d.standing.released |= kind == TrafficKind::SetWeight;
                self.d.traffic.extend(services.clone());
                self.act(Effect::Release { op, services, cause: ReleaseCause::Forward });
            }
            Step::Verify(verify) => {
                let op = act(self, verify.timeout.saturating_add(GRACE));
                self.act(Effect::Verify { op, verify });
            }
            Step::Drain(drain) => {
                let op = act(self, drain.timeout.saturating_add(GRACE));
                self.act(Effect::Drain { op, drain });
            }
            Step::Hook(hook) => {
                self.d.standing.base_stopped |= self.ends_old(&hook);
                let op = act(self, hook.timeout.saturating_add(GRACE));
                let call = self.call(&hook);
                self.act(Effect::Hook { op, call, kill: None });
            }
            Step::Pause(Pause::Gate(hook, deadline)) => {
                let op = act(self, deadline);
                let call = self.call(&hook);
                self.act(Effect::Hook { op, call, kill: None });
            }
            Step::Pause(Pause::Time(length)) => {
                let until = Deadline::after(self.now, length);
                self.d.state = State::Running { at, doing: Doing::Wait { until } };
            }
            Step::Pause(Pause::Manual(length)) => self.pause_for(at, PauseReason::Step, length),
            Step::Analyse(analyse) => self.analyse(at, &analyse),
            Step::Crown { variants } => match self.d.winner.as_ref().and_then(|winner| variants.get(winner)) {
                Some(tail) => {
                    self.d.plan.steps.truncate(at);
                    self.d.plan.steps.extend(tail.steps.iter().cloned());
                    self.d.plan.retire.clone_from(&tail.retire);
                    self.enter(at);
                }
                None => self.pause(at, PauseReason::Winner { why: "no variant was chosen".into() }),
            },
        }
        self.write(Write::Required);
    }

    /// Whether a command ends an old version: by stopping it, or by starting another in its place.
    fn ends_old(&self, hook: &HookStep) -> bool {
        let of_old =
            |member: &&crate::deploy::plan::Member| member.service == hook.service && member.from == hook.target;
        match hook.role {
            HookRole::Stop | HookRole::Start => self.d.plan.members.iter().any(|member| of_old(&member)),
            HookRole::Save
            | HookRole::Install
            | HookRole::Pre
            | HookRole::Post
            | HookRole::Rollback
            | HookRole::Test(_)
            | HookRole::Gate
            | HookRole::Load
            | HookRole::Custom => false,
        }
    }

    /// Begins a command once more, after it asked for that or after a restart.
    pub(super) fn again(&mut self, at: usize, runs: u32, kill: Option<super::types::Process>, last: Option<Deadline>) {
        let Some(hook) = self.step_at(at).and_then(|plan| plan.step.command().cloned()) else { return };
        let op = self.next_op();
        let until = last.unwrap_or_else(|| Deadline::after(self.now, hook.timeout.saturating_add(GRACE)));
        self.d.state = State::Running { at, doing: Doing::Act { op, runs, until, process: None } };
        let call = self.call(&hook);
        self.act(Effect::Hook { op, call, kill });
        self.write(Write::Required);
    }

    fn analyse(&mut self, at: usize, analyse: &Analyse) {
        if analyse.mode == AnalyseMode::Contest && self.d.winner.is_some() {
            return self.pass(at);
        }
        self.d.latest.clear();
        self.d.standing.extensions = 0;
        // Of the analysis before, if there is none between them.
        self.end_load();
        self.begin_load(at, analyse);
        self.window(at, analyse);
    }

    /// Opens a window of the watch.
    pub(super) fn window(&mut self, at: usize, analyse: &Analyse) {
        let op = self.next_op();
        let until = Deadline::after(self.now, window_limit(analyse));
        self.d.state = State::Running { at, doing: Doing::Analyse { op, until, verdicts: BTreeMap::new() } };
        self.watch();
        self.act(Effect::Window { op, length: analyse.length, mode: analyse.mode });
        self.write(Write::Required);
    }

    fn watch(&mut self) {
        if let Some(watch) = self.d.plan.watch.clone().filter(|_| !self.d.standing.watching) {
            self.d.standing.watching = true;
            self.act(Effect::Watch(watch));
        }
    }

    /// What came of the act of a step.
    pub(super) fn acted(&mut self, at: usize, outcome: Outcome) {
        let Some(plan) = self.step_at(at) else { return };
        let step = &plan.step;
        match (outcome, step.command()) {
            (Outcome::Done, _) => self.pass(at),
            (Outcome::Hook(report), Some(hook)) => self.hook_ended(at, &plan, hook, report),
            (Outcome::Failed(why) | Outcome::Lost(why), _) => {
                let why = Why::new(class(step), format!("{}: {why}", step.name()));
                self.step_failed(at, plan.task, step.name(), why);
            }
            (Outcome::Hook(report), None) => {
                let why = Why::new(WhyKind::Hook, format!("{}: {}", step.name(), report.end));
                self.step_failed(at, plan.task, step.name(), why);
            }
        }
    }

    fn hook_ended(&mut self, at: usize, plan: &PlanStep, hook: &HookStep, report: HookReport) {
        let end = report.end.clone();
        self.tell_hook(hook, report);
        let (runs, until) = match &self.d.state {
            State::Running { doing: Doing::Act { runs, until, .. }, .. } => (*runs, *until),
            _ => return,
        };
        match end {
            HookEnd::Exit(0) => {
                match (hook.role, hook.replica) {
                    (HookRole::Start, _) => {
                        self.note(&hook.service, Note::Started(hook.target.clone(), hook.version.clone()));
                    }
                    (HookRole::Stop, None) => self.note(&hook.service, Note::Stopped(hook.target.clone())),
                    (HookRole::Save, _) => self.note(&hook.service, Note::Good(hook.version.clone())),
                    _ => {}
                }
                self.pass(at);
            }
            HookEnd::Exit(TEMPORARY) if !until.is_over(self.now) => {
                let next = Deadline::after(self.now, ASK_AGAIN);
                self.d.state = State::Running { at, doing: Doing::Again { runs, next, last: until } };
                self.write(Write::Required);
            }
            _ if hook.on_failure == OnHookFailure::Report => self.pass(at),
            end => {
                let why = Why::new(class(&plan.step), format!("{} {}: {end}", hook.role.name(), program(hook)));
                self.step_failed(at, plan.task, plan.step.name(), why);
            }
        }
    }

    pub(super) fn tell_hook(&mut self, hook: &HookStep, report: HookReport) {
        self.tell(Happened::HookFinished {
            role: hook.role,
            service: hook.service.clone(),
            target: hook.target.clone(),
            program: program(hook),
            report,
        });
    }

    fn step_failed(&mut self, at: usize, task: Task, step: &str, why: Why) {
        self.tell(Happened::StepFailed { at, task, step: step.into(), why: why.clone() });
        self.fail_at(at, why);
    }

    /// The deployment has failed at a step, unless that is a command whose failure is only told.
    pub(super) fn fail_at(&mut self, at: usize, why: Why) {
        let step = self.d.plan.steps.get(at).map(|plan| &plan.step);
        match step.and_then(Step::command).map(|hook| hook.on_failure) {
            Some(OnHookFailure::Report) => self.enter(at + 1),
            Some(OnHookFailure::Fail) | None => self.fail(why),
        }
    }

    /// The step is done: the next one begins.
    pub(super) fn pass(&mut self, at: usize) {
        if let Some(plan) = self.step_at(at) {
            self.tell(Happened::StepFinished { at, task: plan.task, step: plan.step.name().into() });
            if matches!(plan.step, Step::Traffic { kind: TrafficKind::SetWeight, .. }) {
                self.watch();
            }
        }
        self.enter(at + 1);
    }

    /// The deadline of what a step does is over.
    pub(super) fn timed_out(&mut self, at: usize) {
        let Some(plan) = self.step_at(at) else { return };
        let State::Running { doing, .. } = &self.d.state else { return };
        match doing.clone() {
            Doing::Wait { .. } => self.pass(at),
            Doing::Again { last, .. } if last.is_over(self.now) => {
                let why =
                    Why::new(class(&plan.step), format!("{}: not yet, until its time was over", plan.step.name()));
                self.step_failed(at, plan.task, plan.step.name(), why);
            }
            // It asked for that, so it is no second attempt.
            Doing::Again { runs, last, .. } => self.again(at, runs, None, Some(last)),
            Doing::Act { op, process, .. } => {
                // Where the deployment fails, that ends it, after the traffic.
                if plan.step.command().is_some_and(|hook| hook.on_failure == OnHookFailure::Report) {
                    self.act(Effect::KillHook { op, process });
                }
                let why = format!("{}: there was no answer in time", plan.step.name());
                self.step_failed(at, plan.task, plan.step.name(), Why::new(class(&plan.step), why));
            }
            Doing::Analyse { .. } => self.inconclusive(at, Verdict::InsufficientData, "the analysis said nothing"),
        }
    }

    /// The analysis says something about a service.
    pub(super) fn analysed(&mut self, at: usize, service: ServiceId, judged: Judged) {
        if judged.verdict == Verdict::Running {
            return;
        }
        let Some(watched) = self.d.plan.watch.as_ref().map(|watch| watch.arms.len()) else { return };
        let State::Running { doing: Doing::Analyse { verdicts, .. }, .. } = &mut self.d.state else { return };
        if verdicts.insert(service.clone(), judged.verdict) == Some(judged.verdict) {
            return;
        }
        let verdicts = verdicts.clone();
        let (winner, reason) = (judged.winner.clone(), judged.reason.clone());
        self.tell(Happened::Verdict { service, judged });
        if verdicts.len() < watched {
            return;
        }
        let all = |wanted: Verdict| verdicts.values().all(|verdict| *verdict == wanted);
        let contest = self.mode_at(at) == Some(AnalyseMode::Contest);
        match (all(Verdict::Pass), contest, winner) {
            (true, false, _) => self.pass(at),
            (true, true, Some(winner)) => {
                self.d.winner = Some(winner.clone());
                self.tell(Happened::Won { target: winner });
                self.pass(at);
            }
            (true, true, None) => self.inconclusive(at, Verdict::Inconclusive, "no variant was named"),
            (false, _, _) => {
                let lacking = verdicts.values().any(|verdict| *verdict == Verdict::InsufficientData);
                let verdict = if lacking { Verdict::InsufficientData } else { Verdict::Inconclusive };
                self.inconclusive(at, verdict, &reason);
            }
        }
    }

    fn mode_at(&self, at: usize) -> Option<AnalyseMode> {
        match self.d.plan.steps.get(at).map(|plan| &plan.step) {
            Some(Step::Analyse(analyse)) => Some(analyse.mode),
            _ => None,
        }
    }

    /// Nobody can tell. Without data nothing is ever promoted.
    fn inconclusive(&mut self, at: usize, verdict: Verdict, why: &str) {
        let Some(PlanStep { step: Step::Analyse(analyse), .. }) = self.step_at(at) else { return };
        let paused = |work: &mut Self| work.pause(at, PauseReason::Inconclusive { why: why.to_owned() });
        match (analyse.mode, self.d.spec.analyse.on_inconclusive, verdict) {
            // Nothing is gained by it: the new version has its traffic already.
            (AnalyseMode::Watch, _, _) => self.pass(at),
            (AnalyseMode::Contest, _, _) => self.pause(at, PauseReason::Winner { why: why.to_owned() }),
            (AnalyseMode::Gate, OnInconclusive::Pause, _)
            | (AnalyseMode::Gate, OnInconclusive::Promote, Verdict::InsufficientData) => paused(self),
            (AnalyseMode::Gate, OnInconclusive::Promote, _) => self.pass(at),
            (AnalyseMode::Gate, OnInconclusive::Rollback, _) => self.fail(Why::new(WhyKind::Inconclusive, why)),
            (AnalyseMode::Gate, OnInconclusive::Extend, _) if self.d.standing.extensions < EXTENSIONS => {
                self.d.standing.extensions += 1;
                self.begin_load(at, &analyse);
                self.window(at, &analyse);
            }
            (AnalyseMode::Gate, OnInconclusive::Extend, _) => paused(self),
        }
    }

    pub(super) fn pause(&mut self, at: usize, reason: PauseReason) {
        self.pause_for(at, reason, self.d.spec.patience);
    }

    fn pause_for(&mut self, at: usize, reason: PauseReason, length: Duration) {
        self.tell(Happened::Paused { reason: reason.clone() });
        self.d.state = State::Paused { at, reason, until: Deadline::after(self.now, length) };
    }

    fn succeed(&mut self) {
        for member in self.d.plan.members.clone() {
            let stable = self.d.traffic.get(&member.service).map(|release| release.stable.clone());
            let won = self.d.winner.clone();
            for to in &member.to {
                let version = self.version_of(to).unwrap_or_else(|| member.version.clone());
                if won.as_ref().is_some_and(|won| won != to) {
                    if !self.stops(&member.service, to) {
                        self.note(&member.service, Note::Kept(to.clone(), version));
                    }
                    continue;
                }
                self.note(&member.service, Note::Started(to.clone(), version.clone()));
                if self.d.spec.strategy.verifies() {
                    self.note(&member.service, Note::Good(version));
                }
            }
            let left = stable.filter(|stable| *stable != member.from).is_some();
            if left && !self.d.standing.base_stopped {
                let unknown =
                    || crate::deploy::step::Version { name: member.from.to_string(), image: None, fingerprint: None };
                let previous = member.previous.clone().unwrap_or_else(unknown);
                self.note(&member.service, Note::Kept(member.from.clone(), previous));
            }
        }
        if let Some(retire) = self.d.plan.retire.clone() {
            let until = Deadline::after(self.now, retire.after);
            self.d.retiring = Some(Retiring { until, hooks: retire.hooks, op: None });
        }
        self.over(State::Succeeded, "succeeded", None);
    }

    /// Whether the plan stops what runs in a target.
    fn stops(&self, service: &ServiceId, target: &tidegate_config::TargetId) -> bool {
        self.d.plan.steps.iter().any(|plan| plan.step.stops(target, service))
    }

    /// The version that a variant of a test runs.
    fn version_of(&self, target: &tidegate_config::TargetId) -> Option<crate::deploy::step::Version> {
        self.d.plan.steps.iter().find_map(|plan| match &plan.step {
            Step::Hook(hook) if hook.role == HookRole::Start && hook.target == *target => Some(hook.version.clone()),
            _ => None,
        })
    }

    /// The deployment ends.
    pub(super) fn over(&mut self, state: State, outcome: &str, why: Option<Why>) {
        if std::mem::take(&mut self.d.standing.watching) {
            self.act(Effect::StopWatch);
        }
        self.d.state = state;
        self.d.finished_unix_ms = Some(self.now.unix_ms);
        self.tell(Happened::Finished { outcome: outcome.into(), why });
    }

    /// The time of what was kept is over: it is stopped, and taking back means to start it again.
    pub(super) fn retire(&mut self) {
        let Some(retiring) = self.d.retiring.clone() else { return };
        if retiring.op.is_some() {
            return self.retired(Outcome::Lost("there was no answer in time".into()));
        }
        let Some(hook) = retiring.hooks.first().cloned() else {
            self.d.retiring = None;
            return self.write(Write::Required);
        };
        let op = self.next_op();
        self.d.standing.base_stopped = true;
        self.d.undo.extend(self.revival(&hook));
        let until = Deadline::after(self.now, hook.timeout.saturating_add(GRACE));
        self.d.retiring = Some(Retiring { until, hooks: retiring.hooks, op: Some(op) });
        let call = self.call(&hook);
        self.act(Effect::Hook { op, call, kill: None });
        self.write(Write::Required);
    }

    /// How a version is brought back that was stopped after the success.
    fn revival(&self, stop: &HookStep) -> Vec<UndoStep> {
        self.d.plan.retire.iter().flat_map(|retire| retire.undo_of(stop)).collect()
    }

    pub(super) fn retired(&mut self, outcome: Outcome) {
        let Some(mut retiring) = self.d.retiring.take() else { return };
        if retiring.hooks.is_empty() {
            return self.write(Write::Required);
        }
        let hook = retiring.hooks.remove(0);
        if let Outcome::Hook(report) = outcome {
            if report.end == HookEnd::Exit(0) {
                self.note(&hook.service, Note::Stopped(hook.target.clone()));
            }
            self.tell_hook(&hook, report);
        }
        if !retiring.hooks.is_empty() {
            retiring.op = None;
            retiring.until = Deadline::after(self.now, Duration::ZERO);
            self.d.retiring = Some(retiring);
        }
        self.write(Write::Required);
    }
}

/// How long a window may take. The watch counts the time that it saw; this is only there for a watch that says nothing.
pub(super) fn window_limit(analyse: &Analyse) -> Duration {
    analyse.length.saturating_mul(2).saturating_add(GRACE * 2)
}

/// Whether promoting in full passes over a step.
fn is_wait(step: &Step) -> bool {
    match step {
        Step::Pause(_) => true,
        Step::Analyse(analyse) => analyse.mode != AnalyseMode::Contest,
        Step::Traffic { .. } | Step::Verify(_) | Step::Hook(_) | Step::Drain(_) | Step::Crown { .. } => false,
    }
}

/// What the failure of a step is a sign of.
fn class(step: &Step) -> WhyKind {
    match step {
        Step::Traffic { .. } => WhyKind::Traffic,
        Step::Verify(_) => WhyKind::Health,
        Step::Analyse(_) => WhyKind::Inconclusive,
        Step::Pause(_) | Step::Drain(_) | Step::Crown { .. } => WhyKind::Deadline,
        Step::Hook(hook) => match hook.role {
            HookRole::Start | HookRole::Install => WhyKind::Start,
            HookRole::Test(_) => WhyKind::Test,
            HookRole::Stop
            | HookRole::Save
            | HookRole::Pre
            | HookRole::Post
            | HookRole::Rollback
            | HookRole::Gate
            | HookRole::Load
            | HookRole::Custom => WhyKind::Hook,
        },
    }
}

fn program(hook: &HookStep) -> String {
    hook.argv.first().cloned().unwrap_or_default()
}
