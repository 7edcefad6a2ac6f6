//! Over-approximates every leader: whatever was promised or proposed once may be used at any later time. Safety must
//! not rest on a leader's patience, memory or clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_core::id::{BootId, MembershipId, NodeId, Reopens, SessionId};
use muster_core::lease::close::CloseSession;
use muster_core::lease::voter::{CloseRequest, OpenSession, Promise};
use muster_core::lease::{Fenced, Tenure};

use super::clocks::MS;
use super::events::Event;
use super::ledger::Entry;
use super::network::Message;
use super::replica::{CLUSTER, INCARNATION, Replica};
use super::world::{World, tell};

/// So many entries ahead of its log a leader asks for promises.
const AHEAD: u64 = 4;
/// How many former proposals are kept.
const MEMORY: usize = 64;

/// What was ever said.
#[derive(Debug, Default)]
pub struct Adversary {
    /// Whether it does anything in this run.
    pub active: bool,
    /// Every promise ever given.
    pub promises: Vec<Promise>,
    proposals: Vec<Arc<Entry>>,
}

impl Adversary {
    /// Keeps a proposal that may turn up again.
    pub fn remember(&mut self, entry: &Arc<Entry>) {
        let again = matches!(
            **entry,
            Entry::VoterUp { .. }
                | Entry::Reopen { .. }
                | Entry::Open { .. }
                | Entry::Close { .. }
                | Entry::Stopped { .. }
        );
        if again && !self.proposals.contains(entry) {
            self.proposals.push(Arc::clone(entry));
            if self.proposals.len() > MEMORY {
                self.proposals.remove(MEMORY / 2);
            }
        }
    }
}

impl World {
    /// The adversary's turn.
    pub(super) fn adversary_acts(&mut self) {
        if self.healed || !self.adversary.active {
            return;
        }
        let next = self.rng.between(self.ttl() / 40, self.ttl() / 8);
        self.after(next.max(MS), Event::Adversary);
        let leaders: Vec<NodeId> = self
            .replicas
            .values()
            .filter(|replica| replica.up && replica.leading.is_some())
            .map(|r| r.id)
            .collect();
        let Some(leader) = self.rng.pick(&leaders) else { return };
        match self.rng.below(10) {
            0..=3 => self.ask_early(leader),
            4..=7 => self.close_with_anything(leader),
            8 => self.repeat_proposal(leader),
            _ if self.rng.percent(50) => self.assign_anything(leader),
            _ => self.reopen_anything(leader),
        }
    }

    /// Asks every voter for a promise of a session that need not be overdue.
    fn ask_early(&mut self, leader: NodeId) {
        let Some(replica) = self.replicas.get(&leader) else { return };
        let sessions: Vec<(SessionId, Reopens)> = replica
            .ledger
            .sessions
            .values()
            .map(|session| (session.open.session, session.open.reopens))
            .collect();
        let applied = replica.ledger.list.membership.id;
        let appended = replica.effective().id;
        // A leader that was deposed may have had a membership at an index where another one comes.
        let lost = MembershipId(replica.last_index() + self.rng.between(1, 3));
        let Some((session, reopens)) = self.rng.pick(&sessions) else { return };
        let membership = self.rng.pick(&[applied, applied, appended, lost]).unwrap_or(applied);
        // A former leader may lag behind in its count of re-openings.
        let reopens = Reopens(reopens.0 - reopens.0.min(self.rng.below(2)));
        let request = CloseRequest { session, membership, reopens };
        let replicas: Vec<NodeId> = self.replicas.ids().collect();
        for voter in replicas {
            self.send(leader, voter, Message::AskPromise(request));
        }
    }

    /// The leader of the newest term, and a host's session as it knows it.
    fn session_at_leader(&self, host: NodeId) -> Option<(&Replica, OpenSession)> {
        let leaders = self.replicas.values().filter(|replica| replica.up && replica.leading.is_some());
        let leader = leaders.max_by_key(|replica| replica.term)?;
        Some((leader, leader.ledger.session_of(host)?.open))
    }

    /// Asks a voter for promises under counts that it has not applied, and that are over.
    pub(super) fn ask_counts(&mut self, host: NodeId, voter: NodeId) {
        let Some((leader, open)) = self.session_at_leader(host) else { return };
        let (id, membership) = (leader.id, leader.ledger.list.membership.id);
        let OpenSession { session, reopens, .. } = open;
        for (after, reopens) in [(0, reopens), (2 * MS, Reopens(reopens.0.saturating_sub(1)))] {
            let message = Message::AskPromise(CloseRequest { session, membership, reopens });
            self.after(after, Event::Deliver { to: voter, from: id, message });
        }
    }

