//! Links fail: wholly, one way, or only between the leader and one host.

use std::time::Duration;

use super::{Cost, Fault, Injury, long, span_ms};
use crate::campaign::Scene;
use crate::harness::{Cluster, HarnessError};
use crate::sim::rng::Rng;

/// A host is cut off.
pub struct Cut;

impl Fault for Cut {
    fn name(&self) -> &'static str {
        "host cut off"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.victim(rng)?;
        let told = format!("cable pulled at {}", scene.describe(&host));
        scene.cluster.network().cut(&host)?;
        Ok(Injury { told, lasts: long(rng), cost: Cost::host_lost(&host), heal: mend(vec![host]) })
    }
}

/// A host is cut off for about a lease.
pub struct CutBriefly;

impl Fault for CutBriefly {
    fn name(&self) -> &'static str {
        "host cut off for about a lease"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.victim(rng)?;
        let told = format!("cable pulled at {}", scene.describe(&host));
        let lasts = span_ms(rng, 700, 1_200);
        scene.cluster.network().cut(&host)?;
        let cost = Cost { fails_over: false, ..Cost::host_lost(&host) };
        let cost = cost.with_recovery(Duration::from_secs(2));
        Ok(Injury { told, lasts, cost, heal: mend(vec![host]) })
    }
}

/// A host hears nobody, but all hear it.
pub struct Deaf;

impl Fault for Deaf {
    fn name(&self) -> &'static str {
        "host hears nothing"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.victim(rng)?;
        let told = format!("nothing arrives any more at {}", scene.describe(&host));
        scene.cluster.network().deafen(&host)?;
        Ok(Injury { told, lasts: long(rng), cost: Cost::host_lost(&host), heal: mend(vec![host]) })
    }
}

/// A host hears all, but nobody hears it.
pub struct Mute;

impl Fault for Mute {
    fn name(&self) -> &'static str {
        "host is not heard"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.victim(rng)?;
        let told = format!("nothing leaves any more from {}", scene.describe(&host));
        scene.cluster.network().mute(&host)?;
        Ok(Injury { told, lasts: long(rng), cost: Cost::host_lost(&host), heal: mend(vec![host]) })
    }
}

/// Only the leader and one host don't hear each other: nobody else notices, and nothing stops.
pub struct LeaderSeparated;

impl Fault for LeaderSeparated {
    fn name(&self) -> &'static str {
        "leader and one host separated"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let leader = scene.cluster.api().leader()?;
        let host = scene.among(rng, &scene.cluster.others(&[&leader]));
        let told = format!("no packets between {leader}, which leads, and {}", scene.describe(&host));
        scene.cluster.network().separate(&leader, &host)?;
        Ok(Injury { told, lasts: long(rng), cost: Cost::nothing(), heal: mend(vec![leader, host]) })
    }
}

fn mend(hosts: Vec<String>) -> super::Heal {
    Box::new(move |cluster: &mut Cluster| hosts.iter().try_for_each(|host| cluster.network().heal(host)))
}
