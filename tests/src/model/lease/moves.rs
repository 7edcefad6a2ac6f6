//! What each action changes: the rules themselves.

use super::{Action, Heartbeat, Lease, State, Voter};
use crate::model::Weakened;

impl<const N: usize> Lease<N> {
    /// R2: whether the voter would ack a heartbeat now.
    pub(super) fn acks(&self, voter: &Voter) -> bool {
        let up = !voter.starting || self.lacks(Weakened::AcksBeforeVoterUp);
        let open = !voter.knows_closed || self.lacks(Weakened::AcksUnknownSessions);
        let free = voter.promised.is_none() || self.lacks(Weakened::AgeReportTakenForAPromise);
        up && open && free
    }

    /// R3: the age of the lease's base.
    pub(super) fn base(&self, state: &State<N>) -> u8 {
        state.base(if self.lacks(Weakened::LeaseOnOneAck) { 1 } else { N / 2 + 1 })
    }

    /// R7: whether promises that the log would take are of a majority, and of the current gen (R9).
    pub(super) fn close_is_valid(&self, state: &State<N>) -> bool {
        let current = 1 << state.reopens;
        let voids = !self.lacks(Weakened::ReopenVoidsNothing);
        let counts = |voter: &&Voter| voter.promises & if voids { current } else { u8::MAX } != 0;
        let needed = if self.lacks(Weakened::CloseOnOnePromise) { 1 } else { N / 2 + 1 };
        state.voters.iter().filter(counts).count() >= needed
    }

    /// Time passes. A datagram that is older than any lease is of no use to anybody.
    pub(super) fn tick(&self, state: &mut State<N>, host: u8, fast: [bool; N]) {
        let late_helps = self.lacks(Weakened::LeaseFromReceipt);
        let aged = |sent_ago: u8| {
            let age = (sent_ago + host).min(self.dead_from());
            (age < self.dead_from() || late_helps).then_some(age)
        };
        for (voter, fast) in state.voters.iter_mut().zip(fast) {
            voter.age = (voter.age + 1 + u8::from(fast)).min(self.closing_age);
            voter.acked = (voter.acked + host).min(self.dead_from());
            voter.heartbeat = voter.heartbeat.and_then(|heartbeat| {
                aged(heartbeat.sent_ago).map(|sent_ago| Heartbeat { sent_ago, ..heartbeat })
            });
            voter.ack = voter.ack.and_then(aged);
        }
        state.tick = self.wrong_every.map_or(0, |every| (state.tick + 1) % every);
        if self.guard_stalls {
            state.timer = state.timer.saturating_sub(host);
            let passed = if self.lacks(Weakened::RelativeTimer) { 0 } else { host };
            state.arming = state.arming.map(|left| left.saturating_sub(passed));
        } else if !state.paused && self.base(state) >= self.dead_from() {
            state.running = false;
        }
    }

    /// Heartbeats and acks.
    pub(super) fn travel(&self, state: &mut State<N>, at: usize, action: Action<N>) {
        let voter = &mut state.voters[at];
        match action {
            Action::Send(_) => voter.heartbeat = Some(Heartbeat { sent_ago: 0, seen: false }),
            Action::LoseHeartbeat(_) => voter.heartbeat = None,
            Action::LoseAck(_) => voter.ack = None,
            Action::Ack { again, .. } => {
                let Some(heartbeat) = voter.heartbeat else { return };
                // A heartbeat that was seen before is answered without touching the age.
                voter.age = if heartbeat.seen { voter.age } else { 0 };
                voter.ack = Some(heartbeat.sent_ago);
                voter.heartbeat = again.then_some(Heartbeat { seen: true, ..heartbeat });
            }
            Action::HearAck { again, .. } => {
                let Some(sent_ago) = voter.ack else { return };
                let from = if self.lacks(Weakened::LeaseFromReceipt) { 0 } else { sent_ago };
                voter.acked = voter.acked.min(from);
                voter.ack = voter.ack.filter(|_| again);
                self.renew(state);
            }
            Action::Exchange { heard, .. } => {
                voter.age = 0;
                voter.acked = if heard { 0 } else { voter.acked };
                self.renew(state);
            }
            _ => {}
        }
    }

    /// R4: after each renewal the guard reads its clock, and arms the timer some time later.
    fn renew(&self, state: &mut State<N>) {
        let left = self.ttl.saturating_sub(self.base(state));
        if self.guard_stalls && left > 0 {
            state.arming = Some(left);
        }
    }

    /// What voters do.
    pub(super) fn vote(&self, state: &mut State<N>, at: usize, action: Action<N>) {
        let (closed, reopens) = (state.closed, state.reopens);
        let voter = &mut state.voters[at];
        match action {
            Action::Promise { reopens, .. } => {
                let known = if voter.starting { &mut voter.early } else { &mut voter.promises };
                *known |= 1 << reopens;
                voter.promised = Some(reopens);
            }
            Action::Restart(_) => {
                voter.starting = true;
                voter.promised = None;
                voter.early = 0;
                voter.knows_closed = false;
                voter.age = if self.lacks(Weakened::NoResetAtStart) { self.closing_age } else { 0 };
                voter.heartbeat = voter.heartbeat.map(|known| Heartbeat { seen: false, ..known });
            }
            Action::VoterUp(_) => {
                voter.starting = false;
                voter.knows_closed = closed;
                voter.reopens = reopens;
                if self.lacks(Weakened::LateVoterUpTaken) && voter.promises != 0 {
                    voter.former_promises = voter.promises;
                }
                let former = if self.lacks(Weakened::CloseWithOldBoots) { voter.promises } else { 0 };
                voter.promises = former | std::mem::take(&mut voter.early);
            }
            Action::LateVoterUp(_) => voter.promises = std::mem::take(&mut voter.former_promises),
            Action::ApplyReopen(_) => {
                voter.reopens += 1;
                self.reopened(voter);
            }
            Action::ToldAgain(_) => self.reopened(voter),
            _ => {}
        }
    }

    /// Forgets what nothing depends on any more, so that states that differ in nothing else are one.
    pub(super) fn settled(mut state: State<N>) -> State<N> {
        if state.closed {
            for voter in &mut state.voters {
                (voter.promises, voter.early, voter.former_promises, voter.age) = (0, 0, 0, 0);
            }
        }
        state
    }

    /// R9: it counts as just acked, and forgets promises of a lower gen only.
    fn reopened(&self, voter: &mut Voter) {
        voter.age = 0;
        let keeps = !self.lacks(Weakened::ReopenForgetsEveryPromise);
        voter.promised = voter.promised.filter(|promised| keeps && *promised >= voter.reopens);
    }
}
