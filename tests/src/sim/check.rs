//! The invariants: never two, dead by the deadline, and the lemma on which both rest: a session is closed only
//! after its lease has ended on the host. After the faults: every slot runs.

use std::fmt;

use muster_core::id::{NodeId, SessionId};
use muster_core::lease::Phase;

use super::ledger::Slot;
use super::world::World;

/// A broken promise.
#[allow(missing_docs, reason = "the variants say it; their fields are named for what they are")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// An exclusive slot ran on two hosts at once.
    TwoHolders { slot: Slot, hosts: Vec<NodeId> },
    /// A task outlived the deadline of its lease.
    AliveAfterDeadline { host: NodeId, slot: Slot },
    /// A session was closed while its host could still run something under it.
    ClosedWhileLeased { session: SessionId, host: NodeId },
    /// A lease was renewed after its session had been closed.
    RenewedAfterClose { session: SessionId, host: NodeId },
    /// The product's state machine says something else than the simulation's after this entry.
    Disagreement { index: u64, what: String },
    /// A slot did not run although everything had been healed for a while.
    NotRunning { slot: Slot },
}

impl Violation {
    /// What was broken, in two words.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TwoHolders { .. } => "two holders",
            Self::AliveAfterDeadline { .. } => "alive after the deadline",
            Self::ClosedWhileLeased { .. } => "closed while leased",
            Self::RenewedAfterClose { .. } => "renewed after the close",
            Self::Disagreement { .. } => "state machines disagree",
            Self::NotRunning { .. } => "not running",
        }
    }

    /// Whether safety was broken; otherwise something only took too long.
    #[must_use]
    pub fn is_unsafe(&self) -> bool {
        !matches!(self, Self::NotRunning { .. })
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoHolders { slot, hosts } => write!(f, "slot {slot} runs on two hosts at once: {hosts:?}"),
            Self::AliveAfterDeadline { host, slot } => {
                write!(f, "slot {slot} was alive on host {host} after the deadline of its lease")
            }
            Self::ClosedWhileLeased { session, host } => {
                write!(f, "session {session} was closed while host {host} could run something under it")
            }
            Self::RenewedAfterClose { session, host } => {
                write!(f, "host {host} renewed the lease of session {session} after it was closed")
            }
            Self::Disagreement { index, what } => {
                write!(
                    f,
                    "after entry {index} the product's state machine and the simulation's disagree: {what}"
                )
            }
            Self::NotRunning { slot } => write!(f, "slot {slot} does not run although everything is healed"),
        }
    }
}

impl World {
    /// Never two.
    pub(super) fn check_slot(&mut self, slot: Slot) {
        let running = self.hosts.values().filter(|host| host.runs(slot, self.now));
        let hosts: Vec<NodeId> = running.map(|host| host.id).collect();
        if hosts.len() > 1 {
            self.violated(Violation::TwoHolders { slot, hosts });
        }
    }

    /// Dead by the deadline: called when a task dies under a lease that its guard still knows.
    pub(super) fn check_deadline(&mut self, host: NodeId, slot: Slot, session: SessionId) {
        let Some(known) = self.hosts.get(&host) else { return };
        let now = known.now(self.now);
        let lease = known.guard.as_ref().and_then(|guard| guard.lease.as_ref());
        let lease = lease.filter(|lease| lease.tenure().session == session);
        let Some(deadline) = lease.and_then(|lease| lease.deadline()) else { return };
        let late = now.boottime_ns > deadline.boottime_ns || now.raw_ns > deadline.raw_ns;
        // A machine that was stopped executes nothing; its overdue timers fire before anything else does.
        if late && known.thawed_at != self.now {
            self.violated(Violation::AliveAfterDeadline { host, slot });
        }
    }

    /// The lemma, at the first apply of a close: no host runs anything under the session or has a lease of it.
    pub(super) fn check_close(&mut self, session: SessionId) {
        let at = self.now;
        let mut leased = None;
        for host in self.hosts.values_mut() {
            let now = host.clocks.read(at);
            if host.machine_frozen_until <= at && host.tasks.values().any(|task| task.session == session) {
                leased = Some(host.id);
            }
            let lease = host.guard.as_mut().and_then(|guard| guard.lease.as_mut());
            if let Some(lease) = lease.filter(|lease| lease.tenure().session == session)
                && let Some(deadline) = lease.deadline()
                && lease.phase(now) <= Phase::Killing
                && now.boottime_ns < deadline.boottime_ns
                && now.raw_ns < deadline.raw_ns
            {
                leased = Some(host.id);
            }
        }
        if let Some(host) = leased {
            self.violated(Violation::ClosedWhileLeased { session, host });
        }
    }

    /// Liveness: every slot runs.
    pub(super) fn check_running(&mut self) {
        let slots: Vec<Slot> = self.slots();
        for slot in slots {
            if !self.hosts.values().any(|host| host.runs(slot, self.now)) {
                self.violated(Violation::NotRunning { slot });
            }
        }
    }
}
