//! What the types cannot say about a service: checked before it is replicated, and again at apply.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Check, Driver, ExecSpec, Mode, ServiceSpec, TaskSpec};

/// How many tasks a service may have.
pub const MAX_TASKS: usize = 16;
/// How many bytes a command line and environment of a task may have.
pub const MAX_EXEC_BYTES: usize = 64 * 1024;
/// How many secrets a task may name: with the largest values, half of what a system takes as an environment.
pub const MAX_TASK_SECRETS: usize = 16;
/// What `stop_signal` may name, with or without `SIG`: the signals by which programs are asked to stop.
pub const STOP_SIGNALS: [&str; 8] = ["TERM", "INT", "QUIT", "HUP", "KILL", "USR1", "USR2", "WINCH"];
/// The longest time that may be declared anywhere.
pub const MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is wrong with a declaration, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}; {remedy}")]
pub struct SpecError {
    /// The key, as a dotted path inside the service.
    pub path: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: &'static str,
}

fn wrong(path: impl Into<String>, problem: impl Into<String>, remedy: &'static str) -> SpecError {
    SpecError { path: path.into(), problem: problem.into(), remedy }
}

/// Checks a whole service.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(spec: &ServiceSpec) -> Result<(), SpecError> {
    check_mode(spec)?;
    check_times(spec)?;
    check_relations(spec)?;
    if spec.priority > 100 {
        return Err(wrong("priority", format!("{} is out of range", spec.priority), "use 0 to 100"));
    }
    if spec.tasks.is_empty() || spec.tasks.len() > MAX_TASKS {
        return Err(wrong("task", format!("{} tasks", spec.tasks.len()), "declare 1 to 16 tasks"));
    }
    let mut names = BTreeSet::new();
    for task in &spec.tasks {
        if !names.insert(&task.name) {
            return Err(wrong(
                "task.name",
                format!("'{}' appears twice", task.name),
                "name each task differently",
            ));
        }
        check_task(task)?;
    }
    Ok(())
}

fn check_mode(spec: &ServiceSpec) -> Result<(), SpecError> {
    match spec.mode {
        Mode::Replicated { count } if count == 0 || count > crate::state::apply::MAX_COUNT => {
            Err(wrong("count", format!("{count} is out of range"), "use 1 to 1000; 'service stop' stops it"))
        }
        Mode::Exclusive if spec.on_quorum_loss != super::OnQuorumLoss::Stop => Err(wrong(
            "on_quorum_loss",
            "an exclusive service always stops without quorum",
            "remove the key, or use mode = \"replicated\"",
        )),
        Mode::Exclusive | Mode::Replicated { .. } | Mode::Everywhere => Ok(()),
    }
}

fn check_times(spec: &ServiceSpec) -> Result<(), SpecError> {
    let times = [
        ("stop_timeout", spec.stop_timeout),
        ("replace_after", spec.replace_after),
        ("restart.window", spec.restart.window),
        ("restart.backoff", spec.restart.backoff_max),
    ];
    if let Some((path, _)) = times.into_iter().find(|(_, d)| *d > MAX_DURATION) {
        return Err(wrong(path, "is longer than 7 days", "use a shorter time"));
    }
    if spec.restart.backoff_min > spec.restart.backoff_max {
        return Err(wrong("restart.backoff", "begins above its end", "write it as \"1s..30s\""));
    }
    Ok(())
}

fn check_relations(spec: &ServiceSpec) -> Result<(), SpecError> {
    let lists =
        [("with", &spec.placement.with), ("apart", &spec.placement.apart), ("after", &spec.placement.after)];
    for (key, names) in lists {
        if names.contains(&spec.name) {
            return Err(wrong(format!("placement.{key}"), "names the service itself", "remove it"));
        }
    }
    if let Some(both) = spec.placement.with.iter().find(|n| spec.placement.apart.contains(n)) {
        return Err(wrong("placement", format!("'{both}' is in both with and apart"), "remove one of them"));
    }
    match spec.placement.prefer.iter().find(|p| p.weight.abs() > 100) {
        Some(p) => {
            Err(wrong("placement.prefer.weight", format!("{} is out of range", p.weight), "use -100 to 100"))
        }
        None => Ok(()),
    }
}

