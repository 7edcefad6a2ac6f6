//! The cluster's time: what the log's stamps say, carried on.

use std::sync::{Mutex, PoisonError};

use muster_core::time::Stamp;
use tokio::time::Instant;

use crate::clock;

/// The time of the state goes on while it is ahead of the wall clock.
///
/// It never runs backwards, so one leader whose wall clock was an hour ahead would leave it standing for an hour, and
/// with it everything that waits for a time: replacements, pauses between tries, deadlines of drains. Instead it goes
/// on at nine tenths of its pace until the wall clock has caught up. An agent has one.
#[derive(Debug, Default)]
pub struct ClusterClock {
    /// While the wall clock is behind: from which time on it is carried, since when.
    carried: Mutex<Option<(Stamp, Instant)>>,
}

impl ClusterClock {
    /// The time now, after the last stamp that was applied.
    #[must_use]
    pub fn now(&self, applied: Stamp) -> Stamp {
        self.at(applied, clock::wall_now(), clock::monotonic())
    }

    fn at(&self, applied: Stamp, wall: Stamp, at: Instant) -> Stamp {
        let mut carried = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
        let reading =
            |(from, since): (Stamp, Instant)| from.plus(at.saturating_duration_since(since) * 9 / 10);
        // Whoever asks with an older state must not set it back.
        let known = carried.filter(|known| reading(*known) >= applied).unwrap_or((applied, at));
        let now = reading(known);
        *carried = (wall < now).then_some(known);
        now.max(wall)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn time_goes_on_after_a_leader_whose_clock_was_ahead() {
        let (clock, start) = (ClusterClock::default(), clock::monotonic());
        let after = |seconds| start + Duration::from_secs(seconds);
        let (wall, ahead) = (Stamp(HOUR), Stamp(2 * HOUR));
        assert_eq!(clock.at(wall, wall, start), wall);
        assert_eq!(clock.at(ahead, wall, start), ahead);
        assert_eq!(clock.at(ahead, wall, after(10)), Stamp(2 * HOUR + 9_000));
        // What is applied meanwhile carries on from there.
        let applied = clock.at(ahead, wall, after(10));
        assert_eq!(clock.at(applied, wall, after(10)), applied);
        assert_eq!(clock.at(applied, wall, after(20)), Stamp(2 * HOUR + 18_000));
        // Somebody who has not seen that yet.
        assert_eq!(clock.at(wall, wall, after(20)), Stamp(2 * HOUR + 18_000));
        // The wall clock has caught up.
        assert_eq!(clock.at(applied, Stamp(3 * HOUR), after(30)), Stamp(3 * HOUR));
    }
}
