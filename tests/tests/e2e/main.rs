//! The end-to-end tests, in one binary: each starts the real proxy and real origins of its own.

mod cli;
mod deploying;
mod documents;
mod examples;
mod failing;
mod failover_hooks;
mod flags;
mod harness;
mod lasting;
mod life;
mod mirroring;
mod previews;
mod refusing;
mod service_paths;
mod splitting;
mod stacks;
mod switching;
mod telling;
mod upgrading;
