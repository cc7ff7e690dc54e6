//! What changes take and answer.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
};
use tidegate_config::{EndpointAddress, EndpointSpec, Split, TargetId, TargetSpec, Weight};
use utoipa::ToSchema;

pub use crate::dto::mirror::MirrorInput;
use crate::{
    dto::{event::EventKind, percent::Percent},
    problem::ProblemPart,
};

/// Most endpoints of a target.
pub const MAX_ENDPOINTS: usize = 1000;

/// Body of a switch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "to": "green" }))]
pub struct SwitchInput {
    /// The target that becomes stable, with 100 %.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    pub to: String,
    /// `true`: switch without probing the target first.
    #[serde(default)]
    pub force: bool,
}

/// Body of a failover.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "to": "blue" }))]
pub struct FailoverInput {
    /// The target that carries the service until it is restored.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    pub to: String,
}

/// Body of a call that takes nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Body of a split: percent by target, with up to two decimals; must sum to 100. Targets that are not named get
/// nothing.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = BTreeMap<String, Percent>, example = json!({ "green": 95, "blue": 5 }))]
pub struct SplitInput(pub BTreeMap<String, Percent>);

/// Body that sets a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "endpoints": ["127.0.0.1:3002", { "address": "127.0.0.1:3003", "weight": 2 }] }))]
pub struct TargetInput {
    /// Its endpoints, at least one, no address twice.
    #[schema(min_items = 1, max_items = 1000)]
    pub endpoints: Vec<EndpointInput>,
}

/// An endpoint: an address, or an address with a weight. An address is `ip:port`, `host:port` or `unix:/path`, with
/// `http://`, `https://` or `h2c://` before it if needed.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum EndpointInput {
    /// An address with weight 1.
    Address(String),
    /// An address and its weight.
    Weighted(WeightedEndpoint),
}

/// An endpoint and its weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightedEndpoint {
    /// The address.
    pub address: String,
    /// Relative weight within the target.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 1000, default = 1)]
    pub weight: u16,
}

fn one() -> u16 {
    1
}

/// Answer to a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "generation": 8, "dry_run": false, "saved": true,
    "events": [{ "type": "target.changed", "service": "web", "target": "green" }]
}))]
pub struct ChangeReply {
    /// The generation that the change brought about (in a dry run: would bring about), or the present one if nothing
    /// changed.
    pub generation: u64,
    /// Whether nothing was done, as asked.
    pub dry_run: bool,
    /// Whether it outlives a restart. `false` only for emergency moves while the state store fails.
    pub saved: bool,
    /// What happened (or would); empty when everything was so already.
    pub events: Vec<EventKind>,
}

/// Answer to a switch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "previous": "green", "to": "blue", "elapsed_ms": 3.217, "generation": 8, "dry_run": false, "saved": true,
    "events": [{ "type": "traffic.switched", "service": "web", "from": "green", "to": "blue" }]
}))]
pub struct SwitchReply {
    /// The stable target before.
    pub previous: String,
    /// The stable target now.
    pub to: String,
    /// How long it took, probes included, in milliseconds.
    pub elapsed_ms: f64,
    /// What every change answers.
    #[serde(flatten)]
    pub change: ChangeReply,
}

// A name that occurs twice would silently take the last weight.
impl<'de> Deserialize<'de> for SplitInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;

        impl<'de> Visitor<'de> for Unique {
            type Value = BTreeMap<String, Percent>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of targets and percentages")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut weights = BTreeMap::new();
                while let Some((target, percent)) = map.next_entry::<String, Percent>()? {
                    if weights.contains_key(&target) {
                        return Err(A::Error::custom(format!("target {target:?} is named twice")));
                    }
                    weights.insert(target, percent);
                }
                Ok(weights)
            }
        }

        deserializer.deserialize_map(Unique).map(Self)
    }
}

// An untagged derive would only say that no variant matched.
impl<'de> Deserialize<'de> for EndpointInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = EndpointInput;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address, or an object with address and weight")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<EndpointInput, E> {
                Ok(EndpointInput::Address(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EndpointInput, A::Error> {
                WeightedEndpoint::deserialize(MapAccessDeserializer::new(map)).map(EndpointInput::Weighted)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// The target that a field names.
pub(crate) fn target(path: &str, name: &str) -> Result<TargetId, ProblemPart> {
    TargetId::parse(name).map_err(|error| ProblemPart::new(path, error.to_string()))
}

impl TryFrom<SplitInput> for Split {
    type Error = Vec<ProblemPart>;

    fn try_from(SplitInput(input): SplitInput) -> Result<Self, Self::Error> {
        let mut errors = Vec::new();
        let mut weights = Vec::new();
        for (name, percent) in input {
            match (TargetId::parse(&name), Weight::from_percent(percent.0)) {
                (Ok(target), Ok(weight)) => weights.push((target, weight)),
                (id, weight) => {
                    errors.extend(id.err().map(|error| ProblemPart::new(name.as_str(), error.to_string())));
                    errors.extend(weight.err().map(|error| ProblemPart::new(name.as_str(), error.to_string())));
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Self::new(weights).map_err(|error| vec![ProblemPart::new("", error.to_string())])
    }
}

impl TryFrom<TargetInput> for TargetSpec {
    type Error = Vec<ProblemPart>;

    fn try_from(input: TargetInput) -> Result<Self, Self::Error> {
        if input.endpoints.is_empty() {
            return Err(vec![ProblemPart::new("endpoints", "a target needs at least one endpoint")]);
        }
        if input.endpoints.len() > MAX_ENDPOINTS {
            return Err(vec![ProblemPart::new("endpoints", format!("a target may have {MAX_ENDPOINTS} endpoints"))]);
        }
        let mut errors = Vec::new();
        let mut endpoints = Vec::new();
        let mut seen = HashSet::new();
        for (at, endpoint) in input.endpoints.into_iter().enumerate() {
            let (path, text, weight) = match endpoint {
                EndpointInput::Address(text) => (format!("endpoints[{at}]"), text, 1),
                EndpointInput::Weighted(WeightedEndpoint { address, weight }) => {
                    (format!("endpoints[{at}].address"), address, weight)
                }
            };
            if !(1..=1000).contains(&weight) {
                errors.push(ProblemPart::new(format!("endpoints[{at}].weight"), "a weight is 1 to 1000"));
            }
            match text.parse::<EndpointAddress>() {
                Err(error) => errors.push(ProblemPart::new(path, error.to_string())),
                Ok(address) if !seen.insert(address.clone()) => {
                    errors.push(ProblemPart::new(path, format!("{address} is named twice")));
                }
                Ok(address) => endpoints.push(EndpointSpec { address, weight }),
            }
        }
        if errors.is_empty() { Ok(Self { endpoints }) } else { Err(errors) }
    }
}
