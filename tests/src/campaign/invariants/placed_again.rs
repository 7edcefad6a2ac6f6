//! After everything is healed every service runs again: within 5 s and what the fault itself needs.

use std::time::Duration;

use super::{Round, Violation};
use crate::harness::wait::millis;

const NAME: &str = "placed after healing";
const LIMIT: Duration = Duration::from_secs(5);

/// Judges a round.
pub fn judge(round: &Round<'_>) -> Vec<Violation> {
    let took = round.placed.since(round.healed);
    let bound = LIMIT + round.cost.recovery;
    if took <= round.lenient(bound, round.healed, round.placed) {
        return Vec::new();
    }
    let text =
        format!("every service ran again {:.0} ms after healing, bound {:.0}", millis(took), millis(bound));
    vec![Violation::late(NAME, text)]
}
