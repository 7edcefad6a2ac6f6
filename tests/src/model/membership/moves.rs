//! What each action changes: the rules themselves.

use super::{Action, Adoption, LIE, Membership, Start, State};
use crate::model::Weakened;

impl<const N: usize> Membership<N> {
    /// R2(a) to (c): whether the voter has a say at all.
    fn is_ready(&self, state: &State<N>, at: usize, gate: bool, up: bool) -> bool {
        let voter = &state.voters[at];
        self.votes(voter.applied, at)
            && (!gate || voter.appended == voter.applied)
            && (!up || voter.start == Start::Up)
    }

    /// R2: whether the voter would ack a heartbeat now.
    pub(super) fn acks(&self, state: &State<N>, at: usize) -> bool {
        let voter = &state.voters[at];
        let gate = !self.lacks(Weakened::AcksBetweenAppendAndApply);
        let up = !self.lacks(Weakened::AcksBeforeVoterUp);
        let closed = voter.knows_closed || state.closed.is_some_and(|position| voter.applied > position);
        let open = !closed || self.lacks(Weakened::AcksUnknownSessions);
        let free = !voter.promised || self.lacks(Weakened::AgeReportTakenForAPromise);
        self.is_ready(state, at, gate, up) && open && free
    }

    /// R5: whether the voter would promise if it is old enough.
    pub(super) fn may_promise(&self, state: &State<N>, at: usize) -> bool {
        let gate = !self.lacks(Weakened::PromisesBetweenAppendAndApply);
        let up = !self.lacks(Weakened::PromisesBeforeVoterUp);
        self.is_ready(state, at, gate, up)
    }

    /// R7: whether promises that the log would take are of a majority.
    pub(super) fn close_is_valid(&self, state: &State<N>, membership: u8) -> bool {
        let promised = |voter: usize| state.voters[voter].promises & (1 << membership) != 0;
        self.is_majority(membership, promised)
            || (self.lacks(Weakened::CloseOnOnePromise) && (0..N).any(promised))
    }

    pub(super) fn tick(&self, state: &mut State<N>) {
        for voter in &mut state.voters {
            voter.age = (voter.age + 1).min(self.ttl);
            voter.acked = (voter.acked + 1).min(self.ttl);
        }
        state.base = (state.base + 1).min(self.ttl);
        state.running &= state.base < self.ttl;
    }

    /// A heartbeat and its ack.
    pub(super) fn exchange(&self, state: &mut State<N>, at: usize, heard: bool) {
        state.voters[at].age = 0;
        if heard {
            self.hear(state, at, state.voters[at].applied);
        }
    }

    /// R3: an ack that names this membership.
    pub(super) fn hear(&self, state: &mut State<N>, at: usize, named: u8) {
        let voter = &mut state.voters[at];
        if named < voter.named {
            return;
        }
        (voter.named, voter.acked) = (named, 0);
        while let Some(newer) = self.adoptable(state) {
            state.held = newer;
        }
        self.renew(state);
    }

    /// R3: the newest list that the host may adopt.
    fn adoptable(&self, state: &State<N>) -> Option<u8> {
        if self.lacks(Weakened::GrantedListForEver) {
            return None;
        }
        let named = |list: u8| state.voters.iter().any(|voter| voter.named == list);
        let vouched = |list: u8| match self.adoption {
            _ if self.lacks(Weakened::ListOfOneVoterAdopted) => true,
            Adoption::SameList => self.is_majority(state.held, |voter| state.voters[voter].named == list),
            Adoption::SameOrLater => self.is_majority(state.held, |voter| state.voters[voter].named >= list),
        };
        (state.held + 1..=LIE).rev().find(|list| named(*list) && vouched(*list))
    }

    /// R3: the base is the latest send that a majority of the membership held has acked under its id.
    fn renew(&self, state: &mut State<N>) {
        let by_grant = self.lacks(Weakened::GrantedListForEver);
        let counts = |voter: usize, age: u8| {
            let known = &state.voters[voter];
            (by_grant || known.named == state.held) && known.acked <= age
        };
        let acked = |age: &u8| {
            self.is_majority(state.held, |voter| counts(voter, *age))
                || (self.lacks(Weakened::LeaseOnOneAck) && (0..N).any(|voter| counts(voter, *age)))
        };
        let base = (0..self.ttl).find(acked);
        state.base = base.map_or(state.base, |base| base.min(state.base));
    }

    /// What voters do.
    pub(super) fn vote(&self, state: &mut State<N>, at: usize, action: Action) {
        let (log, committed, closed) = (state.log, state.committed, state.closed.is_some());
        let fresh = |resets: bool, age: u8| if resets { 0 } else { age };
        let voter = &mut state.voters[at];
        match action {
            Action::Append(_) => voter.appended += 1,
            Action::Truncate(_) => voter.appended -= 1,
            Action::Apply(_) => {
                voter.applied += 1;
                voter.age = fresh(!self.lacks(Weakened::NoResetAtMembership), voter.age);
            }
            Action::InstallSnapshot(_) => {
                voter.applied = committed;
                voter.appended = voter.appended.max(committed);
                voter.age = fresh(!self.lacks(Weakened::NoResetAtSnapshot), voter.age);
            }
            Action::Promise { membership, .. } => {
                let known =
                    if voter.start == Start::Started { &mut voter.early } else { &mut voter.promises };
                *known |= 1 << membership;
                voter.promised = true;
            }
            Action::Restart(_) => {
                voter.start = Start::Started;
                voter.promised = false;
                voter.knows_closed = false;
                voter.age = if self.lacks(Weakened::NoResetAtStart) { self.ttl } else { 0 };
                voter.early = 0;
                state.restarts += 1;
            }
            Action::CommitVoterUp(_) => {
                voter.start = Start::Committed { after: log, closed };
                let former = if self.lacks(Weakened::CloseWithOldBoots) { voter.promises } else { 0 };
                voter.promises = former | std::mem::take(&mut voter.early);
            }
            Action::ApplyVoterUp(_) => {
                let Start::Committed { closed, .. } = voter.start else { return };
                voter.start = Start::Up;
                voter.knows_closed = closed;
            }
            _ => {}
        }
    }

    /// Forgets what nothing depends on any more, so that states that differ in nothing else are one.
    pub(super) fn settled(&self, mut state: State<N>) -> State<N> {
        let void = self.truncations || self.lacks(Weakened::CloseUnderAnyMembership);
        let current = if void { u8::MAX } else { u8::MAX << state.log };
        for voter in &mut state.voters {
            if voter.named < state.held && !self.lacks(Weakened::GrantedListForEver) {
                // Such acks don't count, nor will any that name an older membership.
                (voter.named, voter.acked) = (state.held, self.ttl);
            }
            voter.promises &= current;
            voter.early &= current;
            if state.closed.is_some() {
                (voter.promises, voter.early, voter.age) = (0, 0, 0);
            }
        }
        state
    }

    /// Sorts voters that are alike.
    pub(super) fn sorted(&self, mut state: State<N>) -> State<N> {
        let mut from = 0;
        while from < N {
            let alike = (from..N).take_while(|voter| self.class(*voter) == self.class(from)).count();
            state.voters[from..from + alike].sort_unstable();
            from += alike;
        }
        state
    }
}
