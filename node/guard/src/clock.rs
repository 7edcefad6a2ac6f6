//! Reading the host's clocks, through libc so that a test may stand in for them.

use std::time::Duration;

use muster_core::time::HostInstant;
use nix::time::{ClockId, clock_gettime};

/// Both clocks, now.
#[must_use]
pub fn now() -> HostInstant {
    HostInstant {
        boottime_ns: read_ns(ClockId::CLOCK_BOOTTIME),
        raw_ns: read_ns(ClockId::CLOCK_MONOTONIC_RAW),
    }
}

/// `CLOCK_MONOTONIC` in microseconds, as systemd wants it with `RELOADING=1`.
#[must_use]
pub fn monotonic_us() -> u64 {
    read_ns(ClockId::CLOCK_MONOTONIC) / 1000
}

/// The wall clock in milliseconds since 1970, for people to read and for nothing else.
#[must_use]
pub fn wall_ms() -> u64 {
    read_ns(ClockId::CLOCK_REALTIME) / 1_000_000
}

/// `at` on `CLOCK_BOOTTIME` seen from `now`: what is left, zero when it has passed.
#[must_use]
pub fn until(now: HostInstant, at_boottime_ns: u64) -> Duration {
    Duration::from_nanos(at_boottime_ns.saturating_sub(now.boottime_ns))
}

fn read_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).expect("every supported kernel has this clock");
    u64::try_from(Duration::from(time).as_nanos()).expect("584 years fit")
}
