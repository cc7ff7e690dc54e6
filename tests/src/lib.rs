//! The harness of the end-to-end tests: real processes and real sockets, each test with its own.
//!
//! Nothing here sleeps to wait for something: [`until`] polls a condition within a deadline.

pub mod client;
pub mod crowd;
mod deployments;
pub mod origin;
pub mod programs;
pub mod redis;
pub mod tidegate;
pub mod wire;

use std::{future::Future, time::Duration};

pub use client::{Answer, Client, Sent, get};
pub use crowd::{Crowd, Outcomes};
pub use origin::{Behaviour, Origin, Seen};
pub use programs::Programs;
pub use redis::{Fault, Program, Redis, Wire};
pub use tidegate::Tidegate;

/// How long a condition may take that should hold at once: long, because machines under test are busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls `condition` each 10 ms until it gives a value; panics with `what` when that takes longer than [`PATIENCE`].
pub async fn until<T, F>(what: &str, condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    until_within(PATIENCE, what, condition).await
}

/// Takes a time up to three times, until it is within `limit`; panics when it never is. Other tests keep the machine
/// busy, which makes a good time late now and then, but never makes a bad one good.
pub async fn takes_at_most<F>(limit: Duration, what: &str, mut take: impl FnMut() -> F)
where
    F: Future<Output = Duration>,
{
    let mut times = Vec::new();
    while times.last().is_none_or(|time| *time > limit) {
        assert!(times.len() < 3, "{what} takes longer than {limit:?} each time: {times:?}");
        times.push(take().await);
    }
    println!("{what} took {times:?}");
}

/// [`until`], within another deadline.
pub async fn until_within<T, F>(patience: Duration, what: &str, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited {patience:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
