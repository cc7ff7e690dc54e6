//! Why a verb did not do what was asked, and the exit code that says so.

use std::{fmt, io};

use serde::Deserialize;
use serde_json::json;

use crate::cli::{
    address::ServerAddress,
    output::{self, printable},
};

/// Exit code of a verb that was refused or failed.
pub(crate) const REFUSED: u8 = 1;
/// Exit code of bad usage or a bad configuration; clap ends with it too.
pub(crate) const USAGE: u8 = 2;

/// Exit code of a verb that followed a deployment and does not know how it ended.
pub(crate) const UNSETTLED: u8 = 4;

/// The `type` of the problem that a target did not pass its probes.
const PROBE_FAILED: &str = "urn:tidegate:problem:probe-failed";

/// Why a verb did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The arguments make no sense together.
    #[error("{0}")]
    Usage(String),
    /// The admin API is not there.
    #[error(
        "cannot reach the admin API at {server}: {cause}. Is `tidegate serve` or `tidegate demo` running? \
         Use --server or TIDEGATE_ADMIN for another address"
    )]
    Unreachable {
        /// Where it should be.
        server: ServerAddress,
        /// What the system says.
        cause: String,
    },
    /// It did not answer, or stopped answering.
    #[error("the admin API at {server} {cause}")]
    Interrupted {
        /// Where it is.
        server: ServerAddress,
        /// What happened.
        cause: String,
    },
    /// Something answered that is not the admin API.
    #[error("{server} does not answer as an admin API does ({what}); is --server right?")]
    Foreign {
        /// Where it is.
        server: ServerAddress,
        /// What was odd.
        what: String,
    },
    /// The admin API refused.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// A deployment was followed, and not to its end.
    #[error("deployment {id}: {why}; `tidegate deployment status {id} --wait` follows it again")]
    Unsettled {
        /// The deployment.
        id: String,
        /// Why it is not followed any more.
        why: String,
    },
    /// Something failed that says itself what to do.
    #[error("{0}")]
    Failed(String),
    /// The operator said no.
    #[error("nothing was changed")]
    Declined,
    /// A file or the terminal failed.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        error: io::Error,
    },
    /// Nobody reads our output any more.
    #[error("nobody reads the output")]
    NobodyReads,
}

impl From<io::Error> for CliError {
    /// An error of writing a result; files are named where they are used.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::Io { what: "cannot write to stdout".into(), error },
        }
    }
}

impl CliError {
    /// The exit code: 0 done, 1 refused or failed, 2 bad usage or configuration.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::NobodyReads => 0,
            Self::Usage(_) => USAGE,
            Self::Unsettled { .. } => UNSETTLED,
            Self::Unreachable { .. }
            | Self::Interrupted { .. }
            | Self::Foreign { .. }
            | Self::Refused(_)
            | Self::Failed(_)
            | Self::Declined
            | Self::Io { .. } => REFUSED,
        }
    }

    /// Whether it passes by itself, as while the proxy is restarted.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Interrupted { .. } => true,
            Self::Refused(problem) => problem.status == http::StatusCode::SERVICE_UNAVAILABLE,
            Self::Usage(_)
            | Self::Foreign { .. }
            | Self::Unsettled { .. }
            | Self::Failed(_)
            | Self::Declined
            | Self::Io { .. }
            | Self::NobodyReads => false,
        }
    }

    /// Tells the operator, on stderr: as text, or as one problem document.
    pub(crate) fn report(&self, format: Format) {
        match (self, format) {
            (Self::NobodyReads, _) => {}
            (Self::Refused(problem), Format::Json) => output::note(&format!("{}\n", problem.document.trim_end())),
            (_, Format::Json) => output::note(&format!(
                "{}\n",
                json!({ "type": "about:blank", "title": "failed", "detail": self.to_string() })
            )),
            (_, Format::Text) => output::note(&format!("error: {self}\n")),
        }
    }
}

/// How results and errors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// The API's answer as it came: one document.
    Json,
}

