//! The options that describe a deployment. Their values are taken as they are: the admin API judges them, all at once.

use clap::Args;

const STRATEGY: &str = "Strategy";
const HEALTH: &str = "Health and analysis";
const COMMANDS: &str = "Commands";
const LABELS: &str = "Told to commands, and shown";

/// A deployment in options.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct DocumentArgs {
    /// What people call the deployment (of `tidegate app`: the service).
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The service that gets a new version.
    #[arg(long, value_name = "SERVICE")]
    pub(crate) app_name: Option<String>,
    /// The same.
    #[arg(long)]
    pub(crate) service: Option<String>,
    /// The target that gets the new version; without it the one that is free.
    #[arg(long, value_name = "TARGET")]
    pub(crate) to: Option<String>,
    /// What the new version is called; without it as its image.
    #[arg(long = "version", value_name = "VERSION")]
    pub(crate) version_name: Option<String>,
    /// The image or artifact of the new version.
    #[arg(long)]
    pub(crate) image: Option<String>,
    /// An address of the new version, if the target does not have it yet; may be given several times.
    #[arg(long = "endpoint", value_name = "ADDRESS")]
    pub(crate) endpoints: Vec<String>,

    /// simple, blind, recreate (the default), rolling-update, zero-downtime, blue-green, canary, ab-testing, shadow.
    #[arg(long, help_heading = STRATEGY)]
    pub(crate) strategy: Option<String>,
    /// canary: the first share of the traffic, in percent.
    #[arg(long, help_heading = STRATEGY)]
    pub(crate) percentage: Option<String>,
    /// canary: the shares, as in 20,50,100.
    #[arg(long, help_heading = STRATEGY)]
    pub(crate) steps: Option<String>,
    /// canary: time of each share, in seconds or as in 5m.
    #[arg(long, value_name = "TIME", help_heading = STRATEGY)]
    pub(crate) interval: Option<String>,
    /// rolling-update, zero-downtime: endpoints of the new version. With others only its commands are told.
    #[arg(long, value_name = "COUNT", help_heading = STRATEGY)]
    pub(crate) replicas: Option<String>,
    /// rolling-update: endpoints that may run beyond the replicas.
    #[arg(long, value_name = "COUNT", help_heading = STRATEGY)]
    pub(crate) max_surge: Option<String>,
    /// rolling-update: endpoints that may be missing from the replicas.
    #[arg(long, value_name = "COUNT", help_heading = STRATEGY)]
    pub(crate) max_unavailable: Option<String>,
    /// zero-downtime: endpoints that are replaced at a time.
    #[arg(long, value_name = "COUNT", help_heading = STRATEGY)]
    pub(crate) batch_size: Option<String>,
    /// rolling-update, zero-downtime: time between two batches.
    #[arg(long, value_name = "TIME", help_heading = STRATEGY)]
    pub(crate) batch_delay: Option<String>,
    /// blue-green: how long the new version may take to become healthy.
    #[arg(long, value_name = "TIME", help_heading = STRATEGY)]
    pub(crate) verification_timeout: Option<String>,
    /// blue-green: how long the new version is watched after the switch, as in 30s.
    #[arg(long, value_name = "TIME", help_heading = STRATEGY)]
    pub(crate) watch: Option<String>,
    /// ab-testing: name=v1,image=app:1,percentage=50; give one for each version.
    #[arg(long = "variant", value_name = "NAME=,IMAGE=,PERCENTAGE=", help_heading = STRATEGY)]
    pub(crate) variants: Vec<String>,
    /// ab-testing: time of the test.
    #[arg(long, value_name = "TIME", help_heading = STRATEGY)]
    pub(crate) duration: Option<String>,
    /// ab-testing: what a visitor is to do, as in name=buy,method=POST,path=/checkout,status=2xx.
    #[arg(long, value_name = "NAME=,PATH=", help_heading = STRATEGY)]
    pub(crate) goal: Option<String>,
    /// shadow: share of the requests that are copied, in percent.
    #[arg(long, value_name = "PERCENTAGE", help_heading = STRATEGY)]
    pub(crate) mirror_percent: Option<String>,
    /// shadow: methods that are copied, as in GET,HEAD.
    #[arg(long, value_name = "METHODS", help_heading = STRATEGY)]
    pub(crate) mirror_methods: Option<String>,
    /// How long running requests of an old version may go on.
    #[arg(long, value_name = "TIME", help_heading = STRATEGY)]
    pub(crate) drain_timeout: Option<String>,
    /// What becomes of the old version: until-next, a time after which it is stopped, or false: at once.
    #[arg(long, value_name = "WHEN", help_heading = STRATEGY)]
    pub(crate) keep_old: Option<String>,
    /// Whether a failure takes everything back by itself: true or false.
    #[arg(long, value_name = "BOOL", help_heading = STRATEGY)]
    pub(crate) auto_rollback: Option<String>,
    /// Whether a version that failed is remembered as bad: true or false.
    #[arg(long, value_name = "BOOL", help_heading = STRATEGY)]
    pub(crate) mark_bad: Option<String>,
    /// Why a version that is marked as bad is deployed nevertheless.
    #[arg(long, value_name = "REASON", help_heading = STRATEGY)]
    pub(crate) force: Option<String>,
    /// Roll the active deployment of the service back first; without it this one is refused then.
    #[arg(long, help_heading = STRATEGY)]
    pub(crate) supersede: bool,
    /// Longest wait for a person, as in 24h.
    #[arg(long, value_name = "TIME", help_heading = STRATEGY)]
    pub(crate) patience: Option<String>,

    /// The path that shows whether the new version is healthy.
    #[arg(long, value_name = "PATH", help_heading = HEALTH)]
    pub(crate) health_check_path: Option<String>,
    /// The port to ask; without it that of each endpoint.
    #[arg(long, value_name = "PORT", help_heading = HEALTH)]
    pub(crate) health_check_port: Option<String>,
    /// How long the new version may take to become healthy, in seconds or as in 5m.
    #[arg(long, value_name = "TIME", help_heading = HEALTH)]
    pub(crate) health_check_timeout: Option<String>,
    /// Requests of each version below which nobody can tell.
    #[arg(long, value_name = "COUNT", help_heading = HEALTH)]
    pub(crate) min_requests: Option<String>,
    /// How much worse the new version may be, as a ratio of the odds of failure, at least 1.
    #[arg(long, value_name = "RATIO", help_heading = HEALTH)]
    pub(crate) max_odds: Option<String>,
    /// Probability of a false alarm.
    #[arg(long, value_name = "PROBABILITY", help_heading = HEALTH)]
    pub(crate) alpha: Option<String>,
    /// When the new version is worse: rollback or pause.
    #[arg(long, value_name = "WHAT", help_heading = HEALTH)]
    pub(crate) on_fail: Option<String>,
    /// When nobody can tell: pause, extend, promote or rollback.
    #[arg(long, value_name = "WHAT", help_heading = HEALTH)]
    pub(crate) on_inconclusive: Option<String>,

    /// Runs first. The name of a command of the configuration, or a program and its arguments as a JSON list.
    #[arg(long, value_name = "COMMAND", help_heading = COMMANDS)]
    pub(crate) pre_hook: Option<String>,
    /// Runs after success.
    #[arg(long, value_name = "COMMAND", help_heading = COMMANDS)]
    pub(crate) post_hook: Option<String>,
    /// Runs when everything was taken back.
    #[arg(long, value_name = "COMMAND", help_heading = COMMANDS)]
    pub(crate) rollback_hook: Option<String>,
    /// Tests the new version before it gets traffic; may be given several times.
    #[arg(long = "test-hook", value_name = "COMMAND", help_heading = COMMANDS)]
    pub(crate) test_hooks: Vec<String>,
    /// Files whose contents are the version's identity; may be given several times.
    #[arg(long = "fingerprint", value_name = "PATTERN", help_heading = COMMANDS)]
    pub(crate) fingerprints: Vec<String>,

    /// The project.
    #[arg(long, help_heading = LABELS)]
    pub(crate) project: Option<String>,
    /// The stage that the service is in.
    #[arg(long, help_heading = LABELS)]
    pub(crate) stage: Option<String>,
    /// A label; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", help_heading = LABELS)]
    pub(crate) labels: Vec<String>,
    /// The commit.
    #[arg(long, help_heading = LABELS)]
    pub(crate) commit: Option<String>,
    /// Processors, as in 0.5.
    #[arg(long, help_heading = LABELS)]
    pub(crate) cpu: Option<String>,
    /// Memory, as in 512M.
    #[arg(long, help_heading = LABELS)]
    pub(crate) memory: Option<String>,
    /// An environment variable of the commands; may be given several times.
    #[arg(long = "env", value_name = "KEY=VALUE", help_heading = LABELS)]
    pub(crate) environment: Vec<String>,
    /// A volume, as in data:/data; may be given several times.
    #[arg(long = "volume", value_name = "VOLUME", help_heading = LABELS)]
    pub(crate) volumes: Vec<String>,
    /// The cloud provider.
    #[arg(long, value_name = "NAME", help_heading = LABELS)]
    pub(crate) cloud_provider: Option<String>,
    /// A router that commands may set up; this proxy routes the traffic in any case.
    #[arg(long, value_name = "NAME", help_heading = LABELS)]
    pub(crate) traffic_router: Option<String>,
    /// Where the version's own metrics are.
    #[arg(long, value_name = "ADDRESS", help_heading = LABELS)]
    pub(crate) metrics_endpoint: Option<String>,
}
