//! flagd's own operators where the engine's differ from flagd: `fractional`, `starts_with` and `ends_with`.
//!
//! The engine prefers its built-in operators, so a rule gets these under names of ours when it is compiled. Like
//! flagd's, they answer null to whatever is malformed, and null means the default variant.

use datalogic_rs::{CustomOperator, DataValue, Engine, Result, bumpalo::Bump, operator::EvalContext};
use serde_json::{Map, Value};

use crate::hash::visitor_bits;

/// Operators of flagd, and their names here.
pub(super) const NAMES: [(&str, &str); 3] =
    [("fractional", "flagd_fractional"), ("starts_with", "flagd_starts_with"), ("ends_with", "flagd_ends_with")];

/// Largest sum of weights, as flagd has it.
const MAX_WEIGHTS: i64 = i32::MAX as i64;

/// An engine that has them.
pub(super) fn engine() -> Engine {
    Engine::builder()
        .add_operator("flagd_fractional", Fractional)
        .add_operator("flagd_starts_with", Affix(|text, affix| text.starts_with(affix)))
        .add_operator("flagd_ends_with", Affix(|text, affix| text.ends_with(affix)))
        .build()
}

/// A rule with the names of flagd's operators replaced by ours.
pub(super) fn renamed(rule: &Value) -> Value {
    match rule {
        Value::Object(map) => {
            let ours = |name: &String| match NAMES.iter().find(|(theirs, _)| theirs == name) {
                Some((_, ours)) if map.len() == 1 => (*ours).to_owned(),
                _ => name.clone(),
            };
            Value::Object(map.iter().map(|(name, value)| (ours(name), renamed(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(renamed).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => rule.clone(),
    }
}

/// `{"fractional": [key, ["variant", weight], ..]}`: the hash of the key, or of flag and targeting key, chooses.
struct Fractional;

impl CustomOperator for Fractional {
    fn evaluate<'a>(
        &self,
        args: &[&'a DataValue<'a>],
        context: &mut EvalContext<'_, 'a>,
        arena: &'a Bump,
    ) -> Result<&'a DataValue<'a>> {
        Ok(match chosen(args, context.root_input()) {
            Some(variant) => variant,
            None => arena.alloc(DataValue::Null),
        })
    }
}

fn chosen<'a>(args: &[&'a DataValue<'a>], root: &'a DataValue<'a>) -> Option<&'a DataValue<'a>> {
    let (first, rest) = args.split_first()?;
    let ((salt, key), shares) = match first {
        DataValue::String(key) => (("", *key), rest),
        DataValue::Null => (implicit_key(root)?, rest),
        _ => (implicit_key(root)?, args),
    };
    let mut total = 0_i64;
    for share in shares {
        total = total.checked_add(split(share)?.1)?;
    }
    let total = u32::try_from(total).ok().filter(|_| (1..=MAX_WEIGHTS).contains(&total))?;
    let bits = visitor_bits(salt, key.as_bytes());
    // Invariant: the product is below total * 2^32, so the bucket is below the total.
    let bucket = ((u64::from(bits) * u64::from(total)) >> 32) as i64;
    let mut end = 0;
    shares.iter().filter_map(|share| split(share)).find_map(|(variant, weight)| {
        end += weight;
        (bucket < end).then_some(variant)
    })
}

/// A variant and its weight: 1 if it has none, 0 if it is negative.
fn split<'a>(share: &'a DataValue<'a>) -> Option<(&'a DataValue<'a>, i64)> {
    let DataValue::Array(items) = share else { return None };
    let weight = match items.get(1) {
        None => 1,
        Some(DataValue::Number(number)) => number.as_i64()?,
        Some(_) => return None,
    };
    Some((items.first()?, weight.max(0)))
}

/// The flag and the targeting key.
fn implicit_key<'a>(root: &'a DataValue<'a>) -> Option<(&'a str, &'a str)> {
    let key = text(root, super::context::TARGETING_KEY).filter(|key| !key.is_empty())?;
    let flag = field(root, super::context::FLAGD).and_then(|flagd| text(flagd, "flagKey"));
    Some((flag.unwrap_or_default(), key))
}

fn field<'a>(value: &'a DataValue<'a>, name: &str) -> Option<&'a DataValue<'a>> {
    let DataValue::Object(pairs) = value else { return None };
    pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn text<'a>(value: &'a DataValue<'a>, name: &str) -> Option<&'a str> {
    match field(value, name)? {
        DataValue::String(text) => Some(text),
        _ => None,
    }
}

/// `{"starts_with": [text, affix]}`, `{"ends_with": [text, affix]}`.
struct Affix(fn(&str, &str) -> bool);

impl CustomOperator for Affix {
    fn evaluate<'a>(
        &self,
        args: &[&'a DataValue<'a>],
        _: &mut EvalContext<'_, 'a>,
        arena: &'a Bump,
    ) -> Result<&'a DataValue<'a>> {
        Ok(arena.alloc(match args {
            [DataValue::String(text), DataValue::String(affix)] => DataValue::Bool(self.0(text, affix)),
            _ => DataValue::Null,
        }))
    }
}
