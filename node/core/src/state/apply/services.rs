//! Commands about services.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Applied, Declared, Effect, ReplyValue};
use crate::event::{Event, EventKind};
use crate::id::{Revision, ServiceName, SlotId};
use crate::refusal::Refusal;
use crate::spec::{Mode, ServiceSpec};
use crate::state::State;
use crate::state::service::{KEPT_DECLARATIONS, MAX_ANNOTATION_BYTES, MAX_ANNOTATIONS, Service};

/// How many services a cluster may have.
pub const MAX_SERVICES: usize = 5000;
/// How many instances a replicated service may have.
pub const MAX_COUNT: u32 = 1000;

impl State {
    pub(super) fn put_services(
        &mut self,
        specs: &[ServiceSpec],
        if_revision: Option<Revision>,
        events: &mut Vec<Event>,
    ) -> Applied {
        self.check_declarations(specs, if_revision)?;
        let results: Vec<_> =
            specs.iter().map(|spec| (spec.name.clone(), self.put_service(spec, events))).collect();
        let changed = results.iter().any(|(_, declared)| *declared != Declared::Unchanged);
        let effect = if changed { Effect::TOPOLOGY } else { Effect::NONE };
        // A list of nothing and no list are one on the wire: a snapshot must not make of one answer another.
        let value = if results.is_empty() { ReplyValue::Nothing } else { ReplyValue::Services(results) };
        Ok(effect.with(value))
    }

    fn check_declarations(
        &self,
        specs: &[ServiceSpec],
        if_revision: Option<Revision>,
    ) -> Result<(), Refusal> {
        let mut names = BTreeSet::new();
        for spec in specs {
            if !names.insert(&spec.name) {
                return Err(Refusal::DuplicateService(spec.name.clone()));
            }
            crate::spec::validate::check(spec)
                .map_err(|e| Refusal::InvalidService { service: spec.name.clone(), why: e.to_string() })?;
            self.check_secrets(spec)?;
            let Some(service) = self.services.get(&spec.name) else { continue };
            self.check_mode_change(spec)?;
            if service.removing {
                return Err(Refusal::BeingRemoved(spec.name.clone()));
            }
            if let Some(expected) = if_revision.filter(|r| service.declared > *r) {
                let (actual, service) = (service.declared, spec.name.clone());
                return Err(Refusal::RevisionMismatch { expected, actual, service });
            }
        }
        let new = names.iter().filter(|n| !self.services.contains_key(**n)).count();
        if self.services.len() + new > MAX_SERVICES {
            return Err(Refusal::Limit { what: "services", limit: MAX_SERVICES });
        }
        Ok(())
    }

    /// What was placed without a lease would not end with one: a service that became exclusive could run twice.
    /// And slots of different modes mean different things. So nothing may be placed while the mode changes.
    fn check_mode_change(&self, spec: &ServiceSpec) -> Result<(), Refusal> {
        let changes =
            self.services.get(&spec.name).is_some_and(|s| s.spec.mode.as_str() != spec.mode.as_str());
        if changes && self.slots_of(&spec.name).any(|(_, slot)| !slot.placements.is_empty()) {
            return Err(Refusal::ModeOfPlaced(spec.name.clone()));
        }
        Ok(())
    }

    fn put_service(&mut self, spec: &ServiceSpec, events: &mut Vec<Event>) -> Declared {
        let declared = match self.services.get(&spec.name) {
            Some(service) if *service.spec == *spec => return Declared::Unchanged,
            Some(_) => Declared::Changed,
            None => Declared::Created,
        };
        self.declare(spec.clone());
        let message = format!("service {} was {}", spec.name, declared.as_str());
        events.push(self.service_event(EventKind::ServiceApplied, &spec.name, message));
        declared
    }

    /// Makes `spec` the declaration of its service; what ran under the former one is started anew if it must.
    fn declare(&mut self, spec: ServiceSpec) {
        let (at, now) = (self.revision, self.now);
        let name = spec.name.clone();
        let Some(service) = self.services.get_mut(&name).map(Arc::make_mut) else {
            let service = Service {
                spec: Arc::new(spec),
                declared: at,
                rollout: at,
                wanted: true,
                removing: false,
                former: Vec::new(),
                annotations: imbl::OrdMap::new(),
                created: now,
            };
            self.services.insert(name, Arc::new(service));
            return;
        };
        let rollout = service.spec.needs_rollout(&spec);
        if rollout {
            service.rollout = at;
        }
        service.former.push(Arc::clone(&service.spec));
        if service.former.len() > KEPT_DECLARATIONS {
            service.former.remove(0);
        }
        service.spec = Arc::new(spec);
        service.declared = at;
        if rollout {
            // What failed was the former declaration: the new one is tried everywhere.
            self.forget_failures(&name);
        }
    }

    pub(super) fn remove_service(&mut self, name: &ServiceName, events: &mut Vec<Event>) -> Applied {
        let service = self.existing_service_mut(name)?;
        if service.removing {
            return Ok(Effect::NONE);
        }
        service.removing = true;
        service.wanted = false;
        events.push(self.service_event(
            EventKind::ServiceStopped,
            name,
            format!("service {name} is being removed"),
        ));
        self.drop_vacant_slots(name);
        self.finish_removal(name, events);
        Ok(Effect::TOPOLOGY)
    }

