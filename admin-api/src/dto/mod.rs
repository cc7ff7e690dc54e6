//! The shapes of the wire, apart from the domain's own types, so that neither binds the other.
//!
//! Golden tests pin them: a field may be added, none may change or go. Clients may use these types to read answers.

pub mod bracket;
pub mod change;
pub mod deployment;
pub mod event;
pub mod explain;
pub mod flag;
pub mod health;
pub mod history;
pub mod mirror;
pub mod ofrep;
pub mod percent;
pub mod plan;
pub mod process;
pub mod service;
mod time;
pub mod version;

pub use bracket::{BracketReply, BracketView};
pub use change::{
    ChangeReply, EndpointInput, FailoverInput, MirrorInput, SplitInput, SwitchInput, SwitchReply, TargetInput,
};
pub use deployment::{DeploymentReply, DeploymentView, StatusView};
pub use event::{AuditLine, EventKind, EventLine, Gap, Numbered};
pub use explain::{ExplainInput, ExplainReply};
pub use health::HealthTransition;
pub use history::{DiagnosisView, HistoryLine, MetricsView};
pub use percent::{Percent, Weights};
pub use plan::PlanView;
pub use process::{Live, Ready, UpgradeReply};
pub use service::ServiceView;
pub use version::{VersionsReply, VersionsView};

/// The word that a value without data is on the wire.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(_) | Err(_) => String::new(),
    }
}