/// A refusal of the admin API: its `application/problem+json`, and what to do about it.
#[derive(Debug)]
pub(crate) struct Problem {
    /// The status of the answer.
    status: http::StatusCode,
    /// The document as it came.
    document: String,
    title: String,
    detail: Option<String>,
    entries: Vec<Entry>,
    hint: Option<&'static str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Known {
    #[serde(rename = "type")]
    kind: Option<String>,
    title: Option<String>,
    detail: Option<String>,
    errors: Vec<Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    path: String,
    message: String,
}

impl Problem {
    /// Reads a problem document; `None` when this is not one.
    pub(crate) fn parse(status: http::StatusCode, body: &[u8], token: TokenGiven) -> Option<Self> {
        let document = String::from_utf8(body.to_vec()).ok()?;
        let known: Known = serde_json::from_str(&document).ok()?;
        let title = known.title?;
        let hint = match (status.as_u16(), token) {
            (401, TokenGiven::No) => Some("set TIDEGATE_TOKEN to a token of this admin API"),
            (401, TokenGiven::Yes) => Some("the token in TIDEGATE_TOKEN (or --token) is not one of this admin API"),
            _ if known.kind.as_deref() == Some(PROBE_FAILED) => Some("on the command line: --force"),
            (403, TokenGiven::Yes) => Some("the role of the token in TIDEGATE_TOKEN (or --token) may not be enough"),
            _ => None,
        };
        Some(Self { status, document, title, detail: known.detail, entries: known.errors, hint })
    }

    /// The same of a file, where it is about what was sent.
    pub(crate) fn of_file(self, path: &std::path::Path) -> Self {
        if !matches!(self.status.as_u16(), 400 | 422) {
            return self;
        }
        let said = self.detail.as_ref().unwrap_or(&self.title);
        Self { detail: Some(format!("{}: {said}", path.display())), ..self }
    }

    /// Whether the order did not fit the state.
    pub(crate) fn is_conflict(&self) -> bool {
        self.status == http::StatusCode::CONFLICT
    }

    /// The same with other names for places of the input, where there are any. What came is shown as it came in JSON.
    pub(crate) fn renamed(self, name: impl Fn(&str) -> Option<String>) -> Self {
        let first = self.entries.first().map(|entry| format!("{}: {}", entry.path, entry.message));
        let renamed = |entry: Entry| Entry { path: name(&entry.path).unwrap_or(entry.path), ..entry };
        let entries: Vec<Entry> = self.entries.into_iter().map(renamed).collect();
        // A detail that only repeats the first entry would say the old name.
        let repeats = first.is_some_and(|first| self.detail.as_ref().is_some_and(|detail| detail.starts_with(&first)));
        let detail = match entries.as_slice() {
            [only] if repeats => Some(format!("{}: {}", only.path, only.message)),
            [_, ..] if repeats => Some(self.title.clone()),
            _ => self.detail,
        };
        Self { detail, entries, ..self }
    }
}

