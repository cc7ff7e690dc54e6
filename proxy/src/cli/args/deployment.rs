//! Arguments of the verbs about deployments.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Subcommand};

use super::{ChangeArgs, document::DocumentArgs};

/// What is done with deployments.
#[derive(Debug, Subcommand)]
pub(crate) enum DeploymentCommand {
    /// Create a deployment from options or from a file, and begin it
    ///
    /// --wait follows it to its end, --pending leaves it for `execute`, --dry-run only shows its steps.
    ///
    /// Examples:
    ///   tidegate deployment create --app-name web --image web:v2 --strategy canary --steps 20,50,100
    ///   tidegate deployment create -f canary.toml --wait
    #[command(verbatim_doc_comment)]
    Create(Box<CreateArgs>),
    /// Show the steps of a deployment, and what would be done now to take it back
    ///
    /// Of one that does not exist yet: `tidegate deployment create ... --dry-run`.
    Plan(WhichArgs),
    /// List the deployments, newest first
    List(ListArgs),
    /// Show a deployment
    Get(WhichArgs),
    /// Begin a deployment that was only created
    ///
    /// One that runs already is no error.
    ///
    /// Example: tidegate deployment execute --id dep-01k9... --wait
    Execute(OrderArgs),
    /// Take a deployment back, traffic first; also after it succeeded
    ///
    /// With --wait it ends with 0 when everything was taken back, and with 2 when that failed.
    Rollback(OrderArgs),
    /// Show how far a deployment is
    Status(StatusOfArgs),
    /// End a wait: go on with the next step; --full: pass over every wait that is left
    Promote(PromoteArgs),
    /// Begin no further step until it is resumed
    Pause(SteerArgs),
    /// Go on after a pause; a wait that was interrupted begins anew
    Resume(OrderArgs),
    /// Pass over the present step, if the deployment is safe without it
    Skip(OrderArgs),
    /// Create and begin a deployment like one that is over
    Retry(OrderArgs),
    /// Never begin a deployment that waits
    Cancel(SteerArgs),
    /// Choose the variant that wins a test
    ///
    /// Example: tidegate deployment select-winner --id dep-01k9... --variant new-feature
    SelectWinner(WinnerArgs),
    /// Say what is wrong with a deployment, and what to look at
    Diagnose(DiagnoseArgs),
    /// List what happened in a deployment; --follow goes on with what happens
    Events(EventsOfArgs),
    /// Count a visitor that reached the goal of a test, where only a back end sees it
    ///
    /// Example: tidegate deployment convert dep-01k9... --visitor anna --goal buy
    Convert(ConvertArgs),
}

/// Deployments in the words of an application.
#[derive(Debug, Subcommand)]
pub(crate) enum AppCommand {
    /// Create a deployment of the service --name and begin it
    ///
    /// Example: tidegate app deploy --image web:2 --name web --strategy blue-green --verification-timeout 60
    Deploy(Box<AppDeployArgs>),
    /// Replace the endpoints of a service in batches, none of its requests failing
    ///
    /// Example: tidegate app zero-downtime-deploy --image web:2 --name web --batch-size 2 --drain-timeout 30
    ZeroDowntimeDeploy(Box<AppDeployArgs>),
    /// Show how far a deployment is
    DeploymentStatus(StatusOfArgs),
    /// Take a deployment back, traffic first
    RollbackDeployment(OrderArgs),
}

/// What is counted.
#[derive(Debug, Subcommand)]
pub(crate) enum MetricsCommand {
    /// Show what was counted of each version since the new one has had traffic
    ///
    /// Example: tidegate metrics get --deployment-id dep-01k9... --variant new-feature
    Get(MetricsArgs),
}

/// What a pipeline of continuous delivery says once for all of its deployments.
#[derive(Debug, Subcommand)]
pub(crate) enum CicdCommand {
    /// Write down what the deployments of a pipeline have in common, in NAME.pipeline.json
    ///
    /// `tidegate deployment create --pipeline NAME` and `tidegate app deploy --pipeline NAME` begin with it; their own
    /// options win.
    ///
    /// Example: tidegate cicd configure-deployment --pipeline main --strategy blue-green --verification-timeout 60
    ConfigureDeployment(Box<PipelineArgs>),
}

/// Arguments of `cicd configure-deployment`.
#[derive(Debug, Args)]
pub(crate) struct PipelineArgs {
    /// The pipeline.
    #[arg(long, value_name = "NAME")]
    pub(crate) pipeline: PipelineName,
    /// What its deployments have in common.
    #[command(flatten)]
    pub(crate) document: DocumentArgs,
}

/// The name of a pipeline, which is also that of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PipelineName(String);

impl PipelineName {
    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PipelineName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if text.is_empty() || text.len() > 64 || !text.bytes().all(fit) {
            return Err("a pipeline has a name of letters, digits, - and _".into());
        }
        Ok(Self(text.to_owned()))
    }
}

/// The name of a deployment, or what somebody takes for one: the admin API knows which there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeploymentRef(String);

impl DeploymentRef {
    /// The name, fit for a path.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeploymentRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if text.is_empty() || text.len() > 64 || !text.bytes().all(fit) {
            return Err("this is not the name of a deployment: `tidegate deployment list` shows them".into());
        }
        Ok(Self(text.to_owned()))
    }
}

