//! Arguments of the verbs about mirrors.

use clap::{Args, Subcommand};
use tidegate_config::{MirrorId, ServiceId, TargetId, Weight};

use super::{ChangeArgs, traffic::parse_percent};

/// What is done to a mirror.
#[derive(Debug, Subcommand)]
pub(crate) enum MirrorCommand {
    /// Add a mirror or replace one
    ///
    /// Example: tidegate mirror set web audit --to v3 --percent 10 --compare
    Set(MirrorSetArgs),
    /// Remove a mirror
    Remove(MirrorArgs),
    /// Show a mirror's results and, when it compares, the last differences
    Show(MirrorShowArgs),
}

/// Arguments of `mirror set`.
#[derive(Debug, Args)]
pub(crate) struct MirrorSetArgs {
    /// The service.
    pub(crate) service: ServiceId,
    /// The mirror's name.
    pub(crate) mirror: MirrorId,
    /// The shadow target.
    #[arg(long, value_name = "TARGET")]
    pub(crate) to: TargetId,
    /// Share of requests that are copied.
    #[arg(long, default_value = "100", value_parser = parse_percent)]
    pub(crate) percent: Weight,
    /// Methods that are copied; '*' copies writes too.
    #[arg(long, value_delimiter = ',', default_value = "GET,HEAD")]
    pub(crate) methods: Vec<String>,
    /// Compare the shadow's answers with the primary's.
    #[arg(long)]
    pub(crate) compare: bool,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of verbs on one mirror.
#[derive(Debug, Args)]
pub(crate) struct MirrorArgs {
    /// The service.
    pub(crate) service: ServiceId,
    /// The mirror's name.
    pub(crate) mirror: MirrorId,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of `mirror show`.
#[derive(Debug, Args)]
pub(crate) struct MirrorShowArgs {
    /// The service.
    pub(crate) service: ServiceId,
    /// The mirror's name.
    pub(crate) mirror: MirrorId,
}
