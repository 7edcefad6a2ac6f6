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
