//! The decisions of Tidegate: which version answers a request, and what a change makes of the state.
//!
//! Never awaits, never reads a clock, never draws a number, never logs: `now` and `draw` are arguments.
//! Two ways lead through this crate.
//!
//! - A request: [`decide`](decide::decide) on a [`Snapshot`], then [`after_failure`](retry::after_failure) if need be.
//! - A change: [`apply`](change::apply) on a [`State`], then [`compile`](compile::compile) to the next [`Snapshot`].

pub mod analysis;
pub mod change;
pub mod compile;
pub mod decide;
pub mod deploy;
pub mod event;
pub mod explain;
pub mod failover;
pub mod flags;
pub mod hash;
pub mod health;
pub mod host;
mod index;
pub mod merge;
pub mod path;
pub mod pool;
pub mod preview;
pub mod reject;
pub mod request;
pub mod retry;
pub mod route;
pub mod rules;
pub mod sequence;
pub mod snapshot;
pub mod state;
pub mod stats;
#[cfg(test)]
mod testing;
pub mod time;
pub mod visitor;

pub use change::{Applied, Change, ChangeError, Release, ReleaseCause, apply};
pub use compile::compile;
pub use decide::{Draw, Forward, Plan, Reason, Visitor, decide};
pub use event::Event;
pub use explain::{Explanation, explain};
pub use flags::{FlagTable, Subject};
pub use health::Health;
pub use merge::Difference;
pub use preview::Previews;
pub use reject::Reject;
pub use request::{Headers, RequestHead};
pub use retry::{Attempt, Failure, Next, after_failure};
pub use snapshot::{Endpoint, EndpointIdx, ListenerIdx, MirrorIdx, Service, ServiceIdx, Snapshot, Target, TargetIdx};
pub use state::{Generation, Hold, Moment, Overlay, Saved, SavedService, ServiceState, State, Wanted};
pub use visitor::{VisitorText, Who};
