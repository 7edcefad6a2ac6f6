//! Commands about placements: R10, judged at apply.

use super::{Applied, Effect};
use crate::command::{Observation, StopCause, Stopped};
use crate::event::{Event, EventKind};
use crate::id::{Generation, NodeId, SlotId};
use crate::refusal::Refusal;
use crate::scheduler::plan::{Action, ActionKind, Plan, Target};
use crate::spec::{Enforcement, Mode};
use crate::state::State;
use crate::state::slot::{Failure, InstanceState, KEPT_FAILURES, Observed, Phase, Placement, Slot};

impl State {
    pub(super) fn apply_plan(&mut self, plan: &Plan, events: &mut Vec<Event>) -> Applied {
        if plan.base != self.topology {
            return Err(Refusal::StalePlan { base: plan.base, topology: self.topology });
        }
        self.run_actions(plan, events);
        Ok(if plan.actions.is_empty() { Effect::NONE } else { Effect::TOPOLOGY })
    }

    /// Runs each action that R10 allows; a refused one is told and skipped.
    pub(super) fn run_actions(&mut self, plan: &Plan, events: &mut Vec<Event>) {
        for action in &plan.actions {
            if let Err(why) = self.run_action(action, events) {
                let message = format!("a step for instance {} was refused: {why}", action.slot);
                let event = self.service_event(EventKind::PlanRefused, &action.slot.service, message);
                events.push(Event { instance: Some(action.slot.clone()), ..event });
            }
        }
    }

