//! The `exec` driver: processes of the host, as children of the guard.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use muster_core::id::{ServiceName, SlotId};
use muster_core::spec::{self, ExecSpec};
use muster_guard::protocol::{self as guard, EnvText, ExitHow, LogSpec, Refusal, Reply, Request};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::{Cause, Driver, DriverError, SecretSource, SecretValues, StartOrder, StartProblem, TaskId};
use crate::agent::guard_link::{GuardError, GuardLink};

/// A guard answers at once; a start may have to read a program from a slow disk.
const START_TIME: Duration = Duration::from_secs(30);
const ORDER_TIME: Duration = Duration::from_secs(5);
/// On top of a check's own timeout.
const CHECK_SLACK: Duration = Duration::from_secs(2);
/// A task's log is rotated at this size, and so many rotated files are kept.
const LOG_BYTES_MAX: u64 = 16 << 20;
const LOG_FILES_KEPT: u32 = 4;
const BASE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where the logs of an instance's tasks are: `TASK.log`.
#[must_use]
pub fn log_dir(data_dir: &Path, slot: &SlotId) -> PathBuf {
    logs_of(data_dir, &slot.service).join(slot.index.to_string())
}

/// Where those of all instances of a service are: a directory each.
#[must_use]
pub fn logs_of(data_dir: &Path, service: &ServiceName) -> PathBuf {
    data_dir.join("logs").join(service.as_str())
}

/// The driver.
#[derive(Clone)]
pub struct ExecDriver {
    guard: GuardLink,
    data_dir: PathBuf,
    secrets: Arc<dyn SecretSource>,
}

impl ExecDriver {
    /// Tasks run under this guard, with their logs below `data_dir`, and get their secrets from `secrets`.
    #[must_use]
    pub fn new(guard: GuardLink, data_dir: PathBuf, secrets: Arc<dyn SecretSource>) -> Self {
        Self { guard, data_dir, secrets }
    }

    async fn start_task(&self, order: StartOrder) -> Result<(), DriverError> {
        let (task, node) = (order.id.task.clone(), order.node.clone());
        let cannot = |cause| DriverError::Cannot(StartProblem { task: task.clone(), cause });
        let secrets = self.secrets_of(&order).await?;
        let start = guard::StartTask {
            slot: order.id.slot.clone(),
            task: task.clone(),
            generation: order.generation,
            session: order.session,
            binding: order.binding,
            stop_on_quorum_loss: order.stop_on_quorum_loss,
            spec: self.task_spec(&order, &secrets).map_err(cannot)?,
        };
        drop(secrets);
        match self.guard.call(Request::StartTask(Box::new(start)), START_TIME).await {
            Ok(Reply::Started { notes, .. }) => {
                notes.iter().for_each(|note| tracing::info!(task = %order.id, "{note}"));
                Ok(())
            }
            Ok(_) => Err(DriverError::Unknown(GuardError::Unexpected)),
            Err(GuardError::TimedOut) => {
                self.guard.reconnect().await;
                Err(DriverError::Unknown(GuardError::TimedOut))
            }
            Err(error) => Err(refused(error, |refusal| cannot(cause_of(refusal, node.clone())))),
        }
    }

    async fn secrets_of(&self, order: &StartOrder) -> Result<SecretValues, DriverError> {
        let spec::Driver::Exec(exec) = &order.spec.driver;
        if exec.secrets.is_empty() {
            return Ok(SecretValues::new());
        }
        self.secrets.fetch(order).await.map_err(DriverError::NoSecrets)
    }

    fn task_spec(&self, order: &StartOrder, secrets: &SecretValues) -> Result<guard::TaskSpec, Cause> {
        let spec::Driver::Exec(exec) = &order.spec.driver;
        let stop_signal = exec.stop_signal.as_deref().map(signal_number).transpose()?;
        let log = LogSpec {
            path: log_dir(&self.data_dir, &order.id.slot)
                .join(format!("{}.log", order.id.task))
                .display()
                .to_string(),
            max_bytes: LOG_BYTES_MAX,
            keep: LOG_FILES_KEPT,
        };
        Ok(guard::TaskSpec {
            argv: exec.command.clone(),
            user: exec.user.clone(),
            group: exec.group.clone(),
            directory: exec.directory.clone(),
            env: environment(order, exec, secrets),
            limits: guard::Limits {
                nofile: exec.limits.open_files,
                nproc: exec.limits.processes,
                core_bytes: exec.limits.core_bytes,
                memlock_bytes: exec.limits.locked_memory_bytes,
                address_space_bytes: exec.limits.address_space_bytes,
                ..guard::Limits::default()
            },
            stop_signal,
            stop_grace_ms: u64::try_from(order.stop_timeout.as_millis()).unwrap_or(u64::MAX),
            log: Some(log),
            checks: matches!(&order.spec.health, Some(health) if matches!(health.check, spec::Check::Exec(_))),
        })
    }

