//! What may happen when: the model as the checker sees it.

use stateright::{Model, Property};

use super::{Lease, Network, State, Voter};
use crate::model::Weakened;

/// What may happen next. A number names a voter.
#[allow(missing_docs, reason = "the variants say it; their fields are named for what they are")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<const N: usize> {
    /// Time passes on the host's clock, and on the voters'; those of `fast` count two ticks.
    Tick { host: u8, fast: [bool; N] },
    /// The host sends a heartbeat (R1).
    Send(usize),
    /// The heartbeat is lost.
    LoseHeartbeat(usize),
    /// The voter receives the heartbeat and acks (R2); a copy may stay on the way.
    Ack { voter: usize, again: bool },
    /// The ack is lost.
    LoseAck(usize),
    /// The host receives the ack (R3); a copy may stay on the way.
    HearAck { voter: usize, again: bool },
    /// Heartbeat and ack in one.
    Exchange { voter: usize, heard: bool },
    /// The guard arms the shim's timer (R4).
    Arm,
    /// The host starts the service under its lease (R10).
    Start,
    /// The voter promises under this gen (R5).
    Promise { voter: usize, reopens: u8 },
    /// The voter's process dies and starts.
    Restart(usize),
    /// The VoterUp of its start is committed and applied (R8).
    VoterUp(usize),
    /// A duplicate of its former VoterUp is applied.
    LateVoterUp(usize),
    /// A Reopen is committed (R9).
    Reopen,
    /// The voter applies the next Reopen.
    ApplyReopen(usize),
    /// The voter is told once more how things stand: it installs a snapshot of what it has applied.
    ToldAgain(usize),
    /// A CloseSession is committed that R7 takes.
    Close,
    /// The host's machine is paused, and its clocks with it.
    Pause,
    /// The machine goes on.
    Resume,
}

impl<const N: usize> Model for Lease<N> {
    type State = State<N>;
    type Action = Action<N>;

    fn init_states(&self) -> Vec<State<N>> {
        vec![State {
            voters: [Voter::default(); N],
            running: true,
            closed: false,
            reopens: 0,
            tick: 0,
            paused: false,
            was_paused: false,
            timer: if self.guard_stalls { self.ttl } else { 0 },
            arming: None,
        }]
    }

    fn actions(&self, state: &State<N>, actions: &mut Vec<Action<N>>) {
        self.time_actions(state, actions);
        for voter in 0..N {
            self.host_actions(state, voter, actions);
            self.voter_actions(state, voter, actions);
        }
        if !state.closed && state.reopens < self.reopens {
            actions.push(Action::Reopen);
        }
        if !state.closed && self.close_is_valid(state) {
            actions.push(Action::Close);
        }
        let leased = if self.guard_stalls { state.timer > 0 } else { self.base(state) < self.dead_from() };
        if !state.running && !state.paused && leased {
            actions.push(Action::Start);
        }
        if state.arming.is_some() {
            actions.push(Action::Arm);
        }
    }

