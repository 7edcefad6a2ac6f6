//! Tells systemd how the agent does (`sd_notify`), when it was started by it.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The agent listens. Not: it has quorum.
pub fn ready() {
    tell("READY=1");
}

/// The agent ends.
pub fn stopping() {
    tell("STOPPING=1");
}

/// The agent's runtime turns; sent twice in each watchdog period.
pub fn alive() {
    tell("WATCHDOG=1");
}

/// How often [`alive`] must be told; `None` without a watchdog.
#[must_use]
pub fn watchdog_period() -> Option<Duration> {
    let micros = std::env::var("WATCHDOG_USEC").ok()?.parse::<u64>().ok()?;
    Some(Duration::from_micros(micros) / 2)
}

fn tell(what: &str) {
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else { return };
    let sent = UnixDatagram::unbound().and_then(|socket| {
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        socket.send_to_addr(what.as_bytes(), &address)
    });
    if let Err(error) = sent {
        tracing::debug!(%error, what, "systemd could not be told");
    }
}
