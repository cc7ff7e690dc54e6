//! The command line: one verb, one call of the admin API.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 refused or failed, 2 bad usage or
//! configuration.

use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches, parser::ValueSource};

pub(crate) mod address;
mod args;
mod change;
mod check;
pub(crate) mod client;
mod deploy;
pub(crate) mod describe;
pub(crate) mod error;
mod events;
mod explain;
mod flag;
mod init;
pub(crate) mod output;
mod read;
mod session;
mod status;
mod table;
mod view;

pub(crate) use args::{DemoArgs, LogFormat, ServeArgs};

use args::{Cli, Command, MetricsCommand, MirrorCommand, TargetCommand};
use error::{CliError, Format};
use session::Session;

/// Runs the verb that the arguments name.
pub(crate) fn main() -> ExitCode {
    let parsed = Cli::command().try_get_matches().and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        Ok((cli, token_source(&matches)))
    });
    match parsed {
        Ok((cli, token)) => run(cli, token),
        Err(error) => {
            // Help and version are "errors" too, which end with 0. Nothing can be done when printing fails.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(error::USAGE))
        }
    }
}

/// Where the token came from: a global argument belongs to the verb that it was given to.
fn token_source(matches: &ArgMatches) -> Option<ValueSource> {
    let deeper = matches.subcommand().and_then(|(_, matches)| token_source(matches));
    let here = matches.try_contains_id("token").unwrap_or(false).then(|| matches.value_source("token")).flatten();
    deeper.or(here)
}

fn run(cli: Cli, token: Option<ValueSource>) -> ExitCode {
    let format = cli.global.format();
    let done = match &cli.command {
        Command::Serve(args) => return crate::serve::run(args),
        Command::Demo(args) => return crate::demo::run(args),
        Command::Check(args) => return check::run(args, format),
        Command::Init(args) => init::run(args, format).map(|()| 0),
        Command::Completions(args) => completions(args.shell).map(|()| 0),
        Command::Cicd(command) => deploy::pipeline::run(command, format).map(|()| 0),
        Command::Status(_)
        | Command::Switch(_)
        | Command::Split(_)
        | Command::Failover(_)
        | Command::Restore(_)
        | Command::Hold(_)
        | Command::Release(_)
        | Command::Target(_)
        | Command::Mirror(_)
        | Command::Deployment(_)
        | Command::App(_)
        | Command::Metrics(_)
        | Command::Bracket(_)
        | Command::Trigger(_)
        | Command::Deploy(_)
        | Command::Ls(_)
        | Command::Assign(_)
        | Command::Kill(_)
        | Command::Bad(_)
        | Command::Unbad(_)
        | Command::Flag(_)
        | Command::Explain(_)
        | Command::Events(_)
        | Command::History(_)
        | Command::Reload(_)
        | Command::Upgrade
        | Command::Config => {
            if token == Some(ValueSource::CommandLine) && format == Format::Text {
                output::note("warning: arguments are visible to other users; give the token in TIDEGATE_TOKEN\n");
            }
            call(&cli)
        }
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            error.report(format);
            ExitCode::from(error.code())
        }
    }
}

/// Runs a verb that talks to the admin API, on a runtime of its own: the exit code.
fn call(cli: &Cli) -> Result<u8, CliError> {
    let session = Session::new(&cli.global)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::Io { what: "cannot start".into(), error })?;
    runtime.block_on(async {
        match &cli.command {
            // How a deployment ended is in their exit codes.
            Command::Deployment(command) => deploy::run(&session, command).await,
            Command::App(command) => deploy::app(&session, command).await,
            Command::Bracket(command) => deploy::bracket::run(&session, command).await,
            Command::Trigger(command) => deploy::trigger::run(&session, command).await,
            Command::Deploy(args) => deploy::version::deploy(&session, args).await,
            command => verb(&session, command).await.map(|()| 0),
        }
    })
}

async fn verb(session: &Session, command: &Command) -> Result<(), CliError> {
    match command {
        Command::Status(args) => status::run(session, args).await,
        Command::Switch(args) => change::switch(session, args).await,
        Command::Split(args) => change::split(session, args).await,
        Command::Failover(args) => change::failover(session, args).await,
        Command::Restore(args) => change::restore(session, args).await,
        Command::Hold(args) => change::hold(session, args).await,
        Command::Release(args) => change::release(session, args).await,
        Command::Target(TargetCommand::Add(args)) => change::target_add(session, args).await,
        Command::Target(TargetCommand::Remove(args)) => change::target_remove(session, args).await,
        Command::Target(TargetCommand::Drain(args)) => change::target_drain(session, args).await,
        Command::Mirror(MirrorCommand::Set(args)) => change::mirror_set(session, args).await,
        Command::Mirror(MirrorCommand::Remove(args)) => change::mirror_remove(session, args).await,
        Command::Mirror(MirrorCommand::Show(args)) => read::mirror(session, args).await,
        Command::Metrics(MetricsCommand::Get(args)) => deploy::metrics(session, args).await,
        Command::Ls(args) => deploy::version::ls(session, args).await,
        Command::Assign(args) => deploy::version::assign(session, args).await,
        Command::Kill(args) => deploy::version::kill(session, args).await,
        Command::Bad(args) => deploy::version::bad(session, args).await,
        Command::Unbad(args) => deploy::version::unbad(session, args).await,
        Command::Flag(command) => flag::run(session, command).await,
        Command::Explain(args) => explain::run(session, args).await,
        Command::Events(args) => events::run(session, args).await,
        Command::History(args) => read::history(session, args).await,
        Command::Reload(args) => change::reload(session, args).await,
        Command::Upgrade => change::upgrade(session).await,
        Command::Config => read::config(session).await,
        // Invariant: `run` and `call` handle these themselves.
        Command::Serve(_)
        | Command::Demo(_)
        | Command::Check(_)
        | Command::Init(_)
        | Command::Completions(_)
        | Command::Cicd(_)
        | Command::Deployment(_)
        | Command::App(_)
        | Command::Bracket(_)
        | Command::Trigger(_)
        | Command::Deploy(_) => Ok(()),
    }
}

/// Prints a completion script.
fn completions(shell: clap_complete::Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tidegate", &mut script);
    output::result(&String::from_utf8_lossy(&script))?;
    Ok(())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
