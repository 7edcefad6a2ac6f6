//! The UDP datagrams between guards and voters (LEASES.md R1, R2).
//!
//! ```text
//! magic "Mu" · version · kind · cluster (16) · incarnation (8) · session (8) · seq (8) · body · tag (16)
//! ```
//! Numbers are big-endian. The tag is the first 16 bytes of BLAKE3, keyed with the session's key, over a
//! direction byte and everything before the tag: a datagram can't be turned around and sent back.
//! A receiver finds the key by [`Header::read`] and then calls [`open`]; what does not verify is never
//! answered, so a forger gets nothing amplified. Neither side allocates, unless an ack carries a voter list.

mod bytes;

use muster_core::id::{BootId, ClusterId, Incarnation, MembershipId, NodeId, SessionId};

use crate::key::SessionKey;
use crate::voters::VoterList;
use bytes::{Reader, Writer};

/// The largest datagram, in bytes: below every usual MTU.
pub const DATAGRAM_BYTES_MAX: usize = 1200;
/// A buffer for one datagram.
pub type Buffer = [u8; DATAGRAM_BYTES_MAX];

const MAGIC: [u8; 2] = *b"Mu";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 2 + 1 + 1 + 16 + 8 + 8 + 8;
const TAG_BYTES: usize = 16;

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
    /// The heartbeat's number, growing by one; answers repeat it. 0 in Fenced.
    pub seq: u64,
}

/// The kinds of datagrams; the first two go to voters, the others to guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The node lives.
    Heartbeat,
    /// Nothing exclusive is left of the session; it may be closed at once.
    Fenced,
    /// The voter counts the heartbeat.
    Ack,
    /// The session is closed in the voter's applied state.
    Closed,
    /// The voter heard Fenced and forwards it.
    FencedAnswer,
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Heartbeat => 1,
            Self::Fenced => 2,
            Self::Ack => 3,
            Self::Closed => 4,
            Self::FencedAnswer => 5,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Heartbeat,
            2 => Self::Fenced,
            3 => Self::Ack,
            4 => Self::Closed,
            5 => Self::FencedAnswer,
            _ => return None,
        })
    }

    /// 1 towards voters, 2 towards guards.
    const fn direction(self) -> u8 {
        match self {
            Self::Heartbeat | Self::Fenced => 1,
            Self::Ack | Self::Closed | Self::FencedAnswer => 2,
        }
    }
}

/// What follows the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// From the guard.
    Heartbeat {
        /// The host.
        node: NodeId,
        /// The version of the voter list it holds.
        list_version: u64,
        /// Whether an agent is connected to the guard.
        agent_present: bool,
    },
    /// From the guard that held the session, or from its successor.
    Fenced {
        /// The host.
        node: NodeId,
    },
    /// From a voter.
    Ack(Ack),
    /// From a voter.
    Closed {
        /// The voter.
        voter: NodeId,
    },
    /// From a voter.
    FencedAnswer {
        /// The voter.
        voter: NodeId,
    },
}

/// A voter's answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The voter.
    pub voter: NodeId,
    /// The voter's start.
    pub boot: BootId,
    /// The membership in the voter's applied state, C.
    pub membership: MembershipId,
    /// The version of the voter's list.
    pub list_version: u64,
    /// The controller asks for an orderly stop of what is exclusive.
    pub release: bool,
    /// The list, when the heartbeat's version is older.
    pub list: Option<VoterList>,
}

impl Body {
    /// The kind of datagram that has this body.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Heartbeat { .. } => Kind::Heartbeat,
            Self::Fenced { .. } => Kind::Fenced,
            Self::Ack(_) => Kind::Ack,
            Self::Closed { .. } => Kind::Closed,
            Self::FencedAnswer { .. } => Kind::FencedAnswer,
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
            seq: reader.u64()?,
        })
    }
}

/// Writes a datagram into `buffer` and returns its length in bytes. The kind comes from the body.
///
/// A voter list that does not fit gets fewer addresses a voter, at least one.
pub fn encode(header: &Header, body: &Body, key: &SessionKey, buffer: &mut Buffer) -> usize {
    let kind = body.kind();
    let (content, tag_space) = buffer.split_at_mut(DATAGRAM_BYTES_MAX - TAG_BYTES);
    let mut writer = Writer::new(content);
    writer.put(&MAGIC);
    writer.put(&[VERSION, kind.number()]);
    writer.put(&header.cluster.0.to_be_bytes());
    writer.u64(header.incarnation.0);
    writer.u64(header.session.0);
    writer.u64(header.seq);
    match body {
        Body::Heartbeat { node, list_version, agent_present } => {
            writer.u64(node.0);
            writer.u64(*list_version);
            writer.put(&[u8::from(*agent_present)]);
        }
        Body::Fenced { node: id } | Body::Closed { voter: id } | Body::FencedAnswer { voter: id } => {
            writer.u64(id.0)
        }
        Body::Ack(ack) => {
            writer.u64(ack.voter.0);
            writer.u64(ack.boot.0);
            writer.u64(ack.membership.0);
            writer.u64(ack.list_version);
            writer.put(&[u8::from(ack.release), u8::from(ack.list.is_some())]);
            if let Some(list) = &ack.list {
                writer.list(list);
            }
        }
    }
    let length = writer.length();
    // The tag belongs right behind the content, not at the buffer's end.
    let tag = tag(kind, &content[..length], key);
    tag_space.copy_from_slice(&tag);
    buffer[length..length + TAG_BYTES].copy_from_slice(&tag);
    length + TAG_BYTES
}

/// Verifies and reads a datagram.
///
/// # Errors
/// [`DatagramError`]; nothing of a datagram that is refused may be used.
pub fn open(datagram: &[u8], key: &SessionKey) -> Result<(Header, Body), DatagramError> {
    let header = Header::read(datagram)?;
    let (content, received) = datagram.split_at(datagram.len() - TAG_BYTES);
    let expected = tag(header.kind, content, key);
    // No early end: how long it takes must not tell how many bytes were right.
    if expected.iter().zip(received).fold(0, |differs, (a, b)| differs | (a ^ b)) != 0 {
        return Err(DatagramError::Tag);
    }
    let mut reader = Reader::new(&content[HEADER_BYTES..]);
    let body = match header.kind {
        Kind::Heartbeat => Body::Heartbeat {
            node: NodeId(reader.u64()?),
            list_version: reader.u64()?,
            agent_present: reader.flag()?,
        },
        Kind::Fenced => Body::Fenced { node: NodeId(reader.u64()?) },
        Kind::Closed => Body::Closed { voter: NodeId(reader.u64()?) },
        Kind::FencedAnswer => Body::FencedAnswer { voter: NodeId(reader.u64()?) },
        Kind::Ack => Body::Ack(Ack {
            voter: NodeId(reader.u64()?),
            boot: BootId(reader.u64()?),
            membership: MembershipId(reader.u64()?),
            list_version: reader.u64()?,
            release: reader.flag()?,
            list: if reader.flag()? { Some(reader.list()?) } else { None },
        }),
    };
    // Bytes behind the known fields are allowed: a later build may add some without a new version.
    Ok((header, body))
}

fn tag(kind: Kind, content: &[u8], key: &SessionKey) -> [u8; TAG_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(key.as_bytes());
    hasher.update(&[kind.direction()]).update(content);
    let mut tag = [0; TAG_BYTES];
    tag.copy_from_slice(&hasher.finalize().as_bytes()[..TAG_BYTES]);
    tag
}
