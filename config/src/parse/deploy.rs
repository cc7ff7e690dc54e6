//! Commands, environments, `[stage.NAME]` and `[watch]`: what the file says about deployments.

use std::{collections::BTreeMap, time::Duration};

use toml::de::DeValue;

use super::{
    names::Names,
    read::{Node, Table},
    scalar::{duration, json, some_duration, truth},
};
use crate::{
    EnvironmentSpec, FailoverHooks, HookId, HookSpec, HookUse, KeepOld, OnTimeout, StackMethod, StageId, StageSpec,
    Watch, deploy::HOOK_TIMEOUT,
};

/// Longest time of a command: a day, for a test that runs overnight.
const MAX_HOOK_TIMEOUT: Duration = Duration::from_secs(86_400);

/// `[hook.NAME]`, all of them.
pub(super) fn hooks(node: Node<'_>) -> Option<BTreeMap<HookId, HookSpec>> {
    node.map(|entry| (entry.key(HookId::parse), entry.node.table(hook).flatten()))
}

fn hook(t: &mut Table<'_>) -> Option<HookSpec> {
    let argv =
        t.require("argv", "write the program and its arguments: argv = [\"/usr/local/bin/start\", \"{slot}\"]", argv);
    Some(HookSpec {
        timeout: t.get("timeout", hook_timeout).unwrap_or(HOOK_TIMEOUT),
        idempotent: t.get("idempotent", truth),
        argv: argv?,
    })
}

fn hook_timeout(node: Node<'_>) -> Option<Duration> {
    match some_duration(node)? {
        long if long > MAX_HOOK_TIMEOUT => node.refuse("a command may run for a day at most: write \"24h\" or less"),
        timeout => Some(timeout),
    }
}

/// A program and its arguments. Never a shell's line: nothing in a value can then become a command.
fn argv(node: Node<'_>) -> Option<Vec<String>> {
    let mut first = true;
    node.nonempty("write the program and its arguments", |node| {
        let program = std::mem::replace(&mut first, false);
        match node.text()? {
            "" if program => node.refuse("the program is empty"),
            text if text.contains('\0') => node.refuse("an argument cannot hold a NUL"),
            text => Some(text.to_owned()),
        }
    })
}

/// A command: a list, or the name of one.
pub(super) fn hook_use(node: Node<'_>, hooks: &Names) -> Option<HookUse> {
    if node.is_list() {
        return argv(node).map(HookUse::Argv);
    }
    node.text_like("a list of a program and its arguments, or the name of a [hook.NAME]")?;
    hooks.text(node, HookId::parse).map(HookUse::Named)
}

/// The keys of a service that say how its environments come and go.
pub(super) fn environment(t: &mut Table<'_>, hooks: &Names) -> EnvironmentSpec {
    let default = EnvironmentSpec::default();
    let mut command = |key| t.get(key, |node| hook_use(node, hooks));
    EnvironmentSpec {
        start: command("start"),
        stop: command("stop"),
        save: command("save"),
        install: command("install"),
        pre_hook: command("pre_hook"),
        post_hook: command("post_hook"),
        rollback_hook: command("rollback_hook"),
        keep_old: t.get("keep_old", keep_old).unwrap_or(default.keep_old),
        mark_bad: t.get("mark_bad", truth).unwrap_or(default.mark_bad),
    }
}

fn keep_old(node: Node<'_>) -> Option<KeepOld> {
    match node.value() {
        DeValue::Boolean(false) => Some(KeepOld::No),
        DeValue::Boolean(true) => node.refuse("say how long: write \"until-next\" or a duration such as \"10m\""),
        DeValue::String(text) if text == "until-next" => Some(KeepOld::UntilNext),
        DeValue::String(_) => match duration(node)? {
            Duration::ZERO => Some(KeepOld::No),
            time => Some(KeepOld::For(time)),
        },
        _ => node.mistyped("\"until-next\", a duration such as \"10m\", or false"),
    }
}

