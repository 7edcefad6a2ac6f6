//! What would happen: the scheduler's own plans, carried out on a copy of the state by hosts that always obey.

use std::time::Duration;

use super::desk::Desk;
use super::item::{Item, ItemAction, difference, items_of_plan};
use super::{plan, rebalance};
use crate::command::{Command, DrainWish, NodeChange, Observation, Proposal, StopCause, Stopped};
use crate::id::{NodeId, RequestId, Revision};
use crate::refusal::Refusal;
use crate::spec::ServiceSpec;
use crate::state::State;
use crate::state::apply::Outcome;
use crate::state::slot::{InstanceState, Phase};
use crate::time::Stamp;

/// How often plans are made and carried out before a simulation is cut short.
const MAX_ROUNDS: usize = 200;
/// How many combinations of lost nodes are tried at most.
pub const MAX_COMBINATIONS: usize = 500;

/// The worst that can happen when so many nodes are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survival {
    /// The names of the nodes whose loss is the worst.
    pub lost: Vec<String>,
    /// What would happen then.
    pub items: Vec<Item>,
    /// How many combinations were tried.
    pub tried: usize,
    /// Whether these were all; otherwise the fullest nodes were tried first.
    pub complete: bool,
}

/// What would have changed when these nodes are lost, all waits are over and everything is running again.
#[must_use]
pub fn simulate(state: &State, lost: &[NodeId], now: Stamp) -> Vec<Item> {
    let mut after = state.clone();
    for session in lost.iter().filter_map(|n| state.nodes.get(n)?.session) {
        let plan = super::plan_after_loss(&after, session, now);
        after = after.without_session(session).with_plan(&plan);
    }
    let patience = state.services.values().map(|s| s.spec.replace_after).max().unwrap_or_default();
    let then = now.plus(patience).plus(Duration::from_secs(1));
    let settled = settle(after, then);
    difference(state, &Desk::new(settled, then))
}

/// The loss of `count` nodes that leaves the most important work without a place.
#[must_use]
pub fn survive(state: &State, count: usize, now: Stamp) -> Survival {
    let mut alive: Vec<NodeId> = state.nodes.values().filter(|n| n.session.is_some()).map(|n| n.id).collect();
    alive.sort_by_key(|n| (std::cmp::Reverse(state.placements_on(*n).count()), *n));
    let mut combinations = Combinations::of(alive.len(), count.min(alive.len()));
    let mut worst = Survival { lost: Vec::new(), items: Vec::new(), tried: 0, complete: true };
    let mut worst_damage = None;
    while let Some(picked) = combinations.next() {
        if worst.tried >= MAX_COMBINATIONS {
            worst.complete = false;
            break;
        }
        worst.tried += 1;
        let lost: Vec<NodeId> = picked.iter().map(|i| alive[*i]).collect();
        let items = simulate(state, &lost, now);
        let damage = damage(state, &items);
        if worst_damage.is_none_or(|old| damage > old) {
            worst_damage = Some(damage);
            worst.lost = lost.iter().map(|n| state.name_of(*n)).collect();
            worst.items = items;
        }
    }
    worst
}

/// Unplaced instances, weighted by priority; then how much has to move.
fn damage(state: &State, items: &[Item]) -> (u64, usize) {
    let priority = |item: &Item| state.services.get(&item.service).map_or(0, |s| u64::from(s.spec.priority));
    let unplaced = items.iter().filter(|i| i.action == ItemAction::Unplaced);
    (unplaced.map(|i| 1 + priority(i)).sum(), items.len())
}

/// What `service apply` would do: the declarations that change, and the plan that follows.
///
/// # Errors
/// The refusal that `apply` would give.
pub fn plan_for_services(state: &State, specs: &[ServiceSpec], now: Stamp) -> Result<Vec<Item>, Refusal> {
    let mut after = state.clone();
    let put = Command::PutServices { services: specs.to_vec(), if_revision: None };
    run(&mut after, put, now).reply?;
    let mut items = Vec::new();
    for spec in specs {
        let old = state.services.get(&spec.name);
        let (action, reason) = match old {
            None => (ItemAction::Create, "the service is new"),
            Some(old) if *old.spec == *spec => (ItemAction::Keep, "the declaration is the same"),
            Some(old) if old.spec.needs_rollout(spec) => {
                (ItemAction::Change, "what runs changes: its instances are started anew, one at a time")
            }
            Some(_) => (ItemAction::Change, "the declaration changes; what runs stays the same"),
        };
        items.push(Item {
            service: spec.name.clone(),
            instance: None,
            node: None,
            to: None,
            action,
            reason: reason.to_owned(),
            refusals: Vec::new(),
        });
    }
    items.extend(items_of_plan(&after, &plan(&after, now), now));
    Ok(items)
}

