//! When a service leaves its stable target, and when it comes back.
