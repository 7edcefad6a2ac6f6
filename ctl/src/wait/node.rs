//! When a node, or the cluster, is as it was asked to be.

use muster_proto::v1 as pb;

use super::Verdict;
use crate::command::find_node;
use crate::failure::Failure;

/// Nothing is left on the node. With `ours`, a drain that is no longer there was taken back by somebody.
pub fn drained(status: &pb::ClusterStatus, name: &str, ours: bool) -> Verdict {
    let node = match find_node(status, name) {
        Ok(node) => node,
        Err(failure) => return Verdict::Over(failure),
    };
    match &node.drain {
        None if ours => Verdict::Over(Failure::Ended {
            message: format!("the drain of {name} was ended by somebody else"),
            hint: Some(format!("'musterctl events --node {name}' shows what happened")),
        }),
        None => Verdict::Waiting(vec![format!("a drain of {name}")]),
        Some(drain) if drain.remaining == 0 => Verdict::Done,
        Some(drain) => Verdict::Waiting(still_there(status, name, drain)),
    }
}

fn still_there(status: &pb::ClusterStatus, node: &str, drain: &pb::DrainStatus) -> Vec<String> {
    let instances = status.services.iter().flat_map(|service| &service.instances);
    let mut left: Vec<String> = Vec::new();
    for instance in instances.filter(|instance| instance.node == node && !is_over(&instance.state)) {
        let blocked = drain.blocked.iter().find(|blocked| blocked.instance == instance.id);
        left.push(match blocked {
            Some(blocked) => format!("{}, which is blocked: {}", instance.id, blocked.reason),
            None => format!("{} ({})", instance.id, instance.state),
        });
    }
    if left.is_empty() {
        left.push(format!("{} instances on {node}", drain.remaining));
    }
    left
}

/// Whether an instance in this state runs no more.
pub fn is_over(state: &str) -> bool {
    matches!(state, "stopped" | "failed" | "lost")
}

/// The node is alive.
pub fn alive(status: &pb::ClusterStatus, name: &str) -> Verdict {
    match find_node(status, name) {
        Ok(node) if node.state == "alive" => Verdict::Done,
        Ok(node) => Verdict::Waiting(vec![format!("{name}, which is {}", node.state)]),
        Err(failure) => Verdict::Over(failure),
    }
}

/// The node is not a member any more.
pub fn gone(status: &pb::ClusterStatus, name: &str) -> Verdict {
    match find_node(status, name) {
        Ok(node) if node.state != "left" => Verdict::Waiting(vec![format!("{name} to leave")]),
        Ok(_) | Err(_) => Verdict::Done,
    }
}

/// There is a leader and a majority of voters.
pub fn quorum(status: &pb::ClusterStatus) -> Verdict {
    if status.margin < 0 {
        let (alive, all) = (status.voters_alive, status.voters);
        Verdict::Waiting(vec![format!("a majority of voters ({alive} of {all} are alive)")])
    } else if status.leader.is_empty() {
        Verdict::Waiting(vec!["a leader".to_owned()])
    } else {
        Verdict::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(drain: Option<pb::DrainStatus>) -> pb::ClusterStatus {
        let node = pb::NodeStatus { name: "n1".into(), state: "alive".into(), drain, ..Default::default() };
        let instance = |id: &str, state: &str| pb::InstanceStatus {
            id: id.into(),
            node: "n1".into(),
            state: state.into(),
            ..Default::default()
        };
        let instances =
            vec![instance("web/0", "stopping"), instance("web/1", "running"), instance("web/2", "stopped")];
        let service = pb::ServiceStatus { name: "web".into(), instances, ..Default::default() };
        pb::ClusterStatus { nodes: vec![node], services: vec![service], ..Default::default() }
    }

    #[test]
    fn a_drain_names_what_is_left_and_what_blocks() {
        let blocked = vec![pb::BlockedInstance { instance: "web/1".into(), reason: "no room".into() }];
        let drain = pb::DrainStatus { remaining: 2, blocked, ..Default::default() };
        let Verdict::Waiting(left) = drained(&status(Some(drain)), "n1", true) else {
            panic!("it is not done")
        };
        assert_eq!(left, ["web/0 (stopping)", "web/1, which is blocked: no room"]);
    }

    #[test]
    fn a_drain_ends_when_nothing_is_left_or_somebody_ends_it() {
        assert!(matches!(drained(&status(Some(pb::DrainStatus::default())), "n1", true), Verdict::Done));
        assert!(matches!(drained(&status(None), "n1", true), Verdict::Over(Failure::Ended { .. })));
        assert!(matches!(drained(&status(None), "n1", false), Verdict::Waiting(_)));
        assert!(matches!(drained(&status(None), "n9", false), Verdict::Over(Failure::NoSuch { .. })));
    }

    #[test]
    fn a_quorum_needs_a_leader_too() {
        let with =
            |margin, leader: &str| pb::ClusterStatus { margin, leader: leader.into(), ..Default::default() };
        assert!(matches!(quorum(&with(0, "n1")), Verdict::Done));
        assert!(matches!(quorum(&with(0, "")), Verdict::Waiting(_)));
        assert!(matches!(quorum(&with(-1, "n1")), Verdict::Waiting(_)));
    }
}
