//! A host's two clocks, each at a rate of its own within ρ of true time; one of them may be slewed beyond that.

use muster_core::time::HostInstant;

use super::rng::Rng;

/// True time in nanoseconds since the run began. No part of the protocol sees it.
pub type Time = u64;

/// A millisecond of true time.
pub const MS: Time = 1_000_000;
/// A rate of one, in parts per million.
const ONE_PPM: u64 = 1_000_000;
/// ρ, in parts per million.
const RHO_PPM: u64 = 10_000;

/// How far a time daemon slews `CLOCK_BOOTTIME` at most, beyond ρ, in parts per million: chrony's default.
const SLEW_PPM: u64 = 83_333;

/// Whether a time daemon slews `CLOCK_BOOTTIME` for the whole run. `CLOCK_MONOTONIC_RAW` is never slewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slew {
    /// It does not.
    None,
    /// It holds the clock back, at chrony's limit.
    Back,
    /// It lets the clock gain, at chrony's limit.
    Forth,
}

impl Slew {
    /// Mostly none.
    pub fn any(rng: &mut Rng) -> Self {
        rng.pick(&[Self::None, Self::None, Self::None, Self::None, Self::None, Self::Back, Self::Forth])
            .unwrap_or(Self::None)
    }

    fn of(self, boottime_ppm: u64) -> u64 {
        match self {
            Self::None => boottime_ppm,
            Self::Back => boottime_ppm - SLEW_PPM,
            Self::Forth => boottime_ppm + SLEW_PPM,
        }
    }
}

/// The two clocks of one host.
#[derive(Clone, Debug)]
pub struct Clocks {
    slew: Slew,
    since: Time,
    reading: HostInstant,
    boottime_ppm: u64,
    raw_ppm: u64,
}

impl Clocks {
    /// Clocks that have been running for a while.
    pub fn new(slew: Slew, rng: &mut Rng) -> Self {
        let reading = HostInstant {
            boottime_ns: rng.between(1_000, 2_000) * 1000 * MS,
            raw_ns: rng.between(500, 1_000) * 1000 * MS,
        };
        let mut clocks = Self { slew, since: 0, reading, boottime_ppm: ONE_PPM, raw_ppm: ONE_PPM };
        clocks.drift(0, rng);
        clocks
    }

    /// What the clocks show at `at`.
    #[must_use]
    pub fn read(&self, at: Time) -> HostInstant {
        let passed = at.saturating_sub(self.since);
        HostInstant {
            boottime_ns: self.reading.boottime_ns + scaled(passed, self.boottime_ppm),
            raw_ns: self.reading.raw_ns + scaled(passed, self.raw_ppm),
        }
    }

    /// Runs both clocks at the slowest or at the fastest rate from now on.
    pub fn run_at_limit(&mut self, at: Time, fast: bool) {
        self.reading = self.read(at);
        self.since = at;
        let rate = if fast { ONE_PPM + RHO_PPM } else { ONE_PPM - RHO_PPM };
        (self.boottime_ppm, self.raw_ppm) = (rate, rate);
    }

    /// Gives both clocks new rates: often both at the same end of what is allowed, which is the worst case.
    pub fn drift(&mut self, at: Time, rng: &mut Rng) {
        self.reading = self.read(at);
        self.since = at;
        let (slow, fast) = (ONE_PPM - RHO_PPM, ONE_PPM + RHO_PPM);
        (self.boottime_ppm, self.raw_ppm) = match rng.below(5) {
            0 => (slow, slow),
            1 => (fast, fast),
            2 => (ONE_PPM, ONE_PPM),
            _ => (rng.between(slow, fast), rng.between(slow, fast)),
        };
        self.boottime_ppm = self.slew.of(self.boottime_ppm);
    }

    /// Stops both clocks for the time between `from` and `to`: a virtual machine whose guest clock was paused.
    pub fn lose(&mut self, from: Time, to: Time) {
        self.reading = self.read(from);
        self.since = to;
    }

    /// When `CLOCK_BOOTTIME` shows this value, if the rate stays.
    #[must_use]
    pub fn when_boottime(&self, boottime_ns: u64) -> Time {
        let left = boottime_ns.saturating_sub(self.reading.boottime_ns);
        let late =
            left / self.boottime_ppm * ONE_PPM + left % self.boottime_ppm * ONE_PPM / self.boottime_ppm;
        self.since + late + 1
    }
}

/// Runs last minutes, so that the product stays far below 2⁶⁴.
fn scaled(ns: u64, ppm: u64) -> u64 {
    ns / ONE_PPM * ppm + ns % ONE_PPM * ppm / ONE_PPM
}
