//! Runs thredcore patterns as a program.

mod backend;
mod bench;
mod cli;
mod query;

/// Most of the engine's work is small allocations; this allocator is made for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::run()
}
