//! What each action changes: the rules themselves.

use super::{Action, Guard, Placement, Sessions, State};
use crate::model::Weakened;

impl Sessions {
    pub(super) fn guard_moves(&self, state: &mut State, at: u8, action: Action) {
        let host = &mut state.hosts[usize::from(at)];
        match action {
            Action::GuardDies(_) => {
                host.orphan |= host.runs > 0 && self.lacks(Weakened::TasksOutliveTheirGuard);
                host.token = host.guard.session().unwrap_or(host.token);
                (host.guard, host.runs, host.revoked) = (Guard::Dead, 0, 0);
            }
            Action::GuardStarts(_) => {
                host.orphan = false;
                host.guard = Guard::Asking;
                state.fenced |= if host.token > 0 { 1 << host.token } else { 0 };
                host.token = 0;
            }
            Action::Lapse(_) => {
                host.runs = 0;
                host.guard = host.guard.session().map_or(host.guard, Guard::Fencing);
            }
            // The next session begins with an empty memory.
            Action::LearnClosed(_) => (host.guard, host.runs, host.revoked) = (Guard::Asking, 0, 0),
            _ => {}
        }
    }

    /// R11: refused while the node has an open session, unless that rule is gone.
    pub(super) fn open(&self, state: &mut State, at: u8) {
        if state.hosts[usize::from(at)].open > 0 {
            Self::close(state, at);
        }
        state.sessions += 1;
        let host = &mut state.hosts[usize::from(at)];
        host.open = state.sessions;
        (host.guard, host.revoked) = (Guard::Leased(state.sessions), 0);
    }

    /// R7, R4: the slot is free.
    pub(super) fn close(state: &mut State, at: u8) {
        state.hosts[usize::from(at)].open = 0;
        if state.holder > 0 && state.placement(state.holder).host == at {
            (state.holder, state.revoking) = (0, None);
        }
    }

    /// R10: under the open session, with a generation of its own.
    pub(super) fn assign(&self, state: &mut State, at: u8) {
        let session = state.hosts[usize::from(at)].open;
        if session == 0 || state.placements >= self.placements {
            return;
        }
        state.made[usize::from(state.placements)] = Placement { host: at, session };
        state.placements += 1;
        (state.holder, state.revoking) = (state.placements, None);
    }

    /// R10: what a guard asks before it starts anything. None: it does not.
    pub(super) fn start(&self, state: &mut State, generation: u8) -> Option<()> {
        let placement = state.placement(generation);
        let host = &mut state.hosts[usize::from(placement.host)];
        let own = host.guard.session()?;
        let leased = matches!(host.guard, Guard::Leased(_)) || self.lacks(Weakened::StartWithoutALease);
        let named = placement.session == own || self.lacks(Weakened::AssignmentNamesTheNodeOnly);
        let new = generation > host.revoked || self.lacks(Weakened::RevokedGenerationStarted);
        (leased && named && new && !host.alive()).then(|| host.runs = generation)
    }

    /// R10: a failure frees the slot only when the generation is recorded as revoked.
    pub(super) fn fail(&self, state: &mut State, at: u8) {
        let host = &mut state.hosts[usize::from(at)];
        if !self.lacks(Weakened::FailureFreesWithoutRevoke) {
            host.revoked = host.revoked.max(host.runs);
        }
        state.stopped |= 1 << host.runs;
        host.runs = 0;
    }

    /// R10: killed and recorded, then reported.
    pub(super) fn stop(&self, state: &mut State) {
        let host = &mut state.hosts[usize::from(state.placement(state.holder).host)];
        host.runs = 0;
        host.revoked = host.revoked.max(state.holder);
        state.stopped |= 1 << state.holder;
    }

    /// R10: the apply of a report frees the slot, and assigns the target of a planned move.
    pub(super) fn stopped(&self, state: &mut State) {
        let target = state.revoking.flatten();
        (state.holder, state.revoking) = (0, None);
        if let Some(target) = target {
            self.assign(state, target);
        }
    }
}
