//! Times for people and scripts: ISO 8601 in UTC, '3 s ago', and durations as they are typed.

use std::time::Duration;

const MS_PER_DAY: u64 = 86_400_000;

/// A point in time as ISO 8601 UTC with milliseconds: `2026-01-01T00:00:00.000Z`.
pub fn iso(time_ms: u64) -> String {
    let (year, month, day) = civil(time_ms / MS_PER_DAY);
    let ms = time_ms % MS_PER_DAY;
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", ms % 1000)
}

/// The date of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is a year's last one and months have a regular pattern.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_MARCH_OF_YEAR_0: u64 = 719_468;
    const DAYS_PER_ERA: u64 = 146_097;
    let days = days + DAYS_TO_MARCH_OF_YEAR_0;
    let era = days / DAYS_PER_ERA;
    let day_of_era = days % DAYS_PER_ERA;
    let leap_days = day_of_era / 1460 + day_of_era / 146_096;
    let year_of_era = (day_of_era + day_of_era / 36_524 - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Reads ISO 8601 in UTC: a date, or a date and a time with `Z`, with or without fractions of a second.
pub fn parse_iso(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
    let mut date = date.splitn(3, '-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut time = time.splitn(3, ':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next().unwrap_or(Some(0))?);
    let in_range = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    let days = in_range.then(|| days_of(year, month, day))?;
    let ms = format!("{fraction:0<3}").get(..3)?.parse::<u64>().ok()?;
    // A day that the month does not have is refused by converting back.
    (civil(days) == (year, month, day))
        .then_some(days * MS_PER_DAY + hour * 3_600_000 + minute * 60_000 + second * 1000 + ms)
}

fn days_of(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let day_of_era = (year % 400) * 365 + (year % 400) / 4 - (year % 400) / 100 + day_of_year;
    year / 400 * 146_097 + day_of_era - 719_468
}

/// How long ago, or how long until, as people say it: `3 s ago`, `in 5 min`.
pub fn relative(time_ms: u64, now_ms: u64) -> String {
    if time_ms > now_ms.saturating_add(999) {
        format!("in {}", span(time_ms - now_ms))
    } else if now_ms.saturating_sub(time_ms) < 1000 {
        "now".to_owned()
    } else {
        format!("{} ago", span(now_ms - time_ms))
    }
}

/// A length of time in its largest unit: `820 ms`, `3 s`, `5 min`, `2 h`, `4 d`.
pub fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / MS_PER_DAY),
    }
}

/// A limit that somebody set: seconds with their tenths, where [`span`] would leave them out.
#[must_use]
pub fn limit(ms: u64) -> String {
    match (ms / 1000, ms % 1000 / 100) {
        (1..10, 1..) => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => span(ms),
    }
}

/// A duration as it is typed: numbers with units, such as `500ms`, `30s`, `1h30m`, `2d`.
///
/// # Errors
/// A sentence that says what is accepted.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a duration; write for example 500ms, 30s, 15m, 1h30m or 2d");
    let mut rest = text.trim();
    let mut total_ms: u64 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => MS_PER_DAY,
            _ => return Err(wrong()),
        };
        let ms = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms)).ok_or_else(wrong)?;
        total_ms = total_ms.checked_add(ms).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(Duration::from_millis(total_ms))
}

/// A duration in whole milliseconds.
pub fn as_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_iso_and_back() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_767_225_600_000, "2026-01-01T00:00:00.000Z"),
            (1_772_323_199_999, "2026-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso(ms), text);
            assert_eq!(parse_iso(text), Some(ms));
        }
    }

    #[test]
    fn every_day_of_four_centuries_comes_back() {
        for day in 0..146_097 {
            let (y, m, d) = civil(day);
            assert_eq!(days_of(y, m, d), day);
        }
    }

    #[test]
    fn shorter_forms_are_read_and_impossible_ones_refused() {
        assert_eq!(parse_iso("2026-01-01"), Some(1_767_225_600_000));
        assert_eq!(parse_iso("2026-01-01T00:00"), Some(1_767_225_600_000));
        assert_eq!(parse_iso("2026-01-01T00:00:00.5Z"), Some(1_767_225_600_500));
        for wrong in ["2026-02-30", "2026-13-01", "yesterday", "2026-01-01T25:00:00Z", "1969-01-01"] {
            assert_eq!(parse_iso(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn spans_are_short() {
        assert_eq!(relative(1_000, 4_900), "3 s ago");
        assert_eq!(relative(4_900, 5_000), "now");
        assert_eq!(relative(3_700_000, 0), "in 61 min");
        assert_eq!(span(90_000_000), "25 h");
        assert_eq!(span(400_000_000), "4 d");
        assert_eq!(
            (limit(1_500), limit(2_000), limit(30_000)),
            ("1.5 s".into(), "2 s".into(), "30 s".into())
        );
    }

    #[test]
    fn durations_are_read_as_typed() {
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "5", "s", "5 parsecs", "-3s", "99999999999999999999s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
