//! Counts and logs what was refused, without letting a flood of strangers fill the log.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// How many refused connections are told in full in each [`PERIOD`]; the others are counted.
const TOLD: u32 = 20;
/// See [`TOLD`].
const PERIOD: Duration = Duration::from_secs(10);

/// What was refused since the start, by a short reason.
#[derive(Clone, Debug, Default)]
pub struct Rejections(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    by_reason: BTreeMap<&'static str, u64>,
    period_began: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Rejections {
    /// A connection was refused.
    pub fn connection(&self, remote: SocketAddr, reason: &'static str, why: &dyn std::fmt::Display) {
        if self.count(reason) {
            tracing::warn!(%remote, reason, %why, "a connection was refused");
        }
    }

    /// A call was refused.
    pub fn call(&self, who: &dyn std::fmt::Display, from: &str, method: &str, why: &dyn std::fmt::Display) {
        if self.count("call") {
            tracing::warn!(%who, from, method, %why, "a call was refused");
        }
    }

    /// Counts one; whether it may be told.
    fn count(&self, reason: &'static str) -> bool {
        let now = clock::monotonic();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.by_reason.entry(reason).or_default() += 1;
        if counts.period_began.is_none_or(|began| now.duration_since(began) >= PERIOD) {
            if counts.untold > 0 {
                tracing::warn!(more = counts.untold, "as many more connections or calls were refused");
            }
            (counts.period_began, counts.told, counts.untold) = (Some(now), 0, 0);
        }
        if counts.told < TOLD {
            counts.told += 1;
            return true;
        }
        counts.untold += 1;
        false
    }

    /// How many there were, by reason.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_reason.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_are_counted_and_a_flood_is_not_told() {
        let rejections = Rejections::default();
        let told = (0..1000).filter(|_| rejections.count("protocol")).count();
        assert_eq!(told, usize::try_from(TOLD).unwrap());
        assert_eq!(rejections.counts(), BTreeMap::from([("protocol", 1000)]));
    }
}
