//! What the process says of itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::process::Readiness;

/// The process is alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "status": "ok" }))]
pub struct Live {
    /// Always `ok`: a process that is not alive does not answer.
    pub status: String,
}

/// Whether the process is ready for traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "ready": true, "reasons": [] }))]
pub struct Ready {
    /// Whether it is.
    pub ready: bool,
    /// Why not, or what is odd.
    pub reasons: Vec<String>,
}

impl From<Readiness> for Ready {
    fn from(Readiness { ready, reasons }: Readiness) -> Self {
        Self { ready, reasons }
    }
}

/// Another process has taken the place of the one that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "pid": 4711, "took_ms": 120 }))]
pub struct UpgradeReply {
    /// Its number.
    pub pid: u32,
    /// Milliseconds from the call until it served.
    pub took_ms: u64,
}
