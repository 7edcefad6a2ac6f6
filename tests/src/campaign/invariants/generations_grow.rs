//! The fencing token of a later run is higher; the same only where the same placement was started again.

use muster::stamp::Run;

use super::{Round, Violation};
use crate::campaign::services::SERVICES;

const NAME: &str = "generations only grow";

/// Judges a round.
pub fn judge(round: &Round<'_>) -> Vec<Violation> {
    let exclusive = SERVICES.iter().filter(|service| service.is_exclusive());
    exclusive.filter_map(|service| shrunk(service.name, round.runs.get(service.name)?)).collect()
}

/// A run whose token is not above that of the run before it.
#[must_use]
pub fn shrunk(service: &str, runs: &[Run]) -> Option<Violation> {
    let pair = runs.windows(2).find(|pair| {
        let (before, after) = (&pair[0], &pair[1]);
        after.generation < before.generation
            || (after.generation == before.generation && after.node != before.node)
    })?;
    let text = format!(
        "{service} had generation {} on {}, then {} on {}",
        pair[0].generation, pair[0].node, pair[1].generation, pair[1].node
    );
    Some(Violation::wrong(NAME, text))
}
