//! The guard: sends a host's heartbeats, holds its lease, is the parent of its tasks and ends them in time.
//!
//! For its users: [`protocol`] is what the agent says to it over the Unix socket, [`datagram`] what it and
//! the voters say to each other over UDP. [`run`] is the process itself.

pub mod client;
mod clock;
pub mod datagram;
mod deadline;
mod guard;
mod handle;
mod init;
mod kernel;
pub mod key;
mod launch;
mod link;
mod log_file;
mod memory;
mod notify;
mod options;
pub mod priority;
mod process;
pub mod protocol;
mod report;
mod run;
mod shim;
mod stray;

use std::path::Path;
use std::process::ExitCode;

/// The guard's process and its roles. `arguments` are those behind `guard`:
/// `--run-dir DIR --data-dir DIR [--foreground]`. Call it before the process starts any thread.
pub fn run(arguments: &[String]) -> ExitCode {
    run::run(arguments)
}

/// Starts a detached guard (in a session of its own, its output in `data_dir/logs/guard.log`) from the binary
/// `exe`. It is ready once its socket `run_dir/guard.sock` accepts connections.
///
/// # Errors
/// When the process can't be started.
pub fn spawn_detached(exe: &Path, run_dir: &Path, data_dir: &Path) -> std::io::Result<()> {
    run::spawn_detached(exe, run_dir, data_dir)
}
