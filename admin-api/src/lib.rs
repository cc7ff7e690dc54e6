//! The admin API: HTTP to [`Change`](tidegate_core::Change)s and back, with roles, generations and events.
//!
//! It knows nothing of pingora and holds no state of its own: everything it needs of the process is [`Process`].

pub mod events;
pub mod process;

pub use events::{EventLog, Recorded};
pub use process::{Actor, AuditEntry, Outcome, Probed, Process, Readiness, ReloadError, Submission, SubmitError};
