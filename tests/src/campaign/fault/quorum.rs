//! Too few voters are left for a time: exclusive services may have to stop, nothing else.

use std::time::Duration;

use super::{Cost, Fault, Injury, span_ms};
use crate::campaign::Scene;
use crate::harness::{Cluster, HarnessError, Host};
use crate::sim::rng::Rng;

/// All agents at once.
pub struct AgentsKilled;

impl Fault for AgentsKilled {
    fn name(&self) -> &'static str {
        "all agents killed"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        scene.cluster.hosts_mut().iter_mut().try_for_each(Host::kill_agent)?;
        let cost = Cost { quorum_lost: true, ..Cost::nothing() }.with_recovery(Duration::from_secs(3));
        let heal = Box::new(|cluster: &mut Cluster| {
            cluster.hosts_mut().iter_mut().try_for_each(Host::ensure_started)
        });
        Ok(Injury { told: "kill -9 of all agents".to_owned(), lasts: span_ms(rng, 0, 3_000), cost, heal })
    }
}

/// Two of the three voters' hosts, the leader's among them or not.
pub struct MajorityCrashed;

impl Fault for MajorityCrashed {
    fn name(&self) -> &'static str {
        "majority of the voters crashed"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let status = scene.cluster.api().status()?;
        let voters = status.nodes.iter().filter(|node| node.role == "voter").map(|node| node.name.as_str());
        let voters = rng.shuffled(&voters.collect::<Vec<_>>());
        let hosts: Vec<String> = voters[..=voters.len() / 2].iter().map(|&host| host.to_owned()).collect();
        let told = format!("power off at {}, most of the voters", hosts.join(" and "));
        for host in &hosts {
            scene.cluster.host(host)?.crash()?;
        }
        let cost = Cost { hosts: hosts.iter().cloned().collect(), quorum_lost: true, ..Cost::nothing() };
        let heal = Box::new(move |cluster: &mut Cluster| {
            hosts.iter().try_for_each(|host| cluster.host(host)?.ensure_started())
        });
        let cost = cost.with_recovery(Duration::from_secs(5));
        Ok(Injury { told, lasts: span_ms(rng, 500, 4_000), cost, heal })
    }
}
