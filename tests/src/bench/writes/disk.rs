//! The disk alone.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::harness::HarnessError;
use crate::harness::wait::Moment;

/// How often a second one thread can append so many bytes to a file in `dir` and have them on the disk.
///
/// # Errors
/// When the file can't be written.
#[allow(clippy::cast_precision_loss, reason = "far fewer than 2^52 calls")]
pub(super) fn syncs_per_s(dir: &Path, bytes: usize, time: Duration) -> Result<f64, HarnessError> {
    let failed = || HarnessError::io("measuring the disk");
    let path = dir.join("disk-probe");
    let mut file = File::create(&path).map_err(failed())?;
    let record = vec![b'm'; bytes];
    let (begin, mut syncs) = (Moment::now(), 0_u64);
    while begin.elapsed() < time {
        file.write_all(&record).and_then(|()| file.sync_data()).map_err(failed())?;
        syncs += 1;
    }
    let took_s = begin.elapsed().as_secs_f64();
    std::fs::remove_file(&path).map_err(failed())?;
    Ok(syncs as f64 / took_s)
}
