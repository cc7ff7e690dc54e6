//! Why the process does not start: what its log and its exit code say.

use std::io;

use crate::{
    control::{reload, secrets::Problem},
    net::BindError,
    state::StoreError,
    upgrade::TakeOverError,
};

/// Why the process cannot run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The configuration has problems.
    #[error("the configuration has {} problems", .0.len())]
    Config(Vec<Problem>),
    /// The state cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A listener cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin API's address cannot be had.
    #[error("admin.listen: cannot listen on {address}: {source}: stop what listens there, or change admin.listen")]
    Admin {
        /// The address.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The process before does not leave what it said it would.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// A flag source cannot be read, and the configuration wants it.
    #[error("flags.require_store: {}: start the store, or set require_store to false", .0.join("; "))]
    Flags(Vec<String>),
    /// The system does not give what every process needs.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl ServeError {
    pub(super) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { doing, source }
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::Store(_)
            | Self::Bind(_)
            | Self::Admin { .. }
            | Self::TakeOver(_)
            | Self::Flags(_)
            | Self::System { .. } => 1,
        }
    }

    /// Logs it, every problem on a line of its own.
    pub(crate) fn log(&self) {
        match self {
            Self::Config(problems) => {
                for problem in problems {
                    tracing::error!("{}", reload::problem_text(problem));
                }
                tracing::error!(problems = problems.len(), "the configuration cannot be used");
            }
            other => tracing::error!("{other}"),
        }
    }
}
