//! The voters as guard and voters tell each other: who they are, in which halves, and where to reach them.

use std::net::{IpAddr, SocketAddr};

use muster_core::id::{MembershipId, NodeId};
use serde::{Deserialize, Serialize};

/// The most voters in a list: two joint halves of seven share most of their members.
pub const VOTERS_MAX: usize = 14;
/// The most addresses of a voter that are used (LEASES.md R1).
pub const ADDRESSES_MAX: usize = 4;

/// The voters of one membership.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterList {
    /// Grows whenever a voter or an address changes; a voter's ack carries the list if the heartbeat's is older.
    pub version: u64,
    /// The membership C.
    pub membership: MembershipId,
    /// All voters, each once.
    pub voters: Vec<Voter>,
}

/// One voter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voter {
    /// Its node.
    pub id: NodeId,
    /// Whether it is in the first half (the old members of a joint membership; all members of a plain one).
    pub in_first: bool,
    /// Whether it is in the second half (the new members of a joint membership; nobody in a plain one).
    pub in_second: bool,
    /// Where it listens for heartbeats, at most [`ADDRESSES_MAX`].
    pub addresses: Vec<SocketAddr>,
}

impl VoterList {
    /// A list for a plain (not joint) membership.
    #[must_use]
    pub fn plain(version: u64, membership: MembershipId, voters: Vec<(NodeId, Vec<SocketAddr>)>) -> Self {
        let voters = voters
            .into_iter()
            .map(|(id, addresses)| Voter { id, in_first: true, in_second: false, addresses })
            .collect();
        Self { version, membership, voters }
    }

    /// Why the list can't be used, if so: no or too many voters, one twice, or one in neither half.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        let twice =
            self.voters.iter().enumerate().any(|(i, v)| self.voters[..i].iter().any(|w| w.id == v.id));
        if self.voters.len() > VOTERS_MAX {
            Some("too many voters")
        } else if !self.voters.iter().any(|v| v.in_first) {
            Some("no voters")
        } else if twice {
            Some("a voter is listed twice")
        } else if self.voters.iter().any(|v| !v.in_first && !v.in_second) {
            Some("a voter is in neither half")
        } else {
            None
        }
    }

    /// The ids of the first half, in the list's order.
    pub fn first(&self) -> impl Iterator<Item = NodeId> {
        self.voters.iter().filter(|v| v.in_first).map(|v| v.id)
    }

    /// The ids of the second half; empty unless the membership is joint.
    pub fn second(&self) -> impl Iterator<Item = NodeId> {
        self.voters.iter().filter(|v| v.in_second).map(|v| v.id)
    }
}

/// Whether heartbeats may go there: not to link-local, multicast or unspecified addresses, nor to port 0.
#[must_use]
pub fn is_usable(address: &SocketAddr) -> bool {
    let link_local = match address.ip() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => (ip.segments()[0] & 0xffc0) == 0xfe80,
    };
    !link_local && !address.ip().is_multicast() && !address.ip().is_unspecified() && address.port() != 0
}
