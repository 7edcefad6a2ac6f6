//! A whole host crashes and returns, or stands still.

use std::time::Duration;

use super::{Cost, Fault, Injury, long, span_ms};
use crate::campaign::Scene;
use crate::harness::{Cluster, HarnessError};
use crate::sim::rng::Rng;

/// Any host with something to lose crashes.
pub struct Crashed;

impl Fault for Crashed {
    fn name(&self) -> &'static str {
        "host crashed"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.busy(rng)?;
        crash(scene, rng, host)
    }
}

/// The leader's host does.
pub struct LeaderCrashed;

impl Fault for LeaderCrashed {
    fn name(&self) -> &'static str {
        "leader's host crashed"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.cluster.api().leader()?;
        crash(scene, rng, host)
    }
}

fn crash(scene: &mut Scene, rng: &mut Rng, host: String) -> Result<Injury, HarnessError> {
    let told = format!("power off at {}", scene.describe(&host));
    // It may be back before anybody has noticed.
    let (lasts, fails_over) = if rng.percent(25) { (span_ms(rng, 0, 900), false) } else { (long(rng), true) };
    let cost = Cost { fails_over, ..Cost::host_lost(&host) }.with_recovery(Duration::from_secs(2));
    scene.cluster.host(&host)?.crash()?;
    let heal = Box::new(move |cluster: &mut Cluster| cluster.host(&host)?.ensure_started());
    Ok(Injury { told, lasts, cost, heal })
}

/// Every process of a host stands still for longer than a lease.
pub struct Frozen;

impl Fault for Frozen {
    fn name(&self) -> &'static str {
        "host frozen"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.victim(rng)?;
        let told = format!("every process frozen at {}", scene.describe(&host));
        scene.cluster.host(&host)?.freeze()?;
        Ok(Injury { told, lasts: long(rng), cost: Cost::host_lost(&host), heal: thaw(host) })
    }
}

/// For about a lease.
pub struct FrozenBriefly;

impl Fault for FrozenBriefly {
    fn name(&self) -> &'static str {
        "host frozen for about a lease"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.victim(rng)?;
        let told = format!("every process frozen at {}", scene.describe(&host));
        let lasts = span_ms(rng, 700, 1_200);
        scene.cluster.host(&host)?.freeze()?;
        let cost = Cost { fails_over: false, ..Cost::host_lost(&host) };
        Ok(Injury { told, lasts, cost: cost.with_recovery(Duration::from_secs(2)), heal: thaw(host) })
    }
}

fn thaw(host: String) -> super::Heal {
    Box::new(move |cluster: &mut Cluster| cluster.host(&host)?.thaw())
}
