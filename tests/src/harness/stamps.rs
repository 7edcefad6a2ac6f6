//! What the stamping service tells about a case: when it ran where, for how long not at all, whether twice.

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster::stamp::{self, Run};

use super::HarnessError;
use super::machine::STRANGE_UPTIME_S;
use super::wait::{self, Moment};

/// The stamps of all services of a cluster.
#[derive(Clone, Debug)]
pub struct Stamps {
    directory: PathBuf,
}

impl Stamps {
    /// Stamps in a directory.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Where the services put them.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// All runs of a service so far, by their first stamp.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn runs(&self, service: &str) -> Result<Vec<Run>, HarnessError> {
        let mut runs =
            stamp::runs(&self.directory, service).map_err(HarnessError::io("reading the stamps"))?;
        for run in &mut runs {
            run.first_ns = of_this_clock(run.first_ns);
            run.last_ns = of_this_clock(run.last_ns);
        }
        runs.sort_by_key(|run| run.first_ns);
        Ok(runs)
    }

    /// The run that stamps at this moment.
    ///
    /// # Errors
    /// When none does within `limit`.
    pub fn running(&self, service: &str, limit: Duration) -> Result<Run, HarnessError> {
        let asked = Moment::now();
        wait::until(limit, &format!("{service} to stamp"), || {
            let runs = self.runs(service).map_err(|e| e.to_string())?;
            let fresh = runs.into_iter().rfind(|run| run.last_ns > asked.0);
            fresh.ok_or_else(|| "no fresh stamp".to_owned())
        })
    }

    /// The run that begins after `before` ended or goes on beside it, and the gap between the two.
    ///
    /// # Errors
    /// When there is none within `limit`, or the two overlap.
    pub fn next_run(
        &self,
        service: &str,
        before: &Run,
        limit: Duration,
    ) -> Result<(Run, Duration), HarnessError> {
        let what = format!("{service} to start anew");
        let new = wait::until(limit, &what, || {
            let runs = self.runs(service).map_err(|e| e.to_string())?;
            let new = runs.into_iter().find(|run| run.first_ns > before.first_ns);
            new.ok_or_else(|| format!("no run after that on {}", before.node))
        })?;
        let old = self.runs(service)?.into_iter().find(|run| run.path == before.path);
        let old_last = old.map_or(before.last_ns, |run| run.last_ns);
        if new.first_ns <= old_last {
            let both = Duration::from_nanos(old_last - new.first_ns);
            return Err(HarnessError::broken(format!(
                "{service} ran twice for at least {:.1} ms: on {} and {}",
                wait::millis(both),
                before.node,
                new.node
            )));
        }
        let gap = Duration::from_nanos(new.first_ns - old_last);
        Ok((new, gap))
    }

    /// Fails if two copies of an exclusive service ever ran at once.
    ///
    /// # Errors
    /// With the runs, when they did.
    pub fn never_two(&self, service: &str) -> Result<(), HarnessError> {
        let runs = self.runs(service)?;
        let overlap = stamp::longest_overlap(&runs);
        if overlap.is_zero() {
            return Ok(());
        }
        let list: Vec<String> = runs.iter().map(line).collect();
        Err(HarnessError::broken(format!(
            "{service} ran twice for {:.1} ms:\n{}",
            wait::millis(overlap),
            list.join("\n")
        )))
    }

    /// Fails unless `run` still goes on and nothing else of the service was started since.
    ///
    /// # Errors
    /// When it ended or another one was started.
    pub fn untouched(&self, service: &str, run: &Run) -> Result<(), HarnessError> {
        let now = self.running(service, Duration::from_secs(2))?;
        if now.path == run.path {
            return Ok(());
        }
        Err(HarnessError::broken(format!("{service} was touched: {} became {}", line(run), line(&now))))
    }
}

/// A stamp by the clock of this process: a host may have been given another uptime.
fn of_this_clock(stamp_ns: u64) -> u64 {
    const STRANGE_NS: u64 = STRANGE_UPTIME_S.unsigned_abs() * 1_000_000_000;
    stamp_ns.checked_sub(STRANGE_NS).unwrap_or(stamp_ns)
}

/// All stamps of one copy.
///
/// # Errors
/// When its file can't be read.
pub fn read(path: &Path) -> Result<Vec<Moment>, HarnessError> {
    let bytes = std::fs::read(path).map_err(HarnessError::io(format!("{}", path.display())))?;
    let stamps = bytes.chunks_exact(size_of::<u64>()).filter_map(|chunk| chunk.try_into().ok());
    Ok(stamps.map(u64::from_le_bytes).map(Moment).collect())
}

fn line(run: &Run) -> String {
    let length = Duration::from_nanos(run.last_ns - run.first_ns);
    format!(
        "  {} generation {}: {:.1} ms from {}",
        run.node,
        run.generation,
        wait::millis(length),
        run.first_ns
    )
}

/// A service file for stamping services.
#[must_use]
pub fn service(muster: &Path, stamps: &Path, name: &str, head: &str) -> String {
    format!(
        "[[service]]\nname = {name:?}\n{head}\n[[service.task]]\nname = \"stamp\"\n[service.task.exec]\n\
         command = [{:?}, \"stamp\", {:?}]\n",
        muster.display().to_string(),
        stamps.display().to_string()
    )
}
