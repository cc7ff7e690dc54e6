//! Writes to a store, each on a link of its own: the one that reads must see a write as it sees everybody else's.
//!
//! A write whose answer is lost is reported as failed, though it may have been made; what counts is what is read.

use redis::{Cmd, Pipeline, ServerErrorKind, Value};
use tidegate_admin::{FlagPlace, FlagWriteError};
use tidegate_config::RedisSource;

use super::{failure::Failure, link::Link};

/// The command that puts a value to its place, or removes what is there.
pub(super) fn command(source: &RedisSource, place: &FlagPlace, value: Option<&str>) -> Result<Cmd, FlagWriteError> {
    let (verb, words): (_, Vec<&str>) = match (place, value, &source.hash) {
        (FlagPlace::Key(key), Some(value), _) => ("SET", vec![key, value]),
        (FlagPlace::Key(key), None, _) => ("DEL", vec![key]),
        (FlagPlace::Field(field), Some(value), Some(hash)) => ("HSET", vec![hash, field, value]),
        (FlagPlace::Field(field), None, Some(hash)) => ("HDEL", vec![hash, field]),
        (FlagPlace::Field(field), _, None) => {
            return Err(FlagWriteError::ReadOnly(format!("there is no hash to put {field} into: declare the flag")));
        }
    };
    let mut command = redis::cmd(verb);
    command.arg(words);
    Ok(command)
}

/// How a marker is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marking {
    /// Only if there is none: somebody else may have been first.
    First,
    /// In any case: an operator says that what the store holds is right.
    Confirmed,
}

/// The command that marks a store as the one with this id.
pub(super) fn mark(key: &str, id: &str, how: Marking) -> Cmd {
    let mut command = redis::cmd("SET");
    command.arg(key).arg(id);
    if how == Marking::First {
        command.arg("NX");
    }
    command
}

/// Runs commands in a store, all or none.
pub(super) async fn run(link: &mut Link, commands: Vec<Cmd>) -> Result<(), Failure> {
    let mut transaction = Pipeline::with_capacity(commands.len() + 2);
    transaction.cmd("MULTI");
    for command in commands {
        transaction.add_command(command);
    }
    transaction.cmd("EXEC");
    let mut answers = link.ask(&transaction).await?;
    if let Some(Value::Array(values)) = answers.pop_if(|last| matches!(last, Value::Array(_))) {
        answers.extend(values);
    }
    // The abort of the transaction only says that there was another error.
    let refusal = answers.iter().find_map(|answer| match answer {
        Value::ServerError(error) if error.kind() != Some(ServerErrorKind::ExecAbort) => Some(Failure::of_reply(error)),
        _ => None,
    });
    refusal.map_or(Ok(()), Err)
}

/// What a failed write is to those who asked for it.
pub(super) fn error(failure: &Failure) -> FlagWriteError {
    let text = failure.to_string();
    match failure {
        Failure::Denied(_) | Failure::Refused(_) => FlagWriteError::Refused(text),
        // Another try may meet another store, or the same one when it is well again.
        _ => FlagWriteError::Unreachable(text),
    }
}
