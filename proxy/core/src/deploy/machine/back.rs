//! A deployment that is taken back: traffic first if the old version still runs, then everything else in reverse.
//!
//! What takes something back is never taken back itself, and a failure of it never holds up the rest.

use super::{
    types::{Deadline, Doing, Effect, HookEnd, Outcome, Process, State, Undoing, Why, Write},
    work::{GRACE, Work},
};
use crate::{
    change::ReleaseCause,
    deploy::{
        history::Happened,
        memory::Note,
        step::{HookRole, HookStep, Releases, UndoStep},
    },
};

impl Work {
    /// The deployment has failed: everything is taken back, unless a person is to do that.
    pub(super) fn fail(&mut self, why: Why) {
        if why.kind.blames_version() {
            self.blame(&why);
        }
        if self.d.spec.auto_rollback {
            return self.roll_back(why);
        }
        self.end_hook();
        self.over(State::Failed { why: why.clone(), troubles: Vec::new() }, "failed", Some(why));
    }

    /// Remembers the new versions as bad.
    fn blame(&mut self, why: &Why) {
        for member in self.d.plan.members.clone().into_iter().filter(|member| member.mark_bad) {
            let (version, labels) = (member.version.clone(), self.d.spec.metadata.labels.clone());
            self.tell_anyway(Happened::VersionBad {
                service: member.service.clone(),
                version: version.name.clone(),
                why: why.message.clone(),
            });
            self.note(&member.service, Note::Bad { version, why: why.message.clone(), labels });
        }
    }

    /// The command that runs now is of no use any more.
    pub(super) fn end_hook(&mut self) {
        if let State::Running { doing: Doing::Act { op, process, .. }, at } = &self.d.state {
            let (op, process) = (*op, *process);
            let runs = self.d.plan.steps.get(*at).is_some_and(|plan| plan.step.command().is_some());
            if runs {
                self.act(Effect::KillHook { op, process });
            }
        }
    }

    /// Takes everything back.
    pub(super) fn roll_back(&mut self, why: Why) {
        let before = self.d.state.clone();
        if !self.d.standing.base_stopped {
            self.hoist_traffic();
        }
        self.d.retiring = None;
        self.tell_anyway(Happened::RollbackStarted { why: why.clone() });
        let until = Deadline::after(self.now, GRACE);
        let doing = Undoing { op: 0, runs: 0, until, process: None };
        self.d.state = State::RollingBack { why, doing, troubles: Vec::new() };
        self.next_undo();
        // After the traffic, and before anything else: what still runs works against us.
        let now = std::mem::replace(&mut self.d.state, before);
        self.end_hook();
        self.d.state = now;
        if std::mem::take(&mut self.d.standing.watching) {
            self.act(Effect::StopWatch);
        }
    }

    /// The old version still runs: its traffic comes back before anything else, in one step.
    fn hoist_traffic(&mut self) {
        let touched = self.d.undo.iter().any(|undo| matches!(undo, UndoStep::Traffic(_)));
        let base = self.d.plan.base.clone();
        self.d.undo.retain(|undo| !matches!(undo, UndoStep::Traffic(_)));
        for undo in &mut self.d.undo {
            if let UndoStep::Unplace(services) = undo {
                restore(services, &base);
            }
        }
        if touched {
            self.d.undo.push(UndoStep::Traffic(base));
        }
    }

    /// Begins with the top of the stack.
    pub(super) fn next_undo(&mut self) {
        // Of several changes of traffic in a row only the oldest matters: it is where they lead.
        while let [.., UndoStep::Traffic(older), UndoStep::Traffic(newer)] = self.d.undo.as_mut_slice() {
            let newer = std::mem::take(newer);
            for (service, release) in newer {
                older.entry(service).or_insert(release);
            }
            self.d.undo.pop();
        }
        let Some(undo) = self.d.undo.last().cloned() else { return self.taken_back() };
        self.begin_undo(&undo, 1, None);
    }

