//! Flags as they are declared, read, kept and decided.

mod flagd;
mod readings;
mod requests;
mod values;

use std::sync::Arc;

use serde_json::json;
use tidegate_config::{FlagName, Flags};

use super::{
    context::{Arena, Given},
    *,
};
use crate::testing::{flags_of, id};

/// The table of a state.
fn table(state: &FlagState) -> FlagTable {
    FlagTable::new(state, None)
}

/// What a definition says to a caller with this context: value and reason, or the error.
fn said(definition: &Definition, context: &serde_json::Value) -> String {
    let arena = Arena::default();
    let context = Given::new(&arena, context.as_object().unwrap());
    let picked = definition.pick(&id("flag"), &Subject::Given { context: &context, unix_s: 1_700_000_000 });
    match (picked.error, picked.variant) {
        (Some(error), _) => format!("{error:?}"),
        (None, Some(at)) => {
            let variant = &definition.variants()[at];
            format!("{} {}", variant.value, picked.reason.as_str())
        }
        (None, None) => format!("- {}", picked.reason.as_str()),
    }
}

/// A context with only a targeting key.
fn visitor(key: &str) -> serde_json::Value {
    json!({ "targetingKey": key })
}

/// What a flag of a table is worth, as it is written, and where that comes from.
fn worth(table: &FlagTable, name: &str) -> (String, Origin) {
    let flag = table.get(&id::<FlagName>(name)).unwrap();
    let arena = Arena::default();
    let context = Given::new(&arena, &serde_json::Map::new());
    let found = flag.evaluate(&Subject::Given { context: &context, unix_s: 0 });
    (found.variant.map_or_else(|| "-".into(), |variant| variant.value.to_string()), flag.origin)
}

/// A reading with these keys.
fn keys(pairs: &[(&str, &str)]) -> Reading {
    let keys = pairs.iter().map(|(key, text)| ((*key).to_owned(), Found::Text((*text).into()))).collect();
    Reading { keys, marked: true, ..Reading::default() }
}

fn flags(text: &str) -> Flags {
    flags_of(text)
}

fn arc<T>(value: T) -> Arc<T> {
    Arc::new(value)
}
