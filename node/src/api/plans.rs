//! What would happen: plan, drain, explain, simulate and rebalance.

use muster_core::command::Command;
use muster_core::id::{NodeId, RequestId, Revision, SlotId};
use muster_core::refusal::Refusal;
use muster_core::scheduler::plan::{ActionKind, Plan};
use muster_core::scheduler::{self, Item, ItemAction};
use muster_core::spec::ServiceSpec;
use muster_core::state::State;
use muster_core::state::node::Node;
use muster_core::time::Stamp;
use muster_proto::v1;
use muster_proto::v1::declared_service::What;

use super::caller::Caller;
use super::planner::{reply, tally};
use super::status::ApiError;
use super::{Api, convert, services};

/// The label whose values are lost together by `simulate --lose-zone`.
const ZONE: &str = "zone";

/// What applying these declarations would do. Steps that are to be done anyway are not its doing.
pub(super) fn apply(
    state: &State,
    now: Stamp,
    request: v1::ApplyRequest,
) -> Result<v1::ApplyReply, ApiError> {
    let specs = services::specs(request.services)?;
    check_revision(state, &specs, request.if_revision.map(Revision))?;
    specs.iter().try_for_each(|spec| state.check_secrets(spec))?;
    let anyway = scheduler::items_of_plan(state, &scheduler::plan(state, now), now);
    let mut items = scheduler::plan_for_services(state, &specs, now)?;
    items.retain(|item| item.instance.is_none() || !anyway.contains(item));
    let declared = items.iter().filter(|item| item.instance.is_none()).map(|item| {
        let what = match item.action {
            ItemAction::Create => What::Created,
            ItemAction::Keep => What::Unchanged,
            _ => What::Changed,
        };
        v1::DeclaredService { service: item.service.to_string(), what: what.into() }
    });
    Ok(v1::ApplyReply {
        revision: state.revision.0,
        services: declared.collect(),
        plan: Some(reply(state, &items, tally(&items, "nothing to change"))),
        warnings: services::warnings(state, &specs),
    })
}

fn check_revision(state: &State, specs: &[ServiceSpec], expected: Option<Revision>) -> Result<(), Refusal> {
    let Some(expected) = expected else { return Ok(()) };
    let declared = specs.iter().filter_map(|spec| state.services.get(&spec.name));
    match declared.max_by_key(|service| service.declared).filter(|service| service.declared > expected) {
        None => Ok(()),
        Some(newer) => Err(Refusal::RevisionMismatch {
            expected,
            actual: newer.declared,
            service: newer.spec.name.clone(),
        }),
    }
}

/// What draining a node would do.
pub(super) fn drain(state: &State, now: Stamp, node: &Node) -> Result<v1::PlanReply, ApiError> {
    let items = scheduler::drain_preview(state, node.id, now)?;
    let stuck = items.iter().filter(|item| item.action == ItemAction::Keep).count();
    let mut summary = format!("draining {}: {}", node.name, tally(&items, "nothing to move"));
    if stuck > 0 {
        summary.push_str(&format!(
            "; {stuck} can't go anywhere and would stay until the deadline, if there is one"
        ));
    }
    let mut answer = reply(state, &items, summary);
    // What can't be moved is no change, but a drain with it is not done either.
    answer.changes |= stuck > 0;
    Ok(answer)
}

/// Where the instances of a service are, why there, and why not elsewhere.
pub(super) fn explain(
    state: &State,
    now: Stamp,
    request: &v1::ExplainRequest,
) -> Result<v1::PlanReply, ApiError> {
    let name = convert::service_name(&request.service)?;
    let mut items = scheduler::explain_service(state, &name, now)?;
    if let Some(index) = request.index {
        let slot = SlotId { service: name.clone(), index };
        items.retain(|item| item.instance.as_ref() == Some(&slot));
        if items.is_empty() {
            return Err(Refusal::NoSuchInstance(slot).into());
        }
    }
    let placed = items.iter().filter(|item| item.node.is_some()).count();
    let summary = format!("service {name}: {placed} of {} instances have a place", items.len());
    Ok(reply(state, &items, summary))
}

