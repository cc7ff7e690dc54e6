//! Accepting clients: workers, connection caps, the deadline of a request head, TLS.
//!
//! Each worker is one thread with its own runtime and its own listening sockets (`SO_REUSEPORT`), so that a request
//! never changes threads. A connection is read here up to the end of a request's head, and then handed to the lane.
//! Every wait for a client has an end.

mod bind;
mod caps;
mod connection;
mod cutter;
mod head;
mod http1;
mod http2;
pub(crate) mod link;
mod plane;
mod roster;
mod stream;
mod tls;
mod websocket;
mod worker;

#[cfg(test)]
mod tests;

pub(crate) use bind::{BindError, Sockets};
pub(crate) use plane::{DataPlane, Phase, start, workers};
pub(crate) use roster::Rosters;
pub(crate) use tls::{Certificates, Renewal, TlsError};