    async fn order(&self, request: Request) -> Result<(), DriverError> {
        let outcome = self.guard.order(request, ORDER_TIME).await;
        outcome.map_err(|e| refused(e, |r| DriverError::Unknown(GuardError::Refused(r))))
    }
}

impl Driver for ExecDriver {
    fn start(&self, order: StartOrder) -> BoxFuture<'_, Result<(), DriverError>> {
        self.start_task(order).boxed()
    }

    fn stop(&self, id: TaskId, grace: Duration) -> BoxFuture<'_, Result<(), DriverError>> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.order(Request::StopTask { slot: id.slot, task: id.task, grace_ms }).boxed()
    }

    fn kill(&self, id: TaskId) -> BoxFuture<'_, Result<(), DriverError>> {
        self.stop(id, Duration::ZERO)
    }

    fn check(
        &self,
        id: TaskId,
        argv: Vec<String>,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Option<ExitHow>, DriverError>> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let task = id.task.clone();
        let request = Request::RunCheck { slot: id.slot, task: id.task, argv, timeout_ms };
        async move {
            match self.guard.call(request, timeout + CHECK_SLACK).await {
                Ok(Reply::Checked { how }) => Ok(how),
                Ok(_) => Err(DriverError::Unknown(GuardError::Unexpected)),
                Err(e) => {
                    Err(refused(e, |r| DriverError::Cannot(StartProblem { task, cause: check_cause(r) })))
                }
            }
        }
        .boxed()
    }
}

/// A small base, Muster's variables, and what the service declares, which wins over the base only.
fn environment(order: &StartOrder, exec: &ExecSpec, secrets: &SecretValues) -> BTreeMap<String, EnvText> {
    // HOME, USER and LOGNAME come from the guard, which knows the host's users.
    let mut env: BTreeMap<String, EnvText> =
        [("PATH", BASE_PATH), ("LANG", "C.UTF-8")].map(|(k, v)| (k.to_owned(), v.into())).into();
    env.extend(exec.env.iter().map(|(variable, text)| (variable.clone(), text.as_str().into())));
    let secret = |(variable, name): (&String, _)| Some((variable.clone(), secrets.get(name)?.clone()));
    env.extend(exec.secrets.iter().filter_map(secret));
    let own = [
        ("MUSTER_SERVICE", order.id.slot.service.to_string()),
        ("MUSTER_INSTANCE", order.id.slot.index.to_string()),
        ("MUSTER_NODE", order.node.to_string()),
        ("MUSTER_GENERATION", order.generation.to_string()),
        ("MUSTER_SESSION", order.session.to_string()),
    ];
    env.extend(own.map(|(k, v)| (k.to_owned(), v.into())));
    env
}

fn signal_number(name: &str) -> Result<i32, Cause> {
    let full = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
    Signal::from_str(&full).map(|s| s as i32).map_err(|_| Cause::NoSuchSignal(name.to_owned()))
}

/// Sorts the guard's refusals into those that say something about now and, by `other`, the rest.
fn refused(error: GuardError, other: impl FnOnce(Refusal) -> DriverError) -> DriverError {
    match error {
        GuardError::Refused(refusal) => match refusal {
            Refusal::NoValidLease
            | Refusal::WrongSession { .. }
            | Refusal::SessionEnding { .. }
            | Refusal::KilledAtStart
            | Refusal::Stopping => DriverError::NoLease,
            Refusal::GenerationRevoked { revoked } => DriverError::Revoked(revoked),
            Refusal::SlotBusy { running } => DriverError::Busy(running),
            Refusal::NoSuchTask => DriverError::NotRunning,
            refusal => other(refusal),
        },
        error @ (GuardError::Unreachable | GuardError::TimedOut | GuardError::Unexpected) => {
            DriverError::Unknown(error)
        }
    }
}

/// A check runs as the task's user in the task's surroundings: only its own command can be wrong.
fn check_cause(refusal: Refusal) -> Cause {
    match refusal {
        Refusal::CommandNotFound { path } => Cause::NoSuchProgram(path),
        Refusal::CommandNotExecutable { path } => Cause::NotExecutable(path),
        refusal => Cause::Guard(refusal.to_string()),
    }
}

fn cause_of(refusal: Refusal, node: muster_core::id::NodeName) -> Cause {
    match refusal {
        Refusal::CommandNotFound { path } if path.contains('/') => Cause::NoSuchProgram(path),
        Refusal::CommandNotFound { path } => Cause::NotInPath(path),
        Refusal::CommandNotExecutable { path } => Cause::NotExecutable(path),
        Refusal::NoSuchUser { user } => Cause::NoSuchUser { user, node },
        Refusal::NoSuchGroup { group } => Cause::NoSuchGroup { group, node },
        Refusal::NoSuchDirectory { path } => Cause::NoSuchDirectory(path),
        Refusal::MayNotBecome { user } => Cause::MayNotBecome { user, node },
        Refusal::StartFailed { step, errno } => {
            Cause::System { step, error: Errno::from_raw(errno).desc().to_owned() }
        }
        refusal => Cause::Guard(refusal.to_string()),
    }
}
