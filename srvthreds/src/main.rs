//! Runs thredcore patterns as a program.

mod bench;
mod cli;

/// Most of the engine's work is small allocations; this allocator is made for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::run()
}
