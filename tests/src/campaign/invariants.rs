//! What must hold, one file each; TESTING's numbers stand with them.
//!
//! | # | file | what |
//! |---|---|---|
//! | 1 | `never_two` | an exclusive service never runs twice at once |
//! | 2 | `dead_by_deadline` | on a host that can't renew its lease nothing exclusive runs beyond it |
//! | 3 | `replicas_agree` | agents that applied the same tell the same, with one holder for each exclusive slot |
//! | 4 | `generations_grow` | a later run has a higher fencing token |
//! | 5 | (`history`) | the operator's API is linearizable |
//! | 6 | (`history`, `counter`) | no acknowledged write is lost |
//! | 7 | `placed_again` | after everything is healed every service runs within 5 s |
//! | 8 | `nothing_for_nothing` | on a host without a fault nothing stops |
//! | 9 | `failover_time` | a failover takes no longer than the leases' formula |

use std::fmt;

use super::round::Round;

pub mod dead_by_deadline;
pub mod failover_time;
pub mod generations_grow;
pub mod never_two;
pub mod nothing_for_nothing;
pub mod placed_again;
pub mod replicas_agree;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A promise was broken.
    Wrong,
    /// A bound in time was missed.
    Late,
}

/// An invariant that did not hold.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// How bad.
    pub severity: Severity,
    /// What was seen.
    pub text: String,
}

impl Violation {
    /// A broken promise.
    #[must_use]
    pub fn wrong(invariant: &'static str, text: String) -> Self {
        Self { invariant, severity: Severity::Wrong, text }
    }

    /// A missed bound in time.
    #[must_use]
    pub fn late(invariant: &'static str, text: String) -> Self {
        Self { invariant, severity: Severity::Late, text }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.severity == Severity::Wrong { "WRONG" } else { "late" };
        write!(f, "{word}: {}: {}", self.invariant, self.text)
    }
}

/// Judges a round by everything that the stamps tell.
#[must_use]
pub fn judge(round: &Round<'_>) -> Vec<Violation> {
    let judges = [
        never_two::judge,
        dead_by_deadline::judge,
        generations_grow::judge,
        placed_again::judge,
        nothing_for_nothing::judge,
        failover_time::judge,
    ];
    judges.iter().flat_map(|judge| judge(round)).collect()
}

#[cfg(test)]
mod tests;
