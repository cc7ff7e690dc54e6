//! A new binary takes the place of this one without a refused connection: it is handed the listening sockets and the
//! lock of the state directory, and this one finishes what runs.
//!
//! Until the new process says that it is ready, this one serves on, and whatever goes wrong is an error of the call and
//! nothing else. Between the handing over and that word nobody writes to the state directory. The lock belongs to the
//! open file, which both have: it is free when both have ended.

mod offer;
mod parcel;
mod successor;

pub(crate) use offer::{Offer, UpgradeError};
pub(crate) use successor::{Predecessor, TakeOverError};

use std::{fs::File, os::fd::OwnedFd};

use tidegate_config::server::AdminAddress;

use crate::net::Sockets;

/// Where a new process finds the one before it.
const VARIABLE: &str = "TIDEGATE_UPGRADE_SOCKET";

/// What one process leaves to the next.
#[derive(Debug)]
pub(crate) struct Legacy {
    /// The sockets of the data plane.
    pub(crate) sockets: Sockets,
    /// The socket of the admin API, with the address that was configured.
    pub(crate) admin: Option<(AdminAddress, OwnedFd)>,
    /// The file whose lock says who owns the state directory.
    pub(crate) lock: File,
}
