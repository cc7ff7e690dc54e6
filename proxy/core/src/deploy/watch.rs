//! Watches the targets of a deployment: what is counted of their requests, and what that says.
//!
//! - [`lineup`]: who is compared with whom.
//! - [`goal`]: the requests that reach the goal of a test of variants.
//! - [`tally`]: the counters that requests write to while somebody watches.
//! - [`judge`]: from two readings of the counters to a verdict.
//!
//! A request counts for the target that was chosen for it, even if another had to answer it: that another target hid
//! the fault is no merit of the new version.

pub mod goal;
pub mod judge;
pub mod lineup;
pub mod tally;

pub use goal::{GoalMatch, Statuses};
pub use judge::{Judge, Past, WatchTick};
pub use lineup::Lineup;
pub use tally::{Begun, Ended, KeptVisitors, Reading, Tally, Unit, WatchSlot};
