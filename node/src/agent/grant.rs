//! The grant that a guard gets for its session, from the replicated state.

use std::net::{IpAddr, SocketAddr};

use muster_core::id::{NodeId, Revision};
use muster_core::lease::message::MAX_ADDRESSES;
use muster_core::lease::{Grant, Tenure, VoterAddresses, VoterList};
use muster_core::state::State;
use muster_core::state::session::Session;

/// What the guard needs to hold the session: `None` before the cluster exists or has voters.
#[must_use]
pub fn grant_of(state: &State, session: &Session) -> Option<Grant> {
    let cluster = state.cluster.as_ref()?;
    let tenure = Tenure {
        cluster: cluster.id,
        incarnation: cluster.incarnation,
        node: session.node,
        session: session.id,
    };
    let list = voter_list(state);
    list.is_well_formed().then_some(Grant {
        tenure,
        ttl_ms: session.timing.lease_ttl_ms,
        heartbeat_ms: session.timing.heartbeat_ms,
        kill_budget_ms: session.timing.kill_budget_ms,
        list,
    })
}

/// The voters and their addresses. It claims no knowledge of when an address last changed, so that any list
/// that a voter sends under the same membership replaces it.
fn voter_list(state: &State) -> VoterList {
    let addresses = |node| VoterAddresses { node, addresses: addresses_of(state, node) };
    VoterList {
        membership: state.membership.clone(),
        addresses_revision: Revision(0),
        voters: state.membership.voters().into_iter().map(addresses).collect(),
    }
}

/// Heartbeats go to literal addresses only: a guard does not resolve names (LEASES.md R1).
fn addresses_of(state: &State, node: NodeId) -> Vec<SocketAddr> {
    let told = state.nodes.get(&node).map_or(&[][..], |n| &n.description.addresses);
    let usable = |address: &String| address.parse().ok().filter(|a| !is_link_local(*a));
    told.iter().filter_map(usable).take(MAX_ADDRESSES).collect()
}

fn is_link_local(address: SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
