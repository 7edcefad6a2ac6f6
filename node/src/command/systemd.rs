//! `--now`: configuration and systemd units.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::CommandError;
use crate::config::{Config, DEFAULT_PATH};
use crate::node::NodeError;

/// How long the node may take to be in.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const UNITS: [&str; 3] = ["muster-guard.service", "muster.service", "muster-handoff.service"];

/// Whether systemd runs this host.
///
/// # Errors
/// When it doesn't.
pub(super) fn check() -> Result<(), CommandError> {
    if Path::new("/run/systemd/system").is_dir() { Ok(()) } else { Err(CommandError::NoSystemd) }
}

/// Writes a configuration with the defaults spelled out, if there is none.
///
/// # Errors
/// When it can't be written.
pub(super) fn write_missing_config(path: Option<&Path>) -> Result<(), CommandError> {
    let path = path.unwrap_or(Path::new(DEFAULT_PATH));
    if path.exists() {
        return Ok(());
    }
    let failed = |source| CommandError::WriteConfig { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut file = std::fs::File::create(path).map_err(failed)?;
    file.write_all(include_bytes!("../../../deploy/agent.toml")).map_err(failed)?;
    super::say(&format!("wrote {}", path.display()));
    Ok(())
}

/// Enables and starts the units, and waits until the node is in.
///
/// # Errors
/// What systemctl says, or what is still missing.
pub(super) async fn start(config: &Config) -> Result<(), CommandError> {
    enable()?;
    let name = config.node_name().map_err(NodeError::from)?.to_string();
    super::local::wait_alive(config, &name, START_TIMEOUT).await?;
    super::say(&format!("node {name} is in; see it with: musterctl status"));
    Ok(())
}

/// Enables and starts the units.
#[allow(
    clippy::disallowed_methods,
    reason = "systemctl is how units are enabled, once, at an operator's wish"
)]
fn enable() -> Result<(), CommandError> {
    let output = Command::new("systemctl").arg("enable").arg("--now").args(UNITS).output();
    let output = output.map_err(|source| CommandError::Systemctl { detail: source.to_string() })?;
    if output.status.success() {
        return Ok(());
    }
    Err(CommandError::Systemctl { detail: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}
