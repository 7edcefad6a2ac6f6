//! An exclusive service that stamps the clock, watched from outside.

use std::time::Duration;

use muster::stamp::Run;
use muster_tests::harness::stamps;
use muster_tests::harness::wait::millis;
use muster_tests::harness::{Cluster, HarnessError};

/// How long a service may take to start or to run elsewhere before the case fails.
pub const START_TIMEOUT: Duration = Duration::from_secs(15);
/// A failover that takes longer is a failure: the figure is 1.5 s, the rest is for a busy machine.
pub const FAILOVER_LIMIT: Duration = Duration::from_secs(3);

/// The service of a case.
pub struct Scene<'a> {
    pub cluster: &'a mut Cluster,
    pub service: &'static str,
}

impl<'a> Scene<'a> {
    /// Declares it and waits until it stamps.
    pub fn open(cluster: &'a mut Cluster, service: &'static str) -> Result<Self, HarnessError> {
        let scene = Self { cluster, service };
        let file = stamps::service(
            &scene.cluster.binaries().muster,
            scene.cluster.stamps().directory(),
            service,
            "mode = \"exclusive\"\nstop_timeout = \"2s\"",
        );
        scene.cluster.api().apply(&file)?;
        scene.run()?;
        Ok(scene)
    }

    /// The run that stamps now.
    pub fn run(&self) -> Result<Run, HarnessError> {
        self.cluster.stamps().running(self.service, START_TIMEOUT)
    }

    /// Makes the host of the service the leader, or another one.
    pub fn lead(&self, host: &str, leads: bool) -> Result<(), HarnessError> {
        if leads {
            return self.cluster.api().make_leader(host);
        }
        if self.cluster.api().leader()? == host {
            let other = self.cluster.others(&[host]).swap_remove(0);
            self.cluster.api().make_leader(&other)?;
        }
        Ok(())
    }

    /// Waits for the next run, prints and judges the gap; the new run.
    pub fn moved(&self, old: &Run, what: &str, limit: Duration) -> Result<Run, HarnessError> {
        let (new, gap) = self.cluster.stamps().next_run(self.service, old, START_TIMEOUT)?;
        println!("    {what}: {} -> {}, gap {:.1} ms", old.node, new.node, millis(gap));
        if gap > limit {
            return Err(HarnessError::broken(format!(
                "{what}: a gap of {:.1} ms, more than {:.1} ms",
                millis(gap),
                millis(limit)
            )));
        }
        Ok(new)
    }

    /// Judges the whole time, and removes the service.
    pub fn close(self) -> Result<(), HarnessError> {
        self.cluster.stamps().never_two(self.service)?;
        self.cluster.api().remove_service(self.service)?;
        self.cluster.stamps().never_two(self.service)
    }
}