/// What a drain would do in the end, without its deadline: what stays on the node has nowhere to go.
///
/// # Errors
/// The refusal that `apply` would give.
pub fn drain_preview(state: &State, node: NodeId, now: Stamp) -> Result<Vec<Item>, Refusal> {
    let mut after = state.clone();
    let wish = DrainWish { deadline: None, max_parallel: 0 };
    run(&mut after, Command::ChangeNode { node, change: NodeChange::Drain(wish) }, now).reply?;
    let settled = settle(after, now);
    let mut items = difference(state, &Desk::new(settled.clone(), now));
    for item in &mut items {
        // An instance of an `everywhere` service has no other place: its end here is no lack.
        if item.action == ItemAction::Unplaced && item.node.is_some() {
            item.action = ItemAction::Stop;
            item.reason = format!("{} is being drained", state.name_of(node));
        }
    }
    for (slot, reason) in super::drain_blocked(&settled, node, now) {
        items.push(Item {
            service: slot.service.clone(),
            instance: Some(slot),
            node: Some(state.name_of(node)),
            to: None,
            action: ItemAction::Keep,
            reason,
            refusals: Vec::new(),
        });
    }
    Ok(items)
}

/// What `rebalance` would do, as lines.
#[must_use]
pub fn rebalance_items(state: &State, now: Stamp) -> Vec<Item> {
    items_of_plan(state, &rebalance(state, now), now)
}

/// Plans and carries out until nothing is left to do.
fn settle(mut state: State, now: Stamp) -> State {
    for _ in 0..MAX_ROUNDS {
        let before = state.clone();
        let plan = plan(&state, now);
        if !plan.actions.is_empty() {
            state = state.with_plan(&plan);
        }
        obey(&mut state, now);
        if plan.actions.is_empty() && before.slots == state.slots {
            break;
        }
    }
    state
}

/// Every host stops what it is told to stop and runs what it is told to run.
fn obey(state: &mut State, now: Stamp) {
    let slots = state.slots.clone();
    for (slot, entry) in &slots {
        for p in entry.placements.iter().filter(|p| p.session.is_some()) {
            let (slot, node, session, generation) = (slot.clone(), p.node, p.session, p.generation);
            let command = match p.phase {
                Phase::Revoking { .. } => {
                    Command::Stopped(Stopped { slot, node, session, generation, why: StopCause::Revoked })
                }
                Phase::Active if !p.is_running() => {
                    let state = InstanceState::Running;
                    let restarts = p.observed.restarts;
                    Command::Observe(Observation { slot, node, generation, state, restarts, message: None })
                }
                Phase::Active | Phase::Adrift { .. } => continue,
            };
            // A report that came too late changes nothing, here as in the log.
            run(state, command, now);
        }
    }
}

fn run(state: &mut State, command: Command, now: Stamp) -> Outcome {
    let at = Revision(state.revision.0 + 1);
    let actor = "simulation".into();
    state.apply(at, &Proposal { stamp: now, request: RequestId::default(), actor, command })
}

/// All ways to pick `count` of `of`, in lexicographic order.
struct Combinations {
    of: usize,
    next: Option<Vec<usize>>,
}

impl Combinations {
    fn of(of: usize, count: usize) -> Self {
        Self { of, next: Some((0..count).collect()) }
    }

    fn next(&mut self) -> Option<Vec<usize>> {
        let picked = self.next.take()?;
        let count = picked.len();
        let movable = (0..count).rev().find(|i| picked[*i] < self.of - count + i);
        self.next = movable.map(|i| {
            let mut next = picked.clone();
            let first = picked[i] + 1;
            for (step, place) in next[i..].iter_mut().enumerate() {
                *place = first + step;
            }
            next
        });
        Some(picked)
    }
}
