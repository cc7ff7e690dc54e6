//! Why a store could not be used: short texts for people, that hold no secret and little of what the store wrote.

use std::{io, time::Duration};

use redis::{ErrorKind, RedisError, ServerError, ServerErrorKind};

/// Longest text of a store's own that is shown.
const MAX_TEXT: usize = 120;

/// Why a store could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// Its name has no address.
    #[error("{host} has no address: {problem}")]
    Unresolved {
        /// The name.
        host: String,
        /// What the resolver said.
        problem: String,
    },
    /// No connection.
    #[error("cannot connect to {to}: {problem}")]
    Connect {
        /// Where to.
        to: String,
        /// What the system said.
        problem: String,
    },
    /// The TLS handshake failed, or what it needs is not there.
    #[error("no TLS: {0}")]
    Tls(String),
    /// The password is not where it should be.
    #[error("{0}")]
    Secret(String),
    /// No answer in time.
    #[error("no {0} within {1:?}")]
    Timeout(&'static str, Duration),
    /// The connection ended.
    #[error("the connection ended: {0}")]
    Closed(String),
    /// What came is not what was asked for.
    #[error("the answer is not one of a store: {0}")]
    Garbage(&'static str),
    /// The user or the password is wrong.
    #[error("the store refuses the user or the password")]
    Credentials,
    /// The user may not do what has to be done.
    #[error("the store's user may not do that: {0}")]
    Denied(&'static str),
    /// It has just started.
    #[error("the store is loading its data")]
    Loading,
    /// It follows another one that is not there.
    #[error("the store has lost its master")]
    MasterDown,
    /// It takes no writes.
    #[error("the store is read-only")]
    ReadOnly,
    /// It follows another one.
    #[error("the store is a {0}, not a master")]
    NotMaster(String),
    /// Another one is in charge now.
    #[error("the store has moved to {0}")]
    Moved(String),
    /// No Sentinel told where the master is.
    #[error("no sentinel says where the master {master} is: {problem}")]
    Sentinel {
        /// Its name.
        master: String,
        /// What the last one did.
        problem: String,
    },
    /// Another error of the store.
    #[error("the store answers with an error: {0}")]
    Refused(String),
    /// The file of a source cannot be read.
    #[error("cannot read {path}: {problem}")]
    File {
        /// Where it should be.
        path: String,
        /// What the system said.
        problem: String,
    },
    /// The part of this process that talks to the store broke.
    #[error("the reader of the store broke: {0}")]
    Broken(String),
}

impl Failure {
    /// From an error that a store answered with.
    pub(super) fn of_reply(error: &ServerError) -> Self {
        match error.kind() {
            Some(ServerErrorKind::BusyLoading) => Self::Loading,
            Some(ServerErrorKind::MasterDown) => Self::MasterDown,
            Some(ServerErrorKind::ReadOnly) => Self::ReadOnly,
            Some(ServerErrorKind::NoPerm) => Self::Denied("see its ACL log"),
            _ => Self::of_code(error.code(), error.details()),
        }
    }

    fn of_code(code: &str, details: Option<&str>) -> Self {
        match code {
            "WRONGPASS" | "NOAUTH" => Self::Credentials,
            code => Self::Refused(printable(&format!("{code} {}", details.unwrap_or_default()))),
        }
    }
}

/// What a store says, fit for a log.
fn printable(text: &str) -> String {
    let plain: String = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(MAX_TEXT).collect();
    plain.trim().to_owned()
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Closed(error.kind().to_string())
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            ErrorKind::AuthenticationFailed => Self::Credentials,
            ErrorKind::Server(ServerErrorKind::BusyLoading) => Self::Loading,
            ErrorKind::Server(ServerErrorKind::MasterDown) => Self::MasterDown,
            ErrorKind::Server(ServerErrorKind::ReadOnly) => Self::ReadOnly,
            ErrorKind::Server(ServerErrorKind::NoPerm) => Self::Denied("see its ACL log"),
            ErrorKind::Server(_) | ErrorKind::Extension => Self::of_code(error.code().unwrap_or("ERR"), error.detail()),
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Self::Garbage("it is not RESP"),
            ErrorKind::Io if error.is_connection_dropped() => Self::Closed("by the store".into()),
            ErrorKind::Io => Self::Closed("while it was in use".into()),
            _ => Self::Broken(error.category().to_owned()),
        }
    }
}
