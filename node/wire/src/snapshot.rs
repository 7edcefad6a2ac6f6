//! The state as a stream of records: a header, then each table in the order of `log.proto`, each in the order of
//! its keys. Records are small, so that neither side ever holds a second copy of the whole state.

pub(crate) mod read;
mod record;
pub(crate) mod write;

use crate::error::DecodeError;

/// The version of the records that this Muster writes; it reads this one and older ones.
pub const STATE_VERSION: u32 = 1;

/// Whether a reader may see the keys of sessions and CAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKeys {
    /// A member of Raft, or this host's own disk.
    Include,
    /// Anyone else.
    Redact,
}

/// Why records do not make a state.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A record could not be understood.
    #[error("a record of the snapshot is not legal")]
    Record(#[source] DecodeError),
    /// The first record is not the header.
    #[error("the snapshot does not begin with a header")]
    NoHeader,
    /// It was written by a newer Muster.
    #[error("the snapshot has version {found}, but this Muster reads up to {known}; upgrade this agent")]
    NewerVersion {
        /// The header's.
        found: u32,
        /// The highest known.
        known: u32,
    },
    /// A record of that kind may not come here, or came twice.
    #[error("a record of kind {kind} is out of order in the snapshot, or there twice")]
    OutOfOrder {
        /// What it is about.
        kind: &'static str,
    },
    /// A record names something that the snapshot does not have.
    #[error("{what} names {target}, which the snapshot does not have")]
    Dangling {
        /// The record.
        what: String,
        /// What it names.
        target: String,
    },
}
