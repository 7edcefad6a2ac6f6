//! What may happen when: the model as the checker sees it.

use stateright::{Model, Property};

use super::{JOINT, LIE, Membership, NEW, OLD, Start, State, Voter};
use crate::model::Weakened;

/// What may happen next. A number names a voter.
#[allow(missing_docs, reason = "the variants say it; their fields are named for what they are")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Time passes.
    Tick,
    /// The host takes its grant, with the list of that replica's state.
    TakeGrant(usize),
    /// The host sends a heartbeat, the voter acks (R2), the host may hear it (R3).
    Exchange { voter: usize, heard: bool },
    /// The liar's ack brings a list in which it votes alone.
    Lie(usize),
    /// The leader appends the next membership entry.
    Propose,
    /// The entry is lost with its leader.
    Forget,
    /// The voter appends the next membership entry.
    Append(usize),
    /// The voter truncates an entry that is not committed.
    Truncate(usize),
    /// The next membership entry is committed: a majority of the membership that it states holds it.
    Commit,
    /// The voter applies the next membership entry (R6).
    Apply(usize),
    /// The voter installs a snapshot of what is committed (R6).
    InstallSnapshot(usize),
    /// The voter promises under this membership (R5).
    Promise { voter: usize, membership: u8 },
    /// The voter's process dies and starts.
    Restart(usize),
    /// The VoterUp of its start is committed (R8).
    CommitVoterUp(usize),
    /// The voter applies it.
    ApplyVoterUp(usize),
    /// A CloseSession with the promises of this membership is committed and valid (R7).
    Close { membership: u8 },
    /// The host starts the service under its lease (R10).
    StartService,
}

impl<const N: usize> Model for Membership<N> {
    type State = State<N>;
    type Action = Action;

    fn init_states(&self) -> Vec<State<N>> {
        // The session was just opened; who is no voter yet has never acked anything.
        let age = |id| if self.votes(OLD, id) { 0 } else { self.ttl };
        let voter = |id| Voter { age: age(id), acked: self.ttl, ..Voter::default() };
        vec![State {
            voters: std::array::from_fn(voter),
            granted: false,
            held: OLD,
            base: self.ttl,
            running: false,
            closed: None,
            log: 0,
            committed: 0,
            restarts: 0,
        }]
    }

    fn actions(&self, state: &State<N>, actions: &mut Vec<Action>) {
        actions.push(Action::Tick);
        for voter in 0..N {
            self.log_actions(state, voter, actions);
            self.voter_actions(state, voter, actions);
        }
        if state.log < NEW && state.committed == state.log {
            actions.push(Action::Propose);
        }
        let next = state.committed + 1;
        let holds = |voter: usize| state.voters[voter].appended >= next;
        if next <= state.log && self.is_majority(next, holds) {
            actions.push(Action::Commit);
        }
        if self.truncations && state.log > state.committed && state.closed.is_none_or(|at| at < state.log) {
            actions.push(Action::Forget);
        }
        let any = self.lacks(Weakened::CloseUnderAnyMembership);
        let current = |membership: &u8| *membership == state.log || (any && *membership < state.log);
        let enough = |membership: &u8| self.close_is_valid(state, *membership);
        if state.closed.is_none() {
            let valid = (OLD..=NEW).filter(current).filter(enough);
            actions.extend(valid.map(|membership| Action::Close { membership }));
        }
        if !state.granted {
            actions.extend((0..N).map(Action::TakeGrant));
        }
        if !state.running && state.base < self.ttl {
            actions.push(Action::StartService);
        }
    }

    fn next_state(&self, state: &State<N>, action: Action) -> Option<State<N>> {
        let mut next = *state;
        match action {
            Action::Tick => self.tick(&mut next),
            Action::TakeGrant(voter) => (next.granted, next.held) = (true, state.voters[voter].applied),
            Action::Exchange { voter, heard } => self.exchange(&mut next, voter, heard),
            Action::Lie(voter) => self.hear(&mut next, voter, LIE),
            Action::Propose => next.log += 1,
            Action::Forget => next.log -= 1,
            Action::Commit => next.committed += 1,
            Action::Close { .. } => next.closed = Some(next.log),
            Action::StartService => next.running = true,
            Action::Append(voter)
            | Action::Truncate(voter)
            | Action::Apply(voter)
            | Action::InstallSnapshot(voter)
            | Action::Promise { voter, .. }
            | Action::Restart(voter)
            | Action::CommitVoterUp(voter)
            | Action::ApplyVoterUp(voter) => self.vote(&mut next, voter, action),
        }
        Some(self.sorted(self.settled(next)))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("never two", |_: &Self, state: &State<N>| {
                state.closed.is_none() || !state.running
            }),
            Property::sometimes("closed under the old voters", |_: &Self, state: &State<N>| {
                state.closed == Some(OLD)
            }),
            Property::sometimes("closed under the joint voters", |_: &Self, state: &State<N>| {
                state.closed == Some(JOINT)
            }),
            Property::sometimes("closed under the new voters", |_: &Self, state: &State<N>| {
                state.closed == Some(NEW)
            }),
            Property::sometimes("a lease of the new voters alone", |_: &Self, state: &State<N>| {
                state.running && state.held == NEW && state.base == 0 && state.committed == NEW
            }),
        ]
    }
}

impl<const N: usize> Membership<N> {
    fn log_actions(&self, state: &State<N>, voter: usize, actions: &mut Vec<Action>) {
        let known = &state.voters[voter];
        if known.appended < state.log {
            actions.push(Action::Append(voter));
        }
        if self.truncations && known.appended > state.committed && known.appended > known.applied {
            actions.push(Action::Truncate(voter));
        }
        if known.applied < known.appended.min(state.committed) {
            actions.push(Action::Apply(voter));
        }
        if known.applied < state.committed {
            actions.push(Action::InstallSnapshot(voter));
        }
    }

    fn voter_actions(&self, state: &State<N>, voter: usize, actions: &mut Vec<Action>) {
        let known = &state.voters[voter];
        if state.granted && self.acks(state, voter) {
            actions.extend([true, false].map(|heard| Action::Exchange { voter, heard }));
        }
        if state.granted && self.liar == Some(voter) {
            actions.push(Action::Lie(voter));
        }
        if known.start != Start::Started && state.restarts < self.restarts {
            actions.push(Action::Restart(voter));
        }
        match known.start {
            Start::Started => actions.push(Action::CommitVoterUp(voter)),
            Start::Committed { after, .. } if known.applied >= after => {
                actions.push(Action::ApplyVoterUp(voter));
            }
            Start::Committed { .. } | Start::Up => {}
        }
        let old_enough = known.age >= self.ttl || self.lacks(Weakened::PromisesAtAnyAge);
        if !self.may_promise(state, voter) || !old_enough || state.closed.is_some() {
            return;
        }
        let asked_for = if self.lacks(Weakened::PromisesNameTheRequestedMembership) {
            // A leader that was deposed may have had any membership at any index.
            OLD..=NEW
        } else {
            known.applied..=known.applied
        };
        let given = if known.start == Start::Started { known.early } else { known.promises };
        let new = asked_for.filter(|membership| given & (1 << membership) == 0);
        actions.extend(new.map(|membership| Action::Promise { voter, membership }));
    }
}
