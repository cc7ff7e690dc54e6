//! The one writer, and the tasks that feed it: health, names, the file, signals, commands.

pub(crate) mod controller;
pub(crate) mod credentials;
pub(crate) mod failover;
pub(crate) mod health;
mod prober;
pub(crate) mod process;
pub(crate) mod reload;
pub(crate) mod report;
pub(crate) mod resolve;
pub(crate) mod rest;
pub(crate) mod secrets;
pub(crate) mod signals;
mod stamps;
pub(crate) mod stats;
