//! Each strategy in the order of its steps.

use std::time::Duration;

use tidegate_config::{EndpointAddress, Split, TargetSpec, Weight};

use super::{
    build::{Builder, Built, Wrong},
    rolling::{Batch, batches},
};
use crate::deploy::{
    spec::{CustomStep, MirrorPolicy, PauseFor, PreOrder, Rolling, Strategy, Variant},
    step::{AnalyseMode, Arms, HookRole, Pause, Step, Tail, Task, Version},
};

/// A test of variants shorter than this sees no week-end.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// Builds a member's part of the plan.
pub(super) fn build(builder: Builder<'_>) -> Result<Built, Wrong> {
    let spec = builder.spec;
    match &spec.strategy {
        _ if builder.is_first() && !matches!(spec.strategy, Strategy::AbTesting { .. }) => Ok(first(builder)),
        Strategy::Simple => Ok(in_place(builder, InPlace { hold: true, verify: false })),
        Strategy::Blind => Ok(in_place(builder, InPlace { hold: false, verify: false })),
        Strategy::Recreate => Ok(in_place(builder, InPlace { hold: true, verify: true })),
        Strategy::RollingUpdate(rolling) | Strategy::ZeroDowntime(rolling) => self::rolling(builder, *rolling),
        Strategy::BlueGreen { watch } => Ok(blue_green(builder, *watch)),
        Strategy::Canary { steps, interval } => Ok(canary(builder, steps, *interval)),
        Strategy::AbTesting { variants, duration, .. } => ab_testing(builder, variants, *duration),
        Strategy::Shadow(policy) => shadow(builder, policy),
        Strategy::Custom { steps } => custom(builder, steps),
    }
}

/// The first version of a service: there is nothing to be careful about.
fn first(mut b: Builder<'_>) -> Built {
    b.plain_hook(Task::Deploy, HookRole::Pre);
    bring_up(&mut b);
    b.set(Weight::FULL);
    b.plain_hook(Task::Release, HookRole::Post);
    let to = b.to.clone();
    b.finish(vec![to], None)
}

/// Places, starts and checks the new version beside the old one.
fn bring_up(b: &mut Builder<'_>) {
    b.clear();
    b.place(b.new_spec());
    let (to, version) = (b.to.clone(), b.version.clone());
    b.start(&to, &version, None);
    b.verify(&to, b.endpoints_of(&to));
    b.tests();
}

struct InPlace {
    hold: bool,
    verify: bool,
}

/// simple, blind and recreate: the old version is stopped before the new one is started.
fn in_place(mut b: Builder<'_>, how: InPlace) -> Built {
    let (from, to, version) = (b.from.clone(), b.to.clone(), b.version.clone());
    if b.spec.pre_order == PreOrder::First {
        b.plain_hook(Task::Deploy, HookRole::Pre);
    }
    b.clear();
    if how.verify && b.old_is_healthy() {
        let old = b.old_version();
        if let Some(save) = b.known(HookRole::Save, &from, &old, None) {
            b.push(Task::Deploy, Step::Hook(save), Vec::new());
        }
    }
    if how.hold {
        b.hold();
        b.drain(&from, b.endpoints_of(&from));
    }
    b.stop_old(None);
    if b.spec.pre_order == PreOrder::AfterStop {
        b.plain_hook(Task::Deploy, HookRole::Pre);
    }
    b.place(b.new_spec());
    b.start(&to, &version, None);
    if how.verify {
        b.verify(&to, b.endpoints_of(&to));
        b.tests();
    }
    b.set(Weight::FULL);
    b.plain_hook(Task::Release, HookRole::Post);
    b.finish(vec![to], None)
}

fn versus(b: &Builder<'_>) -> Option<Arms> {
    Some(Arms { candidates: vec![b.to.clone()], baseline: b.from.clone() })
}

fn leave_old(b: &mut Builder<'_>) {
    let old = (b.from.clone(), b.old_version());
    b.leave(&[old]);
}

fn blue_green(mut b: Builder<'_>, watch: Duration) -> Built {
    b.plain_hook(Task::Deploy, HookRole::Pre);
    bring_up(&mut b);
    b.set(Weight::FULL);
    if watch > Duration::ZERO {
        b.analyse(watch, AnalyseMode::Watch);
    }
    leave_old(&mut b);
    b.plain_hook(Task::Release, HookRole::Post);
    let (to, arms) = (b.to.clone(), versus(&b));
    b.finish(vec![to], arms)
}