    fn next_state(&self, state: &State<N>, action: Action<N>) -> Option<State<N>> {
        let mut next = *state;
        match action {
            Action::Tick { host, fast } => self.tick(&mut next, host, fast),
            Action::Arm => next.timer = next.arming.take().unwrap_or(next.timer),
            Action::Start => next.running = true,
            Action::Reopen => next.reopens += 1,
            Action::Close => next.closed = true,
            Action::Pause => (next.paused, next.was_paused) = (true, true),
            Action::Resume => next.paused = false,
            Action::Send(voter)
            | Action::LoseHeartbeat(voter)
            | Action::Ack { voter, .. }
            | Action::LoseAck(voter)
            | Action::HearAck { voter, .. }
            | Action::Exchange { voter, .. } => self.travel(&mut next, voter, action),
            Action::Promise { voter, .. }
            | Action::Restart(voter)
            | Action::VoterUp(voter)
            | Action::LateVoterUp(voter)
            | Action::ApplyReopen(voter)
            | Action::ToldAgain(voter) => self.vote(&mut next, voter, action),
        }
        next.running &= !self.guard_stalls || next.timer > 0;
        Some(Self::settled(next).sorted())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("never two", |_: &Self, state: &State<N>| {
                !state.closed || !state.running || state.paused
            }),
            Property::sometimes("a session is closed", |_: &Self, state: &State<N>| state.closed),
            Property::sometimes(
                "a lease outlives a promise of a minority",
                |model: &Self, state: &State<N>| {
                    let promised = state.voters.iter().any(|voter| voter.promised.is_some());
                    promised && !state.closed && state.running && model.base(state) == 0
                },
            ),
            Property::sometimes("a lease comes back after a lapse", |model: &Self, state: &State<N>| {
                !state.running && !state.closed && model.base(state) == 0
            }),
        ];
        if self.reopens > 0 {
            properties.push(Property::sometimes("closed after a Reopen", |_: &Self, state: &State<N>| {
                state.closed && state.reopens > 0
            }));
        }
        properties
    }
}

impl<const N: usize> Lease<N> {
    fn time_actions(&self, state: &State<N>, actions: &mut Vec<Action<N>>) {
        let true_host = u8::from(!state.paused);
        if self.wrong_every.is_some() && state.tick == 0 {
            for fast in 0..(1_u32 << N) {
                let fast = std::array::from_fn(|voter| fast & (1 << voter) != 0);
                actions.push(Action::Tick { host: 0, fast });
                actions.push(Action::Tick { host: true_host, fast });
            }
        } else {
            actions.push(Action::Tick { host: true_host, fast: [false; N] });
        }
        if self.lacks(Weakened::ClocksStopInPauses) {
            if state.paused {
                actions.push(Action::Resume);
            } else if !state.was_paused {
                actions.push(Action::Pause);
            }
        }
    }

    fn host_actions(&self, state: &State<N>, voter: usize, actions: &mut Vec<Action<N>>) {
        let known = &state.voters[voter];
        let acks = self.acks(known);
        if self.network == Network::Immediate {
            if acks && !state.paused {
                actions.extend([true, false].map(|heard| Action::Exchange { voter, heard }));
            }
            return;
        }
        if !state.paused {
            actions.push(Action::Send(voter));
        }
        if known.heartbeat.is_some() {
            actions.push(Action::LoseHeartbeat(voter));
            if acks {
                actions.extend([false, true].map(|again| Action::Ack { voter, again }));
            }
        }
        if known.ack.is_some() {
            actions.push(Action::LoseAck(voter));
            if !state.paused {
                actions.extend([false, true].map(|again| Action::HearAck { voter, again }));
            }
        }
    }

    fn voter_actions(&self, state: &State<N>, voter: usize, actions: &mut Vec<Action<N>>) {
        let known = &state.voters[voter];
        actions.push(Action::Restart(voter));
        if known.starting {
            actions.push(Action::VoterUp(voter));
        }
        if self.lacks(Weakened::LateVoterUpTaken) && known.former_promises != 0 {
            actions.push(Action::LateVoterUp(voter));
        }
        if !known.starting && known.reopens < state.reopens {
            actions.push(Action::ApplyReopen(voter));
        }
        if self.reopens > 0 && !known.starting {
            actions.push(Action::ToldAgain(voter));
        }
        let old_enough = known.age >= self.closing_age || self.lacks(Weakened::PromisesAtAnyAge);
        let up = !known.starting || self.lacks(Weakened::PromisesBeforeVoterUp);
        if !up || state.closed || !old_enough {
            return;
        }
        let asked_for = if self.lacks(Weakened::PromisesNameTheRequestedReopens) {
            0..=state.reopens
        } else {
            known.reopens..=known.reopens
        };
        let given = if known.starting { known.early } else { known.promises };
        let new = asked_for.filter(|reopens| given & (1 << reopens) == 0);
        actions.extend(new.map(|reopens| Action::Promise { voter, reopens }));
    }
}
