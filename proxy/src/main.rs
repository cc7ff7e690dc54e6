//! Tidegate: one binary in front of services that decides, request by request, which version answers.

use std::process::ExitCode;

mod cli;
mod control;
mod demo;
mod deploy;
mod digest;
mod flags;
mod lane;
mod mirror;
mod net;
mod observe;
mod outbound;
mod probe;
mod routing;
mod serve;
mod state;
mod upgrade;

// Every proxied answer takes and gives back buffers: this allocator costs less there than the system's (see loadtest/).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
