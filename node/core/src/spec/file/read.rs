//! From a file's tables to declarations.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    EnvEntry, ExecEntry, HealthEntry, LimitsEntry, ModeName, PlacementEntry, PreferEntry, RestartEntry,
    SecretEntry, ServiceEntry, ServiceFile, TaskEntry,
};
use crate::spec::validate::{SpecError, check};
use crate::spec::{
    Check, Driver, ExecSpec, HealthSpec, Limits, Mode, PlacementSpec, Preference, Resources, RestartPolicy,
    ServiceSpec, TaskSpec,
};

/// The time between two health checks, where none is declared.
pub const DEFAULT_HEALTH_INTERVAL: Duration = Duration::from_secs(1);
/// The longest time of a health check, where none is declared.
pub const DEFAULT_HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
/// How many failures in a row make a task unhealthy, where nothing is declared.
pub const DEFAULT_HEALTH_FAILURES: u32 = 3;

fn wrong(path: impl Into<String>, problem: impl Into<String>, remedy: &'static str) -> SpecError {
    SpecError { path: path.into(), problem: problem.into(), remedy }
}

fn missing(path: impl Into<String>, remedy: &'static str) -> SpecError {
    wrong(path, "is missing", remedy)
}

impl TryFrom<ServiceFile> for Vec<ServiceSpec> {
    type Error = SpecError;

    /// The declarations of a file, each checked; the path of an error begins with the service's name or place.
    fn try_from(file: ServiceFile) -> Result<Self, SpecError> {
        let entries = file.service.into_iter().enumerate();
        let read = entries.map(|(at, entry)| {
            let which = entry.name.as_ref().map_or_else(|| format!("#{}", at + 1), ToString::to_string);
            ServiceSpec::try_from(entry)
                .map_err(|e| SpecError { path: format!("service.{which}.{}", e.path), ..e })
        });
        read.collect()
    }
}

impl TryFrom<ServiceEntry> for ServiceSpec {
    type Error = SpecError;

    fn try_from(entry: ServiceEntry) -> Result<Self, SpecError> {
        let mode = mode(&entry)?;
        let name = entry.name.ok_or_else(|| missing("name", "add name = \"...\""))?;
        let tasks =
            entry.task.into_iter().enumerate().map(|(at, t)| task(at, t)).collect::<Result<_, _>>()?;
        let base = Self::with_defaults(name, mode, tasks);
        let spec = Self {
            priority: entry.priority.unwrap_or(base.priority),
            stop_timeout: entry.stop_timeout.map_or(base.stop_timeout, |t| t.0),
            on_quorum_loss: entry.on_quorum_loss.map_or(base.on_quorum_loss, |c| c.0),
            enforcement: entry.enforcement.map_or(base.enforcement, |c| c.0),
            replace_after: entry.replace_after.map_or(base.replace_after, |t| t.0),
            failback: entry.failback.map_or(base.failback, |c| c.0),
            rto: entry.rto.map(|t| t.0),
            placement: placement(entry.placement)?,
            resources: Resources {
                cpu_millis: entry.resources.cpu_millis,
                memory_mib: entry.resources.memory_mib,
            },
            restart: restart(&entry.restart),
            ..base
        };
        check(&spec)?;
        Ok(spec)
    }
}

/// The mode; keys that would have no effect in it are refused.
fn mode(entry: &ServiceEntry) -> Result<Mode, SpecError> {
    let mode = match (entry.mode.map_or_else(ModeName::default, |c| c.0), entry.count) {
        (ModeName::Exclusive, None | Some(1)) => Mode::Exclusive,
        (ModeName::Replicated, count) => Mode::Replicated { count: count.unwrap_or(1) },
        (ModeName::Everywhere, None) => Mode::Everywhere,
        (ModeName::Exclusive | ModeName::Everywhere, Some(_)) => {
            return Err(wrong(
                "count",
                "only a replicated service has a count",
                "remove it, or use mode = \"replicated\"",
            ));
        }
    };
    if entry.enforcement.is_some() && !mode.is_exclusive() {
        return Err(wrong(
            "enforcement",
            "has an effect only on exclusive services",
            "remove it, or use mode = \"exclusive\"",
        ));
    }
    Ok(mode)
}

