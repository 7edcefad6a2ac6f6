//! `/metrics` for Prometheus, read from the handles when it is asked for: nothing is counted for it meanwhile, and
//! a service that is gone leaves no series behind.

use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use muster_guard::datagram::Rejection;
use muster_guard::protocol::LeaseStatus;
use muster_tls::Certificate;

use crate::api;
use crate::handles::Handles;
use crate::raft::Role;

/// The text format that is written.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
const MEBIBYTE: f64 = 1_048_576.0;

pub(super) async fn render(State(handles): State<Handles>) -> impl IntoResponse {
    let status = api::local_status(&handles).await;
    // Without an answer of the guard its series are missing, as they should be.
    let lease = handles.agent.status().await.lease;
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        describe();
        raft(&handles);
        cluster(&status);
        agent(&handles);
        if let Some(lease) = &lease {
            guard(lease);
        }
    });
    ([(CONTENT_TYPE, TEXT_FORMAT)], recorder.handle().render())
}

fn describe() {
    describe_gauge!("muster_raft_term", "Raft's term.");
    describe_gauge!("muster_raft_applied_index", "The last entry of the log that this node has applied.");
    describe_gauge!("muster_raft_committed_index", "The last entry that this node knows to be committed.");
    describe_gauge!("muster_raft_is_leader", "1 while this node leads.");
    describe_gauge!("muster_raft_has_leader", "1 while this node hears of a leader, or leads a quorum.");
    describe_gauge!("muster_raft_log_bytes", "The size of the log on the disk.");
    describe_gauge!("muster_quorum_voters", "Voters.");
    describe_gauge!("muster_quorum_voters_alive", "Voters that are up.");
    describe_gauge!("muster_quorum_margin", "Voters that may still fail before the quorum is lost.");
    describe_gauge!("muster_nodes", "Nodes by state.");
    describe_gauge!("muster_sessions", "Open sessions.");
    describe_gauge!(
        "muster_lease_headroom_min_seconds",
        "The smallest time left of any lease as the leader sees it; only on the leader."
    );
    describe_gauge!("muster_service_wanted", "Instances that a service should have.");
    describe_gauge!("muster_service_running", "Instances of a service that run.");
    describe_gauge!("muster_service_healthy", "Instances of a service that run and are healthy.");
    describe_gauge!("muster_node_instances", "Instances placed on a node.");
    describe_gauge!("muster_node_memory_used_bytes", "Memory reserved on a node.");
    describe_counter!("muster_heartbeats_answered_total", "Heartbeats that this voter answered.");
    describe_counter!("muster_heartbeats_rejected_total", "Datagrams that did not verify.");
    describe_counter!(
        "muster_heartbeat_rejected_total",
        "Datagrams that were passed over without an answer, by the half of the lease that got them, and why."
    );
    describe_counter!(
        "muster_heartbeat_overflowed_total",
        "Datagrams that the kernel dropped because a receive buffer was full."
    );
    describe_counter!("muster_refused_total", "Connections and calls that were refused, by reason.");
    describe_counter!(
        "muster_audit_summed_calls_total",
        "Refused calls that the audit trail has as a number only, because they were too many."
    );
    describe_gauge!(
        "muster_certificate_end_timestamp_seconds",
        "When this node's certificate ends, and the earliest end of a trusted CA."
    );
    describe_gauge!("muster_revision", "The revision of this node's copy of the state.");
    describe_counter!("muster_history_dropped_events_total", "Events that the history could not keep.");
}

fn raft(handles: &Handles) {
    let raft = handles.raft.status();
    let index = |at: Option<crate::raft::Position>| at.map_or(0, |at| at.index);
    gauge!("muster_raft_term").set(float(raft.term));
    gauge!("muster_raft_applied_index").set(float(index(raft.applied)));
    gauge!("muster_raft_committed_index").set(float(index(raft.committed)));
    gauge!("muster_raft_is_leader").set(flag(raft.role == Role::Leader));
    gauge!("muster_raft_has_leader").set(flag(raft.leader.is_some()));
    gauge!("muster_raft_log_bytes").set(float(raft.log_bytes));
}

