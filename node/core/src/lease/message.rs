//! What the datagrams between guards and voters mean (R1, R2, R4). Their bytes and their MAC are the wire's.
//!
//! ```text
//! guard ── Heartbeat ──▶ voter        every h, to each address of every voter heard of, under E's key
//! guard ◀── Answer ───── voter        Ack, or Closed once E is closed in the voter's applied state
//! guard ── Fenced ─────▶ voter        after a lapse, when nothing exclusive is left; every h until Closed
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::membership::{MAX_VOTERS, Membership};
use crate::id::{BootId, ClusterId, Incarnation, MembershipId, NodeId, Revision, SessionId};

/// The largest number of addresses of a voter in a list (R1).
pub const MAX_ADDRESSES: usize = 4;
/// The largest number of voters in a list: both halves of a joint membership.
pub const MAX_LISTED: usize = 2 * MAX_VOTERS;

/// Which cluster's which session a datagram speaks of. A datagram that names another one is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tenure {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its incarnation; a restore or `muster recover` makes a higher one (R12).
    pub incarnation: Incarnation,
    /// The node whose guard holds the session.
    pub node: NodeId,
    /// The session E.
    pub session: SessionId,
}

/// How new a list of voters is: first by membership, then by addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ListVersion {
    /// The membership that the list spells out.
    pub membership: MembershipId,
    /// The revision at which an address of one of its voters last changed.
    pub addresses: Revision,
}

/// One voter and where its heartbeats go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VoterAddresses {
    /// The voter.
    pub node: NodeId,
    /// At most [`MAX_ADDRESSES`], none of them link-local.
    pub addresses: Vec<SocketAddr>,
}

/// A membership with its voters' addresses, as the state machine applied it. Id and content travel together (R3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VoterList {
    /// The membership.
    pub membership: Membership,
    /// The revision at which an address of one of these voters last changed.
    pub addresses_revision: Revision,
    /// Where each voter of the membership is reached, ascending by node.
    pub voters: Vec<VoterAddresses>,
}

impl VoterList {
    /// How new the list is.
    #[must_use]
    pub fn version(&self) -> ListVersion {
        ListVersion { membership: self.membership.id, addresses: self.addresses_revision }
    }

    /// Whether the list keeps all limits and has an entry for each voter of its membership and for nobody else.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        let ascending = self.voters.windows(2).all(|pair| pair[0].node < pair[1].node);
        let listed = |voter: &VoterAddresses| {
            voter.addresses.len() <= MAX_ADDRESSES && self.membership.contains(voter.node)
        };
        self.membership.is_well_formed()
            && ascending
            && self.voters.iter().all(listed)
            && self.voters.len() == self.membership.voters().len()
    }
}

/// R1: the guard's sign of life, which asks for an ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Whose.
    pub tenure: Tenure,
    /// Grows with every heartbeat of the session, from 1. All addresses of one round carry the same number.
    pub seq: u64,
    /// The list that the guard holds; a voter with a newer one sends it along.
    pub list: ListVersion,
    /// Whether the host's agent is connected to the guard.
    pub agent_present: bool,
}

/// R4: nothing exclusive of this session is left on the host. Only the guard that held the session can say so:
/// it needs the session's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fenced {
    /// Whose.
    pub tenure: Tenure,
}

/// R2: a voter has noted the heartbeat and counts the session's age from then.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ack {
    /// The session that was acked.
    pub tenure: Tenure,
    /// Who acks. Votes count per voter, never per address.
    pub voter: NodeId,
    /// The voter's boot.
    pub boot: BootId,
    /// The heartbeat that is acked.
    pub seq: u64,
    /// The voter's applied membership C and the version of its list.
    pub list_version: ListVersion,
    /// The list itself, when the heartbeat named an older one.
    pub list: Option<Arc<VoterList>>,
    /// The controller wishes an orderly stop of this session (LEASES.md, 'Agent gone').
    pub release: bool,
}

/// R2: the session is closed in this voter's applied state: for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Closed {
    /// The session that is closed.
    pub tenure: Tenure,
    /// Who says so.
    pub voter: NodeId,
}

/// What a voter sends back.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Answer {
    /// The heartbeat counts.
    Ack(Ack),
    /// The session is over.
    Closed(Closed),
}
