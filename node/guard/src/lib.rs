//! The guard: sends a host's heartbeats, holds its lease, is the parent of its tasks and ends them in time.
//!
//! For its users: [`protocol`] is what the agent says to it over the Unix socket, [`datagram`] what it and
//! the voters say to each other over UDP. [`run`] is the process itself.

pub mod client;
pub mod datagram;
pub mod key;
pub mod protocol;

use std::path::Path;
use std::process::ExitCode;

/// The guard's process and its roles. `args` are the arguments behind `guard`:
/// `--run-dir DIR --data-dir DIR [--foreground]`. Call it before any thread is started.
pub fn run(args: &[String]) -> ExitCode {
    let _ = args;
    ExitCode::FAILURE
}

/// Starts a detached guard (session of its own, output to `data_dir/logs/guard.log`) from the binary `exe`.
///
/// # Errors
/// When it can't be started.
pub fn spawn_detached(exe: &Path, run_dir: &Path, data_dir: &Path) -> std::io::Result<()> {
    let _ = (exe, run_dir, data_dir);
    Err(std::io::ErrorKind::Unsupported.into())
}
