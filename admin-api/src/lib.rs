//! The admin API: HTTP to [`Change`](tidegate_core::Change)s and back, with roles, generations and events.
//!
//! It knows nothing of pingora and holds no state of its own: everything it needs of the process is [`Process`].
//!
//! A request passes [`access`] (is it meant for us, and who asks), is routed to a call, and is parsed into typed input;
//! the call reads a snapshot or submits a change, and answers with the shapes of [`dto`] or a [`problem`].

pub mod access;
mod commands;
pub mod deployments;
mod document;
mod documents;
pub mod dto;
pub mod events;
mod guard;
pub mod input;
mod openapi;
pub mod problem;
pub mod process;
mod routes;
pub mod serve;

pub use access::{Access, AccessToken, MetricsAccess};
pub use deployments::{Deployments, Measured, Order, OrderError, Placed};
pub use events::{EventLog, Recorded};
pub use process::{
    Actor, AuditEntry, FlagPlace, FlagWriteError, FlagWrites, Outcome, Probed, Process, Readiness, ReloadError,
    Submission, SubmitError, UpgradeError, Upgraded,
};
pub use routes::router;
pub use serve::{AdminListener, Heirloom, serve};