fn canary(mut b: Builder<'_>, steps: &[Weight], interval: Duration) -> Built {
    b.plain_hook(Task::Deploy, HookRole::Pre);
    bring_up(&mut b);
    for share in steps {
        b.set(*share);
        if *share != Weight::FULL {
            b.analyse(interval, AnalyseMode::Gate);
        }
    }
    leave_old(&mut b);
    b.plain_hook(Task::Release, HookRole::Post);
    let (to, arms) = (b.to.clone(), versus(&b));
    b.finish(vec![to], arms)
}

fn shadow(mut b: Builder<'_>, policy: &MirrorPolicy) -> Result<Built, Wrong> {
    b.plain_hook(Task::Deploy, HookRole::Pre);
    bring_up(&mut b);
    b.mirror(policy)?;
    b.plain_hook(Task::Release, HookRole::Post);
    let to = b.to.clone();
    Ok(b.finish(vec![to], None))
}

fn custom(mut b: Builder<'_>, steps: &[CustomStep]) -> Result<Built, Wrong> {
    b.plain_hook(Task::Deploy, HookRole::Pre);
    bring_up(&mut b);
    let (to, version) = (b.to.clone(), b.version.clone());
    let mut share = Weight::ZERO;
    for step in steps {
        match step {
            CustomStep::Set(next) => {
                share = *next;
                b.set(share);
            }
            CustomStep::Analyse(length) => b.analyse(*length, AnalyseMode::Gate),
            CustomStep::Pause(PauseFor::Time(time)) => b.pause(Pause::Time(*time)),
            CustomStep::Pause(PauseFor::Manual { deadline }) => {
                b.pause(Pause::Manual(deadline.unwrap_or(b.spec.patience)));
            }
            CustomStep::Pause(PauseFor::Gate { hook, deadline }) => {
                let hook = b.hook(HookRole::Gate, hook, &to, &version, None);
                b.pause(Pause::Gate(Box::new(hook), deadline.unwrap_or(b.spec.patience)));
            }
            CustomStep::Hook(run) => {
                let hook = b.hook(HookRole::Custom, run, &to, &version, None);
                b.push(Task::Deploy, Step::Hook(hook), Vec::new());
            }
            CustomStep::Mirror(policy) => b.mirror(policy)?,
            CustomStep::Verify => b.verify(&to, b.endpoints_of(&to)),
        }
    }
    if share == Weight::FULL {
        leave_old(&mut b);
    }
    b.plain_hook(Task::Release, HookRole::Post);
    let arms = versus(&b);
    Ok(b.finish(vec![to], arms))
}

fn ab_testing(mut b: Builder<'_>, variants: &[Variant], duration: Duration) -> Result<Built, Wrong> {
    let targets = &b.around.service.wanted.targets;
    let missing: Vec<_> = variants.iter().filter(|variant| !targets.contains_key(&variant.name)).collect();
    if !missing.is_empty() {
        let message = |v: &&Variant| ("variant", format!("service {} has no target {}", b.wanted.service, v.name));
        return Err(missing.iter().map(message).collect());
    }
    if duration < WEEK {
        b.warnings.push("the test is shorter than a week: visitors differ between working days and week-ends".into());
    }
    let version = |v: &Variant| Version {
        name: v.image.clone().unwrap_or_else(|| v.name.to_string()),
        image: v.image.clone(),
        fingerprint: None,
    };
    b.plain_hook(Task::Deploy, HookRole::Pre);
    let fresh: Vec<_> = variants.iter().filter(|variant| variant.name != b.from).collect();
    for variant in &fresh {
        b.start(&variant.name, &version(variant), None);
    }
    for variant in variants {
        b.verify(&variant.name, b.endpoints_of(&variant.name));
    }
    b.tests();
    let split = Split::new(variants.iter().map(|variant| (variant.name.clone(), variant.percentage)))
        .map_err(|why| vec![("variant", why.to_string())])?;
    b.set_split(split, None, &[]);
    b.analyse(duration, AnalyseMode::Contest);

    let before = b.steps.len();
    let mut tails = std::collections::BTreeMap::new();
    for winner in variants {
        let mut branch = b.branch();
        branch.set_split(Split::all(winner.name.clone()), Some(winner.name.clone()), &[]);
        let mut others: Vec<_> =
            variants.iter().filter(|v| v.name != winner.name).map(|v| (v.name.clone(), version(v))).collect();
        if !others.iter().any(|(target, _)| *target == branch.from) && winner.name != branch.from {
            others.push((branch.from.clone(), branch.old_version()));
        }
        branch.leave(&others);
        branch.plain_hook(Task::Release, HookRole::Post);
        let tail = Tail { steps: branch.steps.split_off(before), retire: branch.retire };
        tails.insert(winner.name.clone(), tail);
    }
    b.push(Task::Promote, Step::Crown { variants: tails }, Vec::new());
    let arms = Arms { candidates: variants.iter().map(|v| v.name.clone()).collect(), baseline: b.from.clone() };
    let to = fresh.iter().map(|variant| variant.name.clone()).collect();
    Ok(b.finish(to, Some(arms)))
}

