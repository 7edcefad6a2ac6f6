//! Keeps a session open for this node: the guard makes the key, the cluster opens the session, the guard
//! gets the grant (LEASES.md R11). Each step is found anew from the replicated state and the guard's view,
//! so that a restart of the agent at any point continues where it was.
//!
//! ```text
//!   guard has none, or its last one ended,      state: open, this guard's boot,
//!   state: none open                            not held yet
//!   ──▶ PrepareSession ──▶ OpenSession (log) ──▶ OpenSession (grant) ──▶ guard heartbeats
//! ```

use std::sync::Arc;
use std::time::Duration;

use muster_core::command::{Command, OpenSession, SessionKey};
use muster_core::id::{BootId, NodeId, Revision, SessionId};
use muster_core::lease::{Grant, Tenure};
use muster_core::refusal::Refusal;
use muster_core::spec::Enforcement;
use muster_core::state::State;
use muster_core::state::session::Session;
use muster_guard::key::SessionKey as GuardKey;
use muster_guard::protocol::{self as guard, LeasePhase, Prepared, Reply, Request, SessionGrant};
use tokio::sync::watch;

use super::guard_link::{GuardError, GuardLink};
use super::view::GuardView;
use crate::submit::{Submit, SubmitError};

const GUARD_TIME: Duration = Duration::from_secs(5);
/// How long to wait for the own copy of the state to show what the leader has applied.
const CATCH_UP_TIME: Duration = Duration::from_secs(5);
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// The next thing to do for the session.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing, until the state or the guard's view changes.
    Rest,
    /// Ask the cluster for a session.
    Open,
    /// Hand the open session to the guard.
    Grant(Box<SessionGrant>),
}

fn next_step(state: &State, node: NodeId, view: &GuardView) -> Step {
    let Some(boot) = view.boot else { return Step::Rest };
    if !state.nodes.contains_key(&node) {
        return Step::Rest;
    }
    let Some(session) = state.session_of(node) else {
        let is_newer_than_state = view.session.is_some_and(|held| held.0 > state.revision.0);
        let is_over = matches!(view.phase, LeasePhase::None | LeasePhase::Lapsed | LeasePhase::Ended);
        return if is_over && !is_newer_than_state { Step::Open } else { Step::Rest };
    };
    // The guard that held it is gone. It is closed by its successor's Fenced or by the voters' promises.
    let is_of_another_guard = session.guard_boot != boot;
    // Held now, or held once and ended: then it is about to be closed.
    let is_known_to_guard = view.session.is_some_and(|held| held >= session.id);
    if is_of_another_guard || is_known_to_guard {
        return Step::Rest;
    }
    match grant_of(state, session) {
        Some(grant) => Step::Grant(Box::new(SessionGrant { guard_boot: boot, grant })),
        None => Step::Rest,
    }
}

/// What the guard needs to hold the session; `None` while there is no membership that could grant leases.
fn grant_of(state: &State, session: &Session) -> Option<Grant> {
    let cluster = state.cluster.as_ref()?;
    let tenure = Tenure {
        cluster: cluster.id,
        incarnation: cluster.incarnation,
        node: session.node,
        session: session.id,
    };
    let list = state.voter_list();
    list.is_well_formed().then_some(Grant {
        tenure,
        ttl_ms: session.timing.lease_ttl_ms,
        heartbeat_ms: session.timing.heartbeat_ms,
        kill_budget_ms: session.timing.kill_budget_ms,
        list,
    })
}

/// Why a step has to be tried again.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Guard(#[from] GuardError),
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error("the guard's key is not a key")]
    BadKey,
}

/// Keeps the session of one node.
pub(super) struct SessionKeeper {
    pub node: NodeId,
    pub guard: GuardLink,
    pub state: watch::Receiver<Arc<State>>,
    pub view: watch::Receiver<GuardView>,
    pub submit: Arc<dyn Submit>,
}

impl SessionKeeper {
    /// Runs until the state or the view has no more writer.
    pub(super) async fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        let mut granted: Option<(BootId, SessionId)> = None;
        loop {
            let mut view = self.view.borrow_and_update().clone();
            if let Some((boot, session)) = granted
                && view.boot == Some(boot)
            {
                // The guard tells its new phase a moment after it took the grant.
                view.session = view.session.max(Some(session));
            }
            let step = next_step(&self.state.borrow_and_update(), self.node, &view);
            let outcome = match step {
                Step::Rest => {
                    if !self.changed().await {
                        return;
                    }
                    continue;
                }
                Step::Open => self.open().await,
                Step::Grant(grant) => self.grant(*grant).await.map(|held| granted = Some(held)),
            };
            match outcome {
                Ok(()) => backoff = BACKOFF_MIN,
                Err(error) => {
                    tracing::debug!("session: {error}");
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.state.changed() => changed.is_ok(),
            changed = self.view.changed() => changed.is_ok(),
        }
    }

    async fn open(&mut self) -> Result<(), StepError> {
        let prepared = match self.guard.call(Request::PrepareSession, GUARD_TIME).await? {
            Reply::Prepared(prepared) => prepared,
            _ => return Err(GuardError::Unexpected.into()),
        };
        let command = Command::OpenSession(open_command(self.node, prepared)?);
        let opened = match self.submit.submit(command).await {
            Ok(reply) => reply.revision,
            Err(SubmitError::Refused(Refusal::SessionOpen { session, .. })) => Revision(session.0),
            Err(error) => return Err(error.into()),
        };
        let shown = self.state.wait_for(|state| state.revision >= opened);
        if tokio::time::timeout(CATCH_UP_TIME, shown).await.is_err() {
            tracing::warn!("this host's copy of the state is far behind: it does not show revision {opened}");
        }
        Ok(())
    }

    async fn grant(&self, grant: SessionGrant) -> Result<(BootId, SessionId), StepError> {
        let held = (grant.guard_boot, grant.grant.tenure.session);
        self.guard.order(Request::OpenSession(grant), GUARD_TIME).await?;
        tracing::info!(session = %held.1, "the guard holds the session");
        Ok(held)
    }
}

fn open_command(node: NodeId, prepared: Prepared) -> Result<OpenSession, StepError> {
    let key = GuardKey::from_hex(&prepared.key).ok_or(StepError::BadKey)?;
    Ok(OpenSession {
        node,
        guard_boot: prepared.guard_boot,
        key: SessionKey(*key.as_bytes()),
        inventory: prepared.inventory.into_iter().map(|entry| (entry.slot, entry.generation)).collect(),
        enforcement: match prepared.enforcement {
            guard::Enforcement::Kernel => Enforcement::Kernel,
            guard::Enforcement::User => Enforcement::User,
        },
    })
}
