//! The shapes of the wire, apart from the domain's own types, so that neither binds the other.
//!
//! Golden tests pin them: a field may be added, none may change or go. Clients may use these types to read answers.

pub mod change;
pub mod event;
pub mod explain;
pub mod flag;
pub mod mirror;
pub mod ofrep;
pub mod percent;
pub mod process;
pub mod service;
mod time;

pub use change::{
    ChangeReply, EndpointInput, FailoverInput, MirrorInput, SplitInput, SwitchInput, SwitchReply, TargetInput,
};
pub use event::{AuditLine, EventKind, EventLine, Gap, HealthTransition, Numbered};
pub use explain::{ExplainInput, ExplainReply};
pub use percent::{Percent, Weights};
pub use process::{Live, Ready};
pub use service::ServiceView;
