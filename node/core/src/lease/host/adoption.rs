//! Which newer list of voters the host may adopt (R3).
//!
//! A newer membership is adopted when acks from a majority of the list *held* (both halves of a joint one) name
//! it, and its content together with it. A voter vouches for a list by sending it: two voters that send different
//! contents under the same id vouch for different lists, so a lying or damaged list of one voter never gets a
//! majority, and neither does a stale one.

use std::sync::Arc;

use crate::id::NodeId;
use crate::lease::message::{ListVersion, MAX_LISTED, VoterList};
use crate::lease::rules::Rules;

/// The newest list that each voter sent along with its acks.
#[derive(Clone, Debug, Default)]
pub(super) struct Offers(Vec<(NodeId, Arc<VoterList>)>);

impl Offers {
    /// Notes the list that `voter` vouches for; its earlier word is replaced, unless that was newer.
    /// True when something was noted.
    pub(super) fn record(&mut self, held: ListVersion, voter: NodeId, list: &Arc<VoterList>) -> bool {
        if list.version() <= held || !list.is_well_formed() {
            return false;
        }
        match self.0.iter().position(|(node, _)| *node == voter) {
            Some(at) if self.0[at].1.version() > list.version() || self.0[at].1 == *list => false,
            Some(at) => {
                self.0[at].1 = Arc::clone(list);
                true
            }
            None if self.0.len() < MAX_LISTED => {
                self.0.push((voter, Arc::clone(list)));
                true
            }
            None => false,
        }
    }

    /// The newest list for which a majority of `held` vouches.
    pub(super) fn adoptable<R: Rules>(&self, held: &VoterList) -> Option<Arc<VoterList>> {
        let vouched = |list: &Arc<VoterList>| {
            let says = |node| self.0.iter().any(|(voter, known)| *voter == node && known == list);
            !R::LIST_NEEDS_MAJORITY || held.membership.is_majority(says)
        };
        let lists = self.0.iter().map(|(_, list)| list);
        lists.filter(|list| vouched(list)).max_by_key(|list| list.version()).cloned()
    }

    /// Forgets what is not newer than `held`.
    pub(super) fn forget_older(&mut self, held: ListVersion) {
        self.0.retain(|(_, list)| list.version() > held);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(NodeId, Arc<VoterList>)> {
        self.0.iter()
    }
}
