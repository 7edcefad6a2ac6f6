//! Who votes: the control plane's membership looks after itself (DESIGN.md §7), one change at a time, none while
//! a session is overdue (LEASES.md R7), each keeping a majority of the old voters (LEASES.md R3).
//!
//! ```text
//!   1 voter ─ a second node joins ─▶ 1 voter + 1 standby ─ a third joins ─▶ 3 voters at once
//!   a voter is lost for a while ─▶ another node becomes a standby, catches up, and takes its vote
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use crate::command::Role;
use crate::id::NodeId;
use crate::lease::membership::majority_of;
use crate::state::State;
use crate::state::node::Node;
use crate::time::Stamp;

/// How many voters Muster aims for.
pub const TARGET_VOTERS: usize = 3;
/// A voter that has been lost for so long gives its vote to another node, if there is one.
pub const REPLACE_VOTER_AFTER: Duration = Duration::from_secs(30);

/// What the leader knows beside the replicated state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The members of Raft that answered lately.
    pub reachable: BTreeSet<NodeId>,
    /// Those of them whose log is nearly as long as the leader's.
    pub caught_up: BTreeSet<NodeId>,
    /// Members whose name or addresses in Raft are not those of the replicated state any more.
    pub outdated: BTreeSet<NodeId>,
    /// Whether no session is overdue: each membership change restarts all ages.
    pub sessions_in_time: bool,
    /// The leader's wall clock.
    pub now: Stamp,
}

/// One step of the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// A node follows the log from now on, without a vote.
    AddStandby(NodeId),
    /// A standby or a former voter leaves Raft.
    RemoveStandby(NodeId),
    /// The voters from now on; the change is joint in between.
    SetVoters(BTreeSet<NodeId>),
    /// A member's name or addresses changed.
    UpdatePeer(NodeId),
}

/// The next step, or none when all is as it should be or has to wait.
#[must_use]
pub fn next_change(state: &State, facts: &Facts) -> Option<MembershipChange> {
    if state.cluster.is_none() || !facts.sessions_in_time {
        return None;
    }
    let view = View { state, facts, voters: state.membership.voters() };
    // A leader that was lost halfway leaves a joint membership behind: it is finished first.
    if state.membership.is_joint() {
        return state.membership.configs.last().cloned().map(MembershipChange::SetVoters);
    }
    view.update_peer()
        .or_else(|| view.promote())
        .or_else(|| view.add_standby())
        .or_else(|| view.remove_standby())
}

/// The next step towards taking `node` out of Raft, so that it can be removed from the cluster; none when it is
/// out already, when the step has to wait, or when no majority of the old voters would be left.
#[must_use]
pub fn removal_step(state: &State, facts: &Facts, node: NodeId) -> Option<MembershipChange> {
    if !facts.sessions_in_time || state.membership.is_joint() {
        return None;
    }
    let view = View { state, facts, voters: state.membership.voters() };
    if view.voters.contains(&node) {
        return view.swap_or_drop(node);
    }
    state.standbys.contains(&node).then_some(MembershipChange::RemoveStandby(node))
}

struct View<'a> {
    state: &'a State,
    facts: &'a Facts,
    voters: BTreeSet<NodeId>,
}

