//! The protocol under test: the core's halves under some rules, and the habits of guard and state that the core
//! can't express. Behind objects, so that the simulation is compiled once and not once a mutant.

use std::sync::Arc;
use std::time::Duration;

use muster_core::id::{BootId, MembershipId, NodeId, Reopens, Revision, SessionId};
use muster_core::lease::close::{CloseSession, judge_close, judge_voter_up};
use muster_core::lease::voter::{
    AgeReports, Applied, CloseRequest, FencedEffect, OpenSession, Promise, Refusal, VoterIdentity,
};
use muster_core::lease::{
    Answer, Fenced, Grant, Heartbeat, HostEffect, HostLease, Membership, Phase, Rules, Target, Tenure,
    VoterLease, VoterList,
};
use muster_core::time::HostInstant;

/// What guard, shim and replicated state do besides the two halves; each true in the sound protocol.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// R4: the shim's timer is absolute.
    pub absolute_timer: bool,
    /// R4: `Fenced` counts only under the session's key.
    pub fenced_needs_key: bool,
    /// R10: an assignment is refused while an open session holds the slot.
    pub held_slot_is_refused: bool,
    /// R10: an assignment names the session, and a guard starts it only under that one.
    pub assignment_names_session: bool,
    /// R10: a start needs a valid lease.
    pub start_needs_lease: bool,
    /// R10: a start needs a generation above the last one revoked.
    pub start_needs_newer_generation: bool,
    /// R10: a failed instance is recorded as revoked before it is reported.
    pub failure_is_recorded: bool,
    /// R11: tasks die with their guard.
    pub tasks_die_with_guard: bool,
    /// R12: a paused machine's clocks go on. Not a rule but a limit: without it the promise does not hold.
    pub clocks_survive_pauses: bool,
}

impl Habits {
    /// As LEASES.md has them.
    pub const SOUND: Self = Self {
        absolute_timer: true,
        fenced_needs_key: true,
        held_slot_is_refused: true,
        assignment_names_session: true,
        start_needs_lease: true,
        start_needs_newer_generation: true,
        failure_is_recorded: true,
        tasks_die_with_guard: true,
        clocks_survive_pauses: true,
    };
}

/// The host's half under any rules.
pub trait HostHalf {
    /// See [`HostLease::tenure`].
    fn tenure(&self) -> Tenure;
    /// See [`HostLease::phase`].
    fn phase(&mut self, now: HostInstant) -> Phase;
    /// See [`HostLease::heartbeat`].
    fn heartbeat(&mut self, now: HostInstant) -> Option<Heartbeat>;
    /// See [`HostLease::send_due_in`].
    fn send_due_in(&mut self, now: HostInstant) -> Option<Duration>;
    /// See [`HostLease::targets`].
    fn targets(&self) -> &[Target];
    /// See [`HostLease::list`].
    fn list(&self) -> &VoterList;
    /// See [`HostLease::on_answer`].
    fn on_answer(&mut self, now: HostInstant, answer: &Answer) -> HostEffect;
    /// See [`HostLease::deadline`].
    fn deadline(&self) -> Option<HostInstant>;
    /// See [`HostLease::timer_boottime_ns`].
    fn timer_boottime_ns(&mut self, now: HostInstant) -> Option<u64>;
    /// See [`HostLease::end`].
    fn end(&mut self, now: HostInstant);
    /// See [`HostLease::nothing_left`].
    fn nothing_left(&mut self, now: HostInstant);
    /// See [`HostLease::fenced`].
    fn fenced(&mut self, now: HostInstant) -> Option<Fenced>;
    /// Through [`HostLease::save`] and [`HostLease::restore`].
    fn re_executed(&self, now: HostInstant) -> Box<dyn HostHalf>;
}

impl<R: Rules> HostHalf for HostLease<R> {
    fn tenure(&self) -> Tenure {
        Self::tenure(self)
    }
    fn phase(&mut self, now: HostInstant) -> Phase {
        Self::phase(self, now)
    }
    fn heartbeat(&mut self, now: HostInstant) -> Option<Heartbeat> {
        Self::heartbeat(self, now, true)
    }
    fn send_due_in(&mut self, now: HostInstant) -> Option<Duration> {
        Self::send_due_in(self, now)
    }
    fn list(&self) -> &VoterList {
        Self::list(self)
    }
    fn targets(&self) -> &[Target] {
        Self::targets(self)
    }
    fn on_answer(&mut self, now: HostInstant, answer: &Answer) -> HostEffect {
        Self::on_answer(self, now, answer)
    }
    fn deadline(&self) -> Option<HostInstant> {
        Self::deadline(self)
    }
    fn timer_boottime_ns(&mut self, now: HostInstant) -> Option<u64> {
        Self::timer_boottime_ns(self, now)
    }
    fn end(&mut self, now: HostInstant) {
        Self::end(self, now);
    }
    fn nothing_left(&mut self, now: HostInstant) {
        Self::nothing_left(self, now);
    }
    fn fenced(&mut self, now: HostInstant) -> Option<Fenced> {
        Self::fenced(self, now)
    }
    fn re_executed(&self, now: HostInstant) -> Box<dyn HostHalf> {
        Box::new(Self::restore(now, self.save()))
    }
}

