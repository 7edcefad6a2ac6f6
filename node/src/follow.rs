//! Nodes outside Raft follow the state by a stream from a node inside: a snapshot, then entries.
//!
//! A node that is taken out of Raft is not told by Raft: the leader stops replicating to it with the very entry
//! that says so, and it may be down at that time. So a member to which nothing happens asks the others.
//!
//! What a lost host ran may have to start here, so a lost host must not keep this node from hearing of it: whoever falls
//! silent, or hears no leader itself, is left for the next one well before a session can be closed (LEASES.md, W). A node
//! that finds nobody else is not ready (`/readyz`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_core::id::{MembershipId, NodeId, Revision};
use muster_core::state::State;
use muster_core::time::Timing;
use muster_proto::v1;
use muster_proto::v1::cluster_client::ClusterClient;
use muster_proto::v1::node_link_client::NodeLinkClient;
use muster_wire::StateReader;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::peers::{MAX_MESSAGE_BYTES, Peers};
use crate::raft::RaftHandle;
use crate::replica::NodeReplica;

/// A stream that says nothing for this part of a lease's TTL is dead.
const SILENCES_IN_TTL: u32 = 2;
/// Whoever is followed speaks so often in a TTL: two words may come late before its silence counts.
const WORDS_IN_TTL: u32 = 5;
/// Between two tries to find somebody to follow.
const PAUSE: Duration = Duration::from_millis(50);
/// The same after everybody was tried in vain: without a quorum there is nothing to hear.
const LONG_PAUSE: Duration = Duration::from_millis(500);
/// A member of Raft to which nothing has happened for so long asks whether it still is one.
const ASK_AFTER: Duration = Duration::from_secs(2);
/// The same while a leader shows that it still replicates to this node: it may be one that a majority has left.
const ASK_ALL_THE_SAME: Duration = Duration::from_secs(30);
/// How long asking somebody may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// How often whoever is followed speaks at least.
#[must_use]
pub fn speaks_every(timing: &Timing) -> Duration {
    timing.ttl() / WORDS_IN_TTL
}

/// How long it may be silent.
fn silence(state: &State) -> Duration {
    state.cluster.as_ref().map_or(Timing::LAN, |cluster| cluster.timing).ttl() / SILENCES_IN_TTL
}

/// What keeps a node's state going while it is outside Raft.
pub struct Follower {
    /// This node.
    pub me: NodeId,
    /// What it says of itself.
    pub sender: v1::Sender,
    /// The other agents.
    pub peers: Peers,
    /// Where to ask before the state names any member.
    pub seeds: Vec<String>,
    /// Tells whether a leader replicates to this node.
    pub raft: RaftHandle,
    /// What is kept.
    pub replica: NodeReplica,
    /// The state that it shows.
    pub state: watch::Receiver<Arc<State>>,
    /// Tells whether it follows somebody who is in touch with the cluster.
    pub is_in_touch: watch::Sender<bool>,
}

