//! The replicated state on this node: applies entries, publishes the state, and tells those who must know.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use muster_core::command::{Command, Proposal};
use muster_core::event::Event;
use muster_core::id::{NodeId, Revision};
use muster_core::state::State;
use muster_core::state::apply::Outcome;
use muster_proto::v1;
use muster_wire::{SessionKeys, StateReader};
use prost::Message;
use tokio::sync::{broadcast, watch};

use crate::acks::Acks;
use crate::raft::{FatalApply, Frozen, MembershipView, Position, Replica, Reply};
use crate::storage::history::{self, History};
use crate::storage::snapshot::{RecordReader, RecordWriter, SnapshotError};

/// How many entries are kept for nodes that follow by stream; one that is further behind gets a snapshot.
const KEPT_ENTRIES: usize = 4096;
/// How many batches of events a slow watcher may be behind before it has to read the history again.
const EVENT_QUEUE: usize = 1024;

/// What the replica tells the rest of the agent.
#[derive(Clone)]
pub struct Published {
    /// The state after each batch.
    pub state: watch::Receiver<Arc<State>>,
    /// The events of each entry that had some.
    pub events: broadcast::Sender<Arc<Vec<Event>>>,
    /// The last entries, for followers by stream.
    pub entries: Entries,
}

/// The last entries as they were applied.
#[derive(Clone, Default)]
pub struct Entries(Arc<Mutex<VecDeque<(u64, v1::FollowEntry)>>>);

impl Entries {
    /// The entries after a revision, in order; `None` when some of them are not kept any more.
    #[must_use]
    pub fn after(&self, revision: Revision) -> Option<Vec<v1::FollowEntry>> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = entries.front()?.0;
        if revision.0 + 1 < first {
            return None;
        }
        Some(entries.iter().filter(|(index, _)| *index > revision.0).map(|(_, e)| e.clone()).collect())
    }

    /// Keeps an entry behind the last one. While a node changes between Raft and following, two replicas apply
    /// the same entries, each at its own pace: what the other one kept already is passed over.
    fn push(&self, index: u64, content: v1::follow_entry::Content) {
        let entry = v1::FollowEntry { revision: index, content: Some(content) };
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match entries.back().map(|(last, _)| *last) {
            Some(last) if index <= last => return,
            // A follower must never be handed a sequence with a hole.
            Some(last) if index > last + 1 => entries.clear(),
            Some(_) | None => {}
        }
        entries.push_back((index, entry));
        if entries.len() > KEPT_ENTRIES {
            entries.pop_front();
        }
    }

    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The state machine behind Raft, or behind the stream that a worker follows.
pub struct NodeReplica {
    state: State,
    publish: watch::Sender<Arc<State>>,
    events: broadcast::Sender<Arc<Vec<Event>>>,
    entries: Entries,
    acks: Acks,
    history: History,
}

impl NodeReplica {
    /// An empty replica, and what it publishes.
    #[must_use]
    pub fn new(acks: Acks, history: History) -> (Self, Published) {
        let (publish, state) = watch::channel(Arc::default());
        let (events, _) = broadcast::channel(EVENT_QUEUE);
        let entries = Entries::default();
        let published = Published { state, events: events.clone(), entries: entries.clone() };
        (Self { state: State::default(), publish, events, entries, acks, history }, published)
    }

    /// Another empty replica that publishes to the same readers: for a node outside Raft, which grants no leases.
    #[must_use]
    pub fn beside(&self, acks: Acks) -> Self {
        Self {
            state: State::default(),
            publish: self.publish.clone(),
            events: self.events.clone(),
            entries: self.entries.clone(),
            acks,
            history: self.history.clone(),
        }
    }

    /// The state as applied so far.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Applies an encoded proposal.
    ///
    /// # Errors
    /// When it can't be decoded: the agent must stop then.
    pub fn apply_encoded(&mut self, index: u64, payload: &Bytes) -> Result<Outcome, FatalApply> {
        let proposal = muster_wire::decode_proposal(payload).map_err(|error| FatalApply {
            detail: format!("{error}; install the version of Muster that the other agents run"),
        })?;
        let outcome = self.state.apply(Revision(index), &proposal);
        self.tell_acks(&proposal, outcome.reply.is_ok());
        self.entries.push(index, v1::follow_entry::Content::Proposal(payload.clone()));
        self.tell_events(outcome.events.clone());
        outcome.audit.iter().for_each(|record| self.history.append_audit(record));
        Ok(outcome)
    }

    /// Applies a membership.
    pub fn apply_members(&mut self, index: u64, configs: Vec<BTreeSet<NodeId>>, standbys: BTreeSet<NodeId>) {
        let content = follow_membership(&configs, &standbys);
        let events = self.state.apply_membership(Revision(index), configs, standbys);
        self.acks.applied(|entry| {
            entry.list(&self.state);
            entry.up_to(self.state.revision);
        });
        self.entries.push(index, content);
        self.tell_events(events);
    }

    /// Applies an entry without content.
    pub fn apply_nothing(&mut self, index: u64) {
        self.state.apply_blank(Revision(index));
        self.acks.applied(|entry| entry.up_to(Revision(index)));
        self.entries.push(index, v1::follow_entry::Content::Blank(true));
    }

    /// Replaces the state.
    pub fn replace(&mut self, state: State) {
        self.state = state;
        self.acks.snapshot_installed(&self.state);
        self.entries.clear();
        // What was applied elsewhere went past this history.
        let mut records: Vec<_> = self.state.audit.records().collect();
        records.sort_by_key(|record| (record.revision, record.sequence));
        records.into_iter().for_each(|record| self.history.append_audit(record));
        self.publish_state();
    }

