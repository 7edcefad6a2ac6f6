//! Everything on disk: the data directory, the Raft log, snapshots, and the history.
//!
//! Four stores with four different promises:
//!
//! | store | promise | when it is damaged |
//! |---|---|---|
//! | [`directory`] | identity and format; atomic, synced | the agent refuses to start |
//! | [`log`] | acknowledged means on the disk | the agent refuses to start; a torn tail is cut |
//! | [`snapshot`] | a synced file once it has its name | the one before it is used if the log covers the rest |
//! | [`history`] | derived, may be lost | set aside and started empty |
//!
//! [`keys`] holds what snapshots and secrets are encrypted with, apart from all of them.
//!
//! **Architecture invariant:** raft-log appears only in `log`, sled only in `history`, openraft nowhere here.

pub mod directory;
pub mod durable;
pub mod history;
pub mod keys;
pub mod log;
mod sealed;
pub mod snapshot;

use std::path::PathBuf;

/// A position in the Raft log: the term of the leader that wrote the entry, and the entry's index.
/// Ordered by term first, as Raft compares logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The term of the leader that wrote the entry.
    pub term: u64,
    /// The entry's index; the first entry of a cluster has index 0.
    pub index: u64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// A file or directory operation that failed, with what it was meant to do.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    /// The verb: "read", "sync", "rename to".
    pub action: &'static str,
    /// What it was done to.
    pub path: PathBuf,
    /// The system's answer.
    #[source]
    pub source: std::io::Error,
}

impl FileError {
    /// For `map_err`: wraps the system's answer.
    pub fn of(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self { action, path, source }
    }
}
