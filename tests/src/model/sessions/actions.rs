//! What may happen when: the model as the checker sees it.

use stateright::{Model, Property};

use super::{Guard, Host, Sessions, State};
use crate::model::Weakened;

/// What may happen next. A number without a name is a host's.
#[allow(missing_docs, reason = "the variants say it; their fields are named for what they are")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The guard dies, and what runs under it (R11).
    GuardDies(u8),
    /// Its successor cleans up, and fences the predecessor's session by its token.
    GuardStarts(u8),
    /// A session is opened (R11).
    Open(u8),
    /// The lease ends: everything is killed (R4).
    Lapse(u8),
    /// The guard says Fenced.
    SayFenced(u8),
    /// Somebody else on the host says it.
    ForgeFenced(u8),
    /// The guard learns that its session is closed.
    LearnClosed(u8),
    /// The session is closed with promises (R7).
    Close(u8),
    /// The session is closed by Fenced (R4).
    CloseFenced(u8),
    /// The slot is placed on the host (R10).
    Assign(u8),
    /// The word to start this generation reaches its guard.
    Start { generation: u8 },
    /// The instance ends by itself, and the guard reports it.
    Fail(u8),
    /// The slot is to leave its holder, for that host.
    Revoke { target: Option<u8> },
    /// The word to stop reaches the holder's guard, which reports.
    Stop,
    /// The report is applied: the slot is free, or goes to its target.
    Stopped,
}

impl Model for Sessions {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (at, host) in (0_u8..).zip(&state.hosts) {
            self.guard_actions(state, at, host, actions);
            self.log_actions(state, at, host, actions);
        }
        let generations = 1..=state.placements;
        actions.extend(generations.map(|generation| Action::Start { generation }));
        if state.holder == 0 {
            return;
        }
        let holder = state.placement(state.holder);
        if state.revoking.is_none() {
            actions.extend([None, Some(0), Some(1)].map(|target| Action::Revoke { target }));
        } else if state.hosts[usize::from(holder.host)].guard == Guard::Leased(holder.session) {
            actions.push(Action::Stop);
        }
        if state.stopped & (1 << state.holder) != 0 {
            actions.push(Action::Stopped);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        match action {
            Action::GuardDies(at) | Action::GuardStarts(at) | Action::Lapse(at) | Action::LearnClosed(at) => {
                self.guard_moves(&mut next, at, action);
            }
            Action::SayFenced(at) | Action::ForgeFenced(at) => {
                let session = next.hosts[usize::from(at)].guard.session()?;
                next.fenced |= 1 << session;
            }
            Action::Open(at) => self.open(&mut next, at),
            Action::Close(at) | Action::CloseFenced(at) => Self::close(&mut next, at),
            Action::Assign(at) => self.assign(&mut next, at),
            Action::Start { generation } => self.start(&mut next, generation)?,
            Action::Fail(at) => self.fail(&mut next, at),
            Action::Revoke { target } => next.revoking = Some(target),
            Action::Stop => self.stop(&mut next),
            Action::Stopped => self.stopped(&mut next),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("never two", |_: &Self, state: &State| {
                !(state.hosts[0].alive() && state.hosts[1].alive())
            }),
            Property::sometimes("a planned move", |_: &Self, state: &State| {
                state.hosts[1].runs > 1 && state.stopped & 2 != 0 && state.hosts[0].open == 1
            }),
            Property::sometimes("a failover", |_: &Self, state: &State| {
                state.hosts[1].runs > 1 && state.stopped == 0 && state.fenced == 0 && state.hosts[0].open == 0
            }),
            Property::sometimes("back under a new session", |_: &Self, state: &State| {
                state.hosts[0].runs > 1 && state.hosts[0].open > 1
            }),
        ]
    }
}

impl Sessions {
    fn guard_actions(&self, state: &State, at: u8, host: &Host, actions: &mut Vec<Action>) {
        match host.guard {
            Guard::Dead => actions.push(Action::GuardStarts(at)),
            Guard::Asking | Guard::Leased(_) | Guard::Fencing(_) => actions.push(Action::GuardDies(at)),
        }
        match host.guard {
            Guard::Asking => {
                let free = host.open == 0 || self.lacks(Weakened::NewSessionClosesTheOld);
                if free && state.sessions < self.sessions {
                    actions.push(Action::Open(at));
                }
            }
            Guard::Leased(_) => actions.push(Action::Lapse(at)),
            Guard::Fencing(session) => {
                // It may still run something if a guard starts without a lease.
                if host.runs == 0 && state.fenced & (1 << session) == 0 {
                    actions.push(Action::SayFenced(at));
                }
                if host.open != session {
                    actions.push(Action::LearnClosed(at));
                }
            }
            Guard::Dead => {}
        }
        if self.lacks(Weakened::FencedByNodeIdentity) && host.guard.session().is_some() {
            actions.push(Action::ForgeFenced(at));
        }
        if host.runs > 0 {
            actions.push(Action::Fail(at));
        }
    }

    fn log_actions(&self, state: &State, at: u8, host: &Host, actions: &mut Vec<Action>) {
        if host.open == 0 {
            return;
        }
        if host.guard != Guard::Leased(host.open) {
            actions.push(Action::Close(at));
        }
        if state.fenced & (1 << host.open) != 0 {
            actions.push(Action::CloseFenced(at));
        }
        if state.placements < self.placements && (state.holder == 0 || self.lacks(Weakened::HeldSlotAssigned))
        {
            actions.push(Action::Assign(at));
        }
    }
}
