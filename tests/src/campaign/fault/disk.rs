//! The disk of an agent's data fills up, stands still, or keeps only what was synced when the power goes. The host is
//! restarted on a file system of its own for it, and back afterwards.

use std::time::Duration;

use super::{Cost, Fault, Injury, long, span_ms};
use crate::campaign::Scene;
use crate::harness::disk::Disk;
use crate::harness::{Cluster, HarnessError, wait};
use crate::sim::rng::Rng;

/// How long the host on its new disk may take to be whole.
const SETTLED: Duration = Duration::from_secs(1);

/// No space is left.
pub struct Full;

impl Fault for Full {
    fn name(&self) -> &'static str {
        "disk full"
    }

    fn obstacle(&self) -> Option<String> {
        Disk::obstacle()
    }

    fn is_alone(&self) -> bool {
        true
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let (host, disk, told) = moved(scene, rng)?;
        disk.fill(scene.cluster.host(&host)?)?;
        Ok(injury(rng, host, disk, format!("disk full at {told}")))
    }
}

/// Every write waits.
pub struct Stalled;

impl Fault for Stalled {
    fn name(&self) -> &'static str {
        "disk stalled"
    }

    fn obstacle(&self) -> Option<String> {
        Disk::obstacle()
    }

    fn is_alone(&self) -> bool {
        true
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let (host, mut disk, told) = moved(scene, rng)?;
        disk.stall(scene.cluster.host(&host)?)?;
        Ok(injury(rng, host, disk, format!("disk stalled at {told}")))
    }
}

/// The host comes back with what the device held in the moment of the power cut.
pub struct PowerCut;

impl Fault for PowerCut {
    fn name(&self) -> &'static str {
        "power cut with unsynced writes lost"
    }

    fn obstacle(&self) -> Option<String> {
        Disk::obstacle()
    }

    fn is_alone(&self) -> bool {
        true
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let (host, mut disk, told) = moved(scene, rng)?;
        // Clients write all the time.
        wait::pass(span_ms(rng, 500, 2_000));
        disk.cut_power(scene.cluster.host(&host)?)?;
        Ok(injury(rng, host, disk, format!("power cut at {told}")))
    }
}

fn moved(scene: &mut Scene, rng: &mut Rng) -> Result<(String, Disk, String), HarnessError> {
    let host = scene.victim(rng)?;
    let told = scene.describe(&host);
    let disk = Disk::give(scene.cluster.host(&host)?)?;
    scene.cluster.host(&host)?.start()?;
    scene.cluster.whole()?;
    wait::pass(SETTLED);
    Ok((host, disk, told))
}

fn injury(rng: &mut Rng, host: String, disk: Disk, told: String) -> Injury {
    let cost = Cost::services_of(&host).with_recovery(Duration::from_secs(3));
    let heal = Box::new(move |cluster: &mut Cluster| {
        let host = cluster.host(&host)?;
        disk.take_away(host)?;
        host.start()
    });
    Injury { told, lasts: long(rng), cost, heal }
}
