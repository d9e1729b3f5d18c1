//! Runs thredcore patterns as a program.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
