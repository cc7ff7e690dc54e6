//! Arguments of the verbs about the versions of a service.

use clap::Args;
use tidegate_config::ServiceId;

use super::ChangeArgs;

/// Arguments of `deploy`.
#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// The service.
    pub(crate) service: ServiceId,
    /// What the version is called.
    pub(crate) version: String,
    /// Where it comes from: an image or a folder, for the command that starts it.
    pub(crate) source: String,
    /// The target that it runs in; without it one that is free.
    #[arg(long, value_name = "TARGET")]
    pub(crate) to: Option<String>,
    /// Where it listens, if the target does not say so yet; may be given several times.
    #[arg(long = "endpoint", value_name = "ADDRESS")]
    pub(crate) endpoints: Vec<String>,
    /// Do not follow it to its end.
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Only this service.
    pub(crate) service: Option<ServiceId>,
}

/// Arguments of `assign`.
#[derive(Debug, Args)]
pub(crate) struct AssignArgs {
    /// The service.
    pub(crate) service: ServiceId,
    /// A version that runs, or the target that it runs in.
    pub(crate) version: String,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of `kill`.
#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// The service.
    pub(crate) service: ServiceId,
    /// A version that runs, or the target that it runs in; without it all versions.
    pub(crate) version: Option<String>,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of `bad`.
#[derive(Debug, Args)]
pub(crate) struct BadArgs {
    /// The service.
    pub(crate) service: ServiceId,
    /// The version.
    pub(crate) version: String,
    /// Why.
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of `unbad`.
#[derive(Debug, Args)]
pub(crate) struct UnbadArgs {
    /// The service.
    pub(crate) service: ServiceId,
    /// The version.
    pub(crate) version: String,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}
