//! What the agent knows of its guard.

use muster_core::id::{BootId, SessionId};
use muster_guard::protocol::{Enforcement, Event, LeasePhase, Welcome};

/// The guard, as its last welcome and the events since then show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardView {
    /// The guard's start; `None`: there is no connection.
    pub boot: Option<BootId>,
    /// Version of its program; empty before the first connection.
    pub program: String,
    /// What it can enforce; `None` before the first connection.
    pub enforcement: Option<Enforcement>,
    /// The session that it holds or held last.
    pub session: Option<SessionId>,
    /// Where that session's lease stands.
    pub phase: LeasePhase,
}

impl GuardView {
    /// As a welcome tells it.
    #[must_use]
    pub fn of(welcome: &Welcome) -> Self {
        Self {
            boot: Some(welcome.guard_boot),
            program: welcome.program.clone(),
            enforcement: Some(welcome.enforcement),
            session: welcome.lease.session,
            phase: welcome.lease.phase,
        }
    }

    /// Takes in an event about the lease; others change nothing. Tells whether it changed.
    pub fn take(&mut self, event: &Event) -> bool {
        let Event::LeasePhase { session, phase } = event else { return false };
        let told = (Some(*session), *phase);
        let changed = (self.session, self.phase) != told;
        (self.session, self.phase) = told;
        changed
    }

    /// The session under which exclusive tasks may run now.
    #[must_use]
    pub fn valid_session(&self) -> Option<SessionId> {
        self.session.filter(|_| self.boot.is_some() && self.phase == LeasePhase::Valid)
    }
}
