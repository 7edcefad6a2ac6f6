//! What a healthy cluster answers.

use muster_proto::v1 as pb;

/// A healthy node.
fn node(name: &str, role: &str, instances: u32) -> pb::NodeStatus {
    pb::NodeStatus {
        name: name.into(),
        id: name[1..].into(),
        role: role.into(),
        state: "alive".into(),
        session: Some(3),
        agent: "up".into(),
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        addresses: vec!["10.0.0.1:7420".into()],
        version: "0.1.0".into(),
        lease_ttl_ms: 1000,
        lease_headroom_ms: Some(871),
        instances,
        enforcement: "kernel".into(),
        joined_ms: 1_767_225_600_000,
        wanted_role: "auto".into(),
        ..Default::default()
    }
}

/// A running service with an instance on each of these nodes.
pub fn service(name: &str, mode: &str, instances: &[(&str, &str, u64)]) -> pb::ServiceStatus {
    let count = u32::try_from(instances.len()).unwrap();
    let instance = |(index, (node, state, generation)): (usize, &(&str, &str, u64))| pb::InstanceStatus {
        id: format!("{name}/{index}"),
        node: (*node).into(),
        state: (*state).into(),
        generation: *generation,
        since_ms: 1_767_225_600_000,
        reason: "most room".into(),
        ..Default::default()
    };
    pb::ServiceStatus {
        name: name.into(),
        mode: mode.into(),
        wanted: count,
        running: count,
        healthy: count,
        state: "running".into(),
        revision: 100,
        instances: instances.iter().enumerate().map(instance).collect(),
        priority: 50,
        ..Default::default()
    }
}

/// Three voters, an exclusive and a replicated service.
pub fn status() -> pb::ClusterStatus {
    pb::ClusterStatus {
        id: "0123".into(),
        name: "shop".into(),
        revision: 123,
        term: 4,
        leader: "n2".into(),
        voters: 3,
        voters_alive: 3,
        margin: 1,
        timing: Some(pb::Timing {
            heartbeat_ms: 50,
            lease_ttl_ms: 1000,
            kill_budget_ms: 50,
            raft_heartbeat_ms: 100,
            raft_election_min_ms: 200,
            raft_election_max_ms: 400,
        }),
        nodes: vec![node("n1", "voter", 2), node("n2", "voter", 1), node("n3", "voter", 0)],
        services: vec![
            service("orders-db", "exclusive", &[("n1", "running", 118)]),
            service("web", "replicated", &[("n1", "running", 110), ("n2", "running", 111)]),
        ],
        answered_by: "n1".into(),
        ..Default::default()
    }
}
