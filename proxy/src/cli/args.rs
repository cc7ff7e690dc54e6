//! The arguments of every verb. Their doc comments are what `--help` prints.

mod bracket;
mod deployment;
mod document;
mod look;
mod mirror;
mod process;
mod target;
mod traffic;
mod version;

use clap::{Args, Parser, Subcommand};

pub(crate) use bracket::{
    BracketAbortArgs, BracketAddArgs, BracketCommand, BracketCreateArgs, BracketOrderArgs, ConfigurationChangeArgs,
    TriggerCommand,
};
pub(crate) use deployment::{
    AppCommand, AppDeployArgs, CicdCommand, ConvertArgs, CreateArgs, DeploymentCommand, DiagnoseArgs, EventsOfArgs,
    MetricsArgs, MetricsCommand, OrderArgs, PipelineName, StatusOfArgs, SteerArgs, WaitArgs, WhichArgs,
};
pub(crate) use document::DocumentArgs;
pub(crate) use look::{EventsArgs, ExplainArgs, HistoryArgs, StatusArgs};
pub(crate) use mirror::{MirrorArgs, MirrorCommand, MirrorSetArgs, MirrorShowArgs};
pub(crate) use process::{CheckArgs, CompletionsArgs, DemoArgs, InitArgs, LogFormat, ReloadArgs, ServeArgs};
pub(crate) use target::{EndpointArg, TargetAddArgs, TargetArgs, TargetCommand, TargetDrainArgs};
pub(crate) use traffic::{FailoverArgs, HoldArgs, RestoreArgs, SplitArgs, SwitchArgs, TargetWeight};
pub(crate) use version::{AssignArgs, BadArgs, DeployArgs, KillArgs, LsArgs, UnbadArgs};

use crate::cli::flag::FlagCommand;

/// Where the admin API is when nothing else is said.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:3091";

