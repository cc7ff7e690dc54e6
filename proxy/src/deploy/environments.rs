//! What the file says about deployments, as the engine knows it: environments by service, and stages.

use std::collections::BTreeMap;

use tidegate_config::{
    Config, EnvironmentSpec, HookSpec, HookUse, KeepOld as KeepOldSpec, Problem, Problems, ServiceId, StageId,
    StageSpec,
};
use tidegate_core::deploy::{
    Environment,
    environment::NamedHook,
    spec::{HookRun, Hooks, KeepOld, SpecProblem, Value},
    stage::{self, Stages, parse_stage},
};

/// Reads a configuration, and what only the engine can judge in it.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Config, Problems> {
    let config = tidegate_config::parse(text)?;
    stages(&config).map(|_| config)
}

/// How the environments of each service are started, stopped and kept.
pub(crate) fn environments(config: &Config) -> BTreeMap<ServiceId, Environment> {
    let named: BTreeMap<_, _> = config.hooks.iter().map(|(name, hook)| (name.to_string(), named(hook))).collect();
    let of = |spec: &EnvironmentSpec| environment(spec, named.clone());
    config.services.iter().map(|(id, service)| (id.clone(), of(&service.environment))).collect()
}

fn named(hook: &HookSpec) -> NamedHook {
    let HookSpec { argv, timeout, idempotent } = hook.clone();
    NamedHook { argv, timeout, idempotent }
}

fn environment(spec: &EnvironmentSpec, named: BTreeMap<String, NamedHook>) -> Environment {
    let EnvironmentSpec { start, stop, save, install, pre_hook, post_hook, rollback_hook, keep_old, mark_bad } = spec;
    let run = |command: &Option<HookUse>| command.as_ref().map(HookRun::from);
    Environment {
        hooks: Hooks {
            start: run(start),
            stop: run(stop),
            save: run(save),
            install: run(install),
            pre: run(pre_hook),
            post: run(post_hook),
            rollback: run(rollback_hook),
            load: None,
            tests: Vec::new(),
        },
        named,
        keep_old: match keep_old {
            KeepOldSpec::UntilNext => KeepOld::UntilNext,
            KeepOldSpec::For(time) => KeepOld::For(*time),
            KeepOldSpec::No => KeepOld::No,
        },
        mark_bad: *mark_bad,
    }
}

/// The stages of a configuration.
///
/// # Errors
/// Everything that is wrong with them.
pub(crate) fn stages(config: &Config) -> Result<Stages, Problems> {
    let mut problems = Vec::new();
    let mut stages = Stages::new();
    for (id, spec) in &config.stages {
        let document = serde_json::from_value(spec.document.clone()).unwrap_or(Value::Null);
        match parse_stage(id.as_str(), &document) {
            Ok(stage) => drop(stages.insert(id.to_string(), stage)),
            Err(found) => problems.extend(found.into_iter().map(|problem| placed(id, spec, problem))),
        }
    }
    // A stage that could not be read would only be missed by the others.
    if problems.is_empty() {
        problems.extend(stage::check(&stages).into_iter().map(|problem| together(config, problem)));
    }
    problems.sort_by_key(|problem| problem.line);
    Problems::of(problems).map_or(Ok(stages), Err)
}

fn placed(id: &StageId, spec: &StageSpec, problem: SpecProblem) -> Problem {
    let SpecProblem { path, message } = problem;
    let line = spec.line(&path);
    let path = if path.is_empty() { format!("stage.{id}") } else { format!("stage.{id}.{path}") };
    Problem { path, line, message }
}