/// Which deployment.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct WhichArgs {
    /// The deployment, as `tidegate deployment list` shows it.
    #[arg(value_name = "ID")]
    positional: Option<DeploymentRef>,
    /// The same.
    #[arg(long, value_name = "ID")]
    id: Option<DeploymentRef>,
}

/// Which deployment, where `--id` alone could mean something else.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct WhoseArgs {
    /// The deployment, as `tidegate deployment list` shows it.
    #[arg(value_name = "ID")]
    positional: Option<DeploymentRef>,
    /// The same.
    #[arg(long, alias = "id", value_name = "ID")]
    deployment_id: Option<DeploymentRef>,
}

impl WhichArgs {
    /// The path of the deployment, with something after it.
    pub(crate) fn path(&self, rest: &str) -> String {
        path(self.positional.as_ref().or(self.id.as_ref()), rest)
    }
}

impl WhoseArgs {
    /// The path of the deployment, with something after it.
    pub(crate) fn path(&self, rest: &str) -> String {
        path(self.positional.as_ref().or(self.deployment_id.as_ref()), rest)
    }
}

/// clap has seen to it that there is a name.
fn path(which: Option<&DeploymentRef>, rest: &str) -> String {
    format!("/api/deployments/{}{rest}", which.map_or("", DeploymentRef::as_str))
}

/// Whether and how long a verb follows a deployment.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Follow it to its end: 0 succeeded, 1 rolled back, 2 failed, 3 paused, 4 not known in time.
    #[arg(short, long)]
    pub(crate) wait: bool,
    /// Follow it at most so long, as in 90s or 2h; the deployment goes on.
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = time)]
    pub(crate) wait_timeout: Option<Duration>,
}

/// A duration with a unit, or in seconds.
fn time(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(_) => tidegate_config::parse_duration(text),
    }
}

/// Arguments of `deployment create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The deployment as a TOML or JSON file, instead of options; - reads it from stdin.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// What options do not say is as `tidegate cicd configure-deployment` wrote it for this pipeline.
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    pub(crate) pipeline: Option<PipelineName>,
    /// The deployment in options.
    #[command(flatten)]
    pub(crate) document: DocumentArgs,
    /// Only create it: `deployment execute` begins it.
    #[arg(short, long, conflicts_with = "wait")]
    pub(crate) pending: bool,
    /// Whether it is followed.
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of `app deploy`.
#[derive(Debug, Args)]
pub(crate) struct AppDeployArgs {
    /// What options do not say is as `tidegate cicd configure-deployment` wrote it for this pipeline.
    #[arg(long, value_name = "NAME")]
    pub(crate) pipeline: Option<PipelineName>,
    /// The deployment in options.
    #[command(flatten)]
    pub(crate) document: DocumentArgs,
    /// Whether it is followed.
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of `deployment list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those of this service.
    #[arg(long)]
    pub(crate) service: Option<tidegate_config::ServiceId>,
}

/// Arguments of orders after which there is something to wait for.
#[derive(Debug, Args)]
pub(crate) struct OrderArgs {
    /// Which.
    #[command(flatten)]
    pub(crate) which: WhichArgs,
    /// Whether it is followed.
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of orders that are done at once.
#[derive(Debug, Args)]
pub(crate) struct SteerArgs {
    /// Which.
    #[command(flatten)]
    pub(crate) which: WhichArgs,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of `deployment promote`.
#[derive(Debug, Args)]
pub(crate) struct PromoteArgs {
    /// Pass over every pause and analysis that is left, but no check of health and no command.
    #[arg(long)]
    pub(crate) full: bool,
    /// Which, and how.
    #[command(flatten)]
    pub(crate) order: OrderArgs,
}

/// Arguments of `deployment status`.
#[derive(Debug, Args)]
pub(crate) struct StatusOfArgs {
    /// Which.
    #[command(flatten)]
    pub(crate) which: WhichArgs,
    /// Whether it is followed.
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// Arguments of `deployment select-winner`.
#[derive(Debug, Args)]
pub(crate) struct WinnerArgs {
    /// The variant.
    #[arg(long)]
    pub(crate) variant: String,
    /// Which, and how.
    #[command(flatten)]
    pub(crate) order: OrderArgs,
}

/// Arguments of `deployment diagnose`.
#[derive(Debug, Args)]
pub(crate) struct DiagnoseArgs {
    /// Which.
    #[command(flatten)]
    pub(crate) which: WhichArgs,
    /// Also list what happened.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// Arguments of `deployment events`.
#[derive(Debug, Args)]
pub(crate) struct EventsOfArgs {
    /// Which.
    #[command(flatten)]
    pub(crate) which: WhichArgs,
    /// Go on with new events until Ctrl-C.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only events after this number.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) after: u64,
}

/// Arguments of `deployment convert`.
#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// Which.
    #[command(flatten)]
    pub(crate) which: WhichArgs,
    /// The visitor: the value of the sticky cookie or header.
    #[arg(long)]
    pub(crate) visitor: String,
    /// The goal's name.
    #[arg(long)]
    pub(crate) goal: String,
}

/// Arguments of `metrics get`.
#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    /// Which.
    #[command(flatten)]
    pub(crate) which: WhoseArgs,
    /// Only this version.
    #[arg(long)]
    pub(crate) variant: Option<tidegate_config::TargetId>,
}
