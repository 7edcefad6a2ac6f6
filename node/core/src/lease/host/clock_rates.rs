//! How far the host's two clocks run apart: σ of R4.

use crate::time::{HostInstant, RHO_DIVISOR};

/// Over how long a stretch the rates are compared at least, in nanoseconds: shorter ones measure noise.
const SHORTEST_NS: u64 = 100_000_000;
/// After how long a new stretch begins, in nanoseconds.
const LONGEST_NS: u64 = 1_000_000_000;
/// One, in parts per million.
const ONE_PPM: u64 = 1_000_000;
/// What is assumed of clocks that were not compared yet: more than chrony slews at most (8.3 %).
const UNSEEN_PPM: u64 = 100_000;

/// Compares `CLOCK_BOOTTIME` with `CLOCK_MONOTONIC_RAW` over the present stretch and the one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClockRates {
    stretch_began: HostInstant,
    /// What the stretch before showed, in parts per million; `None` in the first one.
    before_ppm: Option<u64>,
}

impl ClockRates {
    pub(super) fn new(now: HostInstant) -> Self {
        Self { stretch_began: now, before_ppm: None }
    }

    /// Takes one more reading.
    pub(super) fn observe(&mut self, now: HostInstant) {
        if now.longest_since(self.stretch_began).as_nanos() >= u128::from(LONGEST_NS) {
            self.before_ppm = divergence_ppm(self.stretch_began, now);
            self.stretch_began = now;
        }
    }

    /// σ in parts per million: the observed divergence plus ρ.
    pub(super) fn sigma_ppm(&self, now: HostInstant) -> u64 {
        let seen = self.before_ppm.max(divergence_ppm(self.stretch_began, now));
        seen.unwrap_or(UNSEEN_PPM) + ONE_PPM / RHO_DIVISOR
    }
}

/// By how much the two clocks differ since `earlier`, relative to the slower one; `None` for too short a stretch.
fn divergence_ppm(earlier: HostInstant, now: HostInstant) -> Option<u64> {
    let longest = now.longest_since(earlier).as_nanos();
    let shortest = now.shortest_since(earlier).as_nanos().max(1);
    if longest < u128::from(SHORTEST_NS) {
        return None;
    }
    let ppm = (longest - shortest.min(longest)) * u128::from(ONE_PPM) / shortest;
    Some(u64::try_from(ppm).unwrap_or(u64::MAX / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slew_of_eight_percent_is_seen_and_stays_in_force_for_the_next_stretch() {
        let at = |boot_ms: u64, raw_ms: u64| HostInstant {
            boottime_ns: boot_ms * 1_000_000,
            raw_ns: raw_ms * 1_000_000,
        };
        let mut rates = ClockRates::new(at(0, 0));
        assert_eq!(rates.sigma_ppm(at(50, 46)), 110_000, "50 ms are too short to tell: the worst is assumed");
        assert_eq!(rates.sigma_ppm(at(540, 500)), 90_000);
        rates.observe(at(1080, 1000));
        assert_eq!(rates.sigma_ppm(at(1090, 1010)), 90_000);
    }
}
