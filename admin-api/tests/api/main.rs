//! The admin API from outside: over a fake process that has the real core inside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say what they expect and stop when it is not so, also in their helpers"
)]

mod brackets;
mod changes;
mod deployer;
mod deployments;
mod errors;
mod events;
mod fake;
mod flags;
mod golden;
mod harness;
mod schema;
mod security;
mod sockets;
mod steering;
mod versions;