/// Whether a token was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenGiven {
    /// It was.
    Yes,
    /// It was not.
    No,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = self.detail.as_deref().unwrap_or(&self.title);
        f.write_str(&printable(said))?;
        // The detail of a single problem is that problem: once is enough.
        for entry in self.entries.iter().filter(|entry| entry.message.is_empty() || !said.ends_with(&entry.message)) {
            match entry.path.as_str() {
                "" => write!(f, "\n  {}", printable(&entry.message))?,
                path => write!(f, "\n  {}: {}", printable(path), printable(&entry.message))?,
            }
        }
        match self.hint {
            Some(hint) => write!(f, "\n  {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn shown(status: StatusCode, body: &str, token: TokenGiven) -> String {
        Problem::parse(status, body.as_bytes(), token).expect("a problem").to_string()
    }

    #[test]
    fn every_entry_of_a_problem_is_shown() {
        let body = r#"{"type":"about:blank","title":"Unprocessable Content","status":422,"detail":"the split is not valid",
            "errors":[{"path":"split","message":"weights sum to 90 %, not to 100 %"},{"path":"","message":"and more"}]}"#;
        assert_eq!(
            shown(StatusCode::UNPROCESSABLE_ENTITY, body, TokenGiven::No),
            "the split is not valid\n  split: weights sum to 90 %, not to 100 %\n  and more"
        );
    }

    #[test]
    fn places_may_have_other_names() {
        let shown = |body: &str| {
            let problem = Problem::parse(StatusCode::UNPROCESSABLE_ENTITY, body.as_bytes(), TokenGiven::No).unwrap();
            problem.renamed(|path| (path == "to").then(|| "--to".to_owned())).to_string()
        };
        let one = r#"{"title":"invalid","detail":"to: none","errors":[{"path":"to","message":"none"}]}"#;
        assert_eq!(shown(one), "--to: none");
        let two = r#"{"title":"invalid","detail":"to: none (and 1 more)","errors":[{"path":"to","message":"none"},
            {"path":"x","message":"what"}]}"#;
        assert_eq!(shown(two), "invalid\n  --to: none\n  x: what");
        let own = r#"{"title":"t","detail":"not allowed","errors":[{"path":"to","message":"none"}]}"#;
        assert_eq!(shown(own), "not allowed\n  --to: none");
    }

    #[test]
    fn a_file_is_named_when_it_is_wrong_and_not_when_it_comes_too_early() {
        let shown = |status, body: &str| {
            let problem = Problem::parse(status, body.as_bytes(), TokenGiven::No).unwrap();
            problem.of_file(std::path::Path::new("a.json")).to_string()
        };
        let one = r#"{"title":"invalid","detail":"to: none","errors":[{"path":"to","message":"none"}]}"#;
        assert_eq!(shown(StatusCode::UNPROCESSABLE_ENTITY, one), "a.json: to: none");
        let two = r#"{"title":"invalid","detail":"to: none (and 1 more)","errors":[{"path":"to","message":"none"},
            {"path":"x","message":"what"}]}"#;
        assert_eq!(shown(StatusCode::BAD_REQUEST, two), "a.json: to: none (and 1 more)\n  to: none\n  x: what");
        assert_eq!(shown(StatusCode::CONFLICT, r#"{"title":"t","detail":"one is active"}"#), "one is active");
    }

    #[test]
    fn refused_tokens_name_the_variable() {
        let body = r#"{"title":"Unauthorized","status":401}"#;
        assert_eq!(
            shown(StatusCode::UNAUTHORIZED, body, TokenGiven::No),
            "Unauthorized\n  set TIDEGATE_TOKEN to a token of this admin API"
        );
        assert!(
            shown(StatusCode::UNAUTHORIZED, body, TokenGiven::Yes).contains("TIDEGATE_TOKEN (or --token) is not one")
        );
        assert!(shown(StatusCode::FORBIDDEN, body, TokenGiven::Yes).contains("role of the token in TIDEGATE_TOKEN"));
    }

    #[test]
    fn a_refused_switch_names_the_option_that_forces_it() {
        let body = format!(r#"{{"type":"{PROBE_FAILED}","title":"t","detail":"d"}}"#);
        assert_eq!(shown(StatusCode::CONFLICT, &body, TokenGiven::No), "d\n  on the command line: --force");
    }

    #[test]
    fn other_documents_are_not_problems() {
        for body in ["", "<html>", "[]", "{}", r#"{"title":1}"#] {
            assert!(Problem::parse(StatusCode::BAD_REQUEST, body.as_bytes(), TokenGiven::No).is_none(), "{body}");
        }
    }

    #[test]
    fn codes_tell_usage_from_refusal() {
        let server = ServerAddress::Tcp { host: "127.0.0.1".into(), port: 3091 };
        let unreachable = CliError::Unreachable { server, cause: "connection refused".into() };
        assert_eq!(
            unreachable.to_string(),
            "cannot reach the admin API at http://127.0.0.1:3091: connection refused. Is `tidegate serve` or \
             `tidegate demo` running? Use --server or TIDEGATE_ADMIN for another address"
        );
        assert_eq!(unreachable.code(), 1);
        assert_eq!(CliError::Usage(String::new()).code(), 2);
        assert_eq!(CliError::Declined.code(), 1);
        assert_eq!(CliError::from(io::Error::from(io::ErrorKind::BrokenPipe)).code(), 0);
    }
}
