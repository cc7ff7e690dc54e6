//! Copies of requests to shadows. A mirror can never slow, fail or change the answer of its request.
