//! Calls that leave no command in the log, for the audit trail: refused ones above all.
//!
//! ```text
//!   Gate ──call──▶ Recorder: sums equal calls ──RecordCalls, a few a minute──▶ log ──▶ audit trail
//! ```
//! A flood costs memory and entries of the log that are bounded by the constants below, whoever causes it and however
//! he varies it; what is not told one by one is told as a number.

mod desk;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_core::audit::{Actor, RecordedCalls};
use muster_core::command::Command;
use muster_core::id::{NodeId, Revision};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::submit::{Submit, SubmitError};
use desk::Desk;

/// How long calls are collected before they are handed in: one entry for what comes together.
const COLLECT: Duration = Duration::from_millis(500);
/// Between two entries of one agent.
const PAUSE: Duration = Duration::from_secs(5);

/// A call that was answered without a command of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnsweredCall {
    /// Who called.
    pub actor: Actor,
    /// What, in the operator's words.
    pub verb: String,
    /// Of what; empty when the call was refused unread.
    pub target: String,
    /// The code and the message of a refusal.
    pub refused: Option<(String, String)>,
    /// The state that this agent had.
    pub before: Revision,
}

/// Takes calls from everywhere, hands them in from one task. Cheap to clone.
#[derive(Clone, Default)]
pub struct Recorder {
    desk: Arc<Mutex<Desk>>,
    came: Arc<Notify>,
}

impl Recorder {
    /// Takes a call. Never waits.
    pub fn take(&self, call: AnsweredCall) {
        self.lock().take(clock::wall_now(), call);
        self.came.notify_one();
    }

    /// How many calls were told as a number only since the start.
    #[must_use]
    pub fn summed(&self) -> u64 {
        self.lock().summed()
    }

    /// Hands in what comes, until `stop`. What is not handed in by then is lost.
    pub async fn run(self, me: NodeId, proposer: Arc<dyn Submit>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.hand_in(me, proposer.as_ref()) => {}
        }
    }

    async fn hand_in(&self, me: NodeId, proposer: &dyn Submit) {
        loop {
            if self.lock().is_empty() {
                self.came.notified().await;
            }
            tokio::time::sleep(COLLECT).await;
            let due = self.lock().due(clock::monotonic());
            if !due.is_empty() {
                let calls = due.iter().map(desk::Due::call).collect();
                let told = Command::RecordCalls(RecordedCalls { node: me, calls });
                match proposer.submit(told).await {
                    Ok(_) => {}
                    Err(SubmitError::Unavailable(why)) => {
                        tracing::debug!(why, "the audit trail could not be told yet");
                        self.lock().put_back(due);
                    }
                    Err(SubmitError::Refused(refusal)) => {
                        tracing::warn!(%refusal, calls = due.len(), "the audit trail does not take calls");
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
