//! Times as people write them: `30s`, `1h30m`, `250ms`, and ranges of them: `1s..30s`. Whole numbers only.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A time with a unit; whole milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub Duration);

/// A range of times, written `1s..30s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// Its begin.
    pub min: Time,
    /// Its end, not below the begin.
    pub max: Time,
}

/// Why a text is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// It does not have the form.
    #[error(
        "'{0}' is not a time: write whole numbers with units such as \"30s\", \"5m\", \"1h30m\" or \"250ms\""
    )]
    Form(String),
    /// It does not fit.
    #[error("'{0}' is too long a time")]
    TooLong(String),
    /// A range does not have the form.
    #[error("'{0}' is not a range of times: write it as \"1s..30s\", the shorter time first")]
    Range(String),
}

/// The units, longest first, in milliseconds. A time names each at most once, in this order.
const UNITS: [(&str, u64); 5] =
    [("d", 24 * 3_600_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for Time {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let form = || TimeError::Form(text.to_owned());
        let too_long = || TimeError::TooLong(text.to_owned());
        let (mut rest, mut units, mut total_ms) = (text, &UNITS[..], 0u64);
        if rest.is_empty() {
            return Err(form());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(form)?;
            let (number, after) = rest.split_at(digits);
            let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_end);
            let at = units.iter().position(|(name, _)| *name == unit).ok_or_else(form)?;
            if number.is_empty() {
                return Err(form());
            }
            let number: u64 = number.parse().map_err(|_| too_long())?;
            let ms = number.checked_mul(units[at].1).ok_or_else(too_long)?;
            total_ms = total_ms.checked_add(ms).ok_or_else(too_long)?;
            (rest, units) = (after, &units[at + 1..]);
        }
        Ok(Self(Duration::from_millis(total_ms)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest_ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest_ms == 0 {
            return f.write_str("0s");
        }
        for (name, unit_ms) in UNITS {
            if rest_ms >= unit_ms {
                write!(f, "{}{name}", rest_ms / unit_ms)?;
                rest_ms %= unit_ms;
            }
        }
        Ok(())
    }
}

impl FromStr for TimeRange {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let form = || TimeError::Range(text.to_owned());
        let (min, max) = text.split_once("..").ok_or_else(form)?;
        let (min, max) = (min.trim().parse()?, max.trim().parse()?);
        if min <= max { Ok(Self { min, max }) } else { Err(form()) }
    }
}

impl fmt::Display for TimeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.min, self.max)
    }
}

/// Serde for types that are written as one text: the error then points at the very value.
macro_rules! serde_as_text {
    ($name:ident, $expecting:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl de::Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}

serde_as_text!(Time, "a time in quotes, such as \"30s\"");
serde_as_text!(TimeRange, "a range of times in quotes, such as \"1s..30s\"");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_and_printed() {
        for (text, ms, printed) in [
            ("30s", 30_000, "30s"),
            ("5m", 300_000, "5m"),
            ("1h30m", 5_400_000, "1h30m"),
            ("250ms", 250, "250ms"),
            ("90s", 90_000, "1m30s"),
            ("1m5ms", 60_005, "1m5ms"),
            ("7d", 604_800_000, "7d"),
            ("0s", 0, "0s"),
        ] {
            let time: Time = text.parse().unwrap();
            assert_eq!((time.0, time.to_string()), (Duration::from_millis(ms), printed.to_owned()));
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "30", "s", "1.5s", "-1s", "1s1h", "1s1s", "1 s", "1x", "١s", "1ms2"] {
            assert!(matches!(text.parse::<Time>(), Err(TimeError::Form(_))), "{text}");
        }
        for text in ["99999999999999999999s", "18446744073709551615d"] {
            assert!(matches!(text.parse::<Time>(), Err(TimeError::TooLong(_))), "{text}");
        }
        for text in ["1s", "30s..1s"] {
            assert!(matches!(text.parse::<TimeRange>(), Err(TimeError::Range(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_time_reads_as_itself(min in any::<u64>(), more in any::<u64>()) {
            let min = Time(Duration::from_millis(min));
            let max = Time(min.0.saturating_add(Duration::from_millis(more)).min(Duration::from_millis(u64::MAX)));
            prop_assert_eq!(min.to_string().parse(), Ok(min));
            let range = TimeRange { min, max };
            prop_assert_eq!(range.to_string().parse(), Ok(range));
        }
    }
}
