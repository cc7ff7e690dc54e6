//! Where wanted state outlives the process.
