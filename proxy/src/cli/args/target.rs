//! Arguments of the verbs about targets.

use std::str::FromStr;

use clap::{Args, Subcommand};
use tidegate_config::{EndpointAddress, ServiceId, TargetId};

use super::ChangeArgs;

/// What is done to a target.
#[derive(Debug, Subcommand)]
pub(crate) enum TargetCommand {
    /// Add a target, or replace the endpoints of one
    ///
    /// Example: tidegate target add web v2 127.0.0.1:3004 https://v2.example:443,weight=2
    Add(TargetAddArgs),
    /// Remove a target that carries no traffic; what runs on it may finish
    Remove(TargetArgs),
    /// Send no new requests to a target that is not stable; what runs on it may finish
    Drain(TargetDrainArgs),
}

/// Arguments of `target add`.
#[derive(Debug, Args)]
pub(crate) struct TargetAddArgs {
    /// The service.
    pub(crate) service: ServiceId,
    /// The target.
    pub(crate) target: TargetId,
    /// ip:port, host:port or unix:/path, with http://, https:// or h2c:// before and ,weight=N after it if needed.
    #[arg(required = true, value_name = "ENDPOINT")]
    pub(crate) endpoints: Vec<EndpointArg>,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// An endpoint: `127.0.0.1:3004` or `127.0.0.1:3004,weight=2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndpointArg {
    /// The address.
    pub(crate) address: EndpointAddress,
    /// Its weight within the target.
    pub(crate) weight: Option<u16>,
}

impl FromStr for EndpointArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, weight) = match text.rsplit_once(",weight=") {
            None => (text, None),
            Some((address, weight)) => {
                let weight = weight.parse::<u16>().ok().filter(|w| (1..=1000).contains(w));
                (address, Some(weight.ok_or("an endpoint's weight is 1 to 1000")?))
            }
        };
        let address = address.parse::<EndpointAddress>().map_err(|error| error.to_string())?;
        Ok(Self { address, weight })
    }
}

/// Arguments of verbs on one target.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// The service.
    pub(crate) service: ServiceId,
    /// The target.
    pub(crate) target: TargetId,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of `target drain`.
#[derive(Debug, Args)]
pub(crate) struct TargetDrainArgs {
    /// What is drained.
    #[command(flatten)]
    pub(crate) what: TargetArgs,
    /// Wait until nothing runs on it any more, and show what still does.
    #[arg(short, long, conflicts_with = "dry_run")]
    pub(crate) wait: bool,
}
