//! Deployments: automated changes of services, compiled to steps that a pure state machine walks.
//!
//! Never performs an act: says what is to be written down, then what is to be done, and is told what came of it.

pub mod bracket;
pub mod cloudevent;
pub mod diagnose;
pub mod engine;
pub mod environment;
pub mod history;
mod ids;
pub mod machine;
pub mod memory;
pub mod plan;
pub mod shadow;
pub mod spec;
pub mod stage;
pub mod step;
#[cfg(test)]
mod testing;
pub mod view;
pub mod watch;

pub use environment::Environment;
pub use ids::{DeploymentId, DeploymentIdError};
pub use memory::ServiceMemory;
pub use plan::{Plan, compile};
pub use spec::DeploymentSpec;
