//! Feature flags: what sources say, which value counts, and what it is for a request.
//!
//! Precedence: an override, then the source's value, then the last good one, then the value in the process, then the
//! default. A value that cannot be used keeps the one before it and is shown as a fault. Texts are compiled once, when
//! they are read; a request follows pointers only.

pub mod condition;
pub mod context;
pub mod definition;
mod flagd;
mod operators;
pub mod reading;
pub mod state;
pub mod stats;
pub mod table;

pub use condition::FlagCheck;
pub use context::Subject;
pub use definition::{Definition, Evaluation, EvaluationError, FlagReason};
pub use reading::{Fields, Found, Memory, Reading, SourceReport};
pub use state::{FlagState, Origin, Override, SavedFlags, SavedOverride, Slot, SourceState, Standing};
pub use stats::SourceStats;
pub use table::{Flag, FlagTable, Source};

#[cfg(test)]
mod tests;