    pub(super) fn begin_undo(&mut self, undo: &UndoStep, runs: u32, kill: Option<Process>) {
        let op = self.next_op();
        let length = match undo {
            UndoStep::Traffic(_) | UndoStep::Unplace(_) => GRACE,
            UndoStep::Hook(hook) => hook.timeout.saturating_add(GRACE),
            UndoStep::Verify(verify, _) => verify.timeout.saturating_add(GRACE),
        };
        let until = Deadline::after(self.now, length);
        if let State::RollingBack { doing, .. } = &mut self.d.state {
            *doing = Undoing { op, runs, until, process: None };
        }
        match undo {
            UndoStep::Traffic(services) | UndoStep::Unplace(services) => {
                self.d.traffic.extend(services.clone());
                self.act(Effect::Release { op, services: services.clone(), cause: ReleaseCause::Undo });
            }
            UndoStep::Hook(hook) => {
                let call = self.call(hook);
                self.act(Effect::Hook { op, call, kill });
            }
            UndoStep::Verify(verify, _) => self.act(Effect::Verify { op, verify: verify.clone() }),
        }
        self.write(Write::BestEffort);
    }

    /// What came of taking something back.
    pub(super) fn undone(&mut self, outcome: Outcome) {
        let Some(undo) = self.d.undo.pop() else { return self.taken_back() };
        let trouble = match (outcome, &undo) {
            (Outcome::Done, _) => None,
            (Outcome::Hook(report), UndoStep::Hook(hook)) => {
                let end = report.end.clone();
                self.tell_hook(hook, report);
                match end {
                    HookEnd::Exit(0) => {
                        self.note_undone(hook);
                        None
                    }
                    end => Some(end.to_string()),
                }
            }
            (Outcome::Hook(report), _) => Some(report.end.to_string()),
            (Outcome::Failed(why) | Outcome::Lost(why), _) => Some(why),
        };
        let step = undo.name().to_owned();
        match trouble {
            None => self.tell_anyway(Happened::Undone { step }),
            Some(reason) => {
                let State::RollingBack { doing, troubles, .. } = &mut self.d.state else { return };
                troubles.push(format!("{step}: {reason}"));
                let (op, process) = (doing.op, doing.process);
                if let (UndoStep::Hook(_), "there was no answer in time") = (&undo, reason.as_str()) {
                    self.act(Effect::KillHook { op, process });
                }
                self.tell_anyway(Happened::UndoFailed { step, reason });
                if let UndoStep::Verify(_, otherwise) = undo {
                    // What was started again is ill: it is stopped, once, and that is all.
                    self.d.undo.extend(otherwise.into_iter().map(UndoStep::Hook));
                }
            }
        }
        self.next_undo();
    }

    fn note_undone(&mut self, hook: &HookStep) {
        match (hook.role, hook.replica) {
            (HookRole::Start, _) => {
                self.note(&hook.service, Note::Started(hook.target.clone(), hook.version.clone()));
            }
            (HookRole::Stop, None) => self.note(&hook.service, Note::Stopped(hook.target.clone())),
            _ => {}
        }
    }

    fn taken_back(&mut self) {
        let State::RollingBack { why, troubles, .. } = self.d.state.clone() else { return };
        if troubles.is_empty() {
            for member in self.d.plan.members.clone() {
                // It carries its service again, and is no longer kept for a rollback only.
                if let Some(version) = member.previous {
                    self.note(&member.service, Note::Started(member.from, version));
                }
            }
            self.over(State::RolledBack { why: why.clone() }, "rolled-back", Some(why));
        } else {
            self.over(State::Failed { why: why.clone(), troubles }, "failed", Some(why));
        }
        self.write(Write::BestEffort);
    }
}

/// Leaves of a change only what it says about targets; the rest is as at the beginning.
fn restore(services: &mut Releases, base: &Releases) {
    for (service, release) in services {
        if let Some(base) = base.get(service) {
            release.stable = base.stable.clone();
            release.split = base.split.clone();
            release.salt.clone_from(&base.salt);
            release.hold = base.hold;
            release.mirrors.clone_from(&base.mirrors);
        }
    }
}
