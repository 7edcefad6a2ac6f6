//! Services and instances, as `status` shows them.

use muster_core::command::Role;
use muster_core::id::{ServiceName, SlotId};
use muster_core::spec::Mode;
use muster_core::state::service::Service;
use muster_core::state::slot::{InstanceState, Phase, Placement, Slot};
use muster_proto::v1;

use super::{View, count};
use crate::api::planner;

/// How many services without a place get their reason worked out; the others point to `explain`.
const EXPLAINED_MAX: usize = 20;

impl View<'_> {
    /// All services.
    pub(super) fn services(&self) -> Vec<v1::ServiceStatus> {
        let mut explained = 0;
        let mut all = Vec::with_capacity(self.state.services.len());
        for (name, service) in &self.state.services {
            let mut status = self.service(name, service);
            if status.state == "unplaced" {
                explained += 1;
                status.reason = if explained <= EXPLAINED_MAX {
                    self.why_unplaced(name)
                } else {
                    format!("see 'musterctl service explain {name}'")
                };
            }
            all.push(status);
        }
        all
    }

    /// One service, without the reason why it has no place.
    fn service(&self, name: &ServiceName, service: &Service) -> v1::ServiceStatus {
        let slots: Vec<_> = self.state.slots_of(name).collect();
        let wanted = if service.wanted { self.wanted(service) } else { 0 };
        let current = || slots.iter().filter_map(|(_, slot)| slot.current());
        let running = current().filter(|p| runs(p)).count();
        let healthy = current().filter(|p| p.is_running()).count();
        let left = slots.iter().any(|(_, slot)| !slot.placements.is_empty());
        let tally = Tally {
            is_wanted: service.wanted,
            wanted,
            healthy,
            left,
            coming: current().any(is_on_its_way) && !current().any(is_in_trouble),
        };
        v1::ServiceStatus {
            name: name.to_string(),
            mode: service.spec.mode.as_str().to_owned(),
            wanted: count(wanted),
            running: count(running),
            healthy: count(healthy),
            state: tally.state().to_owned(),
            reason: if tally.state() == "running" { String::new() } else { self.reason(service, &slots) },
            revision: service.declared.0,
            instances: slots.iter().flat_map(|(id, slot)| self.instances(id, slot)).collect(),
            priority: service.spec.priority,
        }
    }

    /// How many instances there should be. `everywhere` counts the nodes that satisfy its requirements and are
    /// there.
    fn wanted(&self, service: &Service) -> usize {
        match service.spec.mode {
            Mode::Exclusive => 1,
            Mode::Replicated { count } => usize::try_from(count).unwrap_or(usize::MAX),
            Mode::Everywhere => {
                let eligible = self.state.nodes.values().filter(|node| {
                    let labels = &self.labels[&node.id];
                    node.role != Role::Witness
                        && node.session.is_some()
                        && !node.cordoned
                        && node.drain.is_none()
                        && service.spec.placement.require.iter().all(|r| r.holds(node.name.as_str(), labels))
                });
                eligible.count()
            }
        }
    }

    /// The placements of a slot, the one that counts last; a slot without one shows its last failure.
    fn instances(&self, id: &SlotId, slot: &Slot) -> Vec<v1::InstanceStatus> {
        let newest = slot.current().map(|p| p.generation);
        let of = |p: &Placement| v1::InstanceStatus {
            id: id.to_string(),
            node: self.state.name_of(p.node),
            state: shown_state(p).as_str().to_owned(),
            generation: p.generation.0,
            since_ms: p.observed.since.0,
            restarts: p.observed.restarts,
            message: p.observed.message.clone().unwrap_or_default(),
            reason: p.reason.clone(),
            superseded: newest != Some(p.generation),
        };
        if !slot.placements.is_empty() {
            return slot.placements.iter().map(of).collect();
        }
        let failure = slot.failures.last();
        vec![v1::InstanceStatus {
            id: id.to_string(),
            state: if failure.is_some() { "failed" } else { "stopped" }.to_owned(),
            since_ms: slot.vacant_since.or(failure.map(|f| f.at)).unwrap_or_default().0,
            message: failure.map(|f| f.message.clone()).unwrap_or_default(),
            ..Default::default()
        }]
    }

    /// What is to be said of a service that does not run as wished: removal first, then the newest failure.
    fn reason(&self, service: &Service, slots: &[(&SlotId, &Slot)]) -> String {
        if service.removing {
            return "it is being removed".to_owned();
        }
        let left = slots.iter().any(|(_, slot)| !slot.placements.is_empty());
        if !service.wanted {
            return if left { "it is being stopped".to_owned() } else { String::new() };
        }
        let told = slots.iter().filter_map(|(id, slot)| {
            let placement = slot.current().filter(|p| !p.is_running())?;
            let message = placement.observed.message.as_ref()?;
            Some((placement.observed.since, format!("{id} on {}: {message}", self.state.name_of(placement.node))))
        });
        let failed = slots.iter().filter(|(_, slot)| !slot.current().is_some_and(Placement::is_running)).filter_map(
            |(id, slot)| {
                let failure = slot.failures.last()?;
                let on = self.state.name_of(failure.node);
                Some((failure.at, format!("{id} failed on {on}: {}", failure.message)))
            },
        );
        told.chain(failed).max_by_key(|(at, _)| *at).map(|(_, text)| text).unwrap_or_default()
    }

    fn why_unplaced(&self, name: &ServiceName) -> String {
        planner::why_unplaced(self.state, name)
    }

    /// Why an instance on a drained node is not on its way yet.
    pub(super) fn why_it_stays(&self, slot: &SlotId, placement: &Placement) -> String {
        if self.state.slots.get(slot).and_then(Slot::current).is_some_and(|p| p.generation > placement.generation) {
            return "its replacement is being started".to_owned();
        }
        planner::why_it_stays(self.state, slot)
    }
}

