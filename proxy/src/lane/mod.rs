//! The request's way through pingora: decide, forward, retry, mirror, finish.
//!
//! [`service`] is the way itself, phase by phase; every other module here is a step of it.

mod arrive;
mod context;
mod cookies;
mod copies;
mod exchange;
mod failure;
mod finish;
mod headers;
mod peer;
pub(crate) mod pins;
mod respond;
mod service;
mod shared;
mod watched;

pub(crate) use pins::PinKeys;
pub(crate) use service::{Lane, lane};
pub(crate) use shared::Shared;
