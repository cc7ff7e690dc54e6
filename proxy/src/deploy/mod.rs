//! Carries out what the deployment engine decides.

pub(crate) mod environments;
pub(crate) mod hook;
pub(crate) mod watch;
