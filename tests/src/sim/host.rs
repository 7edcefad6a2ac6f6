//! One host: its guard, its kernel's timer, its tasks.

use std::collections::BTreeMap;

use muster_core::id::{Generation, NodeId, SessionId};
use muster_core::lease::Tenure;
use muster_core::time::HostInstant;

use super::clocks::{Clocks, Time};
use super::ledger::Slot;
use super::protocol::HostHalf;

/// A running instance of a slot.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Counts tasks of the whole run.
    pub id: u64,
    /// Under which session it was started.
    pub session: SessionId,
    /// Its fencing token.
    pub generation: Generation,
    /// It has been killed and is about to die; why.
    pub dying: Option<Death>,
}

/// Why a task dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The lease ended.
    Lease,
    /// Its placement was revoked.
    Revoked,
    /// It failed by itself.
    Failed,
    /// Its guard died.
    Guard,
}

/// The guard.
#[derive(Default)]
pub struct Guard {
    /// The lease of its session, if it has one.
    pub lease: Option<Box<dyn HostHalf>>,
    /// The session's key, made with the request.
    pub key: u64,
    /// The request that asks for a session.
    pub request: u64,
    /// The last generation revoked of each slot: nothing at or below it is ever started (R10).
    pub revoked: BTreeMap<Slot, Generation>,
    /// What ended, for the agent to report.
    pub ended: BTreeMap<Slot, (SessionId, Generation)>,
    /// The predecessor's session, fenced by the token in the run directory once it is cleaned up.
    pub predecessor: Option<(Tenure, u64)>,
}

/// One host.
pub struct Host {
    /// Who.
    pub id: NodeId,
    /// Its clocks.
    pub clocks: Clocks,
    /// Its guard, while that runs.
    pub guard: Option<Guard>,
    /// Counts starts of guards.
    pub epoch: u64,
    /// The guard is stopped until then.
    pub guard_frozen_until: Time,
    /// The whole machine is stopped until then.
    pub machine_frozen_until: Time,
    /// When the machine last went on.
    pub thawed_at: Time,
    /// Stops the guard between its next reading of the clocks and the arming of the timer, and again after it.
    pub stall_before_arming: Option<(Time, Time)>,
    /// The shim's timer: a value of `CLOCK_BOOTTIME` and a number that makes former ones void.
    pub timer: Option<(u64, u64)>,
    /// The timer has fired: the shim is dead.
    pub shim_dead: bool,
    /// What a dead guard left in the run directory for its successor: its session and key.
    pub predecessor: Option<(Tenure, u64)>,
    /// What runs.
    pub tasks: BTreeMap<Slot, Task>,
}

impl Host {
    /// A host that has just booted; its guard is not running yet.
    #[must_use]
    pub fn new(id: NodeId, clocks: Clocks) -> Self {
        Self {
            id,
            clocks,
            guard: None,
            epoch: 0,
            guard_frozen_until: 0,
            machine_frozen_until: 0,
            thawed_at: 0,
            stall_before_arming: None,
            timer: None,
            shim_dead: false,
            predecessor: None,
            tasks: BTreeMap::new(),
        }
    }

    /// What its clocks show.
    #[must_use]
    pub fn now(&self, at: Time) -> HostInstant {
        self.clocks.read(at)
    }

    /// Until when neither guard nor agent do anything; 0 when they run.
    #[must_use]
    pub fn stopped_until(&self, at: Time) -> Time {
        let until = self.guard_frozen_until.max(self.machine_frozen_until);
        if until > at { until } else { 0 }
    }

    /// Whether anything of the slot executes instructions at `at`.
    #[must_use]
    pub fn runs(&self, slot: Slot, at: Time) -> bool {
        self.machine_frozen_until <= at && self.tasks.contains_key(&slot)
    }

    /// The session that its guard holds or is winding up.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        let guard = self.guard.as_ref()?;
        guard.lease.as_ref().map(|lease| lease.tenure().session)
    }
}