/// A problem of the stages together, whose path is that of the file.
fn together(config: &Config, problem: SpecProblem) -> Problem {
    let SpecProblem { path, message } = problem;
    let within = |(id, spec): (&StageId, &StageSpec)| {
        let inner = path.strip_prefix(&format!("stage.{id}."))?;
        Some(spec.line(inner))
    };
    let line = config.stages.iter().find_map(within).unwrap_or(1);
    Problem { path, line, message }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const WEB: &str = "[service.web.target.green]\nendpoints = [\"127.0.0.1:3001\"]\n";

    fn refused(text: &str) -> String {
        parse(&format!("{text}\n{WEB}")).unwrap_err().to_string()
    }

    #[test]
    fn each_service_gets_its_commands_and_all_named_ones() {
        let text = format!(
            "[hook.up]\nargv = [\"up\", \"{{slot}}\"]\ntimeout = \"7s\"\nidempotent = false\n[service.web]\n\
             start = \"up\"\nstop = [\"down\"]\npre_hook = [\"pre\"]\nkeep_old = \"10m\"\nmark_bad = false\n{WEB}\
             [service.api]\nroutes = [{{ path = \"/api\" }}]\ntarget.a.endpoints = [\"a:1\"]\n"
        );
        let environments = environments(&parse(&text).unwrap());
        let (web, api) = (&environments["web"], &environments["api"]);
        let up = HookRun::Named("up".into());
        assert_eq!((web.hooks.start.as_ref(), web.command(&up).argv), (Some(&up), vec!["up".into(), "{slot}".into()]));
        assert_eq!(web.hooks.stop, Some(HookRun::Argv(vec!["down".into()])));
        assert_eq!(web.hooks.pre, Some(HookRun::Argv(vec!["pre".into()])));
        assert_eq!((web.keep_old, web.mark_bad), (KeepOld::For(Duration::from_secs(600)), false));
        assert_eq!(web.named["up"].timeout, Duration::from_secs(7));
        assert_eq!(web.named["up"].idempotent, Some(false));
        assert_eq!(*api, Environment { named: web.named.clone(), ..Environment::default() });
    }

    #[test]
    fn stages_are_read_by_the_engine() {
        let text = format!(
            "[stage.hardening]\nnext = \"production\"\nauto_promote = true\nstrategy = \"blue-green\"\n\
             [stage.production]\nstrategy = \"canary\"\nsteps = [20, 50, 100]\n{WEB}"
        );
        let stages = stages(&parse(&text).unwrap()).unwrap();
        assert_eq!(stages["hardening"].next.as_deref(), Some("production"));
        assert!(stages["hardening"].auto_promote && !stages["production"].auto_promote);
    }

    #[test]
    fn what_is_wrong_with_a_stage_has_its_line() {
        let problems = refused(
            "[stage.a]\nauto_promote = true\nstrategy = \"canary\"\nsteps = [50, 20]\n[stage.b]\nstrategy = \"fast\"",
        );
        let lines: Vec<_> = problems.lines().collect();
        assert_eq!(lines.len(), 3, "{problems}");
        assert!(lines[0].starts_with("line 2: stage.a.auto_promote: "), "{problems}");
        assert!(lines[1].starts_with("line 4: stage.a.steps"), "{problems}");
        assert!(lines[2].starts_with("line 6: stage.b.strategy: "), "{problems}");
    }

    #[test]
    fn stages_lead_somewhere() {
        assert_eq!(
            refused("[stage.a]\nstrategy = \"canary\"\nnext = \"b\""),
            "line 3: stage.a.next: there is no stage b"
        );
        let circle =
            refused("[stage.a]\nnext = \"b\"\nstrategy = \"canary\"\n[stage.b]\nnext = \"a\"\nstrategy = \"canary\"");
        assert!(circle.contains("line 2: stage.a.next: the stages lead in a circle"), "{circle}");
    }

    #[test]
    fn the_reference_has_stages_that_the_engine_understands() {
        let text = include_str!("../../../config/examples/tidegate.toml");
        let mut stages = String::new();
        for line in text.lines().skip_while(|line| !line.starts_with("# [stage.")) {
            let Some(line) = line.strip_prefix("# ").filter(|line| !line.starts_with('-')) else { break };
            stages.push_str(line);
            stages.push('\n');
        }
        assert!(stages.contains("[stage.production]"), "{stages}");
        parse(&format!("{stages}{WEB}")).unwrap_or_else(|problems| panic!("{problems}\n{stages}"));
    }
}
