//! How records of the log look on the disk.
//!
//! Positions and votes have a fixed size of 16 bytes, both the same: whatever single bit of a record's
//! type flips, the record that is then read ends inside the one that was written, so its checksum fails.
//! A record that seems to reach beyond the end of the file would be cut off as a torn tail instead.

use std::cmp::Ordering;
use std::io;

use bytes::Bytes;
use codeq::{Decode, Encode};

use super::Completion;
use crate::storage::Position;

/// The largest entry: commands are limited far below, see `raft::MAX_COMMAND_BYTES`.
const MAX_ENTRY_BYTES: usize = 64 << 20;

/// The vote of this node: for whom in which term, and whether a quorum has made that node the leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredVote {
    /// The term.
    pub term: u64,
    /// The candidate.
    pub node: u64,
    /// Whether the candidate is known to lead the term.
    pub committed: bool,
}

impl PartialOrd for StoredVote {
    /// Within a term two candidates can't be compared, but a leader outranks a mere candidate.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self.term, self.committed).cmp(&(other.term, other.committed)) {
            Ordering::Equal if self.node != other.node => None,
            ordering => Some(ordering),
        }
    }
}

/// An entry's content: opaque here, the caller's encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryBytes(pub Bytes);

/// The log's slot for application data, which Muster does not use: it can't be written or read, so that
/// a flipped option tag is an error and not a length to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoUserData {}

/// The types of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogTypes;

impl raft_log::Types for LogTypes {
    type LogId = Position;
    type LogPayload = EntryBytes;
    type Vote = StoredVote;
    type Callback = Completion;
    type UserData = NoUserData;

    fn log_index(log_id: &Position) -> u64 {
        log_id.index
    }

    fn payload_size(payload: &EntryBytes) -> u64 {
        payload.0.len() as u64
    }
}

impl Encode for Position {
    fn encode<W: io::Write>(&self, mut w: W) -> io::Result<usize> {
        Ok(self.term.encode(&mut w)? + self.index.encode(&mut w)?)
    }
}

impl Decode for Position {
    fn decode<R: io::Read>(mut r: R) -> io::Result<Self> {
        Ok(Self { term: u64::decode(&mut r)?, index: u64::decode(&mut r)? })
    }
}

impl Encode for StoredVote {
    fn encode<W: io::Write>(&self, mut w: W) -> io::Result<usize> {
        // The lowest bit carries `committed`, to keep the size that the module's comment asks for.
        let term = self.term << 1 | u64::from(self.committed);
        Ok(term.encode(&mut w)? + self.node.encode(&mut w)?)
    }
}

impl Decode for StoredVote {
    fn decode<R: io::Read>(mut r: R) -> io::Result<Self> {
        let (term, node) = (u64::decode(&mut r)?, u64::decode(&mut r)?);
        Ok(Self { term: term >> 1, node, committed: term & 1 == 1 })
    }
}

impl Encode for EntryBytes {
    fn encode<W: io::Write>(&self, mut w: W) -> io::Result<usize> {
        let length = u32::try_from(self.0.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "an entry of 4 GiB or more"))?;
        let mut guarded = [0; 8];
        guarded[..4].copy_from_slice(&length.to_be_bytes());
        guarded[4..].copy_from_slice(&(!length).to_be_bytes());
        w.write_all(&guarded)?;
        w.write_all(&self.0)?;
        Ok(guarded.len() + self.0.len())
    }
}

impl Decode for EntryBytes {
    fn decode<R: io::Read>(mut r: R) -> io::Result<Self> {
        let (length, guard) = (u32::decode(&mut r)?, u32::decode(&mut r)?);
        let length_bytes = length as usize;
        // A flipped bit in the length would otherwise read beyond the file's end, which looks like a
        // torn tail: everything from here on would be cut off without a word.
        if guard != !length || length_bytes > MAX_ENTRY_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the length of an entry is damaged"));
        }
        let mut content = vec![0; length_bytes];
        r.read_exact(&mut content)?;
        Ok(Self(content.into()))
    }
}

impl Encode for NoUserData {
    fn encode<W: io::Write>(&self, _: W) -> io::Result<usize> {
        match *self {}
    }
}

impl Decode for NoUserData {
    fn decode<R: io::Read>(_: R) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::InvalidData, "application data where there can be none"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_order_by_term_then_leadership_and_never_by_candidate() {
        let vote = |term, node, committed| StoredVote { term, node, committed };
        assert!(vote(2, 1, false) > vote(1, 9, true));
        assert!(vote(2, 1, true) > vote(2, 9, false));
        assert_eq!(vote(2, 1, false).partial_cmp(&vote(2, 2, false)), None);
        assert!(vote(2, 1, false) >= vote(2, 1, false));
    }

    #[test]
    fn votes_and_positions_have_the_same_size() {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        StoredVote { term: u64::MAX >> 1, node: 7, committed: true }.encode(&mut a).unwrap();
        Position { term: 1, index: 2 }.encode(&mut b).unwrap();
        assert_eq!((a.len(), b.len()), (16, 16));
        assert_eq!(
            StoredVote::decode(&a[..]).unwrap(),
            StoredVote { term: u64::MAX >> 1, node: 7, committed: true }
        );
    }

    #[test]
    fn a_flipped_length_is_damage_and_not_an_early_end() {
        let mut encoded = Vec::new();
        EntryBytes(Bytes::from_static(b"hello")).encode(&mut encoded).unwrap();
        for bit in 0..64 {
            let mut flipped = encoded.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(EntryBytes::decode(&flipped[..]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
