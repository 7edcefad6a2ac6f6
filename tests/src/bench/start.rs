//! The service's own start: from before its process is made until its first stamp, without any Muster around it.
//! It is part of every gap, so it is printed beside them.

use super::report::{Report, Timing};
use super::statistics::Samples;
use super::{Interrupt, say};
use crate::harness::wait::{self, Moment, millis};
use crate::harness::{HarnessError, binaries::Binaries, tool};
use muster::stamp;

/// Measures it.
///
/// # Errors
/// When the service can't be started.
pub fn measure(runs: usize, stop: &Interrupt, report: &mut Report) -> Result<(), HarnessError> {
    let muster = Binaries::find()?.muster;
    let mut samples = Samples::default();
    for _ in 0..runs {
        stop.check()?;
        let dir = tempfile::tempdir().map_err(HarnessError::io("a temporary directory"))?;
        let (stamps, log) = (dir.path().display().to_string(), dir.path().join("log"));
        let begin = Moment::now();
        let mut child = tool::spawn(&muster, &["stamp", &stamps], &log)?;
        let first = wait::until(super::scene::RUN_TIMEOUT, "the first stamp", || {
            let runs = stamp::runs(dir.path(), "none").map_err(|e| e.to_string())?;
            runs.first().map(|run| Moment(run.first_ns)).ok_or_else(|| "none".to_owned())
        });
        let ended = child.kill().and_then(|()| child.wait());
        ended.map_err(HarnessError::io("ending the stamping service"))?;
        samples.add(millis(first?.since(begin)));
    }
    let row =
        Timing::untargeted("own start", "the stamping service by itself (part of every gap)").with(&samples);
    say(&format!("  {}: {:.1} ms", row.case, row.median_ms));
    report.timings.push(row);
    Ok(())
}
