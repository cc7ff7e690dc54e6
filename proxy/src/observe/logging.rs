//! Log lines on stderr, as text or JSON.
//!
//! Lines of the `log` crate (pingora, rustls) are not shown at any level: at its lower levels pingora prints raw request
//! heads, tokens included. What matters of them the proxy says itself. Libraries that use `tracing` and speak of single
//! frames stay quiet for the same reason, whatever `RUST_LOG` says.

use std::{env, io::IsTerminal as _, panic};

use tracing_subscriber::{EnvFilter, filter::ParseError, fmt, util::TryInitError};

use crate::cli::LogFormat;

/// Libraries whose lines may hold parts of requests.
const QUIET: [&str; 4] = ["h2=warn", "hyper=warn", "hyper_util=warn", "rustls=warn"];

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoggingError {
    /// `RUST_LOG` is not a filter.
    #[error(
        "RUST_LOG={value:?} is not a filter ({problem}): write a level (info) or target=level, separated by commas"
    )]
    Filter {
        /// Its value.
        value: String,
        /// What is wrong with it.
        problem: ParseError,
    },
    /// Logging has begun already.
    #[error("logging could not begin: {0}")]
    Begun(#[from] TryInitError),
}

/// Begins logging. Panics become log lines too, so that a JSON log stays JSON.
pub(crate) fn init(format: LogFormat) -> Result<(), LoggingError> {
    let filter = filter(&env::var("RUST_LOG").unwrap_or_default())?;
    // A log that nobody reads any more must not end the process, and complaining about it on stderr would.
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).finish().try_init_here()?,
        LogFormat::Json => lines.json().with_span_list(false).finish().try_init_here()?,
    }
    panic::set_hook(Box::new(|info| tracing::error!(panic = %info, "a thread panicked")));
    Ok(())
}

/// `try_init` without the bridge from the `log` crate.
trait TryInitHere {
    fn try_init_here(self) -> Result<(), TryInitError>;
}

impl<S: tracing::Subscriber + Send + Sync> TryInitHere for S {
    fn try_init_here(self) -> Result<(), TryInitError> {
        use tracing_subscriber::util::SubscriberInitExt as _;
        self.try_init()
    }
}

fn filter(value: &str) -> Result<EnvFilter, LoggingError> {
    let wanted = if value.trim().is_empty() { "info" } else { value };
    let bad = |problem| LoggingError::Filter { value: value.to_owned(), problem };
    let mut filter = EnvFilter::builder().parse(wanted).map_err(bad)?;
    for directive in QUIET {
        filter = filter.add_directive(directive.parse().map_err(bad)?);
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn libraries_that_see_requests_stay_quiet_whatever_is_asked_for() {
        for wanted in ["", "debug", "trace,h2=trace"] {
            let text = filter(wanted).unwrap().to_string();
            assert!(text.contains("h2=warn") && !text.contains("h2=trace"), "{wanted}: {text}");
        }
    }

    #[test]
    fn the_default_is_info() {
        assert!(filter(" ").unwrap().to_string().split(',').any(|directive| directive == "info"));
    }

    #[test]
    fn a_wrong_filter_is_shown() {
        let error = filter("tidegate=loud").unwrap_err().to_string();
        assert!(error.contains("RUST_LOG=\"tidegate=loud\""), "{error}");
    }
}