    /// Asks all voters for promises under memberships that no log holds yet.
    pub(super) fn ask_ahead(&mut self, host: NodeId) {
        let Some((leader, open)) = self.session_at_leader(host) else { return };
        let (id, last) = (leader.id, leader.last_index());
        let OpenSession { session, reopens, .. } = open;
        let replicas: Vec<NodeId> = self.replicas.ids().collect();
        for voter in replicas {
            for membership in (last + 1..=last + AHEAD).map(MembershipId) {
                self.send(id, voter, Message::AskPromise(CloseRequest { session, membership, reopens }));
            }
        }
    }

    /// Closes a session with promises that belong together, however old they are.
    fn close_with_anything(&mut self, leader: NodeId) {
        let Some(replica) = self.replicas.get(&leader) else { return };
        let open: BTreeSet<SessionId> = replica.ledger.sessions.keys().copied().collect();
        let mut groups: BTreeMap<(SessionId, MembershipId, Reopens), BTreeMap<NodeId, BootId>> =
            BTreeMap::new();
        for promise in &self.adversary.promises {
            if open.contains(&promise.session) {
                let group = groups.entry((promise.session, promise.membership, promise.reopens)).or_default();
                let newer = !group.contains_key(&promise.voter) || self.rng.percent(50);
                if newer {
                    group.insert(promise.voter, promise.boot);
                }
            }
        }
        let keys: Vec<_> = groups.keys().copied().collect();
        let Some(key) = self.rng.pick(&keys) else { return };
        let (session, membership, reopens) = key;
        let promises: Vec<(NodeId, BootId)> = groups.remove(&key).unwrap_or_default().into_iter().collect();
        let close = CloseSession { session, membership, reopens, promises };
        self.propose(leader, Entry::Close { close, plan: Vec::new() });
    }

    /// A duplicate of something proposed earlier: a start of a voter above all, because that could bring old promises
    /// back to life; then they are used at once.
    fn repeat_proposal(&mut self, leader: NodeId) {
        let starts_only = self.rng.percent(50);
        let promised = |of: &BootId| self.adversary.promises.iter().any(|promise| promise.boot == *of);
        let wanted = |entry: &&Arc<Entry>| match &***entry {
            Entry::VoterUp { boot, .. } => promised(boot),
            _ => !starts_only,
        };
        let former: Vec<&Arc<Entry>> = self.adversary.proposals.iter().filter(wanted).collect();
        let Some(entry) = self.rng.pick(&former).cloned() else { return };
        self.send(leader, leader, Message::Propose(entry));
        for _ in 0..3 {
            self.close_with_anything(leader);
        }
    }

    /// Assigns a slot to any session, as a leader would that has not applied the newest entries.
    fn assign_anything(&mut self, leader: NodeId) {
        let Some(replica) = self.replicas.get(&leader) else { return };
        let sessions: Vec<SessionId> = replica.ledger.sessions.keys().copied().collect();
        let slots = self.slots();
        if let (Some(slot), Some(session)) = (self.rng.pick(&slots), self.rng.pick(&sessions)) {
            self.propose(leader, Entry::Assign { slot, session });
        }
    }

    /// Takes a node back that nobody gave up, or repeats that.
    fn reopen_anything(&mut self, leader: NodeId) {
        if !self.reopens {
            return;
        }
        let Some(replica) = self.replicas.get(&leader) else { return };
        let sessions: Vec<(SessionId, Reopens)> = replica
            .ledger
            .sessions
            .values()
            .map(|session| (session.open.session, session.open.reopens))
            .collect();
        let Some((session, reopens)) = self.rng.pick(&sessions) else { return };
        let to = Reopens(reopens.0 + self.rng.below(2));
        self.propose(leader, Entry::Reopen { session, to });
    }

    /// Takes a host's session back, or repeats the last time that this was done.
    pub(super) fn reopen_again(&mut self, host: NodeId, repeats: bool) {
        let Some((leader, session)) = self.session_at_leader(host) else { return };
        let id = leader.id;
        let to = Reopens(session.reopens.0 + u64::from(!repeats));
        self.propose(id, Entry::Reopen { session: session.session, to });
    }

    /// Somebody with the node's identity but without the session's key says that the session is fenced.
    pub(super) fn forge_fenced(&mut self, node: NodeId) {
        let Some(session) = self.hosts.get(&node).and_then(|host| host.session()) else { return };
        let tenure = Tenure { cluster: CLUSTER, incarnation: INCARNATION, node, session };
        let replicas: Vec<NodeId> = self.replicas.ids().collect();
        tell!(self, "somebody else says that session {session} is fenced");
        for replica in replicas {
            self.send(node, replica, Message::Fenced(Fenced { tenure }, 0));
        }
    }
}
