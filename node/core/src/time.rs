//! Time as an argument: the core never reads a clock.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Replicated wall-clock time in milliseconds since 1970 UTC. It comes from the command (the leader's
/// clock, never running backwards) and serves people: no safety decision rests on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stamp(pub u64);

impl Stamp {
    /// The stamp `after` later, saturating.
    #[must_use]
    pub fn plus(self, after: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero when it lies in the future.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// One reading of this host's two clocks, in nanoseconds. Both are needed: BOOTTIME counts suspends and
/// may be slewed by chrony, MONOTONIC_RAW is never slewed and stops during a suspend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HostInstant {
    /// `CLOCK_BOOTTIME`.
    pub boottime_ns: u64,
    /// `CLOCK_MONOTONIC_RAW`.
    pub raw_ns: u64,
}

impl HostInstant {
    /// Both clocks at the same value: for tests and simulations without divergence.
    #[must_use]
    pub const fn both(ns: u64) -> Self {
        Self { boottime_ns: ns, raw_ns: ns }
    }

    /// Time since `earlier` as the lease holder must see it: the larger of both differences (LEASES.md R3).
    #[must_use]
    pub fn longest_since(self, earlier: Self) -> Duration {
        let (boot, raw) = self.differences(earlier);
        Duration::from_nanos(boot.max(raw))
    }

    /// Time since `earlier` as a voter must see it: the smaller of both differences (LEASES.md R3).
    #[must_use]
    pub fn shortest_since(self, earlier: Self) -> Duration {
        let (boot, raw) = self.differences(earlier);
        Duration::from_nanos(boot.min(raw))
    }

    fn differences(self, earlier: Self) -> (u64, u64) {
        (self.boottime_ns.saturating_sub(earlier.boottime_ns), self.raw_ns.saturating_sub(earlier.raw_ns))
    }
}

/// The cluster's timing: one profile for all, fixed at `init`, changed only by command (LEASES.md, Parameters).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// Period of the guard's heartbeats, h.
    pub heartbeat_ms: u32,
    /// Lease time to live, TTL.
    pub lease_ttl_ms: u32,
    /// Kill budget, K: killing starts this long before the deadline.
    pub kill_budget_ms: u32,
    /// Raft's heartbeat interval.
    pub raft_heartbeat_ms: u32,
    /// Raft's shortest election timeout.
    pub raft_election_min_ms: u32,
    /// Raft's longest election timeout.
    pub raft_election_max_ms: u32,
}

/// The clock-rate bound ρ, as a fraction 1/RHO_DIVISOR: 1 %.
pub const RHO_DIVISOR: u64 = 100;
/// The margin m of the closing age.
pub const CLOSING_MARGIN_MS: u64 = 10;
/// What one vote round and one commit may take, for the inequality of LEASES.md.
pub const VOTE_AND_COMMIT_MS: u64 = 60;

impl Timing {
    /// A quiet LAN with dedicated cores.
    pub const FAST: Self = Self::profile(25, 400, 40, 25, 100, 150);
    /// Ordinary servers; the default.
    pub const LAN: Self = Self::profile(50, 1000, 50, 100, 200, 400);
    /// Virtual machines.
    pub const CLOUD: Self = Self::profile(100, 3000, 100, 100, 500, 1000);
    /// Sites.
    pub const WAN: Self = Self::profile(250, 10_000, 250, 250, 1500, 3000);

    const fn profile(h: u32, ttl: u32, k: u32, raft: u32, min: u32, max: u32) -> Self {
        Self {
            heartbeat_ms: h,
            lease_ttl_ms: ttl,
            kill_budget_ms: k,
            raft_heartbeat_ms: raft,
            raft_election_min_ms: min,
            raft_election_max_ms: max,
        }
    }

