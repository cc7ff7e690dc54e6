//! The stable hash of sticky decisions.
