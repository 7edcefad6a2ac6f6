//! When a service is as it was asked to be.

use std::time::Duration;

use muster_proto::v1 as pb;
use tokio::time::Instant;

use super::Verdict;
use super::node::is_over;
use crate::command::find_service;
use crate::failure::Failure;

/// A service that no node takes is given up after this long: the scheduler looks again within milliseconds,
/// a host that is just coming back within about a second.
const UNPLACED_FOR: Duration = Duration::from_secs(3);

/// Waits for services to run.
pub struct Running {
    names: Vec<String>,
    /// Instances of a lower generation do not count.
    since: u64,
    /// Whether running is not enough.
    healthy: bool,
    /// Whether a stopped service is as it should be: its declaration was changed, no more.
    may_be_stopped: bool,
    /// Whether a service that no node takes is waited for: a node may come, or get a label.
    patient: bool,
    unplaced_since: Option<Instant>,
}

impl Running {
    /// All instances of these services, in their present declaration.
    pub fn new(names: Vec<String>) -> Self {
        Self { names, since: 0, healthy: false, may_be_stopped: false, patient: false, unplaced_since: None }
    }

    /// Only instances placed at this revision or later.
    #[must_use]
    pub fn since(self, revision: u64) -> Self {
        Self { since: revision, ..self }
    }

    /// They must be healthy too.
    #[must_use]
    pub fn healthy(self) -> Self {
        Self { healthy: true, ..self }
    }

    /// A stopped service is left alone.
    #[must_use]
    pub fn or_stopped(self) -> Self {
        Self { may_be_stopped: true, ..self }
    }

    /// As long as the caller has time, whatever it looks like now.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { patient: true, ..self }
    }

    /// Looks at the status as it is now.
    pub fn judge(&mut self, status: &pb::ClusterStatus, now: Instant) -> Verdict {
        let mut missing = Vec::new();
        let mut unplaced = None;
        for name in &self.names {
            let service = match find_service(status, name) {
                Ok(service) => service,
                Err(failure) => return Verdict::Over(failure),
            };
            missing.extend(self.missing_of(service));
            if service.state == "unplaced" && !service.reason.is_empty() {
                unplaced = Some(service);
            }
        }
        if missing.is_empty() {
            return Verdict::Done;
        }
        let Some(service) = unplaced.filter(|_| !self.patient) else {
            self.unplaced_since = None;
            return Verdict::Waiting(missing);
        };
        let since = *self.unplaced_since.get_or_insert(now);
        if now.saturating_duration_since(since) < UNPLACED_FOR {
            return Verdict::Waiting(missing);
        }
        Verdict::Over(Failure::Ended {
            message: format!("service {} runs nowhere: {}", service.name, service.reason),
            hint: Some(format!("'musterctl service explain {}' shows what each node says", service.name)),
        })
    }

    fn missing_of(&self, service: &pb::ServiceStatus) -> Vec<String> {
        if service.state == "stopped" && self.may_be_stopped {
            return Vec::new();
        }
        let since = self.since.max(service.rollout);
        let mut missing: Vec<String> = Vec::new();
        for instance in service.instances.iter().filter(|instance| !instance.superseded) {
            let place = place(instance);
            if instance.node.is_empty() {
                missing.push(format!("{place}{}", after_colon(&instance.message)));
            } else if instance.generation < since {
                missing.push(format!("{place} to be replaced ({})", instance.state));
            } else if instance.state != "running" {
                let why = after_colon(&instance.message);
                missing.push(format!("{place}, which is {}{why}", instance.state));
            }
        }
        // What was lost with its host stays listed until the host comes back; nobody waits for that.
        let is_old = |instance: &pb::InstanceStatus| instance.superseded && !is_over(&instance.state);
        if missing.is_empty() && service.instances.iter().any(is_old) {
            missing.push(format!("the old instances of {} to stop", service.name));
        }
        let counts =
            service.running >= service.wanted && (!self.healthy || service.healthy >= service.wanted);
        if missing.is_empty() && (service.state != "running" || !counts) {
            let (running, wanted) = (service.running, service.wanted);
            let state = format!("{}, {running} of {wanted} running", service.state);
            missing.push(format!("{} ({state}{})", service.name, after_colon(&service.reason)));
        }
        missing
    }
}

