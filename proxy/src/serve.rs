//! Puts the parts together and runs them until a signal: the whole life of the process in one file.

use std::process::ExitCode;

use crate::cli::ServeArgs;

/// Runs the proxy until a signal ends it. Ends with 2 when the configuration is wrong, with 1 when it cannot start.
pub(crate) fn run(args: &ServeArgs) -> ExitCode {
    // Nothing is served by this function yet: it fails rather than to look as if it did.
    tracing::error!(config = %args.config.display(), log_format = ?args.log_format, "serve is not built yet");
    ExitCode::FAILURE
}
