//! The command line: one verb, one call of the admin API.

use std::process::ExitCode;

use clap::Parser;

mod args;

pub(crate) use args::{LogFormat, ServeArgs};

use args::{Cli, Command};

/// Runs the verb that the arguments name.
pub(crate) fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => crate::serve::run(&args),
    }
}
