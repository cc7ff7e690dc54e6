//! What a value means, compiled once from its text: one value, a share of visitors, or a targeting rule.
//!
//! Evaluation follows pointers only. It allocates nothing but for a targeting rule, and never fails: what cannot be
//! decided has the default value of its flag, and says why.

use std::fmt;

use datalogic_rs::Logic;
use http::HeaderValue;
use tidegate_config::{FlagName, FlagType, FlagValue, Weight, Written};

use super::{
    context::{Subject, Wants, run},
    flagd,
};
use crate::hash::bucket;

/// Longest text of a value that is sent as a header.
const MAX_HEADER: usize = 8 << 10;

/// What a value means.
pub struct Definition {
    /// Every value that it can have.
    variants: Vec<Variant>,
    choice: Choice,
}

/// One value that a flag can have.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Its name, if it has one.
    pub name: Option<Box<str>>,
    /// The value.
    pub value: FlagValue,
    /// The value as a header, if it can be one.
    pub header: Option<HeaderValue>,
}

impl Variant {
    /// A value, and its name if it has one.
    pub fn new(name: Option<&str>, value: FlagValue) -> Self {
        let text = value.to_string();
        let header = if text.len() > MAX_HEADER { None } else { HeaderValue::from_str(&text).ok() };
        Self { name: name.map(Into::into), value, header: header.filter(|header| header.to_str().is_ok()) }
    }

    fn boolean(on: bool) -> Self {
        Self::new(Some(if on { "on" } else { "off" }), FlagValue::Boolean(on))
    }
}

/// Which of the variants it is.
pub(super) enum Choice {
    /// This one for everybody; `None`: the default of the flag.
    Const(Option<usize>),
    /// The first for this share of visitors, the second for the others.
    Percent(Weight),
    /// What the rule says.
    Rule(Box<Rule>),
    /// None: the flag is switched off in its own definition.
    Disabled,
}

/// A targeting rule.
pub(super) struct Rule {
    pub(super) logic: Logic,
    /// What the rule asks of a request.
    pub(super) wants: Wants,
    /// The variant for those whom the rule says nothing about.
    pub(super) default: Option<usize>,
}

/// Why a flag has a value: the reasons of OpenFeature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagReason {
    /// It has this value for everybody.
    Static,
    /// The default, since nothing else is said.
    Default,
    /// The visitor is in this share.
    Split,
    /// A rule says so.
    TargetingMatch,
    /// It is switched off in its definition.
    Disabled,
    /// It could not be decided.
    Error,
}

impl FlagReason {
    /// Its word in OpenFeature.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Static => "STATIC",
            Self::Default => "DEFAULT",
            Self::Split => "SPLIT",
            Self::TargetingMatch => "TARGETING_MATCH",
            Self::Disabled => "DISABLED",
            Self::Error => "ERROR",
        }
    }
}

/// Why a flag could not be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// A share of visitors needs a visitor.
    #[error("the flag is on for a share of visitors, and the context has no targetingKey")]
    TargetingKeyMissing,
    /// The targeting rule failed.
    #[error("the targeting rule of the flag failed on this context")]
    RuleFailed,
    /// The targeting rule names a variant that the flag has not.
    #[error("the targeting rule of the flag chose a variant that the flag has not")]
    UnknownVariant,
}

/// Which variant was chosen, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picked {
    /// Its position; `None`: the default of the flag, or none if it is disabled.
    pub variant: Option<usize>,
    /// Why.
    pub reason: FlagReason,
    /// What went wrong.
    pub error: Option<EvaluationError>,
}

impl Picked {
    fn of(variant: Option<usize>, reason: FlagReason) -> Self {
        Self { variant, reason: if variant.is_some() { reason } else { FlagReason::Default }, error: None }
    }

    fn failed(error: EvaluationError) -> Self {
        Self { variant: None, reason: FlagReason::Error, error: Some(error) }
    }
}

