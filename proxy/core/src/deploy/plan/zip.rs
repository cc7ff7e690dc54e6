//! Several services as one: their steps side by side, with a barrier before every change of traffic.
//!
//! No service's traffic changes before all services have come as far as their own change of the same kind: when one
//! fails before, none was released.

use std::collections::{BTreeMap, VecDeque};

use super::{Plan, Retire, build::Built};
use crate::deploy::step::{
    Drain, Endpoints, HookRole, PlanStep, Releases, Step, TrafficKind, UndoStep, Verify, WatchSpec,
};

/// Makes one plan of the members' parts.
pub(super) fn zip(members: Vec<Built>) -> Plan {
    let mut plan = Plan {
        steps: Vec::new(),
        bottom: Vec::new(),
        base: BTreeMap::new(),
        members: Vec::new(),
        watch: None,
        retire: None,
        warnings: Vec::new(),
    };
    let mut queues = Vec::new();
    for built in members {
        let service = built.member.service.clone();
        if let Some((arms, spec)) = built.watch {
            let goal = match &spec.strategy {
                crate::deploy::spec::Strategy::AbTesting { goal, .. } => goal.clone(),
                _ => None,
            };
            let watch =
                plan.watch.get_or_insert_with(|| WatchSpec { arms: BTreeMap::new(), rules: spec.analyse, goal });
            watch.arms.insert(service, arms);
        }
        for undo in built.bottom {
            if !plan.bottom.iter().any(|known| same_command(known, &undo)) {
                plan.bottom.push(undo);
            }
        }
        if let Some(more) = built.retire {
            let retire =
                plan.retire.get_or_insert_with(|| Retire { after: more.after, hooks: Vec::new(), undo: Vec::new() });
            retire.hooks.extend(more.hooks);
            retire.undo.extend(more.undo);
        }
        plan.base.extend([built.base]);
        plan.members.push(built.member);
        plan.warnings.extend(built.warnings);
        queues.push(VecDeque::from(built.steps));
    }
    while let Some(next) = next(&mut queues) {
        let repeated = |known: &PlanStep| match (&known.step, &next.step) {
            (Step::Hook(known), Step::Hook(next)) => {
                is_common(next.role)
                    && known.role == next.role
                    && known.argv == next.argv
                    && known.service != next.service
            }
            _ => false,
        };
        if !plan.steps.iter().any(repeated) {
            plan.steps.push(next);
        }
    }
    plan
}

/// Commands that a deployment runs once, however many services it has.
fn is_common(role: HookRole) -> bool {
    match role {
        HookRole::Pre | HookRole::Post | HookRole::Rollback | HookRole::Test(_) | HookRole::Load | HookRole::Custom => {
            true
        }
        HookRole::Start | HookRole::Stop | HookRole::Save | HookRole::Install | HookRole::Gate => false,
    }
}

fn same_command(one: &UndoStep, other: &UndoStep) -> bool {
    matches!((one, other), (UndoStep::Hook(one), UndoStep::Hook(other)) if one.role == other.role && one.argv == other.argv)
}

/// Steps of one rank are done together; a step waits while some service has one of a lower rank.
fn rank(step: &Step) -> u8 {
    match step {
        Step::Hook(_) => 0,
        Step::Traffic { kind: TrafficKind::Place, .. } => 1,
        Step::Verify(_) => 2,
        Step::Pause(_) => 3,
        Step::Analyse(_) => 4,
        Step::Drain(_) => 5,
        Step::Traffic { kind: TrafficKind::Hold, .. } => 6,
        Step::Traffic { kind: TrafficKind::Mirror, .. } => 7,
        Step::Traffic { kind: TrafficKind::SetWeight, .. } => 8,
        Step::Crown { .. } => 9,
    }
}

fn next(queues: &mut [VecDeque<PlanStep>]) -> Option<PlanStep> {
    let lowest = queues.iter().filter_map(|queue| queue.front()).map(|step| rank(&step.step)).min()?;
    let mut ready = queues.iter_mut().filter(|queue| queue.front().is_some_and(|step| rank(&step.step) == lowest));
    let mut first = ready.next()?.pop_front()?;
    if lowest == 0 {
        // Commands run one after the other.
        return Some(first);
    }
    for queue in ready {
        if let Some(other) = queue.pop_front() {
            merge(&mut first, other);
        }
    }
    Some(first)
}

fn merge(into: &mut PlanStep, other: PlanStep) {
    match (&mut into.step, other.step) {
        (Step::Traffic { services, .. }, Step::Traffic { services: more, .. }) => services.extend(more),
        (Step::Verify(verify), Step::Verify(more)) => {
            let Verify { endpoints, timeout, .. } = more;
            add(&mut verify.endpoints, endpoints);
            verify.timeout = verify.timeout.max(timeout);
        }
        (Step::Drain(drain), Step::Drain(Drain { endpoints, timeout })) => {
            add(&mut drain.endpoints, endpoints);
            drain.timeout = drain.timeout.max(timeout);
        }
        // The services have one spec, so their waits are the same; one wait is enough.
        (
            Step::Pause(_)
            | Step::Analyse(_)
            | Step::Hook(_)
            | Step::Crown { .. }
            | Step::Traffic { .. }
            | Step::Verify(_)
            | Step::Drain(_),
            _,
        ) => {}
    }
    for undo in other.undo {
        merge_undo(&mut into.undo, undo);
    }
}

fn merge_undo(known: &mut Vec<UndoStep>, undo: UndoStep) {
    let both = |known: &mut Releases, more: &Releases| known.extend(more.iter().map(|(id, r)| (id.clone(), r.clone())));
    for known in known.iter_mut() {
        match (known, &undo) {
            (UndoStep::Traffic(known), UndoStep::Traffic(more)) => return both(known, more),
            (UndoStep::Unplace(known), UndoStep::Unplace(more)) => return both(known, more),
            (UndoStep::Traffic(_) | UndoStep::Unplace(_) | UndoStep::Hook(_) | UndoStep::Verify(..), _) => {}
        }
    }
    known.push(undo);
}

fn add(into: &mut Endpoints, more: Endpoints) {
    for (service, targets) in more {
        into.entry(service).or_default().extend(targets);
    }
}
