//! Arguments of the verbs about brackets and stages.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tidegate_config::{BracketId, ServiceId};

use super::{ChangeArgs, deployment::WaitArgs, document::DocumentArgs};

/// What is done with brackets.
#[derive(Debug, Subcommand)]
pub(crate) enum BracketCommand {
    /// Open a bracket: services are queued in it, and released together or not at all
    ///
    /// It says how they are released: --stage takes that from the configuration. A service may be in it from the
    /// beginning.
    ///
    /// Example: tidegate bracket create spring --strategy blue-green
    Create(Box<BracketCreateArgs>),
    /// Queue a service; one that waits already gets the newer version
    ///
    /// Example: tidegate bracket add spring web --image web:v2
    Add(BracketAddArgs),
    /// Release a bracket: all of its services get their new versions, or none does
    ///
    /// Example: tidegate bracket release spring --wait
    Release(BracketOrderArgs),
    /// Give a bracket up; if it is being released, everything is taken back
    Abort(BracketAbortArgs),
    /// List the brackets, newest first
    List,
    /// Show a bracket
    Get(BracketArgs),
}

/// Arguments of `bracket create`.
#[derive(Debug, Args)]
pub(crate) struct BracketCreateArgs {
    /// The bracket's name.
    #[arg(value_name = "BRACKET", required_unless_present = "file", conflicts_with_all = ["file", "name"])]
    pub(crate) bracket: Option<BracketId>,
    /// The bracket as a TOML or JSON file, instead of options; - reads it from stdin.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// How its services are released, in options.
    #[command(flatten)]
    pub(crate) document: DocumentArgs,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of `bracket add`.
#[derive(Debug, Args)]
pub(crate) struct BracketAddArgs {
    /// The bracket.
    pub(crate) bracket: BracketId,
    /// The service; that of a stage may be named without the stage.
    pub(crate) service: ServiceId,
    /// The target that gets the new version; without it the one that is free.
    #[arg(long, value_name = "TARGET")]
    pub(crate) to: Option<String>,
    /// What the new version is called; without it as its image.
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// The image or artifact of the new version.
    #[arg(long)]
    pub(crate) image: Option<String>,
    /// An address of the new version, if the target does not have it yet; may be given several times.
    #[arg(long = "endpoint", value_name = "ADDRESS")]
    pub(crate) endpoints: Vec<String>,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of `bracket release`.
#[derive(Debug, Args)]
pub(crate) struct BracketOrderArgs {
    /// The bracket.
    pub(crate) bracket: BracketId,
    /// Whether it is followed.
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of `bracket abort`.
#[derive(Debug, Args)]
pub(crate) struct BracketAbortArgs {
    /// The bracket.
    pub(crate) bracket: BracketId,
    /// Why.
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of verbs on one bracket.
#[derive(Debug, Args)]
pub(crate) struct BracketArgs {
    /// The bracket.
    pub(crate) bracket: BracketId,
}

/// What is triggered.
#[derive(Debug, Subcommand)]
pub(crate) enum TriggerCommand {
    /// Bring artifacts to a stage, as the stage says: together if there are several
    ///
    /// Each --service is followed by its --artifact. Without --stage: the first stage. With --bracket they wait there
    /// until it is released.
    ///
    /// Example: tidegate trigger configuration-change --stage hardening --service web --artifact web:2
    ConfigurationChange(ConfigurationChangeArgs),
}

/// Arguments of `trigger configuration-change`.
#[derive(Debug, Args)]
pub(crate) struct ConfigurationChangeArgs {
    /// The project.
    #[arg(long)]
    pub(crate) project: Option<String>,
    /// The stage.
    #[arg(long)]
    pub(crate) stage: Option<String>,
    /// A service; without any, each artifact's own name is its service's.
    #[arg(long = "service", value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Its artifact.
    #[arg(long = "artifact", value_name = "NAME:TAG", required = true)]
    pub(crate) artifacts: Vec<String>,
    /// Queue them in this bracket, which is opened if need be.
    #[arg(long)]
    pub(crate) bracket: Option<BracketId>,
    /// Whether it is followed.
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}