    /// Runs one action as a plan's apply would: how the scheduler tries its steps.
    pub(crate) fn try_action(&mut self, action: &Action) -> Result<(), &'static str> {
        self.run_action(action, &mut Vec::new())
    }

    fn run_action(&mut self, action: &Action, events: &mut Vec<Event>) -> Result<(), &'static str> {
        match action.kind {
            ActionKind::Assign(target) => self.assign(&action.slot, target, &action.reason, events),
            ActionKind::Revoke { generation, target } => {
                self.revoke(&action.slot, generation, target, &action.reason, events)
            }
            ActionKind::Abandon { generation } => {
                let placement = self.held(&action.slot, generation)?;
                if placement.session.is_some() || self.is_exclusive(&action.slot.service) {
                    return Err("its node still holds it");
                }
                self.forget_placement(&action.slot, generation);
                Ok(())
            }
            ActionKind::Keep { generation } => self.keep(&action.slot, generation, &action.reason, events),
        }
    }

    /// R10: the named session must be open and its node's; an exclusive slot must be free.
    fn assign(
        &mut self,
        slot: &SlotId,
        target: Target,
        reason: &str,
        events: &mut Vec<Event>,
    ) -> Result<(), &'static str> {
        let service = self.services.get(&slot.service).ok_or("the service is not declared")?;
        if !service.wanted {
            return Err("the service is stopped");
        }
        let session = target.session.and_then(|e| self.sessions.get(&e)).ok_or("the session is not open")?;
        if session.node != target.node {
            return Err("the session is another node's");
        }
        let held = self.slots.get(slot).map_or(&[][..], |s| &s.placements);
        match service.spec.mode {
            Mode::Exclusive if slot.index != 0 => return Err("an exclusive service has one slot"),
            Mode::Exclusive if !held.is_empty() => return Err("the slot is held"),
            Mode::Exclusive
                if service.spec.enforcement == Enforcement::Kernel
                    && session.enforcement == Enforcement::User =>
            {
                return Err("the node cannot enforce its lease by the kernel");
            }
            Mode::Replicated { count } if slot.index >= u64::from(count) => {
                return Err("the slot is surplus");
            }
            Mode::Everywhere if slot.index != target.node.0 => return Err("the slot is another node's"),
            Mode::Replicated { .. } | Mode::Everywhere if held.iter().any(|p| p.node == target.node) => {
                return Err("the slot is held by that node already");
            }
            Mode::Replicated { .. } | Mode::Everywhere
                if held.iter().any(|p| p.generation.0 == self.revision.0) =>
            {
                return Err("the slot was placed by this plan already");
            }
            Mode::Exclusive | Mode::Replicated { .. } | Mode::Everywhere => {}
        }
        let generation = Generation(self.revision.0);
        let observed = Observed { state: InstanceState::Placed, since: self.now, restarts: 0, message: None };
        let placement = Placement {
            node: target.node,
            session: target.session,
            generation,
            phase: Phase::Active,
            observed,
            reason: reason.to_owned(),
            since: self.now,
        };
        let entry = self.slots.entry(slot.clone()).or_default();
        entry.placements.push(placement);
        entry.wish = None;
        entry.vacant_since = None;
        let message = format!("instance {slot} was placed on {}: {reason}", self.name_of(target.node));
        events.push(self.instance_event(EventKind::InstancePlaced, slot, target.node, message));
        Ok(())
    }

    pub(super) fn revoke(
        &mut self,
        slot: &SlotId,
        generation: Generation,
        target: Option<Target>,
        reason: &str,
        events: &mut Vec<Event>,
    ) -> Result<(), &'static str> {
        let placement = self.held(slot, generation)?;
        let (node, was) = (placement.node, placement.phase);
        let since = match was {
            Phase::Revoking { since, target: old } if old == target => {
                let _ = since;
                return Ok(());
            }
            Phase::Revoking { since, .. } => since,
            Phase::Active | Phase::Adrift { .. } => self.now,
        };
        self.edit_placement(slot, generation, |p| {
            p.phase = Phase::Revoking { target, since };
            // Why it leaves is why it will be at its target.
            reason.clone_into(&mut p.reason);
        });
        let message = match target {
            Some(t) => format!(
                "instance {slot} moves from {} to {}: {reason}",
                self.name_of(node),
                self.name_of(t.node)
            ),
            None => format!("instance {slot} is to stop on {}: {reason}", self.name_of(node)),
        };
        events.push(self.instance_event(EventKind::InstanceRevoked, slot, node, message));
        Ok(())
    }

    /// R13: an adrift instance came back; its replacements go.
    fn keep(
        &mut self,
        slot: &SlotId,
        generation: Generation,
        reason: &str,
        events: &mut Vec<Event>,
    ) -> Result<(), &'static str> {
        if self.is_exclusive(&slot.service) {
            return Err("an exclusive slot has one placement at most");
        }
        self.held(slot, generation)?;
        let others: Vec<_> = self.slots.get(slot).map_or_else(Vec::new, |s| {
            s.placements.iter().map(|p| p.generation).filter(|g| *g != generation).collect()
        });
        for other in others {
            self.revoke(slot, other, None, reason, events)?;
        }
        if let Some(entry) = self.slots.get_mut(slot) {
            entry.placements.sort_by_key(|p| (p.generation == generation, p.generation));
        }
        Ok(())
    }

    pub(super) fn stopped(&mut self, stopped: &Stopped, events: &mut Vec<Event>) -> Applied {
        let stale = || Refusal::StaleReport { slot: stopped.slot.clone(), node: stopped.node };
        let placement = self.held(&stopped.slot, stopped.generation).map_err(|_| stale())?.clone();
        let session_differs =
            self.is_exclusive(&stopped.slot.service) && placement.session != stopped.session;
        if placement.node != stopped.node || session_differs {
            return Err(stale());
        }
        self.forget_placement(&stopped.slot, stopped.generation);
        let name = self.name_of(stopped.node);
        match &stopped.why {
            StopCause::Revoked => {
                let message = format!("instance {} stopped on {name}", stopped.slot);
                events.push(self.instance_event(
                    EventKind::InstanceStopped,
                    &stopped.slot,
                    stopped.node,
                    message,
                ));
            }
            StopCause::Failed { message } => self.remember_failure(stopped, message, events),
        }
        if let Phase::Revoking { target: Some(target), .. } = placement.phase {
            // The target may have been lost meanwhile; then the slot stays vacant and the scheduler decides anew.
            if let Err(why) = self.assign(&stopped.slot, target, &placement.reason, events) {
                let message = format!("instance {} could not move as planned: {why}", stopped.slot);
                events.push(self.service_event(EventKind::PlanRefused, &stopped.slot.service, message));
            }
        }
        self.finish_removal(&stopped.slot.service, events);
        Ok(Effect::TOPOLOGY)
    }

    fn remember_failure(&mut self, stopped: &Stopped, message: &str, events: &mut Vec<Event>) {
        // Of a slot that nobody wants any more nothing is remembered: its service could never be removed.
        if self.wants(&stopped.slot) {
            let failure = Failure { node: stopped.node, at: self.now, message: message.to_owned() };
            let slot = self.slots.entry(stopped.slot.clone()).or_default();
            slot.failures.push(failure);
            if slot.failures.len() > KEPT_FAILURES {
                slot.failures.remove(0);
            }
        }
        let text = format!("instance {} failed on {}: {message}", stopped.slot, self.name_of(stopped.node));
        events.push(self.instance_event(EventKind::InstanceFailed, &stopped.slot, stopped.node, text));
    }

    pub(super) fn observe(&mut self, seen: &Observation, events: &mut Vec<Event>) -> Applied {
        let stale = || Refusal::StaleReport { slot: seen.slot.clone(), node: seen.node };
        let placement = self.held(&seen.slot, seen.generation).map_err(|_| stale())?;
        if placement.node != seen.node {
            return Err(stale());
        }
        let old = placement.observed.clone();
        let since = if old.state == seen.state { old.since } else { self.now };
        let observed =
            Observed { state: seen.state, since, restarts: seen.restarts, message: seen.message.clone() };
        if observed == old {
            return Ok(Effect::NONE);
        }
        self.observed = self.revision;
        let told = old.state != seen.state || old.restarts != seen.restarts;
        self.edit_placement(&seen.slot, seen.generation, |p| p.observed = observed);
        if told {
            events.push(self.observation_event(seen));
        }
        Ok(Effect::CHANGED)
    }

    fn observation_event(&self, seen: &Observation) -> Event {
        let kind = if seen.state == InstanceState::Running {
            EventKind::InstanceRunning
        } else {
            EventKind::InstanceChanged
        };
        let detail = seen.message.as_ref().map(|m| format!(": {m}")).unwrap_or_default();
        let message = format!(
            "instance {} is {} on {}{detail}",
            seen.slot,
            seen.state.as_str(),
            self.name_of(seen.node)
        );
        self.instance_event(kind, &seen.slot, seen.node, message)
    }

    pub(super) fn move_instance(
        &mut self,
        slot: &SlotId,
        to: Option<NodeId>,
        events: &mut Vec<Event>,
    ) -> Applied {
        self.existing_service(&slot.service)?;
        let entry = self.slots.get(slot).ok_or_else(|| Refusal::NoSuchInstance(slot.clone()))?.clone();
        let target = match to {
            None => None,
            Some(node) => {
                let node = self.existing_node(node)?;
                Some(Target { node: node.id, session: node.session })
            }
        };
        let current = entry.current().filter(|p| p.session.is_some());
        if current.is_some_and(|p| Some(p.node) == to) {
            return Ok(Effect::NONE);
        }
        self.slots.insert(slot.clone(), Slot { wish: to, ..entry.clone() });
        // A non-exclusive instance gets its replacement first: the scheduler sees the wish and places it.
        if let Some(placement) = current.filter(|_| self.is_exclusive(&slot.service)) {
            let revoked = self.revoke(slot, placement.generation, target, "an operator asked for it", events);
            debug_assert!(revoked.is_ok(), "the placement was read from the slot");
        }
        let whither = to.map_or_else(|| "elsewhere".to_owned(), |id| format!("on {}", self.name_of(id)));
        let message = format!("instance {slot} is to run {whither}");
        let event = self.service_event(EventKind::MoveRequested, &slot.service, message);
        events.push(Event { instance: Some(slot.clone()), ..event });
        Ok(Effect::TOPOLOGY)
    }

    fn held(&self, slot: &SlotId, generation: Generation) -> Result<&Placement, &'static str> {
        self.slots.get(slot).and_then(|s| s.placement(generation)).ok_or("there is no such placement")
    }

    pub(super) fn edit_placement(
        &mut self,
        slot: &SlotId,
        generation: Generation,
        edit: impl FnOnce(&mut Placement),
    ) {
        let placements = self.slots.get_mut(slot).map(|s| &mut s.placements);
        if let Some(p) = placements.and_then(|all| all.iter_mut().find(|p| p.generation == generation)) {
            edit(p);
        }
    }

    /// Removes a placement; the slot is dropped with it when nothing about it needs to be remembered.
    pub(super) fn forget_placement(&mut self, slot: &SlotId, generation: Generation) {
        let wanted = self.wants(slot);
        let now = self.now;
        let Some(entry) = self.slots.get_mut(slot) else { return };
        entry.placements.retain(|p| p.generation != generation);
        if entry.placements.is_empty() && wanted {
            entry.vacant_since = entry.vacant_since.or(Some(now));
        }
        if entry.is_blank() || (entry.placements.is_empty() && !wanted) {
            self.slots.remove(slot);
        }
    }
}