fn check_task(task: &TaskSpec) -> Result<(), SpecError> {
    let at = |key: &str| format!("task.{}.{key}", task.name);
    let Driver::Exec(exec) = &task.driver;
    let program = exec.command.first().map_or("", String::as_str);
    if program.is_empty() {
        return Err(wrong(at("exec.command"), "is empty", "write it as [\"/path/program\", \"argument\"]"));
    }
    if program.contains('/') && !program.starts_with('/') {
        return Err(wrong(
            at("exec.command"),
            format!("'{program}' is a relative path"),
            "use an absolute path",
        ));
    }
    let bytes: usize = exec.command.iter().map(String::len).sum::<usize>()
        + exec.env.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
    if bytes > MAX_EXEC_BYTES {
        return Err(wrong(at("exec"), "command and env exceed 64 KiB", "use a file"));
    }
    let texts =
        exec.command.iter().chain(exec.env.keys()).chain(exec.env.values()).chain(exec.secrets.keys());
    if texts.into_iter().any(|t| t.contains('\0')) {
        return Err(wrong(at("exec"), "contains a NUL character", "remove it"));
    }
    check_env(exec, &at("exec.env"))?;
    if exec.directory.as_ref().is_some_and(|d| !d.starts_with('/')) {
        return Err(wrong(at("exec.directory"), "is a relative path", "use an absolute path"));
    }
    check_stop_signal(exec).map_err(|problem| {
        let remedy = "use TERM, INT, QUIT, HUP, KILL, USR1, USR2 or WINCH";
        wrong(at("exec.stop_signal"), problem, remedy)
    })?;
    check_health(task)
}

fn check_env(exec: &ExecSpec, at: &str) -> Result<(), SpecError> {
    let mut names = exec.env.keys().chain(exec.secrets.keys());
    if let Some(key) = names.find(|k| k.is_empty() || k.contains('=')) {
        return Err(wrong(at, format!("'{key}' is not a variable name"), "use NAME = \"value\""));
    }
    if let Some(key) = exec.secrets.keys().find(|k| exec.env.contains_key(*k)) {
        return Err(wrong(at, format!("'{key}' is both a text and a secret"), "keep one of them"));
    }
    if exec.secrets.len() > MAX_TASK_SECRETS {
        return Err(wrong(at, format!("{} secrets", exec.secrets.len()), "name at most 16 in one task"));
    }
    Ok(())
}

fn check_stop_signal(exec: &ExecSpec) -> Result<(), String> {
    let Some(name) = &exec.stop_signal else { return Ok(()) };
    let bare = name.strip_prefix("SIG").unwrap_or(name);
    if STOP_SIGNALS.contains(&bare) { Ok(()) } else { Err(format!("'{name}' is not a signal to stop with")) }
}

fn check_health(task: &TaskSpec) -> Result<(), SpecError> {
    let Some(health) = &task.health else { return Ok(()) };
    let at = |key: &str| format!("task.{}.health.{key}", task.name);
    if health.interval.is_zero() || health.interval > MAX_DURATION {
        return Err(wrong(at("interval"), "is out of range", "use 10ms to 7d"));
    }
    if health.timeout.is_zero() || health.timeout > MAX_DURATION {
        return Err(wrong(at("timeout"), "is out of range", "use 10ms to 7d"));
    }
    if health.failures == 0 {
        return Err(wrong(at("failures"), "is 0", "use 1 or more"));
    }
    match &health.check {
        Check::Tcp(address) if address.rsplit_once(':').is_none_or(|(_, p)| p.parse::<u16>().is_err()) => {
            Err(wrong(at("tcp"), format!("'{address}' is not HOST:PORT"), "write it as \"127.0.0.1:6379\""))
        }
        Check::Http(url) if !url.starts_with("http://") => Err(wrong(
            at("http"),
            format!("'{url}' is not an http:// URL"),
            "write it as \"http://127.0.0.1:80/\"",
        )),
        Check::Exec(command) if command.is_empty() => {
            Err(wrong(at("exec"), "is empty", "write it as [\"/path/program\", \"argument\"]"))
        }
        Check::Tcp(_) | Check::Http(_) | Check::Exec(_) => Ok(()),
    }
}
