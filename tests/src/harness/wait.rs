//! Waiting for conditions, on the one clock that all namespaces share.

use std::time::Duration;

use muster::stamp::monotonic_ns;

use super::HarnessError;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A moment of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        Self(monotonic_ns())
    }

    /// Time since then.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// Time from `earlier` until this moment; zero if it is the other way round.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Looks until there is something to see. `look` says what it saw instead as its `Err`.
///
/// # Errors
/// [`HarnessError::TimedOut`] with the last thing that was seen.
pub fn until<T>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, String>,
) -> Result<T, HarnessError> {
    let start = Moment::now();
    loop {
        match look() {
            Ok(seen) => return Ok(seen),
            Err(last) if start.elapsed() > limit => {
                let waited_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                return Err(HarnessError::TimedOut { what: what.to_owned(), waited_ms, last });
            }
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// Lets time pass on purpose: the fault or the quiet of a case lasts that long.
pub fn pass(time: Duration) {
    std::thread::sleep(time);
}

/// A duration in milliseconds, for people.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "for people; far below 2^52 microseconds")]
pub fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}