/// Decides, request by request, which version of your services answers.
///
/// `tidegate demo` shows all of it on this machine. `tidegate init` writes a configuration file to begin with,
/// `tidegate serve` runs it, and the other verbs talk to the admin API of the running proxy.
///
/// Exit codes: 0 done, 1 refused or failed, 2 bad usage or configuration. Verbs that follow a deployment with --wait
/// end with 0 when it succeeded, 1 when it was rolled back, 2 when it failed, 3 when it is paused, and 4 when that is
/// not known in time.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// How to reach the admin API.
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Arguments that every verb takes.
#[derive(Debug, Args)]
pub(crate) struct GlobalArgs {
    /// The admin API: http://host:port or unix:/path [default: http://127.0.0.1:3091]
    #[arg(long, global = true, env = "TIDEGATE_ADMIN", value_name = "URL", help_heading = "Global options")]
    pub(crate) server: Option<String>,
    /// A token of the admin API. Prefer the variable: arguments are visible to other users
    #[arg(
        long,
        global = true,
        env = "TIDEGATE_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        help_heading = "Global options"
    )]
    pub(crate) token: Option<String>,
    /// Print the API's answer as it came: one JSON document on stdout, an error as one on stderr
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the proxy in front of the services of a configuration file
    ///
    /// SIGHUP loads the file again. SIGTERM and SIGINT let running requests finish and end the proxy.
    Serve(ServeArgs),
    /// Look for problems in a configuration file, all at once, without running it
    ///
    /// Ends with 2 and one line per problem (file, line, path) on stderr if there is any.
    Check(CheckArgs),
    /// Write a commented configuration file to begin with
    Init(InitArgs),
    /// Run the proxy with demo applications and traffic, needing nothing else
    Demo(DemoArgs),
    /// Show the services: weights, health, traffic, failover, mirrors
    Status(StatusArgs),
    /// Make a target stable and give it all traffic (blue/green)
    ///
    /// Every endpoint of the target is probed once before, unless --force is given. The old target stays warm:
    /// switching back is the same command.
    ///
    /// Example: tidegate switch web green
    Switch(SwitchArgs),
    /// Set the weights of a service's targets, in percent (canary, A/B)
    ///
    /// Example: tidegate split web green=95 blue=5
    Split(SplitArgs),
    /// Move a service to another target at once, whatever its split says
    ///
    /// The split is kept, and comes back with `tidegate restore`. Example: tidegate failover web blue
    Failover(FailoverArgs),
    /// End a failover
    Restore(RestoreArgs),
    /// Let the requests of a service wait instead of sending them; they go on with `tidegate release`
    ///
    /// Each waits as long as it may wait for a connection, and is then answered with 503.
    Hold(HoldArgs),
    /// End a hold: requests go on
    Release(HoldArgs),
    /// Add, remove or drain a target
    #[command(subcommand)]
    Target(TargetCommand),
    /// Set, remove or show a mirror, which copies requests to a shadow target
    #[command(subcommand)]
    Mirror(MirrorCommand),
    /// Create deployments, which shift traffic step by step, and steer them
    #[command(subcommand)]
    Deployment(DeploymentCommand),
    /// Deploy an application: a deployment is created and begins at once
    #[command(subcommand)]
    App(AppCommand),
    /// Show what was counted of the versions of a deployment
    #[command(subcommand)]
    Metrics(MetricsCommand),
    /// Set what the deployments of a pipeline have in common
    #[command(subcommand)]
    Cicd(CicdCommand),
    /// Queue services in brackets, and release each bracket as one
    #[command(subcommand)]
    Bracket(BracketCommand),
    /// Bring artifacts to the stages of the configuration
    #[command(subcommand)]
    Trigger(TriggerCommand),
    /// Deploy a version beside the others: the first of a service becomes main, each later one a shadow
    ///
    /// A shadow gets copies of the requests, and its answers are thrown away. It is followed to its end.
    ///
    /// Example: tidegate deploy hello 2.0.0 ./hello
    Deploy(DeployArgs),
    /// List the versions that run; * is main
    Ls(LsArgs),
    /// Make a shadow main, and main a shadow
    ///
    /// Example: tidegate assign hello 2.0.0
    Assign(AssignArgs),
    /// Stop a version, or all versions of a service; main is refused while it has shadows
    ///
    /// Example: tidegate kill hello 1.0.0
    Kill(KillArgs),
    /// Mark a version as bad: it is not deployed again, unless by force
    ///
    /// Example: tidegate bad web 2.0.0 --reason 'loses carts'
    Bad(BadArgs),
    /// Take the mark of a bad version away
    Unbad(UnbadArgs),
    /// Show, set and override feature flags
    #[command(subcommand)]
    Flag(FlagCommand),
    /// Say which target a request would go to, and why, without sending it
    ///
    /// Example: tidegate explain http://shop.example/cart -H 'x-beta: 1'
    Explain(ExplainArgs),
    /// List what happened: traffic, health, configuration
    Events(EventsArgs),
    /// List the changes: who, when, what (the audit log, newest first); of a service: how its health changed
    ///
    /// Examples: tidegate history; tidegate history web
    History(HistoryArgs),
    /// Load the configuration file again; a file with problems changes nothing
    Reload(ReloadArgs),
    /// Replace the running binary by the one that is there now, without refusing a connection
    ///
    /// Example: install the new binary, then `tidegate upgrade`. If it does not come up, the old one goes on.
    Upgrade,
    /// Print the configuration in force, without secrets
    Config,
    /// Print a completion script
    ///
    /// Example: tidegate completions bash > /etc/bash_completion.d/tidegate
    Completions(CompletionsArgs),
}

/// Arguments of every verb that changes something.
#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// Only say what would happen.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Only if this is still the generation (see `tidegate status`).
    #[arg(long, value_name = "GENERATION")]
    pub(crate) if_match: Option<u64>,
    /// Do not ask. Nobody is asked either where there is no terminal, as in scripts.
    #[arg(short, long)]
    pub(crate) yes: bool,
}
