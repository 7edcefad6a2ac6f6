//! The course of a run: faults, then time to recover, then everything must run again; and once more, for a minute or,
//! where the TTL is long, for a little more.

use super::clocks::{MS, Time};
use super::events::Event;
use super::world::{World, tell};

/// Which faults an episode has. What takes several steps is disturbed by other faults, so some have nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// All of them.
    #[default]
    Anything,
    /// Changes of voters in the middle of trouble.
    Voters,
    /// Voters that miss a host one after the other.
    Turns,
}

/// How long a run lasts at least.
const RUN: Time = 60_000 * MS;
/// Without faults at first, so that everything gets started.
const CALM_TTLS: Time = 2;
/// Then faults, at least so long.
const FAULTS_TTLS: Time = 10;
/// Then time to recover.
const RECOVERY_TTLS: Time = 8;
/// A part of the recovery that does not depend on the TTL.
const RECOVERY: Time = 1000 * MS;

/// The episodes of a run.
#[derive(Clone, Copy, Debug)]
pub struct Episodes {
    /// How many are left, the present one included.
    pub left: u64,
    faults: Time,
    recovery: Time,
}

impl Episodes {
    /// As many as fit into the length of a run, their faults stretched so that they fill it.
    #[must_use]
    pub fn of(ttl: Time) -> Self {
        let recovery = RECOVERY_TTLS * ttl + RECOVERY;
        let calm = CALM_TTLS * ttl;
        let shortest = calm + FAULTS_TTLS * ttl + recovery;
        let left = (RUN / shortest).max(1);
        let faults = (RUN / left).max(shortest) - calm - recovery;
        Self { left, faults, recovery }
    }
}

impl World {
    /// Plans an episode.
    pub(super) fn episode_begins(&mut self) {
        self.healed = false;
        let themes = [Theme::Anything, Theme::Anything, Theme::Voters, Theme::Turns];
        self.theme = self.rng.pick(&themes).unwrap_or_default();
        self.adversary.active = self.rng.percent(70);
        tell!(self, "faults of the kind {:?}, with an adversary: {}", self.theme, self.adversary.active);
        let calm = CALM_TTLS * self.ttl();
        self.after(calm, Event::Fault);
        self.after(calm, Event::Adversary);
        self.after(calm + self.episodes.faults, Event::Heal);
    }

    /// All faults end.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.network.heal();
        tell!(self, "everything is healed");
        let down = self.replicas.values().filter(|replica| !replica.up).map(|replica| replica.id);
        for id in down.collect::<Vec<_>>() {
            self.after(0, Event::ReplicaStarts { id });
        }
        for replica in self.replicas.values_mut() {
            replica.frozen_until = replica.frozen_until.min(self.now);
            replica.apply_stalled_until = 0;
            replica.liar = false;
        }
        self.after(self.episodes.recovery, Event::EpisodeEnds);
    }

    /// Everything runs again; the next episode begins.
    pub(super) fn episode_ends(&mut self) {
        self.check_running();
        self.episodes.left -= 1;
        if self.episodes.left > 0 {
            self.episode_begins();
        }
    }
}
