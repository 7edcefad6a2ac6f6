//! The UDP datagrams between guards and voters (LEASES.md R1, R2): how `muster_core::lease`'s messages look
//! as bytes.
//!
//! ```text
//! magic "Mu" · version · kind · cluster (16) · incarnation (8) · session (8) · body · tag (16)
//! ```
//! Numbers are big-endian. The tag is the first 16 bytes of BLAKE3, keyed with the session's key, over a
//! direction byte and everything before the tag: a datagram can't be turned around and sent back.
//! A receiver finds the key by [`Header::read`] and then opens the datagram; what does not verify is never
//! answered, and what a guard sends is as long as a plain answer to it, so a forger gets nothing amplified: only the
//! voter list makes an ack longer, and that goes to a heartbeat that verifies and is new. Nothing is allocated, unless an ack carries a voter list.

mod bytes;
mod rejection;

use std::sync::Arc;

use muster_core::id::{BootId, ClusterId, Incarnation, NodeId, SessionId};
use muster_core::lease::{Ack, Answer, Closed, Fenced, Heartbeat, Tenure};

pub use self::rejection::{Rejection, Rejections};
use crate::key::SessionKey;
use bytes::{Reader, Writer};

/// The largest datagram, in bytes: below every usual MTU.
pub const DATAGRAM_BYTES_MAX: usize = 1200;
/// A buffer for one datagram.
pub type Buffer = [u8; DATAGRAM_BYTES_MAX];

const MAGIC: [u8; 2] = *b"Mu";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 2 + 1 + 1 + 16 + 8 + 8;
const TAG_BYTES: usize = 16;
/// An ack without a list: node, voter, boot, number, version of the list and two flags. A heartbeat is filled up to it.
const ACK_BYTES: usize = HEADER_BYTES + 8 + 8 + 8 + 8 + 16 + 1 + 1 + TAG_BYTES;
/// `Closed`: node and voter. A `Fenced` is filled up to it.
const CLOSED_BYTES: usize = HEADER_BYTES + 8 + 8 + TAG_BYTES;

/// What a guard sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromGuard {
    /// The host lives.
    Heartbeat(Heartbeat),
    /// Nothing exclusive is left of the session.
    Fenced(Fenced),
}

/// What every datagram begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What follows.
    pub kind: Kind,
    /// The cluster.
    pub cluster: ClusterId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The session, which names the key.
    pub session: SessionId,
}

/// The kinds of datagrams; the first two go to voters, the others to guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`FromGuard::Heartbeat`].
    Heartbeat = 1,
    /// [`FromGuard::Fenced`].
    Fenced = 2,
    /// [`Answer::Ack`].
    Ack = 3,
    /// [`Answer::Closed`].
    Closed = 4,
}

impl Kind {
    const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Heartbeat,
            2 => Self::Fenced,
            3 => Self::Ack,
            4 => Self::Closed,
            _ => return None,
        })
    }

    /// Whether guards send it to voters, rather than the other way.
    #[must_use]
    pub const fn goes_to_voters(self) -> bool {
        self.direction() == 1
    }

    /// 1 towards voters, 2 towards guards.
    const fn direction(self) -> u8 {
        match self {
            Self::Heartbeat | Self::Fenced => 1,
            Self::Ack | Self::Closed => 2,
        }
    }
}

/// Why a datagram is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// Not one of Muster's.
    #[error("not a datagram of Muster")]
    Foreign,
    /// Of another version.
    #[error("a datagram of version {0}")]
    Version(u8),
    /// Of a kind that this build doesn't know.
    #[error("a datagram of kind {0}")]
    Kind(u8),
    /// Of a kind that goes the other way.
    #[error("a datagram of kind {0}, which goes the other way")]
    Direction(u8),
    /// Too short, too long, or with content that is out of range.
    #[error("a malformed datagram")]
    Malformed,
    /// The tag does not fit the key.
    #[error("a datagram with a wrong tag")]
    Tag,
}

impl Header {
    /// Reads the header alone, unverified: it tells which key to try.
    ///
    /// # Errors
    /// [`DatagramError`], found without any cryptography.
    pub fn read(datagram: &[u8]) -> Result<Self, DatagramError> {
        if datagram.len() < HEADER_BYTES + TAG_BYTES || datagram[..2] != MAGIC {
            return Err(DatagramError::Foreign);
        }
        if datagram[2] != VERSION {
            return Err(DatagramError::Version(datagram[2]));
        }
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return Err(DatagramError::Malformed);
        }
        let kind = Kind::from_number(datagram[3]).ok_or(DatagramError::Kind(datagram[3]))?;
        let mut reader = Reader::new(&datagram[4..HEADER_BYTES]);
        Ok(Self {
            kind,
            cluster: ClusterId(reader.u128()?),
            incarnation: Incarnation(reader.u64()?),
            session: SessionId(reader.u64()?),
        })
    }

    const fn tenure(&self, node: NodeId) -> Tenure {
        Tenure { cluster: self.cluster, incarnation: self.incarnation, node, session: self.session }
    }
}

/// Writes what a guard sends into `buffer`; the result is its length in bytes.
pub fn encode_from_guard(message: &FromGuard, key: &SessionKey, buffer: &mut Buffer) -> usize {
    match message {
        FromGuard::Heartbeat(heartbeat) => seal(Kind::Heartbeat, &heartbeat.tenure, key, buffer, |writer| {
            writer.u64(heartbeat.seq);
            writer.version(heartbeat.list);
            writer.flag(heartbeat.agent_present);
            writer.pad(ACK_BYTES - TAG_BYTES);
        }),
        FromGuard::Fenced(fenced) => seal(Kind::Fenced, &fenced.tenure, key, buffer, |writer| {
            writer.pad(CLOSED_BYTES - TAG_BYTES);
        }),
    }
}