/// No instance of the service runs.
pub fn stopped(status: &pb::ClusterStatus, name: &str) -> Verdict {
    let service = match find_service(status, name) {
        Ok(service) => service,
        Err(failure) => return Verdict::Over(failure),
    };
    let left = still_active(service);
    if !left.is_empty() {
        Verdict::Waiting(left)
    } else if service.state == "stopped" {
        Verdict::Done
    } else {
        Verdict::Waiting(vec![format!("{name} to be stopped ({})", service.state)])
    }
}

/// The service is forgotten.
pub fn gone(status: &pb::ClusterStatus, name: &str) -> Verdict {
    match find_service(status, name) {
        Err(_) => Verdict::Done,
        Ok(service) => {
            let left = still_active(service);
            Verdict::Waiting(if left.is_empty() { vec![format!("{name} to be removed")] } else { left })
        }
    }
}

fn still_active(service: &pb::ServiceStatus) -> Vec<String> {
    // A lost instance may still run on a host that is cut off.
    let is_active = |i: &&pb::InstanceStatus| !matches!(i.state.as_str(), "stopped" | "failed");
    service.instances.iter().filter(is_active).map(|i| format!("{} ({})", place(i), i.state)).collect()
}

fn place(instance: &pb::InstanceStatus) -> String {
    if instance.node.is_empty() {
        format!("a place for {}", instance.id)
    } else {
        format!("{} on {}", instance.id, instance.node)
    }
}

fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// One instance, placed after `revision`, runs; with a target, on that node.
pub fn moved(status: &pb::ClusterStatus, instance: &Instance, to: Option<&str>, revision: u64) -> Verdict {
    let service = match find_service(status, &instance.service) {
        Ok(service) => service,
        Err(failure) => return Verdict::Over(failure),
    };
    let id = instance.id(service);
    let found = service.instances.iter().find(|i| i.id == id && !i.superseded);
    let target = to.map(|node| format!(" on {node}")).unwrap_or_default();
    let Some(found) = found else {
        return Verdict::Waiting(vec![format!("{id} to run{target}")]);
    };
    let is_there = to.is_none_or(|node| node == found.node);
    let why = after_colon(&found.message);
    if found.node.is_empty() {
        Verdict::Waiting(vec![format!("{}{why}", place(found))])
    } else if found.generation <= revision {
        Verdict::Waiting(vec![format!("{id}, which is {} on {}", found.state, found.node)])
    } else if found.state != "running" {
        let state = format!("{} on {}{why}", found.state, found.node);
        Verdict::Waiting(vec![format!("{id} to run{target} (it is {state})")])
    } else if is_there {
        Verdict::Done
    } else {
        Verdict::Over(Failure::Ended {
            message: format!("{id} runs on {}, not{target}: {}", found.node, found.reason),
            hint: Some(format!("'musterctl service explain {id}' shows what each node says")),
        })
    }
}

/// All of these instances, placed after `revision`, run on their nodes.
pub fn all_moved(status: &pb::ClusterStatus, moves: &[(Instance, String)], revision: u64) -> Verdict {
    let mut missing = Vec::new();
    for (instance, to) in moves {
        match moved(status, instance, Some(to), revision) {
            Verdict::Done => {}
            Verdict::Waiting(what) => missing.extend(what),
            Verdict::Over(failure) => return Verdict::Over(failure),
        }
    }
    if missing.is_empty() { Verdict::Done } else { Verdict::Waiting(missing) }
}

/// An instance as it is typed: SERVICE or SERVICE/INDEX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The service.
    pub service: String,
    /// Which of its instances; none: the only one.
    pub index: Option<u64>,
}

impl Instance {
    /// Reads what was typed.
    ///
    /// # Errors
    /// [`Failure::Usage`] when the index is no number.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let Some((service, index)) = text.split_once('/') else {
            return Ok(Self { service: text.to_owned(), index: None });
        };
        let index = index.parse().map_err(|_| {
            Failure::Usage(format!(
                "'{text}' is not an instance; write SERVICE or SERVICE/INDEX, such as web/2"
            ))
        })?;
        Ok(Self { service: service.to_owned(), index: Some(index) })
    }

    fn id(&self, service: &pb::ServiceStatus) -> String {
        let only = service.instances.first().map(|instance| instance.id.clone());
        match (self.index, only) {
            (Some(index), _) => format!("{}/{index}", self.service),
            (None, Some(id)) => id,
            (None, None) => format!("{}/0", self.service),
        }
    }
}

impl std::fmt::Display for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.index {
            Some(index) => write!(f, "{}/{index}", self.service),
            None => f.write_str(&self.service),
        }
    }
}

#[cfg(test)]
mod tests;
