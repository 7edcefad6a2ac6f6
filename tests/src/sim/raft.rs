//! Raft among the replicas: replication, snapshots and commits by its rules, elections by an oracle.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_core::detector::Detector;
use muster_core::id::NodeId;

use super::clocks::MS;
use super::events::Event;
use super::ledger::{Entry, Ledger};
use super::network::Message;
use super::replica::{Leading, Replica};
use super::world::{World, tell};

/// How many entries travel at once.
const ENTRIES_AT_ONCE: usize = 16;
/// A follower that lacks more than this may get a snapshot instead.
const SNAPSHOT_FROM: u64 = 4;

impl World {
    pub(super) fn raft_hears(&mut self, id: NodeId, from: NodeId, message: &Message) {
        let at = self.now;
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        let term = match message {
            Message::Append { term, .. }
            | Message::Appended { term, .. }
            | Message::Snapshot { term, .. } => *term,
            _ => return,
        };
        if term < replica.term {
            // A deposed leader learns of it.
            if !matches!(message, Message::Appended { .. }) {
                let refusal = Message::Appended { term: replica.term, matched: Err(0) };
                self.send(id, from, refusal);
            }
            return;
        }
        if term > replica.term {
            replica.term = term;
            replica.leading = None;
        }
        match message {
            Message::Append { prev, entries, commit, .. } => {
                let matched = replica.take(*prev, entries, *commit);
                self.send(id, from, Message::Appended { term, matched });
                self.apply(id);
            }
            Message::Snapshot { state, last_term, .. } => {
                replica.install(at, state, *last_term);
                self.send(id, from, Message::Appended { term, matched: Ok(state.revision) });
                tell!(self, "voter {id}: has the snapshot of {}", state.revision);
            }
            Message::Appended { matched, .. } => {
                let Some(leading) = &mut replica.leading else { return };
                match matched {
                    Ok(index) => {
                        let known = leading.matched.entry(from).or_default();
                        *known = (*known).max(*index);
                        leading.next.insert(from, *known + 1);
                    }
                    Err(hint) => {
                        leading.next.insert(from, (*hint).max(1));
                    }
                }
                if let Some(index) = replica.committable() {
                    replica.commit = index;
                    self.apply(id);
                    self.replicate(id);
                }
            }
            _ => {}
        }
    }

    /// Appends as the leader and replicates at once.
    pub(super) fn append(&mut self, id: NodeId, entry: Arc<Entry>) {
        let Some(replica) = self.replicas.get_mut(&id).filter(|replica| replica.leading.is_some()) else {
            return;
        };
        if matches!(*entry, Entry::Membership(_)) && replica.effective().id.0 > replica.ledger.revision {
            return;
        }
        if let Some(story) = &mut self.story
            && !matches!(*entry, Entry::Blank)
        {
            let index = replica.last_index() + 1;
            story.push(format!(
                "{:>6}.{:03} ms  leader {id}: appends {index}: {entry:?}",
                self.now / MS,
                self.now / 1000 % 1000
            ));
        }
        replica.append(entry);
        if let Some(index) = replica.committable() {
            replica.commit = index;
            self.apply(id);
        }
        self.replicate(id);
    }

    /// Sends each follower what it lacks.
    pub(super) fn replicate(&mut self, id: NodeId) {
        let at = self.now;
        let followers = self.replicas.ids().filter(|other| *other != id);
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        let Some(leading) = &mut replica.leading else { return };
        leading.sent_at = at;
        let mut out = Vec::new();
        for follower in followers {
            let next = replica.leading.as_ref().and_then(|l| l.next.get(&follower).copied()).unwrap_or(1);
            let lacks = replica.last_index() + 1 - next.min(replica.last_index() + 1);
            let wants_snapshot = next <= replica.base.0 || (lacks > SNAPSHOT_FROM && self.rng.percent(50));
            let prev = next - 1;
            // A snapshot may come at any time: the follower may hold the entries and not have applied them.
            let unasked = !self.healed && self.rng.percent(10);
            let snapshot = unasked || (wants_snapshot && replica.ledger.revision >= next);
            match replica.term_at(prev) {
                Some(prev_term) if !snapshot => {
                    let entries = replica.entries_from(next, ENTRIES_AT_ONCE);
                    let (term, commit) = (replica.term, replica.commit);
                    out.push((follower, Message::Append { term, prev: (prev, prev_term), entries, commit }));
                }
                _ => {
                    let state = Arc::clone(&replica.ledger);
                    let last_term = replica.term_at(state.revision).unwrap_or(0);
                    out.push((follower, Message::Snapshot { term: replica.term, state, last_term }));
                }
            }
        }
        for (follower, message) in out {
            self.send(id, follower, message);
        }
    }

