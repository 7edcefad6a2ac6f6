//! What every replica judges alike when it applies an entry: R7, R8 and R9 of LEASES.md. Each function is pure;
//! the state machine hands in its own values at that index.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::membership::Membership;
use super::rules::Rules;
use crate::id::{BootId, MembershipId, NodeId, Reopens, SessionId};

/// R7: `CloseSession{E, C, gen, [(voter, boot)…]}`, without the plan that travels with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CloseSession {
    /// The session E.
    pub session: SessionId,
    /// The membership C under which the voters promised.
    pub membership: MembershipId,
    /// How often E was re-opened when they promised.
    pub reopens: Reopens,
    /// Who promised, and in which boot.
    pub promises: Vec<(NodeId, BootId)>,
}

/// Why a `CloseSession` does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseRefusal {
    /// It is closed already or was never open.
    #[error("the session is not open")]
    NotOpen,
    /// The voters have changed since they promised.
    #[error("the membership is {current} by now")]
    OtherMembership {
        /// The state machine's at this index.
        current: MembershipId,
    },
    /// The session was re-opened since.
    #[error("the session was re-opened {current} times by now")]
    OtherReopens {
        /// The state machine's at this index.
        current: Reopens,
    },
    /// A promise of somebody who has no vote.
    #[error("node {node} is not a voter")]
    NotVoter {
        /// Who.
        node: NodeId,
    },
    /// Two promises of the same voter.
    #[error("voter {node} is named twice")]
    NamedTwice {
        /// Who.
        node: NodeId,
    },
    /// The voter has restarted since, and forgotten its promise.
    #[error("voter {node} has restarted since it promised")]
    OldBoot {
        /// Who.
        node: NodeId,
    },
    /// Too few.
    #[error("the promises are of no majority of the voters")]
    NoMajority,
}

/// R7: judges a close at apply. `open_reopens` is the count of re-openings if E is open, `membership` the state
/// machine's at this index, `newest_boot` the boot of a voter's newest `VoterUp`.
///
/// # Errors
/// [`CloseRefusal`]: the entry does nothing.
pub fn judge_close<R: Rules>(
    close: &CloseSession,
    open_reopens: Option<Reopens>,
    membership: &Membership,
    newest_boot: impl Fn(NodeId) -> Option<BootId>,
) -> Result<(), CloseRefusal> {
    let current = open_reopens.ok_or(CloseRefusal::NotOpen)?;
    if R::CLOSE_CHECKS_MEMBERSHIP && close.membership != membership.id {
        return Err(CloseRefusal::OtherMembership { current: membership.id });
    }
    if R::CLOSE_CHECKS_REOPENS && close.reopens != current {
        return Err(CloseRefusal::OtherReopens { current });
    }
    let mut promised = BTreeSet::new();
    for &(node, boot) in &close.promises {
        if !membership.contains(node) {
            return Err(CloseRefusal::NotVoter { node });
        }
        if !promised.insert(node) {
            return Err(CloseRefusal::NamedTwice { node });
        }
        if R::CLOSE_CHECKS_BOOTS && newest_boot(node) != Some(boot) {
            return Err(CloseRefusal::OldBoot { node });
        }
    }
    let enough = membership.is_majority(|node| promised.contains(&node));
    if enough || (!R::CLOSE_NEEDS_MAJORITY && !promised.is_empty()) {
        Ok(())
    } else {
        Err(CloseRefusal::NoMajority)
    }
}

/// Why a `VoterUp` does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoterUpRefusal {
    /// 0 stands for 'none yet'.
    #[error("0 is not a boot")]
    NoBoot,
    /// A late duplicate, or the voter was started twice.
    #[error("the voter's current boot is {current}, not the one to be replaced")]
    OtherPredecessor {
        /// The state machine's at this index; 0: none.
        current: BootId,
    },
}

/// R8: judges a `VoterUp{v, boot, replaces}` at apply; `current` is v's newest boot so far (0: none). Refused
/// unless it replaces that one, because a late duplicate would bring old promises back to life.
///
/// # Errors
/// [`VoterUpRefusal`]: the entry does nothing.
pub fn judge_voter_up<R: Rules>(
    current: BootId,
    boot: BootId,
    replaces: BootId,
) -> Result<(), VoterUpRefusal> {
    if boot == BootId(0) {
        return Err(VoterUpRefusal::NoBoot);
    }
    if R::VOTER_UP_NAMES_PREDECESSOR && replaces != current {
        return Err(VoterUpRefusal::OtherPredecessor { current });
    }
    Ok(())
}