    /// Drops a service that is being removed once nothing of it is left.
    pub(super) fn finish_removal(&mut self, name: &ServiceName, events: &mut Vec<Event>) {
        let removing = self.services.get(name).is_some_and(|s| s.removing);
        if removing && self.slots_of(name).next().is_none() {
            self.services.remove(name);
            events.push(self.service_event(
                EventKind::ServiceRemoved,
                name,
                format!("service {name} was removed"),
            ));
        }
    }

    fn drop_vacant_slots(&mut self, name: &ServiceName) {
        let vacant: Vec<SlotId> =
            self.slots_of(name).filter(|(_, s)| s.placements.is_empty()).map(|(id, _)| id.clone()).collect();
        for slot in vacant {
            self.slots.remove(&slot);
        }
    }

    pub(super) fn set_wanted(
        &mut self,
        name: &ServiceName,
        wanted: bool,
        events: &mut Vec<Event>,
    ) -> Applied {
        let service = self.existing_service_mut(name)?;
        if service.removing {
            return Err(Refusal::BeingRemoved(name.clone()));
        }
        if service.wanted == wanted {
            return Ok(Effect::NONE);
        }
        service.wanted = wanted;
        let (kind, verb) = if wanted {
            (EventKind::ServiceStarted, "started")
        } else {
            (EventKind::ServiceStopped, "stopped")
        };
        if !wanted {
            self.drop_vacant_slots(name);
        }
        events.push(self.service_event(kind, name, format!("service {name} is to be {verb}")));
        Ok(Effect::TOPOLOGY)
    }

    pub(super) fn restart_service(&mut self, name: &ServiceName, events: &mut Vec<Event>) -> Applied {
        let at = self.revision;
        self.existing_service_mut(name)?.rollout = at;
        self.forget_failures(name);
        events.push(self.service_event(
            EventKind::ServiceRestarted,
            name,
            format!("service {name} is to be started anew"),
        ));
        Ok(Effect::TOPOLOGY)
    }

    pub(super) fn scale_service(
        &mut self,
        name: &ServiceName,
        count: u32,
        events: &mut Vec<Event>,
    ) -> Applied {
        let service = self.existing_service(name)?;
        let Mode::Replicated { count: old } = service.spec.mode else {
            return Err(Refusal::NotReplicated(name.clone()));
        };
        if count > MAX_COUNT {
            return Err(Refusal::Limit { what: "instances of a service", limit: MAX_COUNT as usize });
        }
        if old == count {
            return Ok(Effect::NONE);
        }
        let spec = ServiceSpec { mode: Mode::Replicated { count }, ..(*service.spec).clone() };
        self.declare(spec);
        let message = format!("service {name} was scaled from {old} to {count}");
        events.push(self.service_event(EventKind::ServiceScaled, name, message));
        Ok(Effect::TOPOLOGY)
    }

    pub(super) fn rollback_service(&mut self, name: &ServiceName, events: &mut Vec<Event>) -> Applied {
        let service = self.existing_service(name)?;
        let nothing = || Refusal::NothingToRollBack(name.clone());
        let former = Arc::clone(service.former.last().ok_or_else(nothing)?);
        self.check_mode_change(&former)?;
        self.check_secrets(&former)?;
        self.existing_service_mut(name)?.former.pop();
        self.declare((*former).clone());
        let message = format!("service {name} went back to its former declaration");
        events.push(self.service_event(EventKind::ServiceRolledBack, name, message));
        Ok(Effect::TOPOLOGY)
    }

    pub(super) fn annotate_service(&mut self, name: &ServiceName, key: &str, value: Option<&str>) -> Applied {
        let limit = |limit| Refusal::AnnotationLimit { service: name.clone(), key: key.to_owned(), limit };
        if key.is_empty() || key.len() + value.map_or(0, str::len) > MAX_ANNOTATION_BYTES {
            return Err(limit("key and value: 1 to 4096 bytes together"));
        }
        let service = self.existing_service_mut(name)?;
        match value {
            Some(value) => {
                if service.annotations.len() >= MAX_ANNOTATIONS && !service.annotations.contains_key(key) {
                    return Err(limit("64 annotations"));
                }
                service.annotations.insert(key.to_owned(), value.into());
            }
            None if !service.annotations.contains_key(key) => return Ok(Effect::NONE),
            None => {
                service.annotations.remove(key);
            }
        }
        Ok(Effect::CHANGED)
    }

    pub(super) fn clear_failures(&mut self, name: &ServiceName) -> Applied {
        self.existing_service(name)?;
        Ok(if self.forget_failures(name) { Effect::TOPOLOGY } else { Effect::NONE })
    }

    fn forget_failures(&mut self, name: &ServiceName) -> bool {
        let failed: Vec<SlotId> =
            self.slots_of(name).filter(|(_, s)| !s.failures.is_empty()).map(|(id, _)| id.clone()).collect();
        for id in &failed {
            if let Some(slot) = self.slots.get_mut(id) {
                slot.failures.clear();
                if slot.is_blank() {
                    self.slots.remove(id);
                }
            }
        }
        !failed.is_empty()
    }

    pub(super) fn existing_service(&self, name: &ServiceName) -> Result<&Service, Refusal> {
        self.services.get(name).map(Arc::as_ref).ok_or_else(|| Refusal::NoSuchService(name.clone()))
    }

    fn existing_service_mut(&mut self, name: &ServiceName) -> Result<&mut Service, Refusal> {
        self.services.get_mut(name).map(Arc::make_mut).ok_or_else(|| Refusal::NoSuchService(name.clone()))
    }
}