/// The voter's half under any rules.
pub trait VoterHalf {
    /// See [`VoterLease::membership_appended`].
    fn membership_appended(&mut self, id: MembershipId);
    /// See [`VoterLease::log_truncated`].
    fn log_truncated(&mut self, from: u64);
    /// See [`VoterLease::list_applied`].
    fn list_applied(&mut self, now: HostInstant, list: Arc<VoterList>);
    /// See [`VoterLease::voter_up_applied`].
    fn voter_up_applied(&mut self, voter: NodeId, boot: BootId);
    /// See [`VoterLease::session_opened`].
    fn session_opened(&mut self, now: HostInstant, open: OpenSession);
    /// See [`VoterLease::session_closed`].
    fn session_closed(&mut self, session: SessionId);
    /// See [`VoterLease::session_reopened`].
    fn session_reopened(&mut self, now: HostInstant, session: SessionId, reopens: Reopens);
    /// See [`VoterLease::applied_to`].
    fn applied_to(&mut self, revision: Revision);
    /// See [`VoterLease::snapshot_installed`].
    fn snapshot_installed(&mut self, now: HostInstant, applied: Applied);
    /// See [`VoterLease::tick`].
    fn tick(&mut self, now: HostInstant);
    /// See [`VoterLease::on_heartbeat`].
    fn on_heartbeat(&mut self, now: HostInstant, heartbeat: &Heartbeat) -> Option<Answer>;
    /// See [`VoterLease::on_fenced`].
    fn on_fenced(&self, fenced: &Fenced) -> FencedEffect;
    /// See [`VoterLease::ages`].
    fn ages(&mut self, now: HostInstant) -> AgeReports;
    /// See [`VoterLease::promise`].
    fn promise(&mut self, now: HostInstant, request: CloseRequest) -> Result<Promise, Refusal>;
}

impl<R: Rules> VoterHalf for VoterLease<R> {
    fn membership_appended(&mut self, id: MembershipId) {
        Self::membership_appended(self, id);
    }
    fn log_truncated(&mut self, from: u64) {
        Self::log_truncated(self, from);
    }
    fn list_applied(&mut self, now: HostInstant, list: Arc<VoterList>) {
        Self::list_applied(self, now, list);
    }
    fn voter_up_applied(&mut self, voter: NodeId, boot: BootId) {
        Self::voter_up_applied(self, voter, boot);
    }
    fn session_opened(&mut self, now: HostInstant, open: OpenSession) {
        Self::session_opened(self, now, open);
    }
    fn session_closed(&mut self, session: SessionId) {
        Self::session_closed(self, session);
    }
    fn session_reopened(&mut self, now: HostInstant, session: SessionId, reopens: Reopens) {
        Self::session_reopened(self, now, session, reopens);
    }
    fn applied_to(&mut self, revision: Revision) {
        Self::applied_to(self, revision);
    }
    fn snapshot_installed(&mut self, now: HostInstant, applied: Applied) {
        Self::snapshot_installed(self, now, applied);
    }
    fn tick(&mut self, now: HostInstant) {
        Self::tick(self, now);
    }
    fn on_heartbeat(&mut self, now: HostInstant, heartbeat: &Heartbeat) -> Option<Answer> {
        Self::on_heartbeat(self, now, heartbeat)
    }
    fn on_fenced(&self, fenced: &Fenced) -> FencedEffect {
        Self::on_fenced(self, fenced)
    }
    fn ages(&mut self, now: HostInstant) -> AgeReports {
        Self::ages(self, now)
    }
    fn promise(&mut self, now: HostInstant, request: CloseRequest) -> Result<Promise, Refusal> {
        Self::promise(self, now, request)
    }
}

type JudgeClose = fn(&CloseSession, Option<Reopens>, &Membership, &dyn Fn(NodeId) -> Option<BootId>) -> bool;

/// One protocol: the sound one or a mutant.
#[derive(Clone, Copy)]
pub struct Protocol {
    /// What is removed or weakened; `sound` otherwise.
    pub name: &'static str,
    /// Which rule that is.
    pub rule: &'static str,
    /// What lies outside the two halves.
    pub habits: Habits,
    /// Begins to hold a grant.
    pub host: fn(HostInstant, Grant) -> Box<dyn HostHalf>,
    /// Starts a voter.
    pub voter: fn(HostInstant, VoterIdentity, Applied) -> Box<dyn VoterHalf>,
    /// R7.
    pub judge_close: JudgeClose,
    /// R8.
    pub judge_voter_up: fn(BootId, BootId, BootId) -> bool,
}

impl Protocol {
    /// The protocol under these rules and sound habits.
    #[must_use]
    pub fn of<R: Rules>(name: &'static str) -> Self {
        Self {
            name,
            rule: "",
            habits: Habits::SOUND,
            host: |now, grant| Box::new(HostLease::<R>::new(now, grant)),
            voter: |now, identity, applied| Box::new(VoterLease::<R>::new(now, identity, applied)),
            judge_close: |close, open, membership, boot| {
                judge_close::<R>(close, open, membership, boot).is_ok()
            },
            judge_voter_up: |current, boot, replaces| judge_voter_up::<R>(current, boot, replaces).is_ok(),
        }
    }

    /// Whether nothing is removed or weakened.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.rule.is_empty()
    }
}
