//! What is shown of the process: logs, the access log, metrics.

pub(crate) mod access_log;
pub(crate) mod counters;
pub(crate) mod families;
pub(crate) mod logging;
pub(crate) mod metrics;
