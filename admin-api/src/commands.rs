//! Which commands a deployment may bring along. A command runs as the user of the proxy, so who may send one may do all
//! that this user may: only a caller with a token may, of the role admin or where the API listens on loopback or a Unix
//! socket alone. Everybody else names the commands of the configuration.

use std::collections::BTreeSet;

use tidegate_core::deploy::{
    DeploymentSpec,
    spec::{CustomStep, HookRun, PauseFor, Strategy},
};

use crate::{
    access::{Caller, Commands},
    problem::{Kind, Problem, ProblemPart},
};

/// Refuses commands that the caller may not bring along.
pub(crate) fn check(caller: &Caller, spec: &DeploymentSpec, named: &BTreeSet<String>) -> Result<(), Problem> {
    if caller.commands == Commands::Any {
        return Ok(());
    }
    let brought: Vec<_> = all(spec)
        .into_iter()
        .filter(|(_, run)| !matches!(run, HookRun::Named(name) if named.contains(name)))
        .map(|(path, _)| ProblemPart::new(path, "this is not the name of a command of the configuration ([hook.NAME])"))
        .collect();
    if brought.is_empty() {
        return Ok(());
    }
    let detail = "a command may come with a deployment only from a caller with a token of the role admin, or with any \
                  token where the admin API listens on loopback or a Unix socket alone: add it to the configuration as \
                  [hook.NAME] with argv and name it here, or configure tokens in [admin] and send one";
    Err(Problem { errors: brought, ..Kind::Forbidden.because(detail) })
}

/// Every command of a document, and where it is.
fn all(spec: &DeploymentSpec) -> Vec<(String, &HookRun)> {
    let hooks = &spec.hooks;
    let around = [
        ("start", &hooks.start),
        ("stop", &hooks.stop),
        ("save", &hooks.save),
        ("install", &hooks.install),
        ("pre_hook", &hooks.pre),
        ("post_hook", &hooks.post),
        ("rollback_hook", &hooks.rollback),
        ("load", &hooks.load),
    ];
    let mut found: Vec<_> =
        around.into_iter().filter_map(|(path, run)| Some((path.to_owned(), run.as_ref()?))).collect();
    found.extend(hooks.tests.iter().map(|test| ("tests".to_owned(), &test.run)));
    if let Strategy::Custom { steps } = &spec.strategy {
        found.extend(steps.iter().enumerate().filter_map(|(at, step)| match step {
            CustomStep::Hook(run) => Some((format!("step[{at}].hook"), run)),
            CustomStep::Pause(PauseFor::Gate { hook, .. }) => Some((format!("step[{at}].gate"), hook)),
            CustomStep::Pause(PauseFor::Time(_) | PauseFor::Manual { .. })
            | CustomStep::Set(_)
            | CustomStep::Analyse(_)
            | CustomStep::Mirror(_)
            | CustomStep::Verify => None,
        }));
    }
    found
}
