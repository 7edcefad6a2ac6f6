//! The guard's own log: lines on its standard error, which never waits; what does not fit is dropped.

use std::io::Write;

/// Writes one line.
pub(crate) fn write_line(line: std::fmt::Arguments<'_>) {
    // `eprintln!` would panic where the journal is full or gone.
    let _dropped = writeln!(std::io::stderr(), "guard: {line}");
}

/// `report!("…", …)`, like `println!`.
macro_rules! report {
    ($($part:tt)*) => { $crate::report::write_line(format_args!($($part)*)) };
}
pub(crate) use report;