impl Follower {
    /// Follows whenever this node is neither voter nor standby.
    pub async fn run(mut self, stop: CancellationToken) {
        // Not all nodes follow the same one.
        let mut turn = usize::try_from(self.me.0).unwrap_or_default();
        let mut in_vain = 0;
        loop {
            let addresses = candidates(&self.state.borrow_and_update(), self.me, &self.seeds);
            let address = addresses.get(turn % addresses.len().max(1));
            turn = turn.wrapping_add(1);
            let mut taken_out_at = MembershipId::default();
            if self.state.borrow().is_in_raft(self.me) {
                self.is_in_touch.send_replace(false);
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = self.state.changed() => if changed.is_err() { return } else { continue },
                    () = is_left_alone(&self.raft) => {}
                }
                let Some(address) = address else { continue };
                let Some(view) = raft_view(&self.peers, address).await else { continue };
                let Some(later) = taken_out(&self.state.borrow(), self.me, &view) else { continue };
                tracing::info!(membership = %later, "this node was taken out of Raft: it follows from now on");
                taken_out_at = later;
            }
            if let Some(address) = address {
                tokio::select! {
                    () = stop.cancelled() => return,
                    ended = self.follow_one(address, taken_out_at) => {
                        tracing::debug!(address, why = ended.why, "no longer following");
                        in_vain = if ended.was_heard { 0 } else { in_vain + 1 };
                        // Who leaves one for the next has not lost touch before that one is silent as well.
                        self.is_in_touch.send_replace(ended.was_heard);
                    }
                }
            }
            let pause = if in_vain < addresses.len() { PAUSE } else { LONG_PAUSE };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Follows one agent until the stream ends, or until this node is in Raft by a membership not before
    /// `since`; says why it ended.
    async fn follow_one(&mut self, address: &str, since: MembershipId) -> Ended {
        let Self { me, sender, peers, replica, is_in_touch, .. } = self;
        let mut was_heard = false;
        let listen = async {
            let channel = peers.dial(address).map_err(|error| error.to_string())?;
            let mut link: NodeLinkClient<Channel> =
                NodeLinkClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
            let after_revision = replica.state().revision.0;
            let request = v1::FollowRequest { sender: Some(sender.clone()), after_revision };
            let asked = tokio::time::timeout(silence(replica.state()), link.follow(request)).await;
            let answer = asked.map_err(|_| "no answer".to_owned())?;
            let mut stream = answer.map_err(|status| status.message().to_owned())?.into_inner();
            let mut reader = StateReader::new();
            loop {
                let said = tokio::time::timeout(silence(replica.state()), stream.message()).await;
                let said = said.map_err(|_| "the stream fell silent".to_owned())?;
                let item = said.map_err(|status| status.message().to_owned())?;
                let item = item.ok_or_else(|| "the stream ended".to_owned())?;
                if matches!(item.item, Some(v1::follow_item::Item::Alive(_))) && !was_heard {
                    was_heard = true;
                    is_in_touch.send_replace(true);
                }
                take(item, &mut reader, replica)?;
                if replica.state().is_in_raft(*me) && replica.state().membership.id >= since {
                    return Ok::<(), String>(());
                }
            }
        };
        let why = listen.await.err().unwrap_or_else(|| "this node is in Raft now".to_owned());
        Ended { why, was_heard }
    }
}

/// Until it is time to ask whether this node, to which nothing happens, is still in Raft.
async fn is_left_alone(raft: &RaftHandle) {
    let asks_all_the_same = tokio::time::sleep(ASK_ALL_THE_SAME);
    let is_left = async {
        tokio::time::sleep(ASK_AFTER).await;
        while raft.status().leader.is_some() {
            tokio::time::sleep(ASK_AFTER).await;
        }
    };
    tokio::select! {
        () = asks_all_the_same => {}
        () = is_left => {}
    }
}

/// How following somebody ended.
struct Ended {
    why: String,
    /// Whether the other one was in touch with the cluster.
    was_heard: bool,
}

/// Whom another node knows to be in Raft; `None`: it didn't answer.
async fn raft_view(peers: &Peers, address: &str) -> Option<v1::RaftView> {
    let mut cluster = ClusterClient::new(peers.dial(address).ok()?);
    let asked = cluster.get_raft(v1::GetRaftRequest { stale: true });
    Some(tokio::time::timeout(ASK_TIMEOUT, asked).await.ok()?.ok()?.into_inner())
}

/// The later membership, without this node, that another node knows of.
fn taken_out(state: &State, me: NodeId, view: &v1::RaftView) -> Option<MembershipId> {
    let is_later = view.membership_id > state.membership.id.0;
    let is_member = view.members.iter().any(|member| member.id == me.0);
    (is_later && !is_member).then_some(MembershipId(view.membership_id))
}

fn candidates(state: &State, me: NodeId, seeds: &[String]) -> Vec<String> {
    let members = state.membership.voters().into_iter().chain(state.standbys.iter().copied());
    let known: Vec<String> = members
        .filter(|id| *id != me)
        .filter_map(|id| state.nodes.get(&id))
        .flat_map(|n| n.description.addresses.iter().cloned())
        .collect();
    if known.is_empty() { seeds.to_vec() } else { known }
}

fn take(item: v1::FollowItem, reader: &mut StateReader, replica: &mut NodeReplica) -> Result<(), String> {
    match item.item {
        Some(v1::follow_item::Item::Record(record)) => reader.push(record).map_err(|e| e.to_string()),
        Some(v1::follow_item::Item::SnapshotEnd(_)) => {
            let state = std::mem::replace(reader, StateReader::new()).finish().map_err(|e| e.to_string())?;
            replica.replace(state);
            Ok(())
        }
        Some(v1::follow_item::Item::Entry(entry)) => apply(entry, replica),
        Some(v1::follow_item::Item::Alive(_)) | None => Ok(()),
    }
}

fn apply(entry: v1::FollowEntry, replica: &mut NodeReplica) -> Result<(), String> {
    let expected = replica.state().revision.0 + 1;
    if entry.revision < expected {
        return Ok(());
    }
    if entry.revision > expected {
        return Err(format!("entry {} came after {}", entry.revision, Revision(expected - 1)));
    }
    match entry.content {
        Some(v1::follow_entry::Content::Proposal(bytes)) => {
            if let Err(unknown) = replica.apply_encoded(entry.revision, &bytes) {
                // LEASES.md's and DESIGN.md's rule for Raft members holds here too: never skipped.
                tracing::error!(revision = entry.revision, error = %unknown, "the agent stops");
                std::process::exit(1);
            }
        }
        Some(v1::follow_entry::Content::Membership(members)) => {
            let set = |s: &v1::VoterSet| s.nodes.iter().map(|n| NodeId(*n)).collect::<BTreeSet<_>>();
            let standbys = members.standbys.iter().map(|n| NodeId(*n)).collect();
            replica.apply_members(entry.revision, members.configs.iter().map(set).collect(), standbys);
        }
        Some(v1::follow_entry::Content::Blank(_)) | None => replica.apply_nothing(entry.revision),
    }
    replica.publish_state();
    Ok(())
}

#[cfg(test)]
mod tests {
    use muster_core::lease::membership::Membership;

    use super::*;

    #[test]
    fn only_a_later_membership_without_the_node_takes_it_out() {
        let membership = Membership::uniform(MembershipId(20), [1, 2, 3].map(NodeId));
        let state = State { membership, ..State::default() };
        let view = |membership_id, members: &[u64]| v1::RaftView {
            membership_id,
            members: members.iter().map(|id| v1::RaftMemberView { id: *id, ..Default::default() }).collect(),
            ..Default::default()
        };
        let asked = |membership_id, members| taken_out(&state, NodeId(3), &view(membership_id, members));
        assert_eq!(asked(30, &[1, 2, 4]), Some(MembershipId(30)));
        assert_eq!(asked(30, &[1, 2, 3, 4]), None, "it is a standby");
        assert_eq!(asked(20, &[1, 2]), None, "the other one does not know more");
        assert_eq!(asked(10, &[1]), None, "the other one lags behind");
    }
}
