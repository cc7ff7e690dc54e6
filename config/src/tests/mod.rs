//! What the file means, from outside: text in, configuration or problems out.

mod conflicts;
mod defaults;
mod examples;
mod problems;
mod properties;
mod round_trip;
mod values;

use crate::{Config, parse};

/// The shortest service: other parts of a file are tested around it.
pub(crate) const WEB: &str = "[service.web.target.green]\nendpoints = [\"127.0.0.1:3001\"]\n";

/// A configuration that must be right.
pub(crate) fn accepted(text: &str) -> Config {
    match parse(text) {
        Ok(config) => config,
        Err(problems) => panic!("{problems}\nin\n{text}"),
    }
}

/// The problems of a configuration, one per line.
pub(crate) fn refused(text: &str) -> String {
    match parse(text) {
        Ok(config) => panic!("accepted as {config:?}:\n{text}"),
        Err(problems) => problems.to_string(),
    }
}
