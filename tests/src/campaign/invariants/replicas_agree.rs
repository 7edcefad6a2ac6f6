//! Agents that have applied the same tell the same, and each of them knows one holder for each exclusive slot at most.

use std::time::Duration;

use muster_proto::v1;

use super::Violation;
use crate::harness::{Cluster, wait};

const NAME: &str = "replicas agree";
/// How long it may take until all agents have applied the same: new entries come all the time.
const LIMIT: Duration = Duration::from_secs(10);

/// Compares the copies of all agents.
#[must_use]
pub fn judge(cluster: &Cluster) -> Vec<Violation> {
    let names = cluster.others(&[]);
    let compared = wait::until(LIMIT, "all agents to have applied the same", || {
        let ask = |name: &String| cluster.api().stale_status(name).map_err(|e| format!("{name}: {e}"));
        let copies: Vec<v1::ClusterStatus> = names.iter().map(ask).collect::<Result<_, _>>()?;
        let revision = copies[0].revision;
        if copies.iter().all(|copy| copy.revision == revision) {
            return Ok(copies);
        }
        Err(format!("revisions {:?}", copies.iter().map(|copy| copy.revision).collect::<Vec<_>>()))
    });
    match compared {
        Ok(copies) => differences(&copies),
        Err(error) => vec![Violation::late(NAME, error.to_string())],
    }
}

/// What differs between copies of the same revision, and slots with two holders.
#[must_use]
pub fn differences(copies: &[v1::ClusterStatus]) -> Vec<Violation> {
    let mut found = Vec::new();
    for copy in &copies[1..] {
        let (a, b) = (replicated(&copies[0]), replicated(copy));
        if a != b {
            let text = format!(
                "{} and {} differ at revision {}:\n{a}\n{b}",
                copies[0].answered_by, copy.answered_by, copy.revision
            );
            found.push(Violation::wrong(NAME, text));
        }
    }
    for copy in copies {
        let exclusive = copy.services.iter().filter(|service| service.mode == "exclusive");
        for service in exclusive.filter(|s| s.instances.iter().filter(|i| !i.superseded).count() > 1) {
            found.push(Violation::wrong(
                NAME,
                format!("{} has two holders at {}", service.name, copy.answered_by),
            ));
        }
    }
    found
}

/// What of a status is replicated and not one agent's own view.
fn replicated(status: &v1::ClusterStatus) -> String {
    let nodes = status.nodes.iter().map(|n| format!("{} {} {:?} {}", n.name, n.role, n.session, n.cordoned));
    let services = status.services.iter().map(|s| {
        let instances = s.instances.iter().map(|i| format!("{} on {} g{}", i.id, i.node, i.generation));
        format!("{} r{}: {}", s.name, s.revision, instances.collect::<Vec<_>>().join(", "))
    });
    nodes.chain(services).collect::<Vec<_>>().join("\n")
}