fn placement(entry: PlacementEntry) -> Result<PlacementSpec, SpecError> {
    let preference = |p: PreferEntry| {
        let label = p.label.ok_or_else(|| missing("placement.prefer.label", "add label = \"zone == a\""))?;
        let weight = p.weight.ok_or_else(|| missing("placement.prefer.weight", "add weight = 50"))?;
        Ok(Preference { label, weight })
    };
    Ok(PlacementSpec {
        require: entry.require,
        prefer: entry.prefer.into_iter().map(preference).collect::<Result<_, SpecError>>()?,
        spread: entry.spread,
        with: entry.with,
        apart: entry.apart,
        after: entry.after,
    })
}

fn restart(entry: &RestartEntry) -> RestartPolicy {
    let base = RestartPolicy::default();
    RestartPolicy {
        attempts: entry.attempts.unwrap_or(base.attempts),
        window: entry.window.map_or(base.window, |t| t.0),
        backoff_min: entry.backoff.map_or(base.backoff_min, |b| b.min.0),
        backoff_max: entry.backoff.map_or(base.backoff_max, |b| b.max.0),
    }
}

fn task(at: usize, entry: TaskEntry) -> Result<TaskSpec, SpecError> {
    let name = entry
        .name
        .ok_or_else(|| missing(format!("task.#{}.name", at + 1), "add name = \"...\" to each task"))?;
    let exec = entry.exec.ok_or_else(|| {
        missing(format!("task.{name}"), "add a driver's table, such as [service.task.exec]")
    })?;
    let health = entry.health.map(|h| health(&format!("task.{name}.health"), h)).transpose()?;
    let exec = exec_spec(&format!("task.{name}.exec"), exec)?;
    Ok(TaskSpec { name, driver: Driver::Exec(exec), health })
}

fn exec_spec(path: &str, entry: ExecEntry) -> Result<ExecSpec, SpecError> {
    let (mut env, mut secrets) = (BTreeMap::new(), BTreeMap::new());
    for (variable, value) in entry.env {
        match value {
            EnvEntry::Text(text) => drop(env.insert(variable, text)),
            EnvEntry::Secret(SecretEntry { secret: Some(name) }) => drop(secrets.insert(variable, name)),
            EnvEntry::Secret(SecretEntry { secret: None }) => {
                return Err(missing(format!("{path}.env.{variable}.secret"), "write { secret = \"NAME\" }"));
            }
        }
    }
    let LimitsEntry { open_files, processes, core_bytes, address_space_bytes, locked_memory_bytes } =
        entry.limits;
    Ok(ExecSpec {
        command: entry.command,
        user: entry.user,
        group: entry.group,
        directory: entry.directory,
        env,
        secrets,
        limits: Limits { open_files, processes, core_bytes, address_space_bytes, locked_memory_bytes },
        stop_signal: entry.stop_signal,
    })
}

fn health(path: &str, entry: HealthEntry) -> Result<HealthSpec, SpecError> {
    let check = match (entry.tcp, entry.http, entry.exec) {
        (Some(address), None, None) => Check::Tcp(address),
        (None, Some(url), None) => Check::Http(url),
        (None, None, Some(command)) => Check::Exec(command),
        (None, None, None) => {
            return Err(wrong(path, "has no check", "add one of tcp, http and exec"));
        }
        _ => return Err(wrong(path, "has several checks", "keep one of tcp, http and exec")),
    };
    Ok(HealthSpec {
        check,
        interval: entry.interval.map_or(DEFAULT_HEALTH_INTERVAL, |t| t.0),
        timeout: entry.timeout.map_or(DEFAULT_HEALTH_TIMEOUT, |t| t.0),
        failures: entry.failures.unwrap_or(DEFAULT_HEALTH_FAILURES),
    })
}
