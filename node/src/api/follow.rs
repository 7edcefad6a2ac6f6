//! The state for nodes outside Raft: a snapshot when they have nothing usable, then entries as they are applied.
//! Keys of sessions and CAs never leave the members of Raft.

use std::time::Duration;

use muster_core::id::{NodeId, Revision};
use muster_core::state::State;
use muster_core::time::Timing;
use muster_proto::v1;
use muster_proto::v1::follow_entry::Content;
use muster_proto::v1::follow_item::Item;
use muster_wire::SessionKeys;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::caller::Caller;
use super::status::ApiError;
use super::{Answers, Api};
use crate::raft::RaftHandle;
use crate::replica::Published;
use crate::{clock, follow};

/// How many items wait for a slow follower; the entries behind them are kept by the replica.
const ITEMS_AHEAD: usize = 256;

type Items = mpsc::Sender<Result<v1::FollowItem, Status>>;

/// The follower has gone, or can't be served.
struct Ended;

impl Api {
    pub(super) fn follow_here(&self, after: Revision) -> Result<Answers<v1::FollowItem>, Status> {
        let place = self.follower_place()?;
        let (out, items) = mpsc::channel(ITEMS_AHEAD);
        let (published, raft) = (self.handles.published.clone(), self.handles.raft.clone());
        let feed = Feed { published, raft, told: after, out: out.clone() };
        let stop = self.stop.clone();
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = stop.cancelled() => {}
                () = out.closed() => {}
                _ended = feed.run() => {}
            }
        });
        Ok(Box::pin(ReceiverStream::new(items)))
    }
}

struct Feed {
    published: Published,
    raft: RaftHandle,
    told: Revision,
    out: Items,
}

impl Feed {
    async fn run(mut self) -> Result<(), Ended> {
        let mut states = self.published.state.clone();
        let mut speaks_at = clock::monotonic() + self.speaks_every();
        loop {
            let newest = states.borrow_and_update().revision;
            if self.told < newest || self.told == Revision(0) {
                self.tell_what_is_new().await?;
            }
            if clock::monotonic() >= speaks_at {
                // Who is cut off has nothing new for as long as that lasts: its followers are better off elsewhere.
                if self.raft.status().leader.is_none() {
                    let why = Status::unavailable("the agent that is followed hears no leader");
                    return self.out.send(Err(why)).await.map_err(|_| Ended);
                }
                // Also between entries: only this says that they are not the past of one who is cut off.
                self.send(Item::Alive(newest.0)).await?;
                speaks_at = clock::monotonic() + self.speaks_every();
            }
            if let Ok(Err(_)) = tokio::time::timeout_at(speaks_at, states.changed()).await {
                return Ok(());
            }
        }
    }

    /// How often a follower hears something at least.
    fn speaks_every(&self) -> Duration {
        let state = self.published.state.borrow();
        follow::speaks_every(&state.cluster.as_ref().map_or(Timing::LAN, |cluster| cluster.timing))
    }

    async fn tell_what_is_new(&mut self) -> Result<(), Ended> {
        let entries = Some(self.told).filter(|told| *told > Revision(0));
        let entries = entries.and_then(|told| self.published.entries.after(told));
        let Some(entries) = entries else {
            return self.tell_snapshot().await;
        };
        for mut entry in entries {
            self.told = Revision(entry.revision);
            if let Some(Content::Proposal(proposal)) = &mut entry.content
                && muster_wire::carries_secret(proposal)
            {
                *proposal = muster_wire::redact_proposal(proposal);
            }
            self.send(Item::Entry(entry)).await?;
        }
        Ok(())
    }

    async fn tell_snapshot(&mut self) -> Result<(), Ended> {
        let state = self.published.state.borrow().clone();
        if state.cluster.is_none() {
            return Ok(());
        }
        for record in records(&state) {
            self.send(Item::Record(record)).await?;
        }
        self.send(Item::SnapshotEnd(true)).await?;
        self.told = state.revision;
        Ok(())
    }

    async fn send(&self, item: Item) -> Result<(), Ended> {
        self.out.send(Ok(v1::FollowItem { item: Some(item) })).await.map_err(|_| Ended)
    }
}

/// The state as records, without the keys of sessions and CAs.
fn records(state: &State) -> Vec<v1::StateRecord> {
    let mut records = Vec::new();
    let written: Result<(), std::convert::Infallible> =
        muster_wire::write_state(state, SessionKeys::Redact, |record| {
            records.push(record);
            Ok(())
        });
    match written {
        Ok(()) => records,
    }
}

impl Api {
    /// An agent of this cluster speaks. Not of another one, and not of this one before a recovery.
    pub(super) fn check_sender(&self, caller: &Caller, sender: Option<&v1::Sender>) -> Result<(), ApiError> {
        let state = self.state();
        let Some(cluster) = &state.cluster else {
            let name = &self.handles.name;
            return Err(ApiError::NoLeader(format!("{name} has not heard of its cluster yet")));
        };
        let sender = super::convert::required(sender, "sender")?;
        caller.check_is(NodeId(sender.node))?;
        if sender.cluster_id.as_ref() != cluster.id.0.to_be_bytes() {
            return Err(ApiError::OtherCluster(format!(
                "node #{} belongs to another cluster than {} ({})",
                sender.node, self.handles.name, cluster.name
            )));
        }
        if sender.incarnation != cluster.incarnation.0 {
            return Err(ApiError::OtherCluster(format!(
                "node #{} belongs to incarnation {} of cluster {}, which is at {}",
                sender.node, sender.incarnation, cluster.name, cluster.incarnation
            )));
        }
        Ok(())
    }
}
