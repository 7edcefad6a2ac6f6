//! A host leaves the cluster for good, in order, and joins it anew as another node, sometimes as a worker.

use std::time::Duration;

use super::{Cost, Fault, Injury, span_ms};
use crate::campaign::Scene;
use crate::harness::{Cluster, HarnessError};
use crate::sim::rng::Rng;

/// How long its token lives.
const TOKEN_TTL: Duration = Duration::from_secs(120);
/// How long an orderly leave may take, in seconds.
const LEAVE_TIMEOUT_S: &str = "20";

/// It.
pub struct LeftAndJoined;

impl Fault for LeftAndJoined {
    fn name(&self) -> &'static str {
        "host left and joined anew"
    }

    fn is_alone(&self) -> bool {
        true
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.victim(rng)?;
        let told = format!("{} leaves", scene.describe(&host));
        let status = scene.cluster.api().status()?;
        // Three of the others vote in its place; so at most one host may be a worker.
        let has_worker = status.nodes.iter().any(|node| node.name != host && node.wanted_role == "worker");
        let role = if !has_worker && rng.percent(40) { "worker" } else { "auto" };
        scene.cluster.host(&host)?.muster("leave", &["--timeout", LEAVE_TIMEOUT_S])?.success()?;
        let cost = Cost::services_of(&host).with_recovery(Duration::from_secs(3));
        let heal = Box::new(move |cluster: &mut Cluster| join_anew(cluster, &host, role));
        Ok(Injury {
            told: format!("{told}, and will be {role}"),
            lasts: span_ms(rng, 500, 3_000),
            cost,
            heal,
        })
    }
}

fn join_anew(cluster: &mut Cluster, host: &str, role: &str) -> Result<(), HarnessError> {
    cluster.host(host)?.crash()?;
    let token = cluster.api().create_token(TOKEN_TTL, 1)?;
    let others = cluster.others(&[host]);
    let through = cluster.host(&others[0])?.endpoint();
    let host = cluster.host(host)?;
    host.forget()?;
    host.configure(role)?;
    host.join(&token, &through)?;
    host.start()
}
