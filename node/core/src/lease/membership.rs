//! Who grants leases: a membership as the state machine applied it (R2a, R3, R7).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::id::{MembershipId, NodeId};

/// The largest number of voters in one configuration.
pub const MAX_VOTERS: usize = 7;
/// The largest number of configurations: two while the membership is joint.
pub const MAX_CONFIGS: usize = 2;

/// The voters of one membership entry: one set, or two while the membership is joint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Membership {
    /// The log index of the membership entry.
    pub id: MembershipId,
    /// The sets of voters; a decision needs a majority of each.
    pub configs: Vec<BTreeSet<NodeId>>,
}

impl Membership {
    /// A membership with one set of voters.
    #[must_use]
    pub fn uniform(id: MembershipId, voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self { id, configs: vec![voters.into_iter().collect()] }
    }

    /// A joint membership on the way from `old` to `new`.
    #[must_use]
    pub fn joint(
        id: MembershipId,
        old: impl IntoIterator<Item = NodeId>,
        new: impl IntoIterator<Item = NodeId>,
    ) -> Self {
        Self { id, configs: vec![old.into_iter().collect(), new.into_iter().collect()] }
    }

    /// Whether the nodes for which `has` is true are a majority of every set. False without any voter.
    #[must_use]
    pub fn is_majority(&self, has: impl Fn(NodeId) -> bool) -> bool {
        !self.configs.is_empty()
            && self.configs.iter().all(|voters| {
                let count = voters.iter().filter(|node| has(**node)).count();
                count >= majority_of(voters.len())
            })
    }

    /// Whether `node` votes in any of the sets.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.configs.iter().any(|voters| voters.contains(&node))
    }

    /// All voters, each once, ascending.
    #[must_use]
    pub fn voters(&self) -> BTreeSet<NodeId> {
        self.configs.iter().flatten().copied().collect()
    }

    /// Whether the membership is joint.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.configs.len() > 1
    }

    /// Whether the sets are within the limits: one or two, none empty, none above [`MAX_VOTERS`].
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        (1..=MAX_CONFIGS).contains(&self.configs.len())
            && self.configs.iter().all(|voters| (1..=MAX_VOTERS).contains(&voters.len()))
    }
}

/// How many of `voters` are a majority.
#[must_use]
pub const fn majority_of(voters: usize) -> usize {
    voters / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ids: &[u64]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn a_joint_majority_needs_both_halves() {
        let joint = Membership::joint(MembershipId(7), nodes(&[1, 2, 3]), nodes(&[3, 4, 5]));
        let has = |ids: &'static [u64]| move |node: NodeId| ids.contains(&node.0);
        assert!(!joint.is_majority(has(&[1, 2, 3])));
        assert!(!joint.is_majority(has(&[3, 4, 5])));
        assert!(joint.is_majority(has(&[2, 3, 4])));
        assert_eq!(joint.voters().len(), 5);
    }

    #[test]
    fn nobody_is_no_majority_of_nothing() {
        assert!(!Membership::default().is_majority(|_| true));
        assert!(!Membership::uniform(MembershipId(1), []).is_well_formed());
        let two = Membership::uniform(MembershipId(1), nodes(&[1, 2]));
        assert!(!two.is_majority(|node| node == NodeId(1)), "one of two is no majority");
    }
}