/// What a flag is for somebody.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation<'a> {
    /// The value; none if the flag is disabled, or has neither a value nor a default.
    pub variant: Option<&'a Variant>,
    /// Why.
    pub reason: FlagReason,
    /// What went wrong.
    pub error: Option<EvaluationError>,
}

impl Definition {
    /// Compiles the text of a value for a flag of this type; `None`: the value says which.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn compile(kind: Option<FlagType>, text: &str) -> Result<Self, String> {
        match Written::read(kind, text)? {
            Written::Value(FlagValue::Boolean(on)) => Ok(Self::constant(Variant::boolean(on))),
            Written::Value(value) => Ok(Self::constant(Variant::new(None, value))),
            Written::Percent(share) => Ok(Self {
                variants: vec![Variant::boolean(true), Variant::boolean(false)],
                choice: Choice::Percent(share),
            }),
            Written::Flagd(flag) => flagd::compile(kind, &flag),
        }
    }

    pub(super) fn new(variants: Vec<Variant>, choice: Choice) -> Self {
        Self { variants, choice }
    }

    fn constant(variant: Variant) -> Self {
        Self { variants: vec![variant], choice: Choice::Const(Some(0)) }
    }

    /// Every value that it can have.
    pub fn variants(&self) -> &[Variant] {
        &self.variants
    }

    /// The choice that is the same for everybody, if it is.
    pub fn constant_choice(&self) -> Option<Picked> {
        match &self.choice {
            Choice::Const(variant) => Some(Picked::of(*variant, FlagReason::Static)),
            Choice::Disabled => Some(Picked { variant: None, reason: FlagReason::Disabled, error: None }),
            Choice::Percent(_) | Choice::Rule(_) => None,
        }
    }

    /// Why somebody has the variant that was chosen.
    pub fn reason(&self) -> FlagReason {
        match &self.choice {
            Choice::Const(Some(_)) => FlagReason::Static,
            Choice::Const(None) => FlagReason::Default,
            Choice::Percent(_) => FlagReason::Split,
            Choice::Rule(_) => FlagReason::TargetingMatch,
            Choice::Disabled => FlagReason::Disabled,
        }
    }

    /// Which variant somebody has.
    pub fn pick(&self, flag: &FlagName, subject: &Subject<'_>) -> Picked {
        match &self.choice {
            Choice::Const(variant) => Picked::of(*variant, FlagReason::Static),
            Choice::Disabled => Picked { variant: None, reason: FlagReason::Disabled, error: None },
            Choice::Percent(share) => match subject.targeting_key() {
                Some(key) => {
                    let on = bucket(flag.as_str(), key) < share.points();
                    Picked::of(Some(usize::from(!on)), FlagReason::Split)
                }
                None => Picked::failed(EvaluationError::TargetingKeyMissing),
            },
            Choice::Rule(rule) => self.follow(rule, flag, subject),
        }
    }

    fn follow(&self, rule: &Rule, flag: &FlagName, subject: &Subject<'_>) -> Picked {
        let named = |name: &str| self.variants.iter().position(|variant| variant.name.as_deref() == Some(name));
        run(&rule.logic, &rule.wants, flag, subject, |said| match said {
            Said::Nothing => Picked::of(rule.default, FlagReason::Default),
            Said::Variant(name) => match named(name) {
                Some(variant) => Picked::of(Some(variant), FlagReason::TargetingMatch),
                None => Picked::failed(EvaluationError::UnknownVariant),
            },
            Said::Failure => Picked::failed(EvaluationError::RuleFailed),
        })
    }
}

/// What a targeting rule says.
pub(super) enum Said<'a> {
    /// Nothing about this one.
    Nothing,
    /// The name of a variant.
    Variant(&'a str),
    /// It came to no end.
    Failure,
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.choice {
            Choice::Const(_) => "Const",
            Choice::Percent(_) => "Percent",
            Choice::Rule(_) => "Rule",
            Choice::Disabled => "Disabled",
        })
    }
}

impl PartialEq for Definition {
    /// Two definitions that were compiled apart are taken for different: nobody needs to know better.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}
