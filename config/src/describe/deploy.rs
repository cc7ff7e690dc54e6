//! Commands, stages, the watch and event sinks in the schema of the file.
//!
//! A command's arguments are shown, but for what looks like a credential: `TOKEN=x`, `--password x`, `token: x`.

use toml::{Table, Value};

use super::{duration, integer, is_credential, list, path, some, source, table, texts};
use crate::*;

/// The keys of a service that say how its environments come and go.
pub(super) fn environment(environment: &EnvironmentSpec) -> Table {
    let EnvironmentSpec { start, stop, save, install, pre_hook, post_hook, rollback_hook, keep_old, mark_bad } =
        environment;
    let keep_old = match keep_old {
        KeepOld::UntilNext => Value::from("until-next"),
        KeepOld::For(time) => duration(*time),
        KeepOld::No => Value::Boolean(false),
    };
    let command = |run: &Option<HookUse>| run.as_ref().map(hook_use);
    table([
        ("start", command(start)),
        ("stop", command(stop)),
        ("save", command(save)),
        ("install", command(install)),
        ("pre_hook", command(pre_hook)),
        ("post_hook", command(post_hook)),
        ("rollback_hook", command(rollback_hook)),
        ("keep_old", some(keep_old)),
        ("mark_bad", some(*mark_bad)),
    ])
}

/// The keys of a failover that are commands.
pub(super) fn failover_hooks(hooks: &FailoverHooks) -> Table {
    let FailoverHooks { before, after, before_timeout, on_timeout } = hooks;
    let on_timeout = match on_timeout {
        OnTimeout::Switch => "switch",
        OnTimeout::Hold => "hold",
    };
    // Without a command there is nothing to wait for, and the file must not say how long.
    let waits = before.is_some();
    table([
        ("before", before.as_ref().map(hook_use)),
        ("after", after.as_ref().map(hook_use)),
        ("before_timeout", waits.then(|| duration(*before_timeout))),
        ("on_timeout", waits.then(|| Value::from(on_timeout))),
    ])
}

pub(super) fn hook(hook: &HookSpec) -> Value {
    let HookSpec { argv, timeout, idempotent } = hook;
    Value::Table(table([
        ("argv", some(arguments(argv))),
        ("timeout", some(duration(*timeout))),
        ("idempotent", idempotent.map(Value::from)),
    ]))
}

fn hook_use(run: &HookUse) -> Value {
    match run {
        HookUse::Named(name) => Value::from(name.as_str()),
        HookUse::Argv(argv) => arguments(argv),
    }
}

fn arguments(argv: &[String]) -> Value {
    let mut secret_follows = false;
    let shown = argv.iter().map(|argument| {
        let hidden = std::mem::take(&mut secret_follows);
        if hidden && !argument.starts_with('-') {
            return Value::from("***");
        }
        match argument.split_once(['=', ':']) {
            Some((name, _)) if is_credential(name) => {
                let sign = argument.chars().nth(name.chars().count()).unwrap_or('=');
                Value::from(format!("{name}{sign}***"))
            }
            Some(_) => Value::from(argument.as_str()),
            None => {
                secret_follows = argument.starts_with('-') && is_credential(argument);
                Value::from(argument.as_str())
            }
        }
    });
    Value::Array(shown.collect())
}

pub(super) fn stage(stage: &StageSpec) -> Value {
    let shown = super::flags::json(stage.document.clone());
    masked(shown, false)
}

/// A document of which only the kind of its values is known: what stands under the name of a credential is hidden, and
/// so are arguments that hold one.
fn masked(value: Value, secret: bool) -> Value {
    match value {
        Value::String(_) if secret => Value::from("***"),
        Value::Array(items) => {
            let words: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            match words {
                Some(words) if !secret => arguments(&words),
                _ => Value::Array(items.into_iter().map(|item| masked(item, secret)).collect()),
            }
        }
        Value::Table(entries) => {
            let entry = |(name, value): (String, Value)| {
                let secret = secret || is_credential(&name);
                (name, masked(value, secret))
            };
            Value::Table(entries.into_iter().map(entry).collect())
        }
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => value,
    }
}

pub(super) fn watch(watch: &Watch) -> Value {
    let Watch { interval, fetch, commit, stacks, deploy, method } = watch;
    Value::Table(table([
        ("interval", some(duration(*interval))),
        ("fetch", fetch.as_ref().map(hook_use)),
        ("commit", commit.as_ref().map(hook_use)),
        ("stacks", some(texts(stacks))),
        ("deploy", some(*deploy)),
        ("method", some(method.name())),
    ]))
}

pub(super) fn events(events: &Events) -> Value {
    let Events { prefix, node, sinks } = events;
    Value::Table(table([
        ("prefix", some(prefix.as_str())),
        ("node", some(node.as_str())),
        ("sink", (!sinks.is_empty()).then(|| list(sinks, sink))),
    ]))
}

fn sink(sink: &SinkSpec) -> Value {
    let SinkSpec { name, to, types, backlog, timeout } = sink;
    let mut described = table([
        ("name", some(name.as_str())),
        ("types", (!types.is_empty()).then(|| texts(types))),
        ("backlog", some(integer(*backlog))),
        ("timeout", some(duration(*timeout))),
    ]);
    described.extend(match to {
        SinkTarget::Url { url, token } => {
            table([("url", some(url.as_str())), ("token", token.as_ref().map(|token| Value::Table(source(token))))])
        }
        SinkTarget::Command(run) => table([("command", some(hook_use(run)))]),
        SinkTarget::File(file) => table([("file", Some(path(file)))]),
    });
    Value::Table(described)
}