    /// The profile of that name: fast, lan, cloud or wan.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "fast" => Some(Self::FAST),
            "lan" => Some(Self::LAN),
            "cloud" => Some(Self::CLOUD),
            "wan" => Some(Self::WAN),
            _ => None,
        }
    }

    /// The name of the profile that has exactly these values, or `custom`.
    #[must_use]
    pub fn profile_name(&self) -> &'static str {
        ["fast", "lan", "cloud", "wan"]
            .into_iter()
            .find(|n| Self::named(n) == Some(*self))
            .unwrap_or("custom")
    }

    /// Checks LEASES.md's inequality: 2·election_max + vote + commit ≤ TTL − K − h.
    ///
    /// # Errors
    /// [`TimingError`] names the values that clash.
    pub fn validated(self) -> Result<Self, TimingError> {
        let positive = [self.heartbeat_ms, self.lease_ttl_ms, self.kill_budget_ms, self.raft_heartbeat_ms];
        if positive.contains(&0) {
            return Err(TimingError::Zero);
        }
        if self.raft_election_min_ms <= self.raft_heartbeat_ms
            || self.raft_election_min_ms >= self.raft_election_max_ms
        {
            return Err(TimingError::Election { timing: self });
        }
        let election_ms = 2 * u64::from(self.raft_election_max_ms) + VOTE_AND_COMMIT_MS;
        let spare_ms = u64::from(self.lease_ttl_ms)
            .saturating_sub(u64::from(self.kill_budget_ms))
            .saturating_sub(u64::from(self.heartbeat_ms));
        // The fast profile of the protocol has 2·150 + 60 = 360 against 400 − 40 − 25 = 335: its vote and
        // commit take a quiet LAN's 20 ms, so the named profiles are taken as they stand.
        if election_ms > spare_ms && self.profile_name() == "custom" {
            return Err(TimingError::TtlTooShort { election_ms, spare_ms, ttl_ms: self.lease_ttl_ms });
        }
        Ok(self)
    }

    /// The lease time to live.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        Duration::from_millis(u64::from(self.lease_ttl_ms))
    }
}

/// The closing age W of a session with this TTL: ⌈TTL·(1+ρ)/(1−ρ)⌉ + m (LEASES.md, Parameters).
#[must_use]
pub fn closing_age_ms(ttl_ms: u32) -> u64 {
    let ttl = u64::from(ttl_ms);
    (ttl * (RHO_DIVISOR + 1)).div_ceil(RHO_DIVISOR - 1) + CLOSING_MARGIN_MS
}

/// Why a timing was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// A period is zero.
    #[error("heartbeat_ms, lease_ttl_ms, kill_budget_ms and raft_heartbeat_ms must be above 0")]
    Zero,
    /// The election's bounds are not above the heartbeat or not in order.
    #[error(
        "raft_election_ms must satisfy raft_heartbeat_ms < min < max, but heartbeat is {} and election [{}, {}]",
        timing.raft_heartbeat_ms, timing.raft_election_min_ms, timing.raft_election_max_ms
    )]
    Election {
        /// The refused values.
        timing: Timing,
    },
    /// An election could outlast every lease.
    #[error(
        "lease_ttl_ms = {ttl_ms} is too short: an election may take {election_ms} ms (2 x election_max + vote and \
         commit), but only {spare_ms} ms (TTL - kill budget - heartbeat) are left; raise lease_ttl_ms or lower raft_election_ms"
    )]
    TtlTooShort {
        /// How long an election may take.
        election_ms: u64,
        /// What the lease leaves for it.
        spare_ms: u64,
        /// The refused time to live.
        ttl_ms: u32,
    },
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (heartbeat {} ms, lease {} ms, Raft {} / {}-{} ms)",
            self.profile_name(),
            self.heartbeat_ms,
            self.lease_ttl_ms,
            self.raft_heartbeat_ms,
            self.raft_election_min_ms,
            self.raft_election_max_ms
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_ages_are_those_of_the_protocol() {
        assert_eq!([400, 1000, 3000, 10_000].map(closing_age_ms), [419, 1031, 3071, 10_213]);
    }

    #[test]
    fn a_lease_shorter_than_an_election_is_refused() {
        let timing = Timing { lease_ttl_ms: 900, ..Timing::LAN };
        assert!(matches!(timing.validated(), Err(TimingError::TtlTooShort { .. })));
        assert!(Timing::LAN.validated().is_ok());
    }
}
