//! Stops versions by hand: shadows that are not needed any more, or all of a service.
//!
//! Copies end first, then the version is stopped by the service's command, then its target is removed. If the command
//! fails the target stays, so that it can be tried again. The stable target is only stopped, for a service always has one,
//! and where no command stops it the order is refused: nobody should believe that it does not run any more.

use std::{collections::BTreeMap, sync::Arc};

use tidegate_admin::{Actor, OrderError, Placed, Submission};
use tidegate_config::{ServiceId, TargetId};
use tidegate_core::{
    Change, ServiceState,
    change::{Release, ReleaseCause},
    deploy::{
        DeploymentId, Environment, ServiceMemory,
        engine::EngineError,
        environment::NamedHook,
        machine::{HookCall, Refusal},
        spec::HookRun,
        step::{HookRole, HookStep, OnHookFailure, Version},
    },
};
use tokio::sync::watch;

use super::{
    desk::{Desk, Message, Reply},
    hook,
};
use crate::control::controller::Control;

/// Versions of a service that are to be stopped.
#[derive(Debug)]
pub(crate) struct Kill {
    pub(super) service: ServiceId,
    pub(super) targets: Vec<Victim>,
    pub(super) actor: Actor,
    pub(super) reply: Reply,
}

/// A version that is to be stopped.
#[derive(Debug)]
pub(super) struct Victim {
    target: TargetId,
    /// Its stop command, if the service has one.
    stop: Option<HookCall>,
    /// What ends its copies, and what removes it; nothing for the stable target.
    pub(super) releases: Option<(Change, Change)>,
}

impl Victim {
    /// Whether it would go on as it is: main is not removed, and nothing is there that stops it.
    pub(super) fn nothing_stops_it(&self) -> bool {
        self.stop.is_none() && self.releases.is_none()
    }
}

/// How a version is stopped and removed.
pub(super) fn victim(
    state: &ServiceState,
    environment: &Environment,
    memory: &ServiceMemory,
    service: &ServiceId,
    target: TargetId,
    name: DeploymentId,
) -> Victim {
    let wanted = &state.wanted;
    let stop = environment.hooks.stop.as_ref().map(|stop| call(environment, stop, memory, service, &target));
    let releases = (wanted.stable != target).then(|| {
        let copies = wanted.mirrors.iter().filter(|(_, mirror)| mirror.to == target);
        let mirrors = copies.map(|(mirror, _)| (mirror.clone(), None)).collect();
        let alone = Release { mirrors, ..Release::of(state) };
        let gone = Release { remove: [target.clone()].into(), ..alone.clone() };
        let change = |release| Change::Release {
            deployment: name.clone(),
            services: [(service.clone(), release)].into(),
            cause: ReleaseCause::Forward,
        };
        (change(alone), change(gone))
    });
    Victim { target, stop, releases }
}

fn call(
    environment: &Environment,
    stop: &HookRun,
    memory: &ServiceMemory,
    service: &ServiceId,
    target: &TargetId,
) -> HookCall {
    let unknown = || Version { name: target.to_string(), image: None, fingerprint: None };
    let version = memory.running.get(target).map_or_else(unknown, |running| running.version.clone());
    let NamedHook { argv, timeout, .. } = environment.command(stop);
    let hook = HookStep {
        role: HookRole::Stop,
        argv,
        service: service.clone(),
        target: target.clone(),
        version,
        previous: None,
        replica: None,
        timeout,
        idempotent: true,
        on_failure: OnHookFailure::Fail,
    };
    HookCall::new(hook, BTreeMap::new())
}

impl Kill {
    /// Stops one version after the other, up to the first that cannot be.
    pub(super) async fn run(self, control: Control, desk: Arc<Desk>) {
        let Self { service, targets, actor, reply } = self;
        let mut answer = Ok(Placed::default());
        for victim in targets {
            let target = victim.target.clone();
            if let Err(error) = stop(victim, &control, &actor).await {
                answer = Err(error);
                break;
            }
            // Nobody needs to know it when the process is going down.
            let _ = desk.messages().send(Message::Stopped(service.clone(), target)).await;
        }
        let _ = desk.messages().send(Message::Killed { service, answer: Box::new(answer), reply }).await;
    }
}

async fn stop(victim: Victim, control: &Control, actor: &Actor) -> Result<(), OrderError> {
    let submit = |change| control.submit(Submission { change, expected: None, dry_run: false, actor: actor.clone() });
    if let Some((alone, _)) = &victim.releases {
        submit(alone.clone()).await?;
    }
    if let Some(call) = victim.stop {
        // Held until the end: its value changes when the command is to be killed, and nobody asks for that.
        let (_held, kill) = watch::channel(false);
        let report = hook::run(&call, |_| {}, kill).await;
        if let Some(why) = hook::failure(&report) {
            return Err(failed(&victim.target, &why));
        }
    }
    if let Some((_, gone)) = victim.releases {
        submit(gone).await?;
    }
    Ok(())
}

fn failed(target: &TargetId, why: &str) -> OrderError {
    let message = format!("the stop command of target {target} failed, so it stays: {why}");
    OrderError::Engine(EngineError::Refused(Refusal::Conflict(message)))
}
