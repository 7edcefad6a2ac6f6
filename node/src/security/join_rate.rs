//! How often hosts that nobody knows may ask to join.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::api::status::ApiError;
use crate::clock;

/// A rack of hosts that is installed at once.
const JOIN_BURST: u32 = 64;
/// How soon one more try is allowed. A token has 160 bits: nobody guesses one at this rate.
const JOIN_PERIOD: Duration = Duration::from_millis(250);

/// How many tries to join an agent takes from strangers: in a burst, and then one each period.
#[derive(Clone, Debug, Default)]
pub struct JoinRate(Arc<Mutex<Bucket>>);

#[derive(Debug, Default)]
struct Bucket {
    taken: u32,
    refilled: Option<Instant>,
}

impl JoinRate {
    /// Takes one try.
    ///
    /// # Errors
    /// [`ApiError::TooManyJoins`].
    pub fn take(&self) -> Result<(), ApiError> {
        self.take_at(clock::monotonic())
    }

    fn take_at(&self, now: Instant) -> Result<(), ApiError> {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = bucket.refilled.map_or(Duration::ZERO, |at| now.duration_since(at));
        let back = u32::try_from(since.as_millis() / JOIN_PERIOD.as_millis()).unwrap_or(u32::MAX);
        if back > 0 || bucket.refilled.is_none() {
            bucket.taken = bucket.taken.saturating_sub(back);
            bucket.refilled = Some(now);
        }
        if bucket.taken >= JOIN_BURST {
            return Err(ApiError::TooManyJoins);
        }
        bucket.taken += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_to_join_are_limited_and_come_back() {
        let (rate, now) = (JoinRate::default(), clock::monotonic());
        let take = |later: Duration| rate.take_at(now + later);
        for _ in 0..JOIN_BURST {
            take(Duration::ZERO).unwrap();
        }
        assert_eq!(take(Duration::ZERO), Err(ApiError::TooManyJoins));
        let later = JOIN_PERIOD * 2;
        take(later).unwrap();
        take(later).unwrap();
        assert_eq!(take(later), Err(ApiError::TooManyJoins));
    }
}
