//! The host's clocks. The only place that reads them; everything else is handed values.

use std::time::{SystemTime, UNIX_EPOCH};

use muster_core::time::{HostInstant, Stamp};
use nix::time::{ClockId, clock_gettime};

/// Reads `CLOCK_BOOTTIME` and `CLOCK_MONOTONIC_RAW`, through libc so that tests can fake them.
///
/// # Panics
/// If the kernel has no such clock; Linux has had both since 2.6.39.
#[must_use]
pub fn host_now() -> HostInstant {
    HostInstant {
        boottime_ns: read_ns(ClockId::CLOCK_BOOTTIME),
        raw_ns: read_ns(ClockId::CLOCK_MONOTONIC_RAW),
    }
}

fn read_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock).expect("Linux has BOOTTIME and MONOTONIC_RAW");
    let seconds = u64::try_from(now.tv_sec()).unwrap_or_default();
    let nanos = u64::try_from(now.tv_nsec()).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// The wall clock, for stamps and people.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is the one module that reads the wall clock")]
pub fn wall_now() -> Stamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Stamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The monotonic clock of the runtime, for time limits.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is the one module that reads clocks")]
pub fn monotonic() -> tokio::time::Instant {
    tokio::time::Instant::now()
}
