//! What can go wrong when Raft is asked for something, in terms of what the caller can do about it.

use openraft::errors::{ChangeMembershipError, ClientWriteError, ForwardReason, ForwardToLeader, RaftError};

use super::MAX_COMMAND_BYTES;
use super::types::TypeConfig;

/// Why a proposal was not applied, or not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another node leads.
    #[error("this node is not the leader")]
    NotLeader {
        /// The leader, when one is known.
        leader: Option<u64>,
    },
    /// The leadership is changing. The command may or may not be applied: repeat it under its request id.
    #[error("the leadership is changing")]
    Retry,
    /// The command is larger than [`MAX_COMMAND_BYTES`].
    #[error("the command has {bytes} bytes, more than the {MAX_COMMAND_BYTES} allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Raft has stopped on this node; the agent must end.
    #[error("Raft has stopped: {reason}")]
    Fatal {
        /// Why.
        reason: String,
    },
    /// No quorum within the time. The command may still be applied.
    #[error("no quorum answered in time")]
    TimedOut,
}

/// Why a linearizable read is not possible here and now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Another node leads.
    #[error("this node is not the leader")]
    NotLeader {
        /// The leader, when one is known.
        leader: Option<u64>,
    },
    /// No quorum confirmed this node's leadership in time.
    #[error("no quorum answered in time")]
    NoQuorum,
    /// Raft has stopped on this node.
    #[error("Raft has stopped: {reason}")]
    Fatal {
        /// Why.
        reason: String,
    },
}

/// Why the members were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The proposal failed.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// A change is under way already, or the leader's term has only begun: repeat it later.
    #[error("the members cannot be changed right now: {detail}")]
    Busy {
        /// What is under way.
        detail: String,
    },
    /// The change itself is impossible or unsafe.
    #[error("refused: {detail}")]
    Refused {
        /// Why.
        detail: String,
    },
}

/// Why openraft refused a proposal.
pub(super) enum Refusal {
    /// The leader could not take it yet; nothing was appended.
    NotYet,
    /// Everything else.
    Other(ProposeError),
}

pub(super) fn propose_error(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Refusal {
    match error {
        RaftError::Fatal(fatal) => Refusal::Other(ProposeError::Fatal { reason: fatal.to_string() }),
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => forwarded(&to),
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => Refusal::Other(ProposeError::Retry),
        RaftError::APIError(
            ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_),
        ) => Refusal::Other(ProposeError::Retry),
    }
}

fn forwarded(to: &ForwardToLeader<TypeConfig>) -> Refusal {
    match to.reason {
        ForwardReason::LeaseExpired => Refusal::NotYet,
        ForwardReason::LeadershipTransfer => Refusal::Other(ProposeError::Retry),
        ForwardReason::NotLeader => Refusal::Other(ProposeError::NotLeader { leader: to.leader_id }),
    }
}

pub(super) fn change_error(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> ChangeError {
    match error {
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
            let detail = error.to_string();
            match error {
                ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_) => {
                    ChangeError::Busy { detail }
                }
                _ => ChangeError::Refused { detail },
            }
        }
        RaftError::APIError(ClientWriteError::PreconditionFailed(error)) => {
            ChangeError::Busy { detail: error.to_string() }
        }
        other => match propose_error(other) {
            Refusal::NotYet => ProposeError::Retry.into(),
            Refusal::Other(error) => error.into(),
        },
    }
}
