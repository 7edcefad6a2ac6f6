//! A cluster of three hosts with one exclusive service that stamps.

use std::time::Duration;

use muster::stamp::{self, Run};

use super::report::Timing;
use super::statistics::Samples;
use super::{Interrupt, say};
use crate::harness::wait::{self, Moment, millis};
use crate::harness::{Cluster, HarnessError, stamps};

/// The service.
pub const SERVICE: &str = "stamped";
/// Hosts of the cluster, all of them voters.
pub const HOSTS: usize = 3;
/// How long the service may take to run anew, far beyond every target.
pub const RUN_TIMEOUT: Duration = Duration::from_secs(20);

/// The cluster and its service.
#[derive(Debug)]
pub struct Scene {
    /// The cluster.
    pub cluster: Cluster,
}

impl Scene {
    /// A whole cluster on which the service runs. `head` are further keys of the service.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(head: &str) -> Result<Self, HarnessError> {
        let mut cluster = Cluster::start(HOSTS)?;
        let (muster, stamps) = (cluster.binaries().muster.clone(), cluster.stamps().directory().to_owned());
        cluster.api().apply(&stamps::service(&muster, &stamps, SERVICE, head))?;
        cluster.whole()?;
        let scene = Self { cluster };
        scene.running()?;
        Ok(scene)
    }

    /// The copy that runs.
    ///
    /// # Errors
    /// When none does.
    pub fn running(&self) -> Result<Run, HarnessError> {
        self.cluster.stamps().running(SERVICE, RUN_TIMEOUT)
    }

    /// The copy that follows `before`, and the gap between them in milliseconds.
    ///
    /// # Errors
    /// When there is none, or the two overlap.
    pub fn next(&self, before: &Run) -> Result<(Run, f64), HarnessError> {
        let (new, gap) = self.cluster.stamps().next_run(SERVICE, before, RUN_TIMEOUT)?;
        Ok((new, millis(gap)))
    }

    /// The first copy on another host after `before`, and the gap in milliseconds since the last stamp of the old
    /// host, which may have started the service again before it gave up.
    ///
    /// # Errors
    /// When there is none, or the two overlap.
    pub fn next_elsewhere(&self, before: &Run) -> Result<(Run, f64), HarnessError> {
        let runs = || self.cluster.stamps().runs(SERVICE);
        let new = wait::until(RUN_TIMEOUT, "the service to start elsewhere", || {
            let all = runs().map_err(|e| e.to_string())?;
            let new = all.into_iter().find(|run| run.first_ns > before.first_ns && run.node != before.node);
            new.ok_or_else(|| "no copy on another host".to_owned())
        })?;
        let old_host = runs()?.into_iter().filter(|run| {
            run.node == before.node && run.first_ns >= before.first_ns && run.first_ns < new.first_ns
        });
        let last_ns = old_host.map(|run| run.last_ns).max().unwrap_or(before.last_ns);
        if new.first_ns <= last_ns {
            let why = format!("{SERVICE} ran twice: on {} and {}", before.node, new.node);
            return Err(HarnessError::broken(why));
        }
        let gap_ms = millis(Moment(new.first_ns).since(Moment(last_ns)));
        Ok((new, gap_ms))
    }

    /// Makes the Raft leader the host of the service, or another one.
    ///
    /// # Errors
    /// When the leadership does not move.
    pub fn place_leader(&self, host: &str, leads: bool) -> Result<(), HarnessError> {
        let leader = self.cluster.api().leader()?;
        if (leader == host) == leads {
            return Ok(());
        }
        let others = self.cluster.others(&[host]);
        let to = if leads { host } else { others.first().map_or(host, String::as_str) };
        self.cluster.api().make_leader(to)
    }

    /// The longest time that two copies ran at once so far, in milliseconds.
    ///
    /// # Errors
    /// When the stamps can't be read.
    pub fn overlap_ms(&self) -> Result<f64, HarnessError> {
        Ok(millis(stamp::longest_overlap(&self.cluster.stamps().runs(SERVICE)?)))
    }

    /// Repeats a measurement of milliseconds and makes a row of it. A failure shows the ends of the logs.
    ///
    /// # Errors
    /// The first one of a run, or an interruption.
    pub fn repeat(
        &mut self,
        runs: usize,
        stop: &Interrupt,
        mut row: Timing,
        mut once: impl FnMut(&mut Self) -> Result<f64, HarnessError>,
    ) -> Result<Timing, HarnessError> {
        let mut samples = Samples::default();
        for run in 1..=runs {
            stop.check()?;
            let sample = once(self).inspect_err(|_| say(&self.cluster.logs(LOG_LINES)))?;
            samples.add(sample);
            say(&format!("  {} {run}/{runs}: {sample:.1} ms", row.case));
        }
        row.overlap_ms = self.overlap_ms()?;
        Ok(row.with(&samples))
    }

    /// Waits until the cluster is whole, and a little longer, so that the next run begins at rest.
    ///
    /// # Errors
    /// When it does not become whole.
    pub fn rest(&mut self) -> Result<(), HarnessError> {
        self.cluster.whole()?;
        wait::pass(REST);
        Ok(())
    }
}

/// Lines of each log that a failure shows.
const LOG_LINES: usize = 20;
/// Between two runs.
const REST: Duration = Duration::from_millis(200);
