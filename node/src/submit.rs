//! How the parts of an agent write to the replicated state, whoever leads it.

use futures::future::BoxFuture;
use muster_core::command::Command;
use muster_core::refusal::Refusal;
use muster_core::state::apply::Reply;

/// Takes commands to the leader and brings back its answer.
///
/// A command that the leader may or may not have seen is retried under the same request id, so that it is
/// applied once; whoever submits need not care.
pub trait Submit: Send + Sync {
    /// Proposes the command and waits until it was applied or refused.
    fn submit(&self, command: Command) -> BoxFuture<'_, Result<Reply, SubmitError>>;
}

/// Why a command was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The replicated state refuses it. A retry of the same command gets the same answer.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no leader, or it can't be reached. Whether the command was applied is unknown.
    #[error("the cluster can't be reached: {0}")]
    Unavailable(String),
}
