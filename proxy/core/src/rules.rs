//! Rules: a match that pins a request to a target.

use crate::snapshot::TargetIdx;

/// A compiled rule.
#[derive(Debug)]
pub struct Rule {
    /// The target.
    pub to: TargetIdx,
}