    /// The oracle: when no leader has had a majority for as long as an election takes, some replica that can win
    /// becomes the leader.
    pub(super) fn election_due(&mut self) {
        self.after(self.ttl() / 16, Event::Election);
        let current =
            self.replicas.values().filter(|replica| replica.leading.is_some()).max_by_key(|r| r.term);
        if current.is_some_and(|leader| self.can_win(leader)) {
            self.leaderless_since = None;
            return;
        }
        let since = *self.leaderless_since.get_or_insert(self.now);
        let patience = self.rng.between(self.ttl() / 4, self.ttl() / 2);
        if self.now - since >= patience {
            self.elect();
        }
    }

    /// Holds an election now.
    pub(super) fn elect(&mut self) {
        let ids: Vec<NodeId> = self.replicas.ids().collect();
        let candidates = self.rng.shuffled(&ids);
        for id in candidates {
            let Some(voters) = self.electorate(&self.replicas[id]) else { continue };
            let newest = self.replicas[id].newest();
            let grants = |voter: NodeId| voters.contains(&voter) && self.replicas[voter].newest() <= newest;
            if !self.replicas[id].effective().is_majority(grants) {
                continue;
            }
            let granting: Vec<NodeId> = voters.iter().copied().filter(|voter| grants(*voter)).collect();
            let term = self.replicas.values().map(|replica| replica.term).max().unwrap_or(0) + 1;
            for voter in granting {
                let Some(replica) = self.replicas.get_mut(&voter) else { continue };
                replica.term = term;
                replica.leading = None;
            }
            self.becomes_leader(id, term);
            return;
        }
    }

    /// Whether the voters that can vote for a replica now are a majority of its membership.
    fn can_win(&self, candidate: &Replica) -> bool {
        let membership = candidate.effective();
        self.runs(candidate)
            && membership.contains(candidate.id)
            && membership.is_majority(|voter| self.can_vote(voter, candidate))
    }

    /// Those voters, if they are.
    fn electorate(&self, candidate: &Replica) -> Option<Vec<NodeId>> {
        let voters = candidate.effective().voters().into_iter();
        self.can_win(candidate).then(|| voters.filter(|voter| self.can_vote(*voter, candidate)).collect())
    }

    fn can_vote(&self, voter: NodeId, candidate: &Replica) -> bool {
        self.network.connects(candidate.id, voter, self.now)
            && self.network.connects(voter, candidate.id, self.now)
            && self.runs(&self.replicas[voter])
    }

    fn runs(&self, replica: &Replica) -> bool {
        replica.up && replica.frozen_until <= self.now
    }

    fn becomes_leader(&mut self, id: NodeId, term: u64) {
        let at = self.now;
        let ttl_ms = self.ttl_ms;
        self.leaderless_since = None;
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        let next = replica.last_index() + 1;
        let followers = self.wanted_voters.iter().copied().chain((1..=9).map(NodeId));
        replica.term = term;
        replica.leading = Some(Leading {
            next: followers.map(|follower| (follower, next)).collect(),
            matched: BTreeMap::new(),
            detector: detector_of(&replica.ledger, ttl_ms),
            sent_at: at,
        });
        tell!(self, "voter {id}: leads in term {term}");
        self.append(id, Arc::new(Entry::Blank));
    }
}

/// A detector for a leadership that begins with this state.
fn detector_of(ledger: &Ledger, ttl_ms: u32) -> Detector {
    let mut detector = Detector::new(World::timing(ttl_ms), ledger.list.membership.clone());
    ledger.boots.iter().for_each(|(voter, boot)| detector.voter_up_applied(*voter, *boot));
    ledger.sessions.values().for_each(|session| detector.session_opened(session.open));
    detector
}