/// Writes what a voter answers into `buffer`; the result is its length in bytes. A voter list that would not
/// fit is sent with fewer addresses a voter, at least one.
pub fn encode_answer(answer: &Answer, key: &SessionKey, buffer: &mut Buffer) -> usize {
    match answer {
        Answer::Ack(ack) => seal(Kind::Ack, &ack.tenure, key, buffer, |writer| {
            writer.u64(ack.voter.0);
            writer.u64(ack.boot.0);
            writer.u64(ack.seq);
            writer.version(ack.list_version);
            writer.flag(ack.release);
            writer.flag(ack.list.is_some());
            if let Some(list) = &ack.list {
                writer.list(list);
            }
        }),
        Answer::Closed(closed) => {
            seal(Kind::Closed, &closed.tenure, key, buffer, |writer| writer.u64(closed.voter.0))
        }
    }
}

/// Verifies and reads what a guard sent.
///
/// # Errors
/// [`DatagramError`]; nothing of a refused datagram may be used, and it is not answered.
pub fn open_from_guard(datagram: &[u8], key: &SessionKey) -> Result<FromGuard, DatagramError> {
    let (header, mut reader) = verify(datagram, key)?;
    let tenure = header.tenure(NodeId(reader.u64()?));
    match header.kind {
        Kind::Heartbeat => Ok(FromGuard::Heartbeat(Heartbeat {
            tenure,
            seq: reader.u64()?,
            list: reader.version()?,
            agent_present: reader.flag()?,
        })),
        Kind::Fenced => Ok(FromGuard::Fenced(Fenced { tenure })),
        Kind::Ack | Kind::Closed => Err(DatagramError::Direction(header.kind as u8)),
    }
}

/// Verifies and reads what a voter answered.
///
/// # Errors
/// [`DatagramError`]; nothing of a refused datagram may be used.
pub fn open_answer(datagram: &[u8], key: &SessionKey) -> Result<Answer, DatagramError> {
    let (header, mut reader) = verify(datagram, key)?;
    let tenure = header.tenure(NodeId(reader.u64()?));
    let voter = NodeId(reader.u64()?);
    match header.kind {
        Kind::Ack => Ok(Answer::Ack(Ack {
            tenure,
            voter,
            boot: BootId(reader.u64()?),
            seq: reader.u64()?,
            list_version: reader.version()?,
            release: reader.flag()?,
            list: if reader.flag()? { Some(Arc::new(reader.list()?)) } else { None },
        })),
        Kind::Closed => Ok(Answer::Closed(Closed { tenure, voter })),
        Kind::Heartbeat | Kind::Fenced => Err(DatagramError::Direction(header.kind as u8)),
    }
}

/// Reads an answer `Closed` without verifying it, for a successor of a crashed guard, which has no key. The most
/// that a forger gains is that `Fenced` is no longer sent, and the session is closed by its age instead.
#[must_use]
pub fn read_closed_unverified(datagram: &[u8]) -> Option<Tenure> {
    let header = Header::read(datagram).ok().filter(|header| header.kind == Kind::Closed)?;
    let mut reader = Reader::new(&datagram[HEADER_BYTES..datagram.len() - TAG_BYTES]);
    Some(header.tenure(NodeId(reader.u64().ok()?)))
}

fn seal(
    kind: Kind,
    tenure: &Tenure,
    key: &SessionKey,
    buffer: &mut Buffer,
    body: impl FnOnce(&mut Writer<'_>),
) -> usize {
    let mut writer = Writer::new(&mut buffer[..DATAGRAM_BYTES_MAX - TAG_BYTES]);
    writer.put(&MAGIC);
    writer.put(&[VERSION, kind as u8]);
    writer.put(&tenure.cluster.0.to_be_bytes());
    writer.u64(tenure.incarnation.0);
    writer.u64(tenure.session.0);
    writer.u64(tenure.node.0);
    body(&mut writer);
    let length = writer.length();
    let tag = tag(kind, &buffer[..length], key);
    buffer[length..length + TAG_BYTES].copy_from_slice(&tag);
    length + TAG_BYTES
}

/// Bytes behind the fields that this build knows are allowed: a later one may add some.
fn verify<'a>(datagram: &'a [u8], key: &SessionKey) -> Result<(Header, Reader<'a>), DatagramError> {
    let header = Header::read(datagram)?;
    let (content, received) = datagram.split_at(datagram.len() - TAG_BYTES);
    let expected = tag(header.kind, content, key);
    // No early end: how long it takes must not tell how many bytes were right.
    if expected.iter().zip(received).fold(0, |differs, (a, b)| differs | (a ^ b)) != 0 {
        return Err(DatagramError::Tag);
    }
    Ok((header, Reader::new(&content[HEADER_BYTES..])))
}

fn tag(kind: Kind, content: &[u8], key: &SessionKey) -> [u8; TAG_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(key.as_bytes());
    hasher.update(&[kind.direction()]).update(content);
    let mut tag = [0; TAG_BYTES];
    tag.copy_from_slice(&hasher.finalize().as_bytes()[..TAG_BYTES]);
    tag
}