/// Why a `Reopen` does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReopenRefusal {
    /// A closed session is never opened again.
    #[error("the session is not open")]
    NotOpen,
    /// A duplicate, or another `Reopen` came first.
    #[error("the session was re-opened {current} times by now")]
    OtherReopens {
        /// The state machine's at this index.
        current: Reopens,
    },
}

/// R9: judges a `Reopen{E}` to the count `to` at apply: it raises the count by exactly one.
///
/// # Errors
/// [`ReopenRefusal`]: the entry does nothing.
pub fn judge_reopen(open_reopens: Option<Reopens>, to: Reopens) -> Result<(), ReopenRefusal> {
    let current = open_reopens.ok_or(ReopenRefusal::NotOpen)?;
    if to.0 == current.0.saturating_add(1) { Ok(()) } else { Err(ReopenRefusal::OtherReopens { current }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::rules::Sound;

    fn close(promises: &[(u64, u64)]) -> CloseSession {
        CloseSession {
            session: SessionId(20),
            membership: MembershipId(5),
            reopens: Reopens(1),
            promises: promises.iter().map(|(node, boot)| (NodeId(*node), BootId(*boot))).collect(),
        }
    }

    fn judge(close: &CloseSession, open: Option<u64>) -> Result<(), CloseRefusal> {
        let membership = Membership::uniform(MembershipId(5), [1, 2, 3].map(NodeId));
        // The newest boot of voter n is 10·n.
        judge_close::<Sound>(close, open.map(Reopens), &membership, |node| Some(BootId(node.0 * 10)))
    }

    #[test]
    fn a_close_with_a_majority_of_current_promises_is_taken() {
        assert_eq!(judge(&close(&[(1, 10), (3, 30)]), Some(1)), Ok(()));
        assert_eq!(judge(&close(&[(1, 10), (2, 20), (3, 30)]), Some(1)), Ok(()));
    }

    #[test]
    fn every_forged_or_outdated_close_is_refused() {
        let good = close(&[(1, 10), (3, 30)]);
        assert_eq!(judge(&good, None), Err(CloseRefusal::NotOpen));
        assert_eq!(judge(&good, Some(2)), Err(CloseRefusal::OtherReopens { current: Reopens(2) }));
        let other = CloseSession { membership: MembershipId(4), ..good };
        assert_eq!(judge(&other, Some(1)), Err(CloseRefusal::OtherMembership { current: MembershipId(5) }));
        assert_eq!(judge(&close(&[(1, 10)]), Some(1)), Err(CloseRefusal::NoMajority));
        assert_eq!(judge(&close(&[]), Some(1)), Err(CloseRefusal::NoMajority));
        let twice = close(&[(1, 10), (1, 10)]);
        assert_eq!(judge(&twice, Some(1)), Err(CloseRefusal::NamedTwice { node: NodeId(1) }));
        let stranger = close(&[(1, 10), (2, 20), (4, 40)]);
        assert_eq!(judge(&stranger, Some(1)), Err(CloseRefusal::NotVoter { node: NodeId(4) }));
        let restarted = close(&[(1, 10), (3, 29)]);
        assert_eq!(judge(&restarted, Some(1)), Err(CloseRefusal::OldBoot { node: NodeId(3) }));
    }

    #[test]
    fn a_late_duplicate_of_a_voters_start_is_refused() {
        assert_eq!(judge_voter_up::<Sound>(BootId(0), BootId(1), BootId(0)), Ok(()));
        assert_eq!(judge_voter_up::<Sound>(BootId(1), BootId(2), BootId(1)), Ok(()));
        let late = judge_voter_up::<Sound>(BootId(2), BootId(1), BootId(0));
        assert_eq!(late, Err(VoterUpRefusal::OtherPredecessor { current: BootId(2) }));
        assert_eq!(judge_voter_up::<Sound>(BootId(2), BootId(0), BootId(2)), Err(VoterUpRefusal::NoBoot));
    }

    #[test]
    fn a_reopen_raises_the_count_by_one() {
        assert_eq!(judge_reopen(Some(Reopens(1)), Reopens(2)), Ok(()));
        assert_eq!(judge_reopen(None, Reopens(1)), Err(ReopenRefusal::NotOpen));
        for to in [0, 1, 3] {
            let refused = judge_reopen(Some(Reopens(1)), Reopens(to));
            assert_eq!(refused, Err(ReopenRefusal::OtherReopens { current: Reopens(1) }));
        }
    }
}