/// One service, as `service show` answers it.
pub(in crate::api) fn service_view(view: &View<'_>, name: &ServiceName, service: &Service) -> v1::ServiceView {
    let mut status = view.service(name, service);
    if status.state == "unplaced" {
        status.reason = view.why_unplaced(name);
    }
    v1::ServiceView {
        spec: Some(muster_wire::spec_to_proto(&service.spec)),
        status: Some(status),
        annotations: service.annotations.iter().map(|(k, v)| (k.clone(), v.to_string())).collect(),
        created_ms: service.created.0,
        former: count(service.former.len()),
    }
}

struct Tally {
    is_wanted: bool,
    wanted: usize,
    healthy: usize,
    left: bool,
    coming: bool,
}

impl Tally {
    fn state(&self) -> &'static str {
        match (self.is_wanted, self.left) {
            (false, false) => "stopped",
            // It is on its way out.
            (false, true) => "degraded",
            (true, false) => "unplaced",
            (true, true) if self.healthy >= self.wanted => "running",
            (true, true) if self.coming => "starting",
            (true, true) => "degraded",
        }
    }
}

/// Whether it runs, healthy or not; one that is about to be moved still does.
fn runs(placement: &Placement) -> bool {
    matches!(placement.observed.state, InstanceState::Running | InstanceState::Unhealthy)
        && !matches!(placement.phase, Phase::Adrift { .. })
}

fn is_on_its_way(placement: &Placement) -> bool {
    let moves = matches!(placement.phase, Phase::Revoking { target: Some(_), .. });
    moves || matches!(placement.observed.state, InstanceState::Placed | InstanceState::Starting)
}

fn is_in_trouble(placement: &Placement) -> bool {
    matches!(placement.observed.state, InstanceState::Unhealthy | InstanceState::Failed | InstanceState::Lost)
}

/// What its agent said last, unless an operator or the plan has said something since.
fn shown_state(placement: &Placement) -> InstanceState {
    match (placement.phase, placement.observed.state) {
        (Phase::Adrift { .. }, _) => InstanceState::Lost,
        (Phase::Revoking { .. }, InstanceState::Failed) => InstanceState::Failed,
        (Phase::Revoking { .. }, _) => InstanceState::Stopping,
        (Phase::Active, state) => state,
    }
}