/// What losing nodes would do: those that are named, or the worst of all combinations of so many.
pub(super) fn simulate(
    state: &State,
    now: Stamp,
    request: &v1::SimulateRequest,
) -> Result<v1::PlanReply, ApiError> {
    let lost = lost_nodes(state, request)?;
    if request.survive == 0 {
        if lost.is_empty() {
            return Err(ApiError::Invalid("say which nodes or zones are lost, or how many".to_owned()));
        }
        let items = scheduler::simulate(state, &lost, now);
        let names: Vec<String> = lost.iter().map(|node| state.name_of(*node)).collect();
        return Ok(reply(state, &items, losing(&names, &items)));
    }
    if !lost.is_empty() {
        return Err(ApiError::Invalid("survive stands alone: it tries all nodes".to_owned()));
    }
    let count = usize::try_from(request.survive).unwrap_or(usize::MAX);
    if count >= state.sessions.len() {
        let alive = state.sessions.len();
        return Err(ApiError::Invalid(format!("{alive} nodes are alive: fewer than that can be lost")));
    }
    let worst = scheduler::survive(state, count, now);
    let tried = if worst.complete { "all" } else { "the first" };
    let summary =
        format!("the worst of {tried} {} cases: {}", worst.tried, losing(&worst.lost, &worst.items));
    Ok(reply(state, &worst.items, summary))
}

fn losing(names: &[String], items: &[Item]) -> String {
    let unplaced = items.iter().any(|item| item.action == ItemAction::Unplaced);
    let verdict = if unplaced { "" } else { "; everything keeps a place" };
    format!("losing {}: {}{verdict}", names.join(", "), tally(items, "nothing moves"))
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
            return Err(ApiError::NoSuchZone(zone.clone()));
        }
    }
    lost.sort_unstable();
    lost.dedup();
    Ok(lost)
}

/// The instance of this slot is not moved after all.
fn stays(answer: &mut v1::PlanReply, slot: &SlotId, refusal: &Refusal) {
    let (slot, keep) = (slot.to_string(), ItemAction::Keep.as_str());
    for item in answer.items.iter_mut().filter(|item| item.instance == slot) {
        keep.clone_into(&mut item.action);
        item.to.clear();
        item.reason = refusal.to_string();
    }
    answer.changes = answer.items.iter().any(|item| item.action != keep);
}

/// The moves of a plan, as wishes.
fn moves(plan: &Plan) -> Vec<(SlotId, NodeId)> {
    let target = |kind: &ActionKind| match kind {
        ActionKind::Assign(target) | ActionKind::Revoke { target: Some(target), .. } => Some(target.node),
        ActionKind::Revoke { target: None, .. } | ActionKind::Abandon { .. } | ActionKind::Keep { .. } => {
            None
        }
    };
    plan.actions.iter().filter_map(|action| Some((action.slot.clone(), target(&action.kind)?))).collect()
}

impl Api {
    /// Moves instances to clearly better nodes. Each move is a wish of its own, judged when its turn comes: one
    /// that can't come true any more stands against no other, and nothing depends on the state from which all were
    /// computed.
    pub(super) async fn rebalance_here(
        &self,
        caller: &Caller,
        state: &State,
        request: &v1::RebalanceRequest,
    ) -> Result<v1::PlanReply, ApiError> {
        let now = self.handles.proposer.now(state);
        let plan = scheduler::rebalance(state, now);
        let items = scheduler::items_of_plan(state, &plan, now);
        let items: Vec<Item> = items.into_iter().filter(|item| item.action != ItemAction::Unplaced).collect();
        let mut answer = reply(state, &items, tally(&items, "nothing to move: the cluster is even"));
        if request.dry_run {
            return Ok(answer);
        }
        for (slot, node) in moves(&plan) {
            let command = Command::MoveInstance { slot: slot.clone(), to: Some(node) };
            // A wish that is there already changes nothing, so that a retry needs no request id.
            match self.submit(caller, RequestId::default(), command).await {
                Ok(reply) => answer.revision = reply.revision.0,
                Err(ApiError::Judged(refusal)) => {
                    answer.summary.push_str(&format!("; {slot} stays: {refusal}"));
                    stays(&mut answer, &slot, &refusal);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(answer)
    }
}
