//! From host and path to a service.

/// From host and path to a service.
#[derive(Debug, Default)]
pub struct Router {}