impl View<'_> {
    fn update_peer(&self) -> Option<MembershipChange> {
        let member = |id: &&NodeId| self.voters.contains(*id) || self.state.standbys.contains(*id);
        self.facts.outdated.iter().find(member).copied().map(MembershipChange::UpdatePeer)
    }

    /// More voters up to the target, or a lost voter's vote to a standby.
    fn promote(&self) -> Option<MembershipChange> {
        let missing = TARGET_VOTERS.saturating_sub(self.voters.len());
        // From one voter straight to three: two voters tolerate less than one.
        let step = if self.voters.len() == 1 { missing } else { missing.min(1) };
        if step > 0 {
            let new = self.best(self.ready(), step);
            return (new.len() == step).then(|| self.set_voters(self.voters.union(&new).copied()));
        }
        let lost = self.lost_voter()?;
        let promoted = self.best(self.ready(), 1).into_iter().next()?;
        self.swap(lost, promoted)
    }

    /// Gives the vote of `node` to a ready standby, or drops it while a majority of the old voters stays.
    fn swap_or_drop(&self, node: NodeId) -> Option<MembershipChange> {
        let ready: Vec<NodeId> = self.ready().into_iter().filter(|id| *id != node).collect();
        if let Some(promoted) = self.best(ready, 1).into_iter().next() {
            return self.swap(node, promoted);
        }
        let left: BTreeSet<NodeId> = self.voters.iter().copied().filter(|v| *v != node).collect();
        self.keeps_majority(&left).then(|| self.set_voters(left))
    }

    fn swap(&self, out: NodeId, into: NodeId) -> Option<MembershipChange> {
        let voters: BTreeSet<NodeId> =
            self.voters.iter().copied().filter(|v| *v != out).chain([into]).collect();
        self.keeps_majority(&voters).then(|| self.set_voters(voters))
    }

    /// Whether the change keeps a majority of the old voters, and both the old and the new voters have a
    /// reachable majority: otherwise the joint membership could not be left again.
    fn keeps_majority(&self, new: &BTreeSet<NodeId>) -> bool {
        let kept = self.voters.intersection(new).count();
        let reachable = |set: &BTreeSet<NodeId>| {
            set.intersection(&self.facts.reachable).count() >= majority_of(set.len())
        };
        !new.is_empty() && kept >= majority_of(self.voters.len()) && reachable(&self.voters) && reachable(new)
    }

    fn set_voters(&self, voters: impl IntoIterator<Item = NodeId>) -> MembershipChange {
        MembershipChange::SetVoters(voters.into_iter().collect())
    }

    /// Standbys that may vote: alive, nearly up to date, their `VoterUp` is applied (LEASES.md R8), and they have the
    /// keys of the secrets, which a majority of the voters must have at any time.
    fn ready(&self) -> Vec<NodeId> {
        let ready = |id: &NodeId| {
            self.facts.caught_up.contains(id)
                && self.state.holds_secret_keys(*id)
                && self.state.nodes.get(id).is_some_and(|n| n.boot.is_some() && may_vote(n) && is_alive(n))
        };
        self.state.standbys.iter().copied().filter(ready).collect()
    }

    /// A node becomes a standby when a vote is missing or its holder is lost.
    fn add_standby(&self) -> Option<MembershipChange> {
        let vacant = TARGET_VOTERS.saturating_sub(self.voters.len());
        let wanted = if vacant > 0 { vacant } else { usize::from(self.lost_voter().is_some()) };
        let coming = self.state.standbys.iter().filter(|id| self.node(**id).is_some_and(is_alive)).count();
        if coming >= wanted {
            return None;
        }
        let outside = |n: &&Node| !self.voters.contains(&n.id) && !self.state.standbys.contains(&n.id);
        let candidates =
            self.state.nodes.values().filter(outside).filter(|n| may_vote(n) && is_alive(n)).map(|n| n.id);
        self.best(candidates.collect(), 1).into_iter().next().map(MembershipChange::AddStandby)
    }

    /// Standbys that are lost for good or not needed become workers.
    fn remove_standby(&self) -> Option<MembershipChange> {
        let complete = self.voters.len() >= TARGET_VOTERS && self.lost_voter().is_none();
        let needless = |id: &&NodeId| {
            let node = self.node(**id);
            complete || node.is_none_or(|n| !may_vote(n) || self.is_lost_for_a_while(n))
        };
        self.state.standbys.iter().find(needless).copied().map(MembershipChange::RemoveStandby)
    }

    /// A voter that has had no session for a while and does not answer.
    fn lost_voter(&self) -> Option<NodeId> {
        let gone = |id: &&NodeId| {
            !self.facts.reachable.contains(*id) && self.node(**id).is_none_or(|n| self.is_lost_for_a_while(n))
        };
        self.voters.iter().find(gone).copied()
    }

    fn is_lost_for_a_while(&self, node: &Node) -> bool {
        node.lost.is_some_and(|lost| self.facts.now.since(lost.since) >= REPLACE_VOTER_AFTER)
    }

    fn node(&self, id: NodeId) -> Option<&Node> {
        self.state.nodes.get(&id)
    }

    /// Up to `count` of the candidates: in zones that have no voter yet, witnesses, then the oldest nodes first.
    fn best(&self, mut candidates: Vec<NodeId>, count: usize) -> BTreeSet<NodeId> {
        let zone = |id: NodeId| self.node(id).and_then(|n| n.all_labels().get("zone").cloned());
        let mut zones: Vec<_> = self.voters.iter().map(|id| zone(*id)).collect();
        let mut chosen = BTreeSet::new();
        while chosen.len() < count && !candidates.is_empty() {
            let rank = |id: &NodeId| {
                let here = zone(*id);
                let same_zone = zones.iter().filter(|z| here.is_some() && **z == here).count();
                (same_zone, self.node(*id).is_none_or(|n| n.role != Role::Witness), *id)
            };
            let Some(next) = candidates.iter().copied().min_by_key(rank) else { break };
            candidates.retain(|id| *id != next);
            zones.push(zone(next));
            chosen.insert(next);
        }
        chosen
    }
}

fn may_vote(node: &Node) -> bool {
    node.role != Role::Worker && node.drain.is_none()
}

fn is_alive(node: &Node) -> bool {
    node.session.is_some()
}
