//! Arguments of the verbs that move traffic.

use std::str::FromStr;

use clap::Args;
use tidegate_config::{ServiceId, TargetId, Weight};

use super::ChangeArgs;

/// Arguments of `switch`.
#[derive(Debug, Args)]
pub(crate) struct SwitchArgs {
    /// The service.
    pub(crate) service: ServiceId,
    /// The target.
    pub(crate) target: TargetId,
    /// Do not probe the target first.
    #[arg(long)]
    pub(crate) force: bool,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of `split`.
#[derive(Debug, Args)]
pub(crate) struct SplitArgs {
    /// The service.
    pub(crate) service: ServiceId,
    /// Weights in percent, with up to two decimals; they sum to 100.
    #[arg(required = true, value_name = "TARGET=PERCENT")]
    pub(crate) weights: Vec<TargetWeight>,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// One weight of a split: `green=95`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetWeight {
    /// The target.
    pub(crate) target: TargetId,
    /// Its weight.
    pub(crate) weight: Weight,
}

impl FromStr for TargetWeight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (target, percent) = text.split_once('=').ok_or("write TARGET=PERCENT, as in green=95")?;
        let target = TargetId::parse(target).map_err(|error| error.to_string())?;
        Ok(Self { target, weight: parse_percent(percent)? })
    }
}

/// A percentage as people write it: `5`, `0.5`, `5%`.
pub(super) fn parse_percent(text: &str) -> Result<Weight, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    // Only plain decimals: `f64` would also take `inf`, `1e1` and `nan`.
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let percent = number.parse::<f64>().ok().filter(|_| plain).ok_or("a weight is a percentage from 0 to 100")?;
    Weight::from_percent(percent).map_err(|error| error.to_string())
}

/// Arguments of `failover`.
#[derive(Debug, Args)]
pub(crate) struct FailoverArgs {
    /// The service.
    pub(crate) service: ServiceId,
    /// The target that is to carry it.
    pub(crate) target: TargetId,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The service.
    pub(crate) service: ServiceId,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of `hold` and `release`.
#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    /// The service.
    pub(crate) service: ServiceId,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}
