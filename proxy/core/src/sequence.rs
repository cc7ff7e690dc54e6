//! From a number to a target: ranges of a split, and the low-discrepancy sequence that walks them.

/// Ranges of 0 to 9,999, one per target that has a weight.
#[derive(Debug, Default)]
pub struct SplitTable {}
