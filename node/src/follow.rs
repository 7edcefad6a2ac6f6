//! Nodes outside Raft follow the state by a stream from a node inside: a snapshot, then entries.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_core::id::{NodeId, Revision};
use muster_core::state::State;
use muster_proto::v1;
use muster_proto::v1::node_link_client::NodeLinkClient;
use muster_wire::StateReader;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::peers::{MAX_MESSAGE_BYTES, connect};
use crate::replica::NodeReplica;

/// A stream that says nothing for so long is dead: the sender speaks every second.
const SILENCE: Duration = Duration::from_secs(4);
/// Between two tries to find somebody to follow.
const PAUSE: Duration = Duration::from_millis(200);
/// How long asking somebody may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Follows whenever this node is neither voter nor standby.
pub async fn run(
    me: NodeId,
    sender: v1::Sender,
    seeds: Vec<String>,
    mut replica: NodeReplica,
    mut state: watch::Receiver<Arc<State>>,
    stop: CancellationToken,
) {
    let mut turn = 0;
    loop {
        if in_raft(&state.borrow_and_update(), me) {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = state.changed() => if changed.is_err() { return },
            }
            continue;
        }
        let addresses = candidates(&state.borrow(), me, &seeds);
        if let Some(address) = addresses.get(turn % addresses.len().max(1)) {
            tokio::select! {
                () = stop.cancelled() => return,
                why = follow_one(address, &sender, &mut replica, me) => {
                    tracing::debug!(address, why, "no longer following");
                }
            }
        }
        turn += 1;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

fn in_raft(state: &State, me: NodeId) -> bool {
    state.membership.contains(me) || state.standbys.contains(&me)
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

/// Follows one agent until the stream ends; says why it did.
async fn follow_one(address: &str, sender: &v1::Sender, replica: &mut NodeReplica, me: NodeId) -> String {
    let channel = match connect(address) {
        Ok(channel) => channel,
        Err(error) => return error.to_string(),
    };
    let mut link: NodeLinkClient<Channel> =
        NodeLinkClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let after_revision = replica.state().revision.0;
    let request = v1::FollowRequest { sender: Some(sender.clone()), after_revision };
    let mut stream = match tokio::time::timeout(ASK_TIMEOUT, link.follow(request)).await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => return status.message().to_owned(),
        Err(_) => return "no answer".to_owned(),
    };
    let mut reader = StateReader::new();
    loop {
        let item = match tokio::time::timeout(SILENCE, stream.message()).await {
            Ok(Ok(Some(item))) => item,
            Ok(Ok(None)) => return "the stream ended".to_owned(),
            Ok(Err(status)) => return status.message().to_owned(),
            Err(_) => return "the stream fell silent".to_owned(),
        };
        if let Err(why) = take(item, &mut reader, replica) {
            return why;
        }
        if in_raft(replica.state(), me) {
            return "this node is in Raft now".to_owned();
        }
    }
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
