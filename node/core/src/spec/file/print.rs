//! From declarations back to a file's tables, leaving out what is the default.

use super::read::{DEFAULT_HEALTH_FAILURES, DEFAULT_HEALTH_INTERVAL, DEFAULT_HEALTH_TIMEOUT};
use super::{
    Choice, EnvEntry, ExecEntry, HealthEntry, LimitsEntry, ModeName, PlacementEntry, PreferEntry,
    ResourcesEntry, RestartEntry, SecretEntry, ServiceEntry, ServiceFile, TaskEntry,
};
use crate::id::SecretName;
use crate::spec::duration::{Time, TimeRange};
use crate::spec::{
    Check, Driver, ExecSpec, HealthSpec, Mode, PlacementSpec, RestartPolicy, ServiceSpec, TaskSpec,
};

impl<'a> FromIterator<&'a ServiceSpec> for ServiceFile {
    fn from_iter<I: IntoIterator<Item = &'a ServiceSpec>>(specs: I) -> Self {
        Self { service: specs.into_iter().map(ServiceEntry::from).collect() }
    }
}

fn unless<T: PartialEq>(value: T, default: &T) -> Option<T> {
    (value != *default).then_some(value)
}

impl From<&ServiceSpec> for ServiceEntry {
    fn from(spec: &ServiceSpec) -> Self {
        let base = ServiceSpec::with_defaults(spec.name.clone(), spec.mode, Vec::new());
        let (mode, count) = match spec.mode {
            Mode::Exclusive => (ModeName::Exclusive, None),
            Mode::Replicated { count } => (ModeName::Replicated, Some(count)),
            Mode::Everywhere => (ModeName::Everywhere, None),
        };
        let enforcement = unless(spec.enforcement, &base.enforcement).filter(|_| spec.mode.is_exclusive());
        Self {
            name: Some(spec.name.clone()),
            mode: Some(Choice(mode)),
            count,
            priority: unless(spec.priority, &base.priority),
            stop_timeout: unless(spec.stop_timeout, &base.stop_timeout).map(Time),
            on_quorum_loss: unless(spec.on_quorum_loss, &base.on_quorum_loss).map(Choice),
            enforcement: enforcement.map(Choice),
            replace_after: unless(spec.replace_after, &base.replace_after).map(Time),
            failback: unless(spec.failback, &base.failback).map(Choice),
            rto: spec.rto.map(Time),
            placement: placement(&spec.placement),
            resources: ResourcesEntry {
                cpu_millis: spec.resources.cpu_millis,
                memory_mib: spec.resources.memory_mib,
            },
            restart: restart(&spec.restart),
            task: spec.tasks.iter().map(task).collect(),
        }
    }
}

fn placement(spec: &PlacementSpec) -> PlacementEntry {
    PlacementEntry {
        require: spec.require.clone(),
        prefer: spec
            .prefer
            .iter()
            .map(|p| PreferEntry { label: Some(p.label.clone()), weight: Some(p.weight) })
            .collect(),
        spread: spec.spread.clone(),
        with: spec.with.clone(),
        apart: spec.apart.clone(),
        after: spec.after.clone(),
    }
}

fn restart(policy: &RestartPolicy) -> RestartEntry {
    let base = RestartPolicy::default();
    let range = |p: &RestartPolicy| TimeRange { min: Time(p.backoff_min), max: Time(p.backoff_max) };
    RestartEntry {
        attempts: unless(policy.attempts, &base.attempts),
        window: unless(policy.window, &base.window).map(Time),
        backoff: unless(range(policy), &range(&base)),
    }
}

fn task(spec: &TaskSpec) -> TaskEntry {
    let Driver::Exec(exec) = &spec.driver;
    TaskEntry {
        name: Some(spec.name.clone()),
        exec: Some(exec_entry(exec)),
        health: spec.health.as_ref().map(health),
    }
}

fn exec_entry(exec: &ExecSpec) -> ExecEntry {
    let texts = exec.env.iter().map(|(name, text)| (name.clone(), EnvEntry::Text(text.clone())));
    let secret = |name: &SecretName| EnvEntry::Secret(SecretEntry { secret: Some(name.clone()) });
    let secrets = exec.secrets.iter().map(|(name, used)| (name.clone(), secret(used)));
    ExecEntry {
        command: exec.command.clone(),
        user: exec.user.clone(),
        group: exec.group.clone(),
        directory: exec.directory.clone(),
        stop_signal: exec.stop_signal.clone(),
        env: texts.chain(secrets).collect(),
        limits: LimitsEntry {
            open_files: exec.limits.open_files,
            processes: exec.limits.processes,
            core_bytes: exec.limits.core_bytes,
            address_space_bytes: exec.limits.address_space_bytes,
            locked_memory_bytes: exec.limits.locked_memory_bytes,
        },
    }
}

fn health(spec: &HealthSpec) -> HealthEntry {
    let entry = HealthEntry {
        interval: unless(spec.interval, &DEFAULT_HEALTH_INTERVAL).map(Time),
        timeout: unless(spec.timeout, &DEFAULT_HEALTH_TIMEOUT).map(Time),
        failures: unless(spec.failures, &DEFAULT_HEALTH_FAILURES),
        ..HealthEntry::default()
    };
    match &spec.check {
        Check::Tcp(address) => HealthEntry { tcp: Some(address.clone()), ..entry },
        Check::Http(url) => HealthEntry { http: Some(url.clone()), ..entry },
        Check::Exec(command) => HealthEntry { exec: Some(command.clone()), ..entry },
    }
}
