//! Which voter acked what, and since when a majority acks (R3).

use crate::id::{MembershipId, NodeId};
use crate::lease::membership::{MAX_VOTERS, Membership, majority_of};
use crate::lease::message::MAX_LISTED;

/// The newest ack of one voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vote {
    /// The voter: votes count per voter id, never per address.
    pub(super) voter: NodeId,
    /// The membership that its ack named.
    pub(super) membership: MembershipId,
    /// The newest heartbeat that it acked under that membership.
    pub(super) seq: u64,
}

/// The newest acks, one a voter; room for all voters of a joint membership is allocated once.
#[derive(Clone, Debug)]
pub(super) struct Votes(Vec<Vote>);

impl Votes {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(MAX_LISTED))
    }

    /// Notes an ack. An ack under an older membership than the voter's last one is stale and changes nothing.
    pub(super) fn record(&mut self, vote: Vote) {
        match self.0.iter().position(|known| known.voter == vote.voter) {
            Some(at) if (self.0[at].membership, self.0[at].seq) < (vote.membership, vote.seq) => {
                self.0[at] = vote;
            }
            Some(_) => {}
            None if self.0.len() < MAX_LISTED => self.0.push(vote),
            None => {}
        }
    }

    /// Forgets the voters that `keep` doesn't name.
    pub(super) fn retain(&mut self, keep: impl Fn(NodeId) -> bool) {
        self.0.retain(|vote| keep(vote.voter));
    }

    /// The newest sequence number such that a majority of every set of voters acked it or a later one.
    pub(super) fn majority_seq(
        &self,
        membership: &Membership,
        counts: impl Fn(&Vote) -> bool,
    ) -> Option<u64> {
        let mut newest = None;
        for voters in &membership.configs {
            let mut seqs = [0_u64; MAX_VOTERS];
            let mut found = 0;
            for vote in self.0.iter().filter(|vote| voters.contains(&vote.voter) && counts(vote)) {
                if found < MAX_VOTERS {
                    seqs[found] = vote.seq;
                    found += 1;
                }
            }
            let needed = majority_of(voters.len());
            if found < needed {
                return None;
            }
            seqs[..found].sort_unstable_by(|a, b| b.cmp(a));
            let half = seqs[needed - 1];
            newest = Some(newest.map_or(half, |other: u64| other.min(half)));
        }
        newest
    }

    /// The newest sequence number that anybody acked; only a mutant rests a lease on it.
    pub(super) fn any_seq(&self) -> Option<u64> {
        self.0.iter().map(|vote| vote.seq).max()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Vote> + '_ {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn votes(of: &[(u64, u64, u64)]) -> Votes {
        let mut votes = Votes::new();
        for &(voter, membership, seq) in of {
            votes.record(Vote { voter: NodeId(voter), membership: MembershipId(membership), seq });
        }
        votes
    }

    #[test]
    fn the_base_is_what_a_majority_acked_or_a_later_one() {
        let three = Membership::uniform(MembershipId(1), [1, 2, 3].map(NodeId));
        assert_eq!(votes(&[(1, 1, 9)]).majority_seq(&three, |_| true), None);
        assert_eq!(votes(&[(1, 1, 9), (3, 1, 4)]).majority_seq(&three, |_| true), Some(4));
        assert_eq!(votes(&[(1, 1, 9), (2, 1, 6), (3, 1, 4)]).majority_seq(&three, |_| true), Some(6));
        assert_eq!(votes(&[(1, 1, 9), (1, 1, 8), (7, 1, 6)]).majority_seq(&three, |_| true), None);
    }

    #[test]
    fn a_joint_base_is_the_older_of_both_halves() {
        let joint = Membership::joint(MembershipId(1), [1, 2, 3].map(NodeId), [3, 4, 5].map(NodeId));
        let all = votes(&[(1, 1, 9), (2, 1, 8), (3, 1, 7), (4, 1, 3)]);
        assert_eq!(all.majority_seq(&joint, |_| true), Some(3));
    }

    #[test]
    fn an_ack_under_an_older_membership_is_stale() {
        let one = Membership::uniform(MembershipId(2), [NodeId(1)]);
        let moved = votes(&[(1, 2, 5), (1, 1, 9)]);
        assert_eq!(moved.majority_seq(&one, |vote| vote.membership == MembershipId(2)), Some(5));
    }
}
