//! The agent's own log.

use crate::config::{LogFormat, LogSection};
use tracing_subscriber::EnvFilter;

/// Libraries that call their everyday life an error: a peer that is gone, a stop, a log that a crash has cut short. What
/// of it is wrong the agent says itself.
const QUIET: &str = "openraft=off,h2=error,raft_log=error,chunked_wal=off,sled=error";

/// Starts logging to stderr.
pub fn start(section: &LogSection) {
    let filter = filter(&section.level);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Only the first call in a process counts; tests may have set a subscriber of their own.
    let started = match section.format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was set up before");
    }
}

/// A plain level is Muster's own; the libraries below say only what is wrong.
fn filter(level: &str) -> EnvFilter {
    let plain = level.chars().all(|c| c.is_ascii_alphabetic());
    let text = if plain { format!("warn,muster={level},{QUIET}") } else { level.to_owned() };
    EnvFilter::try_new(text).unwrap_or_else(|_| EnvFilter::new("warn,muster=info"))
}

/// A panic ends the process: a broken agent dies visibly and is started again, while its guard keeps the services.
pub fn end_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        // The history is derived data: sled may panic, and nothing else fails with it.
        if !crate::storage::history::survives_panics(name) {
            std::process::abort();
        }
    }));
}
