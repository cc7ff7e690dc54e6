//! What is shown of the process: logs, the access log, metrics.
