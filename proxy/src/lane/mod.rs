//! The request's way through pingora: decide, forward, retry, mirror, finish.
