//! Services and instances, as `status` shows them.

use muster_core::command::Role;
use muster_core::id::{ServiceName, SlotId};
use muster_core::spec::Mode;
use muster_core::state::service::Service;
use muster_core::state::slot::{InstanceState, Phase, Placement, Slot};
use muster_proto::v1;

use super::{View, count};
use crate::api::planner;

/// When more services than this lack a place, they point to `explain`.
const EXPLAINED_MAX: usize = 20;

impl View<'_> {
    /// All services.
    pub(super) fn services(&self) -> Vec<v1::ServiceStatus> {
        let each = self.state.services.iter().map(|(name, service)| self.service(name, service));
        let mut all: Vec<v1::ServiceStatus> = each.collect();
        self.explain_missing(&mut all);
        all
    }

    /// Fills in why instances have no place. The scheduler is asked once for all, and only when something lacks a
    /// place; when that is so for many services, the cause is not to be found in each of them.
    fn explain_missing(&self, services: &mut [v1::ServiceStatus]) {
        let lacks =
            |s: &v1::ServiceStatus| s.state == "unplaced" || (s.state == "degraded" && s.reason.is_empty());
        match services.iter().filter(|s| lacks(s)).count() {
            0 => {}
            1..=EXPLAINED_MAX => {
                let reasons = planner::unplaced(self.state, self.sight.now);
                for service in services.iter_mut().filter(|s| lacks(s)) {
                    let reason = reasons.iter().find(|(name, _)| name.as_str() == service.name);
                    service.reason = reason.map(|(_, reason)| reason.clone()).unwrap_or_default();
                }
            }
            _ => {
                for service in services.iter_mut().filter(|s| lacks(s)) {
                    service.reason = format!("see 'musterctl service explain {}'", service.name);
                }
            }
        }
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
            rollout: service.rollout.0,
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
            Some((
                placement.observed.since,
                format!("{id} on {}: {message}", self.state.name_of(placement.node)),
            ))
        });
        let failed = slots
            .iter()
            .filter(|(_, slot)| !slot.current().is_some_and(Placement::is_running))
            .filter_map(|(id, slot)| {
                let failure = slot.failures.last()?;
                let on = self.state.name_of(failure.node);
                Some((failure.at, format!("{id} failed on {on}: {}", failure.message)))
            });
        told.chain(failed).max_by_key(|(at, _)| *at).map(|(_, text)| text).unwrap_or_default()
    }
}

/// One service, as `service show` answers it.
pub(in crate::api) fn service_view(
    view: &View<'_>,
    name: &ServiceName,
    service: &Service,
) -> v1::ServiceView {
    let mut status = [view.service(name, service)];
    view.explain_missing(&mut status);
    let [status] = status;
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
