//! An exclusive service never runs twice at once.

use muster::stamp::{self, Run};

use super::{Round, Violation};
use crate::campaign::services::SERVICES;
use crate::harness::wait::millis;

const NAME: &str = "never two";
/// The same as the client of a counter on shared storage sees it.
pub const COUNTER: &str = "never two, nothing lost: the counter";

/// Judges a round.
pub fn judge(round: &Round<'_>) -> Vec<Violation> {
    let exclusive = SERVICES.iter().filter(|service| service.is_exclusive());
    exclusive.filter_map(|service| overlap(service.name, round.runs.get(service.name)?)).collect()
}

/// Two of these runs at once.
#[must_use]
pub fn overlap(service: &str, runs: &[Run]) -> Option<Violation> {
    let overlap = stamp::longest_overlap(runs);
    if overlap.is_zero() {
        return None;
    }
    let lines: Vec<String> =
        runs.iter().map(|r| format!("{} g{} {}..{}", r.node, r.generation, r.first_ns, r.last_ns)).collect();
    let text = format!("{service} ran twice for {:.1} ms: {}", millis(overlap), lines.join(", "));
    Some(Violation::wrong(NAME, text))
}
