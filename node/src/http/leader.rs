//! Where a load balancer should send what is for the one instance of an exclusive service.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use muster_core::id::{NodeId, ServiceName, SessionId};
use muster_core::spec::Mode;
use muster_core::state::State as ClusterState;
use muster_core::state::slot::Placement;
use muster_guard::protocol::LeasePhase;

use crate::handles::Handles;

type Answer = (StatusCode, String);

pub(super) async fn leader(State(handles): State<Handles>, Path(name): Path<String>) -> Answer {
    let state = handles.published.state.borrow().clone();
    let session = match held_here(&state, &name, handles.me) {
        Ok(session) => session,
        Err(answer) => return answer,
    };
    // The guard is asked, not believed to be as it was: the answer must not outlive the lease.
    let lease = handles.agent.status().await.lease;
    let valid = lease.is_some_and(|lease| {
        lease.phase == LeasePhase::Valid && lease.session == Some(session) && lease.remaining_ms > 0
    });
    if valid {
        (StatusCode::OK, format!("{}\n", handles.name))
    } else {
        unavailable("the lease of this node's guard is not valid")
    }
}

/// The session under which this node runs the service, by its copy of the state.
fn held_here(state: &ClusterState, name: &str, me: NodeId) -> Result<SessionId, Answer> {
    let service = ServiceName::new(name).ok().and_then(|name| state.services.get(&name).cloned());
    let Some(service) = service else {
        return Err((StatusCode::NOT_FOUND, format!("there is no service {name}\n")));
    };
    if service.spec.mode != Mode::Exclusive {
        return Err(unavailable("the service is not exclusive: it has no leader"));
    }
    let mut slots = state.slots_of(&service.spec.name);
    let Some(placement) = slots.next().and_then(|(_, slot)| slot.current()) else {
        return Err(unavailable("the service runs nowhere"));
    };
    let session = placement.session.filter(|_| placement.node == me && Placement::is_running(placement));
    session
        .ok_or_else(|| unavailable(&format!("not here; it is placed on {}", state.name_of(placement.node))))
}

fn unavailable(why: &str) -> Answer {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
}
