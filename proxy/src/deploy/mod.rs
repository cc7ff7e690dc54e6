//! Carries out what the deployment engine decides.

pub(crate) mod watch;