    /// Publishes the state, unless what is published is newer.
    pub fn publish_state(&mut self) {
        self.publish.send_if_modified(|published| {
            // A worker that became a standby has two replicas for a while: the newer one counts.
            let newer = self.state.revision > published.revision;
            if newer {
                *published = Arc::new(self.state.clone());
            }
            newer
        });
    }

    fn tell_events(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        for (sequence, event) in (0u32..).zip(&events) {
            self.history.append(history_event(sequence, event));
        }
        let events = Arc::new(events);
        // Without a watcher there is nobody to tell.
        let _watchers = self.events.send(events);
    }

    /// LEASES.md R2: what the voter's half must know is told before anything of the next entry is applied.
    fn tell_acks(&self, proposal: &Proposal, accepted: bool) {
        self.acks.applied(|entry| {
            if accepted {
                match &proposal.command {
                    Command::VoterUp { voter, boot, .. } => entry.voter_up(*voter, *boot),
                    Command::OpenSession(open) => {
                        if let Some(session) = self.state.session_of(open.node) {
                            entry.opened(session);
                        }
                    }
                    Command::CloseSession(close) => entry.closed(close.session),
                    Command::Fenced { session, .. } => entry.closed(*session),
                    Command::Reopen { session, to } => entry.reopened(*session, *to),
                    Command::DescribeNode { .. } | Command::Bootstrap(_) => entry.list(&self.state),
                    _ => {}
                }
            }
            entry.up_to(self.state.revision);
        });
    }
}

fn history_event(sequence: u32, event: &Event) -> history::Event {
    history::Event {
        revision: event.revision.0,
        sequence,
        time_ms: event.time.0,
        kind: event.kind.as_str().to_owned(),
        node: event.node.as_ref().map(ToString::to_string),
        service: event.service.as_ref().map(ToString::to_string),
        detail: serde_json::json!({
            "instance": event.instance.as_ref().map(ToString::to_string),
            "message": event.message,
        }),
    }
}

fn follow_membership(configs: &[BTreeSet<NodeId>], standbys: &BTreeSet<NodeId>) -> v1::follow_entry::Content {
    let set = |nodes: &BTreeSet<NodeId>| v1::VoterSet { nodes: nodes.iter().map(|n| n.0).collect() };
    v1::follow_entry::Content::Membership(v1::FollowMembership {
        configs: configs.iter().map(set).collect(),
        standbys: standbys.iter().map(|n| n.0).collect(),
    })
}

impl Replica for NodeReplica {
    fn apply(&mut self, at: Position, payload: Bytes) -> Result<Option<Reply>, FatalApply> {
        let outcome = self.apply_encoded(at.index, &payload)?;
        Ok(Some(Arc::new(outcome.reply)))
    }

    fn apply_membership(&mut self, membership: &MembershipView) {
        let index = membership.at.map_or(0, |at| at.index);
        let (configs, standbys) = members(membership);
        self.apply_members(index, configs, standbys);
    }

    fn apply_blank(&mut self, at: Position) {
        self.apply_nothing(at.index);
    }

    fn publish(&mut self) {
        self.publish_state();
    }

    fn freeze(&self) -> Box<dyn Frozen> {
        Box::new(FrozenState(self.state.clone()))
    }

    fn install(
        &mut self,
        _at: Position,
        _membership: &MembershipView,
        records: &mut RecordReader,
    ) -> Result<(), SnapshotError> {
        let mut reader = StateReader::new();
        while let Some(bytes) = records.next()? {
            let record = v1::StateRecord::decode(bytes).map_err(|e| unusable(&e))?;
            reader.push(record).map_err(|e| unusable(&e))?;
        }
        let state = reader.finish().map_err(|e| unusable(&e))?;
        self.replace(state);
        Ok(())
    }
}

fn members(view: &MembershipView) -> (Vec<BTreeSet<NodeId>>, BTreeSet<NodeId>) {
    let configs: Vec<BTreeSet<NodeId>> =
        view.configs.iter().map(|set| set.iter().map(|id| NodeId(*id)).collect()).collect();
    let standbys = view
        .peers
        .keys()
        .map(|id| NodeId(*id))
        .filter(|id| !configs.iter().any(|c| c.contains(id)))
        .collect();
    (configs, standbys)
}

fn unusable(error: &dyn std::fmt::Display) -> SnapshotError {
    SnapshotError::Record { detail: error.to_string() }
}

struct FrozenState(State);

impl Frozen for FrozenState {
    fn write(self: Box<Self>, records: &mut RecordWriter) -> Result<(), SnapshotError> {
        // Snapshots of Raft stay among its members, which may all become voters: they hold the keys.
        muster_wire::write_state(&self.0, SessionKeys::Include, |record| {
            records.record(&record.encode_to_vec())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(entries: &Entries, after: u64) -> Option<Vec<u64>> {
        entries.after(Revision(after)).map(|kept| kept.iter().map(|entry| entry.revision).collect())
    }

    #[test]
    fn two_replicas_keep_one_sequence_without_holes() {
        let entries = Entries::default();
        let push = |indices: &[u64]| {
            indices.iter().for_each(|at| entries.push(*at, v1::follow_entry::Content::Blank(true)));
        };
        // One replica follows, the other one replays its log from the beginning.
        push(&[7, 8, 1, 2, 9, 3, 8, 9, 10]);
        assert_eq!(kept(&entries, 6), Some(vec![7, 8, 9, 10]));
        assert_eq!(kept(&entries, 5), None);
        push(&[20, 11, 21]);
        assert_eq!(kept(&entries, 19), Some(vec![20, 21]));
        assert_eq!(kept(&entries, 10), None);
    }
}
