//! Tasks, their drivers and health checks.

use std::time::Duration;

use muster_core::spec::{Check, Driver, ExecSpec, HealthSpec, Limits, TaskSpec};
use muster_proto::v1;

use crate::error::{DecodeError, required, secret_name, task_name, to_ms};

pub(super) fn task_to_proto(task: &TaskSpec) -> v1::TaskSpec {
    let driver = match &task.driver {
        Driver::Exec(exec) => v1::task_spec::Driver::Exec(exec_to_proto(exec)),
    };
    v1::TaskSpec {
        name: task.name.as_str().to_owned(),
        driver: Some(driver),
        health: task.health.as_ref().map(health_to_proto),
    }
}

pub(super) fn task_from_proto(task: v1::TaskSpec) -> Result<TaskSpec, DecodeError> {
    let driver = match required(task.driver, "task.driver")? {
        v1::task_spec::Driver::Exec(exec) => Driver::Exec(exec_from_proto(exec)?),
    };
    Ok(TaskSpec {
        name: task_name(&task.name, "task.name")?,
        driver,
        health: task.health.map(health_from_proto).transpose()?,
    })
}

fn exec_to_proto(exec: &ExecSpec) -> v1::ExecSpec {
    let limits = &exec.limits;
    v1::ExecSpec {
        command: exec.command.clone(),
        user: exec.user.clone(),
        group: exec.group.clone(),
        directory: exec.directory.clone(),
        env: exec.env.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        limits: Some(v1::Limits {
            open_files: limits.open_files,
            processes: limits.processes,
            core_bytes: limits.core_bytes,
            address_space_bytes: limits.address_space_bytes,
            locked_memory_bytes: limits.locked_memory_bytes,
        }),
        stop_signal: exec.stop_signal.clone(),
        secrets: exec.secrets.iter().map(|(variable, name)| (variable.clone(), name.to_string())).collect(),
    }
}

fn exec_from_proto(exec: v1::ExecSpec) -> Result<ExecSpec, DecodeError> {
    let secret = |(variable, name): (String, String)| Ok((variable, secret_name(&name, "exec.secrets")?));
    let limits = exec.limits.unwrap_or_default();
    Ok(ExecSpec {
        command: exec.command,
        user: exec.user,
        group: exec.group,
        directory: exec.directory,
        env: exec.env.into_iter().collect(),
        limits: Limits {
            open_files: limits.open_files,
            processes: limits.processes,
            core_bytes: limits.core_bytes,
            address_space_bytes: limits.address_space_bytes,
            locked_memory_bytes: limits.locked_memory_bytes,
        },
        stop_signal: exec.stop_signal,
        secrets: exec.secrets.into_iter().map(secret).collect::<Result<_, DecodeError>>()?,
    })
}

fn health_to_proto(health: &HealthSpec) -> v1::HealthSpec {
    use v1::health_spec::Check as Wire;
    let check = match &health.check {
        Check::Tcp(address) => Wire::Tcp(address.clone()),
        Check::Http(url) => Wire::Http(url.clone()),
        Check::Exec(command) => Wire::Exec(v1::ExecCheck { command: command.clone() }),
    };
    v1::HealthSpec {
        check: Some(check),
        interval_ms: to_ms(health.interval),
        timeout_ms: to_ms(health.timeout),
        failures: health.failures,
    }
}

fn health_from_proto(health: v1::HealthSpec) -> Result<HealthSpec, DecodeError> {
    use v1::health_spec::Check as Wire;
    let check = match required(health.check, "health.check")? {
        Wire::Tcp(address) => Check::Tcp(address),
        Wire::Http(url) => Check::Http(url),
        Wire::Exec(exec) => Check::Exec(exec.command),
    };
    Ok(HealthSpec {
        check,
        interval: Duration::from_millis(health.interval_ms),
        timeout: Duration::from_millis(health.timeout_ms),
        failures: health.failures,
    })
}
