//! Failures: where an instance failed lately it does not go, and when it failed everywhere it is tried again with
//! growing pauses. Never a hot loop, never given up for good.

use std::time::Duration;

use crate::spec::ServiceSpec;
use crate::state::slot::{Failure, Slot};
use crate::time::Stamp;

/// A node on which an instance failed is refused for at least so long.
const REFUSED_AT_LEAST: Duration = Duration::from_secs(10);
/// The shortest pause before an instance that failed everywhere is tried again.
const PAUSE_AT_LEAST: Duration = Duration::from_secs(1);
/// The longest pause, in multiples of the declared longest wait between restarts.
const PAUSE_FACTOR: u32 = 10;
/// Failures that are older do not lengthen the pause.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Until when the node of this failure is refused.
pub(super) fn refused_until(failure: &Failure, spec: &ServiceSpec) -> Stamp {
    failure.at.plus(spec.restart.window.max(REFUSED_AT_LEAST))
}

/// From when a slot that failed on every eligible node may be tried again; none if it never failed.
pub(super) fn retry_at(slot: &Slot, spec: &ServiceSpec, now: Stamp) -> Option<Stamp> {
    let last = slot.failures.iter().map(|f| f.at).max()?;
    let recent = slot.failures.iter().filter(|f| now.since(f.at) < REMEMBERED).count();
    let doublings = u32::try_from(recent.saturating_sub(1)).unwrap_or(u32::MAX);
    let longest = spec.restart.backoff_max.max(PAUSE_AT_LEAST).saturating_mul(PAUSE_FACTOR);
    let shortest = spec.restart.backoff_min.max(PAUSE_AT_LEAST);
    Some(last.plus(shortest.saturating_mul(2_u32.saturating_pow(doublings)).min(longest)))
}
