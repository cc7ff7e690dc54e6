//! The one writer, and the tasks that feed it: health, names, the file, signals.
