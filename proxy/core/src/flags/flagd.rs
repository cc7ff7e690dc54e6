//! flagd's flag objects and documents: <https://flagd.dev/reference/flag-definitions/>.
//!
//! A rule is checked and compiled once, when it is read. Its size and depth are bounded, so that evaluating it is
//! bounded too.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use datalogic_rs::Engine;
use serde_json::{Map, Value};
use tidegate_config::{FlagType, FlagValue};

use super::{
    context::Wants,
    definition::{Choice, Definition, Rule, Variant},
    operators,
};

/// Deepest nesting of a targeting rule, shared parts included.
const MAX_DEPTH: usize = 32;

/// Most operators and values of a targeting rule, shared parts included.
const MAX_NODES: usize = 10_000;

/// Most variants of a flag.
const MAX_VARIANTS: usize = 1_000;

/// Runs rules. It has no state.
pub(super) static ENGINE: LazyLock<Engine> = LazyLock::new(operators::engine);

/// Names of operators: an object with one key is a call of one.
static OPERATORS: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| {
    let builtin = ENGINE.builtin_operator_names();
    builtin.chain(operators::NAMES.map(|(theirs, _)| theirs)).collect()
});

/// Compiles a flag object.
pub(super) fn compile(kind: Option<FlagType>, flag: &Map<String, Value>) -> Result<Definition, String> {
    let variants = variants(kind, flag.get("variants"))?;
    let default = match flag.get("defaultVariant") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => {
            let named = variants.iter().position(|variant| variant.name.as_deref() == Some(name.as_str()));
            Some(named.ok_or_else(|| format!("its defaultVariant {name:?} is not one of its variants"))?)
        }
        Some(_) => return Err("its defaultVariant is not a string".into()),
    };
    let choice = match (flag.get("state").map(Value::as_str), flag.get("targeting")) {
        (Some(Some("DISABLED")), _) => Choice::Disabled,
        (None | Some(Some("ENABLED")), None | Some(Value::Null)) => Choice::Const(default),
        (None | Some(Some("ENABLED")), Some(Value::Object(rule))) if rule.is_empty() => Choice::Const(default),
        (None | Some(Some("ENABLED")), Some(rule @ Value::Object(_))) => {
            check(rule)?;
            let logic = ENGINE
                .compile(&operators::renamed(rule))
                .map_err(|error| format!("its targeting is wrong: {error}"))?;
            Choice::Rule(Box::new(Rule { logic, wants: Wants::of(rule), default }))
        }
        (None | Some(Some("ENABLED")), Some(_)) => return Err("its targeting is not an object".into()),
        (Some(_), _) => return Err("its state is neither \"ENABLED\" nor \"DISABLED\"".into()),
    };
    Ok(Definition::new(variants, choice))
}

fn variants(kind: Option<FlagType>, given: Option<&Value>) -> Result<Vec<Variant>, String> {
    let Some(Value::Object(given)) = given else { return Err("its variants are not an object".into()) };
    if given.is_empty() || given.len() > MAX_VARIANTS {
        return Err(format!("it has {} variants, and may have 1 to {MAX_VARIANTS}", given.len()));
    }
    let mut kind = kind;
    let mut variants = Vec::with_capacity(given.len());
    for (name, value) in given {
        let value = FlagValue::from_json(value.clone())
            .ok_or_else(|| format!("variant {name:?} is neither a boolean, a string, a number nor an object"))?;
        match kind {
            Some(kind) if kind != value.kind() => {
                return Err(format!("variant {name:?} is a {}, and the flag is a {kind}", value.kind()));
            }
            _ => kind = Some(value.kind()),
        }
        variants.push(Variant::new(Some(name), value));
    }
    Ok(variants)
}

/// Refuses a rule that is too large, or that the engine would only fail on later.
fn check(rule: &Value) -> Result<(), String> {
    // Not recursive: the depth is what is not known yet.
    let mut nodes = 0_usize;
    let mut open = vec![(rule, 1)];
    while let Some((value, depth)) = open.pop() {
        nodes += 1;
        if depth > MAX_DEPTH {
            return Err(format!("its targeting is nested deeper than {MAX_DEPTH}"));
        }
        if nodes > MAX_NODES {
            return Err(format!("its targeting has more than {MAX_NODES} parts"));
        }
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(map) => {
                if let (Some(name), 1) = (map.keys().next(), map.len())
                    && !OPERATORS.contains(name.as_str())
                {
                    return Err(format!("its targeting uses {name:?}, which is no operator"));
                }
                open.extend(map.values().map(|value| (value, depth + 1)));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    Ok(())
}

/// The flags of a document, each as the text of a flag object in which shared parts are written out.
///
/// # Errors
/// Why it is no document. What is wrong with one flag is told when that flag is compiled.
pub(super) fn document(text: &str) -> Result<BTreeMap<String, Result<String, String>>, String> {
    let document: Value = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let Some(Value::Object(flags)) = document.get("flags") else {
        return Err("it is no flagd document: \"flags\" is missing".into());
    };
    let none = Map::new();
    let shared = match document.get("$evaluators") {
        None | Some(Value::Null) => &none,
        Some(Value::Object(shared)) => shared,
        Some(_) => return Err("its $evaluators are not an object".into()),
    };
    let written = |flag: &Value| -> Result<String, String> {
        let Value::Object(flag) = flag else { return Err("it is not an object".into()) };
        let mut flag = flag.clone();
        if let Some(rule) = flag.get_mut("targeting") {
            let mut budget = MAX_NODES;
            *rule = written_out(rule, shared, MAX_DEPTH, &mut budget)?;
        }
        Ok(Value::Object(flag).to_string())
    };
    Ok(flags.iter().map(|(name, flag)| (name.clone(), written(flag))).collect())
}

/// A rule with `{"$ref": "name"}` replaced by the shared part of that name, within these bounds: shared parts may use
/// each other, and so grow without end.
fn written_out(rule: &Value, shared: &Map<String, Value>, depth: usize, budget: &mut usize) -> Result<Value, String> {
    let deeper = depth.checked_sub(1).ok_or_else(|| format!("its targeting is nested deeper than {MAX_DEPTH}"))?;
    *budget = budget.checked_sub(1).ok_or_else(|| format!("its targeting has more than {MAX_NODES} parts"))?;
    Ok(match rule {
        Value::Object(map) => match map.get("$ref") {
            Some(Value::String(name)) if map.len() == 1 => {
                let part = shared.get(name).ok_or_else(|| format!("there is no {name:?} in $evaluators"))?;
                written_out(part, shared, deeper, budget)?
            }
            _ => {
                let entries = map
                    .iter()
                    .map(|(name, value)| written_out(value, shared, deeper, budget).map(|value| (name.clone(), value)));
                Value::Object(entries.collect::<Result<_, String>>()?)
            }
        },
        Value::Array(items) => {
            let items = items.iter().map(|item| written_out(item, shared, deeper, budget));
            Value::Array(items.collect::<Result<_, String>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => rule.clone(),
    })
}
