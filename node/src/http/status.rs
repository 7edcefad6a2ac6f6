//! `/v1/status`: the same JSON as `musterctl status -o json`, from this node's copy of the state.

use axum::Json;
use axum::extract::State;
use muster_proto::v1;
use serde_json::{Value, json};

use super::timestamp::rfc3339;
use crate::api;
use crate::handles::Handles;

pub(super) async fn status(State(handles): State<Handles>) -> Json<Value> {
    Json(cluster(&api::local_status(&handles).await))
}

fn cluster(status: &v1::ClusterStatus) -> Value {
    json!({
        "cluster": {
            "id": status.id,
            "name": status.name,
            "revision": status.revision,
            "term": status.term,
            "leader": or_null(&status.leader),
            "quorum": {"voters": status.voters, "alive": status.voters_alive, "margin": status.margin},
            "answered_by": status.answered_by,
            "stale": status.stale,
            "warnings": status.warnings,
        },
        "nodes": status.nodes.iter().map(node).collect::<Vec<_>>(),
        "services": status.services.iter().map(service).collect::<Vec<_>>(),
    })
}

fn node(node: &v1::NodeStatus) -> Value {
    let drain = node.drain.as_ref().map(|drain| {
        json!({
            "since": rfc3339(drain.since_ms),
            "deadline": drain.deadline_ms.map(rfc3339),
            "remaining": drain.remaining,
            "blocked": drain.blocked.iter().map(|b| json!({"instance": b.instance, "reason": b.reason})).collect::<Vec<_>>(),
        })
    });
    json!({
        "name": node.name,
        "id": node.id,
        "role": node.role,
        "state": node.state,
        "session": node.session,
        "cordoned": node.cordoned,
        "maintenance": node.maintenance,
        "drain": drain,
        "agent": node.agent,
        "labels": node.labels,
        "addresses": node.addresses,
        "version": node.version,
        "lease": {"ttl_ms": node.lease_ttl_ms, "headroom_ms": node.lease_headroom_ms},
        "instances": node.instances,
    })
}

fn service(service: &v1::ServiceStatus) -> Value {
    json!({
        "name": service.name,
        "mode": service.mode,
        "wanted": service.wanted,
        "running": service.running,
        "healthy": service.healthy,
        "state": service.state,
        "reason": or_null(&service.reason),
        "revision": service.revision,
        "instances": service.instances.iter().map(instance).collect::<Vec<_>>(),
    })
}

fn instance(instance: &v1::InstanceStatus) -> Value {
    json!({
        "id": instance.id,
        "node": or_null(&instance.node),
        "state": instance.state,
        "generation": instance.generation,
        "since": rfc3339(instance.since_ms),
        "restarts": instance.restarts,
        "message": or_null(&instance.message),
    })
}

fn or_null(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { Value::from(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_the_published_one() {
        let status = v1::ClusterStatus {
            nodes: vec![v1::NodeStatus { name: "n1".into(), ..Default::default() }],
            services: vec![v1::ServiceStatus { instances: vec![Default::default()], ..Default::default() }],
            ..Default::default()
        };
        let value = cluster(&status);
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        for key in ["id", "name", "revision", "term", "leader", "quorum"] {
            assert!(keys(&value["cluster"]).contains(&key.to_owned()), "cluster.{key}");
        }
        let node =
            ["name", "id", "role", "state", "session", "cordoned", "maintenance", "drain", "agent", "labels"];
        for key in node.into_iter().chain(["addresses", "version", "lease", "instances"]) {
            assert!(keys(&value["nodes"][0]).contains(&key.to_owned()), "node.{key}");
        }
        for key in
            ["name", "mode", "wanted", "running", "healthy", "state", "reason", "revision", "instances"]
        {
            assert!(keys(&value["services"][0]).contains(&key.to_owned()), "service.{key}");
        }
        assert_eq!(value["cluster"]["leader"], Value::Null);
        assert_eq!(value["services"][0]["instances"][0]["node"], Value::Null);
    }
}
