//! Why the guard refuses a request.

use muster_core::id::{BootId, Generation, SessionId};
use serde::{Deserialize, Serialize};

/// Why a request was refused. Nothing was changed by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The versions do not overlap.
    #[error("the guard speaks protocol versions {lowest} to {highest}")]
    Version {
        /// Lowest version of the guard.
        lowest: u32,
        /// Highest version of the guard.
        highest: u32,
    },
    /// The first request was not `Hello`.
    #[error("say hello first")]
    NoHello,
    /// Only the agent may ask this.
    #[error("only the agent may do this")]
    NotAgent,
    /// This build does not know the request, or its content is malformed.
    #[error("unknown or malformed request: {reason}")]
    UnknownRequest {
        /// What the decoder said.
        reason: String,
    },
    /// There is no valid lease.
    #[error("there is no valid lease")]
    NoValidLease,
    /// Another session is open.
    #[error("the guard's session is {}", held.map_or("none".to_owned(), |s| s.to_string()))]
    WrongSession {
        /// The session that is open.
        held: Option<SessionId>,
    },
    /// The session was opened for another start of the guard.
    #[error("this is guard boot {boot}")]
    WrongBoot {
        /// This guard's.
        boot: BootId,
    },
    /// The session before this one is not at its end yet; it is being ended, try again.
    #[error("session {session} is still ending")]
    SessionEnding {
        /// The old session.
        session: SessionId,
    },
    /// The grant is not usable.
    #[error("the session grant is not usable: {reason}")]
    BadGrant {
        /// Why.
        reason: String,
    },
    /// The generation, or a higher one, was revoked.
    #[error("generations up to {revoked} of this slot were revoked")]
    GenerationRevoked {
        /// The last revoked one.
        revoked: Generation,
    },
    /// Another generation of the slot still runs, or this task does.
    #[error("generation {running} of this slot still runs")]
    SlotBusy {
        /// The generation that runs.
        running: Generation,
    },
    /// No such task runs.
    #[error("no such task runs")]
    NoSuchTask,
    /// The task can't be bound to the lease later: it was not started as promotable.
    #[error("the task was not started as promotable")]
    NotPromotable,
    /// Limits of the guard itself.
    #[error("the guard holds its limit of {limit} {what}")]
    TooMany {
        /// Of what.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// The command is empty or contains a NUL byte.
    #[error("the task's {field} is not usable: {reason}")]
    BadSpec {
        /// Which field.
        field: String,
        /// Why.
        reason: String,
    },
    /// The command does not exist.
    #[error("there is no command '{path}'")]
    CommandNotFound {
        /// The command.
        path: String,
    },
    /// The command may not be executed.
    #[error("'{path}' may not be executed")]
    CommandNotExecutable {
        /// The command.
        path: String,
    },
    /// The user does not exist.
    #[error("there is no user '{user}'")]
    NoSuchUser {
        /// The user.
        user: String,
    },
    /// The group does not exist.
    #[error("there is no group '{group}'")]
    NoSuchGroup {
        /// The group.
        group: String,
    },
    /// The working directory does not exist or can't be entered.
    #[error("the directory '{path}' can't be entered")]
    NoSuchDirectory {
        /// The directory.
        path: String,
    },
    /// This guard is not allowed to change users.
    #[error("the guard runs without the privilege to become user '{user}'")]
    MayNotBecome {
        /// The user.
        user: String,
    },
    /// Any other step of the start failed.
    #[error("{step} failed: errno {errno}")]
    StartFailed {
        /// The step, as a verb phrase.
        step: String,
        /// The system's error number.
        errno: i32,
    },
    /// The task was killed while it was being started.
    #[error("killed while it was being started")]
    KilledAtStart,
    /// The new binary did not pass `--check-handover`, or can't be executed.
    #[error("'{exe}' can't take over: {reason}")]
    CannotTakeOver {
        /// The binary.
        exe: String,
        /// Why.
        reason: String,
    },
    /// The guard is on its way out.
    #[error("the guard is stopping")]
    Stopping,
}
