//! The arguments of every verb. Their doc comments are what `--help` prints.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, Parser, Subcommand, ValueEnum};
use tidegate_config::{EndpointAddress, ListenerId, MirrorId, ServiceId, TargetId, Weight};

use crate::cli::flag::FlagCommand;

/// Where the admin API is when nothing else is said.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:3091";

/// Decides, request by request, which version of your services answers.
///
/// `tidegate demo` shows all of it on this machine. `tidegate init` writes a configuration file to begin with,
/// `tidegate serve` runs it, and the other verbs talk to the admin API of the running proxy.
///
/// Exit codes: 0 done, 1 refused or failed, 2 bad usage or configuration.
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
    /// Add, remove or drain a target
    #[command(subcommand)]
    Target(TargetCommand),
    /// Set, remove or show a mirror, which copies requests to a shadow target
    #[command(subcommand)]
    Mirror(MirrorCommand),
    /// Show, set and override feature flags
    #[command(subcommand)]
    Flag(FlagCommand),
    /// Say which target a request would go to, and why, without sending it
    ///
    /// Example: tidegate explain http://shop.example/cart -H 'x-beta: 1'
    Explain(ExplainArgs),
    /// List what happened: traffic, health, configuration
    Events(EventsArgs),
    /// List the changes: who, when, what (the audit log, newest first)
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

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "tidegate.toml")]
    pub(crate) config: PathBuf,
    /// How log lines are written to stderr. `RUST_LOG` chooses which.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "tidegate.toml")]
    pub(crate) config: PathBuf,
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The file to write.
    #[arg(value_name = "FILE", default_value = "tidegate.toml")]
    pub(crate) file: PathBuf,
    /// Write over a file that exists.
    #[arg(long)]
    pub(crate) force: bool,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Port of the proxy.
    #[arg(long, default_value_t = 3090)]
    pub(crate) port: u16,
    /// Port of the admin API, on the loopback address.
    #[arg(long, default_value_t = 3091, value_name = "PORT")]
    pub(crate) admin_port: u16,
    /// Port where the demo's applications are killed and revived, on the loopback address.
    #[arg(long, default_value_t = 3092, value_name = "PORT")]
    pub(crate) control_port: u16,
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

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Only this service.
    pub(crate) service: Option<ServiceId>,
    /// Draw it anew every second until Ctrl-C.
    #[arg(short, long)]
    pub(crate) watch: bool,
}

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
fn parse_percent(text: &str) -> Result<Weight, String> {
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

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The request's URL, as a client would ask for it.
    pub(crate) url: String,
    /// A header of the request; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<HeaderArg>,
    /// The request's method.
    #[arg(short = 'X', long, default_value = "GET")]
    pub(crate) method: String,
    /// The client's address.
    #[arg(long, value_name = "IP")]
    pub(crate) client: Option<std::net::IpAddr>,
    /// The listener that it comes in by; without it the first on which a route is found.
    #[arg(long, value_name = "NAME")]
    pub(crate) listener: Option<ListenerId>,
}

/// A header: `x-beta: 1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeaderArg {
    /// Its name, lower case.
    pub(crate) name: String,
    /// Its value.
    pub(crate) value: String,
}

impl FromStr for HeaderArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("write 'NAME: VALUE', as in 'x-beta: 1'")?;
        let name = name.trim().parse::<http::HeaderName>().map_err(|_| "this is not the name of a header")?;
        Ok(Self { name: name.as_str().to_owned(), value: value.trim().to_owned() })
    }
}

/// Arguments of `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on with new events until Ctrl-C.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only events after this number; 0: all that are kept. Without it the newest ones, or those to come.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) after: Option<u64>,
    /// The most events of a list.
    #[arg(short = 'n', long, default_value_t = 100, conflicts_with = "follow")]
    pub(crate) limit: u32,
}

/// Arguments of `history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The most entries.
    #[arg(short = 'n', long, default_value_t = 50)]
    pub(crate) limit: u32,
}

/// Arguments of `reload`.
#[derive(Debug, Args)]
pub(crate) struct ReloadArgs {
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}
