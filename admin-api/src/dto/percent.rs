//! Percent on the wire, basis points inside.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
use tidegate_config::{Split, Weight};
use utoipa::ToSchema;

/// A share in percent with up to two decimals. Whole numbers are written without a decimal point.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = f64, minimum = 0, maximum = 100, example = 5)]
pub struct Percent(pub f64);

/// Weights by target.
pub type Weights = BTreeMap<String, Percent>;

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Shares are 0 to 100, where the cast is exact for whole numbers.
        if self.0.fract() == 0.0 { serializer.serialize_i64(self.0 as i64) } else { serializer.serialize_f64(self.0) }
    }
}

impl From<Weight> for Percent {
    fn from(weight: Weight) -> Self {
        Self(weight.percent())
    }
}

/// A split as percentages by target.
pub(crate) fn weights(split: &Split) -> Weights {
    split.iter().map(|(target, weight)| (target.as_str().to_owned(), weight.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_survives_the_wire() {
        for points in 0..=10_000 {
            let weight = Weight::from_points(points).unwrap();
            let text = serde_json::to_string(&Percent::from(weight)).unwrap();
            let back: Percent = serde_json::from_str(&text).unwrap();
            assert_eq!(Weight::from_percent(back.0), Ok(weight), "{text}");
        }
        assert_eq!(serde_json::to_string(&Percent(95.0)).unwrap(), "95");
        assert_eq!(serde_json::to_string(&Percent(0.07)).unwrap(), "0.07");
    }
}
