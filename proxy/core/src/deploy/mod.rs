//! Deployments: automated changes of services, compiled to steps that a pure state machine walks.
//!
//! Never performs an act: says what is to be written down, then what is to be done, and is told what came of it.

mod ids;
pub mod spec;

pub use ids::{DeploymentId, DeploymentIdError};
pub use spec::DeploymentSpec;
