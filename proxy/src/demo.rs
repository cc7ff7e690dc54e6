//! `tidegate demo`: two small applications, a shadow, and traffic, inside the process.
