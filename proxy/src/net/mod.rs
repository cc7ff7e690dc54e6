//! Accepting clients: workers, connection caps, the deadline of a request head, TLS.
