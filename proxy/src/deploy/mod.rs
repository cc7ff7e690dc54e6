//! Carries out what the deployment engine decides.

pub(crate) mod environments;
pub(crate) mod watch;
