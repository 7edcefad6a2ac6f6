//! The processes of a host: those whose network namespace is the host's, which this harness made.

use std::os::unix::fs::MetadataExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::HarnessError;

/// All processes inside a namespace.
///
/// # Errors
/// When `/proc` can't be read.
pub fn inside(namespace: &str) -> Result<Vec<Pid>, HarnessError> {
    let path = format!("/run/netns/{namespace}");
    let wanted = std::fs::metadata(&path).map_err(HarnessError::io(path))?.ino();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").map_err(HarnessError::io("/proc"))? {
        let entry = entry.map_err(HarnessError::io("/proc"))?;
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        // A process may end between the two looks.
        let namespace_of = std::fs::metadata(entry.path().join("ns/net"));
        if namespace_of.is_ok_and(|m| m.ino() == wanted) && pid.unsigned_abs() != std::process::id() {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

/// The children of a process's first thread.
#[must_use]
pub fn children(of: Pid) -> Vec<Pid> {
    let text = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|number| number.parse().ok()).map(Pid::from_raw).collect()
}

/// The number of a process in the PID namespace so many levels below this process's own.
#[must_use]
pub fn number_below(pid: Pid, levels: usize) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_whitespace().nth(levels)?.parse().ok()
}

/// Sends a signal; a process that has ended meanwhile is none's business.
pub fn signal(pid: Pid, signal: Signal) {
    if let Err(error) = kill(pid, signal)
        && error != nix::errno::Errno::ESRCH
    {
        eprintln!("cannot send {signal} to {pid}: {error}");
    }
}

/// Whether it still runs (a zombie does not).
#[must_use]
pub fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may hold blanks and brackets: the state stands behind the last bracket.
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    state.is_some_and(|state| state != "Z" && state != "X")
}

/// A variable of a process's environment.
#[must_use]
pub fn environment(pid: Pid, variable: &str) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut pairs = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    pairs.find_map(|pair| pair.strip_prefix(variable)?.strip_prefix('=').map(str::to_owned))
}

/// The words of a process's command line.
pub fn arguments(pid: Pid) -> impl Iterator<Item = String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> =
        bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    words.into_iter()
}

/// A process for messages: its number, name, state and parent.
#[must_use]
pub fn describe(pid: Pid) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    format!("{pid} {} ({}, child of {})", field("Name:"), field("State:"), field("PPid:"))
}
