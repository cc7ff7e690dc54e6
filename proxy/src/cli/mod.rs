//! The command line: one verb, one call of the admin API.

use std::process::ExitCode;

/// Runs the verb that the arguments name.
pub(crate) fn main() -> ExitCode {
    ExitCode::SUCCESS
}