fn rolling(mut b: Builder<'_>, how: Rolling) -> Result<Built, Wrong> {
    let (from, to) = (b.from.clone(), b.to.clone());
    let old_spec = b.around.service.wanted.targets.get(&from).cloned().unwrap_or(TargetSpec { endpoints: Vec::new() });
    let new_spec = b.new_spec();
    let replicas = rolling_fits(&b, how, &old_spec, &new_spec)?;
    b.plain_hook(Task::Deploy, HookRole::Pre);
    b.clear();
    let old = old_spec.endpoints.len() as u32;
    let first = |spec: &TargetSpec, range: std::ops::Range<u32>| -> TargetSpec {
        let endpoints = spec.endpoints.iter().take(range.end as usize).skip(range.start as usize).cloned().collect();
        TargetSpec { endpoints }
    };
    let addresses = |spec: &TargetSpec| -> Vec<EndpointAddress> {
        spec.endpoints.iter().map(|endpoint| endpoint.address.clone()).collect()
    };
    let (mut started, mut tested) = (0, false);
    let plan = batches(old, replicas, how.max_surge, how.max_unavailable);
    let last = plan.len().saturating_sub(1);
    for (at, batch) in plan.into_iter().enumerate() {
        match batch {
            Batch::Start(range) => {
                started = range.end;
                b.place(first(&new_spec, 0..started));
                let version = b.version.clone();
                for replica in range.clone() {
                    b.start(&to, &version, Some(replica));
                }
                b.verify(&to, addresses(&first(&new_spec, range)));
                if !std::mem::replace(&mut tested, true) {
                    b.tests();
                }
            }
            Batch::Stop(range) => {
                // Those of the last batch stay configured without traffic, so that the next deployment finds them all.
                let left = if range.end == old { old_spec.clone() } else { first(&old_spec, range.end..old) };
                let leaving = addresses(&first(&old_spec, range.clone()));
                set_by_count(&mut b, started, old - range.end, left);
                b.drain(&from, leaving);
                for replica in range {
                    b.stop_old(Some(replica));
                }
                if at != last && how.batch_delay > Duration::ZERO {
                    b.pause(Pause::Time(how.batch_delay));
                }
            }
        }
    }
    b.plain_hook(Task::Release, HookRole::Post);
    let arms = versus(&b);
    Ok(b.finish(vec![to], arms))
}

/// Weights by the number of endpoints; the old version keeps those that are left to it.
fn set_by_count(b: &mut Builder<'_>, new: u32, old: u32, left: TargetSpec) {
    let (from, to) = (b.from.clone(), b.to.clone());
    if old == 0 {
        return b.set_split(Split::all(to.clone()), Some(to), &[(from, left)]);
    }
    let share = u16::try_from(10_000 * new / (new + old)).ok().and_then(Weight::from_points).unwrap_or_default();
    let rest = Weight::from_points(Weight::FULL.points() - share.points()).unwrap_or_default();
    // Invariant: the two sum to 100 %.
    let split = Split::new([(to, share), (from.clone(), rest)]).unwrap_or_else(|_| Split::all(from.clone()));
    b.set_split(split, None, &[(from, left)]);
}

/// The number of endpoints of the new version.
fn rolling_fits(b: &Builder<'_>, how: Rolling, old: &TargetSpec, new: &TargetSpec) -> Result<u32, Wrong> {
    let given = new.endpoints.len() as u32;
    if let Some(replicas) = how.replicas.filter(|replicas| *replicas > given) {
        let message = format!("target {} has {given} endpoints, which is fewer than {replicas} replicas", b.to);
        return Err(vec![("replicas", message)]);
    }
    let position = |address: &EndpointAddress| old.endpoints.iter().position(|endpoint| endpoint.address == *address);
    for (at, endpoint) in new.endpoints.iter().enumerate() {
        let same = position(&endpoint.address);
        if same.is_some() && (how.max_surge > 0 || same != Some(at)) {
            let message = format!(
                "{} belongs to {} too: with the same endpoints in the same order use max_surge = 0, else give others",
                endpoint.address, b.from
            );
            return Err(vec![("endpoints", message)]);
        }
    }
    Ok(how.replicas.unwrap_or(given))
}
