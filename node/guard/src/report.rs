//! The guard's own log: lines on its standard error, which never waits; what does not fit is dropped.

use std::io::Write;

use crate::clock;

/// Writes one line.
pub(crate) fn write_line(line: std::fmt::Arguments<'_>) {
    // `eprintln!` would panic where the journal is full or gone.
    let _dropped = writeln!(std::io::stderr(), "{} guard: {line}", UtcTime(clock::wall_ms()));
}

/// `report!("…", …)`, like `println!`.
macro_rules! report {
    ($($part:tt)*) => { $crate::report::write_line(format_args!($($part)*)) };
}
pub(crate) use report;

/// Milliseconds since 1970 as people read them.
struct UtcTime(u64);

impl std::fmt::Display for UtcTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
    }
}

/// Year, month and day of the day number since 1970-01-01. Years are counted from March, so that the leap day
/// comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::UtcTime;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(UtcTime(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(UtcTime(951_782_400_000).to_string(), "2000-02-29T00:00:00.000Z");
        assert_eq!(UtcTime(1_767_225_599_999).to_string(), "2025-12-31T23:59:59.999Z");
    }
}
