//! `completion`.

use clap::CommandFactory;
use clap_complete::aot;

use crate::cli::{Cli, Shell};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Printer;

/// Prints the script of a shell.
///
/// # Errors
/// When stdout cannot be written to.
pub fn print(shell: Shell, out: Printer) -> Result<Exit, Failure> {
    let shell = match shell {
        Shell::Bash => aot::Shell::Bash,
        Shell::Zsh => aot::Shell::Zsh,
        Shell::Fish => aot::Shell::Fish,
    };
    let mut script = Vec::new();
    aot::generate(shell, &mut Cli::command(), "musterctl", &mut script);
    out.put(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
