//! What operators do on purpose: drains, moves, a change of the leader.

use std::collections::BTreeSet;

use super::{Cost, Fault, Injury, long, span_ms};
use crate::campaign::Scene;
use crate::campaign::services::SERVICES;
use crate::harness::{Cluster, HarnessError};
use crate::sim::rng::Rng;

/// A host is drained, and gets nothing back by itself.
pub struct Drained;

impl Fault for Drained {
    fn name(&self) -> &'static str {
        "host drained"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.victim(rng)?;
        let told = format!("drain of {}", scene.describe(&host));
        scene.cluster.api().drain(&host)?;
        let cost = Cost::services_of(&host);
        let heal = Box::new(move |cluster: &mut Cluster| cluster.api().undrain(&host));
        Ok(Injury { told, lasts: long(rng), cost, heal })
    }
}

/// The leader hands over.
pub struct LeaderMoved;

impl Fault for LeaderMoved {
    fn name(&self) -> &'static str {
        "leadership handed over"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let status = scene.cluster.api().status()?;
        let voters = status.nodes.iter().filter(|n| n.role == "voter" && n.name != status.leader);
        let voters: Vec<String> = voters.map(|node| node.name.clone()).collect();
        let to = scene.among(rng, &voters);
        scene.cluster.api().make_leader(&to)?;
        let told = format!("{} hands the leadership over to {to}", status.leader);
        let heal = Box::new(|_: &mut Cluster| Ok(()));
        Ok(Injury { told, lasts: span_ms(rng, 0, 500), cost: Cost::nothing(), heal })
    }
}

/// An exclusive service is moved.
pub struct Moved;

impl Fault for Moved {
    fn name(&self) -> &'static str {
        "service moved"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let exclusive: Vec<&str> = SERVICES.iter().filter(|s| s.is_exclusive()).map(|s| s.name).collect();
        let service = rng.pick(&exclusive).unwrap_or(SERVICES[0].name);
        let living = scene.living()?;
        let from = living[service].first().map(|run| run.node.clone()).unwrap_or_default();
        let to = scene.among(rng, &scene.cluster.others(&[&from]));
        scene.cluster.api().move_service(service, &to, false)?;
        // Only that service may stop there, but stamps of a host are judged together.
        let cost = Cost { hosts: BTreeSet::from([from.clone()]), ..Cost::nothing() };
        let heal = Box::new(|_: &mut Cluster| Ok(()));
        Ok(Injury {
            told: format!("{service} moved from {from} to {to}"),
            lasts: span_ms(rng, 500, 1_500),
            cost,
            heal,
        })
    }
}
