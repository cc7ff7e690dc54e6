//! A condition on a flag, compiled: what it asks is settled for every variant beforehand.

use std::sync::Arc;

use tidegate_config::{FlagCondition, FlagName, FlagValue, Words};

use super::{
    context::Subject,
    definition::Variant,
    table::{Flag, FlagTable},
};

/// A condition on a flag.
#[derive(Debug)]
pub enum FlagCheck {
    /// It is the same for every request.
    Settled(bool),
    /// It depends on the request.
    Open(Box<OpenCheck>),
}

/// A condition that depends on the request.
#[derive(Debug)]
pub struct OpenCheck {
    flag: Arc<Flag>,
    /// Whether each variant meets it, and at the end whether the default of the flag does.
    meets: Vec<bool>,
}

impl FlagCheck {
    /// Compiles a condition. A flag that there is not is off.
    pub fn new(condition: &FlagCondition, table: &FlagTable) -> Self {
        Self::of(&condition.name, table, condition.is.as_deref())
    }

    /// The condition that a flag is on.
    pub fn is_on(flag: &FlagName, table: &FlagTable) -> Self {
        Self::of(flag, table, None)
    }

    fn of(name: &FlagName, table: &FlagTable, is: Option<&str>) -> Self {
        let Some(flag) = table.get(name) else { return Self::Settled(false) };
        let meets = |variant: Option<&Variant>| variant.is_some_and(|variant| meets(&variant.value, is));
        match &flag.definition {
            None => Self::Settled(meets(flag.default.as_ref())),
            Some(definition) => match definition.constant_choice() {
                Some(picked) => Self::Settled(meets(flag.variant(&picked))),
                None => {
                    let variants = definition.variants().iter().map(Some).chain([flag.default.as_ref()]);
                    let meets = variants.map(meets).collect();
                    Self::Open(Box::new(OpenCheck { flag: Arc::clone(flag), meets }))
                }
            },
        }
    }

    /// Whether somebody meets it.
    pub fn holds(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Settled(holds) => *holds,
            Self::Open(check) => check.holds(subject),
        }
    }
}

impl OpenCheck {
    fn holds(&self, subject: &Subject<'_>) -> bool {
        let Some(definition) = &self.flag.definition else { return false };
        let picked = definition.pick(&self.flag.name, subject);
        match picked.variant {
            Some(variant) => self.meets.get(variant).copied().unwrap_or(false),
            None => self.meets.last().copied().unwrap_or(false),
        }
    }
}

/// Whether a value is the wanted one; without any, whether it is on.
fn meets(value: &FlagValue, is: Option<&str>) -> bool {
    match (value, is) {
        (FlagValue::Boolean(on), None) => *on,
        (FlagValue::Boolean(on), Some(is)) => Words::read(is) == Words::Boolean(*on),
        (FlagValue::String(text), None) => Words::read(text) == Words::Boolean(true),
        (FlagValue::String(text), Some(is)) => **text == *is,
        (FlagValue::Number(_) | FlagValue::Object(_), None) => false,
        (FlagValue::Number(number), Some(is)) => {
            number.to_string() == is || is.parse::<f64>().is_ok_and(|is| number.as_f64() == Some(is))
        }
        (FlagValue::Object(map), Some(is)) => {
            serde_json::from_str::<serde_json::Map<_, _>>(is).is_ok_and(|is| is == **map)
        }
    }
}
