//! Arguments of the verbs that run or set up a process.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::ChangeArgs;

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
