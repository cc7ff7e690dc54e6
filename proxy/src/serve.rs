//! Puts the parts together and runs them until a signal: the whole life of the process in one file.