/// The keys of a failover that are commands.
pub(super) fn failover_hooks(t: &mut Table<'_>, hooks: &Names) -> FailoverHooks {
    let default = FailoverHooks::default();
    let modes = [("switch", OnTimeout::Switch), ("hold", OnTimeout::Hold)];
    let read = FailoverHooks {
        before: t.get("before", |node| hook_use(node, hooks)),
        after: t.get("after", |node| hook_use(node, hooks)),
        before_timeout: t.get("before_timeout", hook_timeout).unwrap_or(default.before_timeout),
        on_timeout: t.get("on_timeout", |node| node.one_of(&modes)).unwrap_or(default.on_timeout),
    };
    for key in ["before_timeout", "on_timeout"] {
        if t.has(key) && !t.has("before") {
            t.refuse(key, "there is nothing to wait for: give before = [..] or leave this out");
        }
    }
    read
}

/// `[stage.NAME]`, all of them.
pub(super) fn stages(node: Node<'_>, text: &str) -> Option<BTreeMap<StageId, StageSpec>> {
    node.map(|entry| (entry.key(StageId::parse), stage(entry.node, text)))
}

fn stage(node: Node<'_>, text: &str) -> Option<StageSpec> {
    if !node.is_table() {
        return node.mistyped("a table");
    }
    let Some(document) = json(node.value()) else {
        return node.refuse("a stage holds no infinite and no undefined numbers");
    };
    let mut lines = BTreeMap::from([(String::new(), line(text, node.at()))]);
    note_lines(node.value(), "", text, &mut lines);
    Some(StageSpec { document, lines })
}

fn note_lines(value: &DeValue<'_>, path: &str, text: &str, lines: &mut BTreeMap<String, usize>) {
    let mut note = |path: String, value: &toml::Spanned<DeValue<'_>>| {
        lines.insert(path.clone(), line(text, value.span().start));
        note_lines(value.get_ref(), &path, text, lines);
    };
    match value {
        DeValue::Table(table) => {
            for (key, value) in table {
                let dot = if path.is_empty() { "" } else { "." };
                note(format!("{path}{dot}{}", key.get_ref()), value);
            }
        }
        DeValue::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                note(format!("{path}[{n}]"), item);
            }
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
}

fn line(text: &str, at: usize) -> usize {
    text.as_bytes().get(..at).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count() + 1
}

/// `[watch]`.
pub(super) fn watch(t: &mut Table<'_>, hooks: &Names) -> Option<Watch> {
    let advice = "write a pattern of the folders: stacks = \"/srv/repo/stacks/*\"";
    let interval = |node: Node<'_>| match duration(node)? {
        short if short < Duration::from_secs(1) => node.refuse("look once a second at most: write \"1s\" or more"),
        interval => Some(interval),
    };
    let stacks = t.require("stacks", advice, |node| {
        if node.is_list() { node.nonempty(advice, pattern) } else { pattern(node).map(|one| vec![one]) }
    });
    Some(Watch {
        interval: t.get("interval", interval).unwrap_or(Duration::from_secs(60)),
        fetch: t.get("fetch", |node| hook_use(node, hooks)),
        commit: t.get("commit", |node| hook_use(node, hooks)),
        deploy: t.get("deploy", truth).unwrap_or(true),
        method: t.get("method", |node| node.one_of(&StackMethod::WORDS)).unwrap_or(StackMethod::Simple),
        stacks: stacks?,
    })
}

/// A pattern of folders: `*` and `?` stand for parts of one name.
fn pattern(node: Node<'_>) -> Option<String> {
    match node.text_like("a pattern such as \"/srv/repo/stacks/*\"")? {
        "" => node.refuse("the pattern is empty"),
        text if text.contains('\0') => node.refuse("a path cannot hold a NUL"),
        text if text.contains("**") => {
            node.refuse("\"**\" means nothing here: name each level of folders with one \"*\"")
        }
        text => Some(text.to_owned()),
    }
}
