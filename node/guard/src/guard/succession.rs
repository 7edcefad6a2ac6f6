//! What a guard leaves behind for a successor on the same kernel boot, in case it crashes (LEASES.md, 'Crash').
//!
//! The note lies in the run directory, a tmpfs. It names the shims and inits, so that the successor can make
//! sure that they are gone, and holds the session's `Fenced`, sealed in advance. It does not hold the key, so
//! the successor can end the session at once but can never go on with it.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use muster_core::lease::Tenure;
use muster_core::time::HostInstant;
use serde::{Deserialize, Serialize};

use super::network::Network;
use crate::datagram;
use crate::process::Process;
use crate::report::report;

const FILE: &str = "guard.succession";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The note.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The kernel's boot id: after a reboot the note means nothing.
    pub(crate) kernel_boot: String,
    /// Shims and inits.
    pub(crate) processes: Vec<Process>,
    /// The session's end, and the one that this guard itself took over from its predecessor.
    pub(crate) fenced: Vec<SealedFenced>,
}

/// A `Fenced` that can be sent without the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SealedFenced {
    pub(crate) tenure: Tenure,
    pub(crate) heartbeat_ms: u32,
    pub(crate) datagram: Vec<u8>,
    pub(crate) voters: Vec<SocketAddr>,
}

/// The end of the predecessor's session, and where the note is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Succession {
    path: PathBuf,
    written: Note,
    /// Sent until a voter answers or a new session is opened.
    inherited: Vec<SealedFenced>,
    next_send_ns: u64,
}

impl Succession {
    /// Reads the predecessor's note and waits until all of its processes are gone, killing those that are not.
    pub(crate) fn enter(run_dir: &Path) -> Self {
        let path = run_dir.join(FILE);
        let note: Note = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .filter(|note: &Note| note.kernel_boot == kernel_boot())
            .unwrap_or_default();
        for process in &note.processes {
            if process.kill_and_wait() {
                report!("killed process {} of the guard before this one", process.pid());
            }
        }
        for fenced in &note.fenced {
            report!(
                "session {} of the guard before this one has ended here: telling the voters",
                fenced.tenure.session
            );
        }
        Self { path, written: Note::default(), inherited: note.fenced, next_send_ns: 0 }
    }

    /// Writes the note if it changed.
    pub(crate) fn write(&mut self, processes: Vec<Process>, session: Option<SealedFenced>) {
        let fenced = self.inherited.iter().cloned().chain(session).collect();
        let note = Note { kernel_boot: kernel_boot(), processes, fenced };
        if note == self.written {
            return;
        }
        match write_whole(&self.path, &note) {
            Ok(()) => self.written = note,
            Err(error) => {
                report!("the note for a successor can't be written: {error}");
                // The old note doesn't name what was started since, so a successor must not send its `Fenced`.
                // Without a note a crash costs the closing age instead of being noticed at once.
                match fs::remove_file(&self.path) {
                    Ok(()) => self.written = Note::default(),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => report!("the old note for a successor can't be removed: {error}"),
                }
            }
        }
    }

    /// The agent opened a new session: the old one is closed.
    pub(crate) fn settle(&mut self) {
        self.inherited.clear();
    }

    /// When the next datagram is due.
    pub(crate) fn due_at_ns(&self) -> Option<u64> {
        (!self.inherited.is_empty()).then_some(self.next_send_ns)
    }

    pub(crate) fn send_due(&mut self, now: HostInstant, network: &Network) {
        if self.due_at_ns().is_none_or(|at| at > now.boottime_ns) {
            return;
        }
        for fenced in &self.inherited {
            for voter in &fenced.voters {
                network.send(&fenced.datagram, *voter);
            }
        }
        let period_ms = self.inherited.iter().map(|fenced| fenced.heartbeat_ms).min().unwrap_or(50);
        self.next_send_ns = now.boottime_ns + u64::from(period_ms) * 1_000_000;
    }

    /// Takes a datagram that may be a voter's answer.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        if let Some(closed) = datagram::read_closed_unverified(bytes) {
            self.inherited.retain(|fenced| fenced.tenure != closed);
        }
    }
}

fn kernel_boot() -> String {
    fs::read_to_string(BOOT_ID).map(|id| id.trim().to_owned()).unwrap_or_default()
}

fn write_whole(path: &Path, note: &Note) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(note)?)?;
    fs::rename(new, path)
}