fn cluster(status: &muster_proto::v1::ClusterStatus) {
    gauge!("muster_revision").set(float(status.revision));
    gauge!("muster_quorum_voters").set(f64::from(status.voters));
    gauge!("muster_quorum_voters_alive").set(f64::from(status.voters_alive));
    gauge!("muster_quorum_margin").set(f64::from(status.margin));
    for state in ["joining", "alive", "suspect", "lost"] {
        let count = status.nodes.iter().filter(|node| node.state == state).count();
        gauge!("muster_nodes", "state" => state).set(float(u64::try_from(count).unwrap_or(u64::MAX)));
    }
    for node in &status.nodes {
        let used_mib = node.used.as_ref().map_or(0, |used| used.memory_mib);
        gauge!("muster_node_instances", "node" => node.name.clone()).set(f64::from(node.instances));
        gauge!("muster_node_memory_used_bytes", "node" => node.name.clone())
            .set(f64::from(used_mib) * MEBIBYTE);
    }
    for service in &status.services {
        let name = || service.name.clone();
        gauge!("muster_service_wanted", "service" => name()).set(f64::from(service.wanted));
        gauge!("muster_service_running", "service" => name()).set(f64::from(service.running));
        gauge!("muster_service_healthy", "service" => name()).set(f64::from(service.healthy));
    }
}

fn agent(handles: &Handles) {
    let counters = handles.acks.counters();
    counter!("muster_heartbeats_answered_total").absolute(counters.answered.load(Ordering::Relaxed));
    let kinds = Rejection::ALL.iter();
    let all: u64 = kinds.clone().map(|kind| counters.rejected(*kind)).sum();
    counter!("muster_heartbeats_rejected_total").absolute(all);
    for kind in kinds {
        rejected_heartbeats("voter", *kind, counters.rejected(*kind));
    }
    let overflowed = counters.overflowed.load(Ordering::Relaxed);
    counter!("muster_heartbeat_overflowed_total", "half" => "voter").absolute(overflowed);
    counter!("muster_history_dropped_events_total").absolute(handles.history.dropped());
    counter!("muster_audit_summed_calls_total").absolute(handles.recorder.summed());
    for (reason, count) in handles.rejections.counts() {
        counter!("muster_refused_total", "reason" => reason).absolute(count);
    }
    let seconds = |stamp: muster_core::time::Stamp| float(stamp.0 / 1000);
    if let Some(own) = handles.live.as_ref().map(muster_tls::Live::credentials) {
        gauge!("muster_certificate_end_timestamp_seconds", "of" => "node").set(seconds(own.identity().ends));
        if let Some(ends) = own.trust().authorities().iter().map(Certificate::ends).min() {
            gauge!("muster_certificate_end_timestamp_seconds", "of" => "ca").set(seconds(ends));
        }
    }
    let sessions = handles.published.state.borrow().sessions.len();
    gauge!("muster_sessions").set(float(u64::try_from(sessions).unwrap_or(u64::MAX)));
    let healths = handles.healths.borrow().clone();
    let known = healths.values().filter(|health| health.lease_age.is_some());
    if let Some(least) = known.map(|health| health.headroom).min() {
        gauge!("muster_lease_headroom_min_seconds").set(least.as_secs_f64());
    }
}

/// What the guard counted: of its current session, from its own socket.
fn guard(lease: &LeaseStatus) {
    for kind in Rejection::ALL {
        rejected_heartbeats("guard", *kind, lease.rejections.of(*kind));
    }
    counter!("muster_heartbeat_overflowed_total", "half" => "guard").absolute(lease.overflowed);
}

fn rejected_heartbeats(half: &'static str, kind: Rejection, count: u64) {
    counter!("muster_heartbeat_rejected_total", "half" => half, "reason" => kind.as_str()).absolute(count);
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

#[allow(clippy::cast_precision_loss, reason = "a gauge is a float; above 2^53 its last digits do not matter")]
fn float(value: u64) -> f64 {
    value as f64
}
