//! Moments for people, as the whole product writes them.

pub(super) use tidegate_core::time::rfc3339;
