//! Follows the flag sources outside of the process. The only part that knows Redis.
//!
//! A task for each source reads it and tells the controller what it found. Nothing here is awaited by a request.

mod bounded;
mod document;
mod failure;
mod follow;
mod link;
mod marker;
mod memory;
mod metrics;
mod operate;
mod place;
mod read;
mod socket;
mod sources;
mod write;

pub(crate) use sources::{FirstLook, FlagSources, first_look};

#[cfg(test)]
mod tests;
