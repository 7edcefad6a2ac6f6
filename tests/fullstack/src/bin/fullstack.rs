//! The same as the test, as a program: for the soak, which runs it seed by seed.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    muster_fullstack::runner::main(&arguments)
}
