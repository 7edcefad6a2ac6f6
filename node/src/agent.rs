//! The agent's own part on every node: keeps the session of its guard, brings the instances that are placed
//! here to what the replicated state wants, and tells the cluster how they are.
//!
//! It decides, the guard enforces: the agent may crash, hang or be upgraded while tasks and lease go on. After
//! a restart it takes over what the guard has and goes on from there.
//!
//! **Architecture Invariant:** nothing here reads or writes Raft; it is given a state to watch and somewhere to
//! submit commands.

pub mod guard_door;
pub mod guard_link;
pub mod health;
mod instance;
pub mod logs;
mod reconcile;
mod report;
mod session;
mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use muster_core::id::{ClusterId, Incarnation, NodeId, NodeName, SessionId};
use muster_core::state::State;
use muster_guard::protocol::{LeaseStatus, Reply, Request};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::guard_door::GuardDoor;
use self::guard_link::{GuardError, GuardLink};
use self::health::HealthChecks;
pub use self::instance::LocalInstance;
use self::logs::{LogLine, LogQuery, Past};
use self::reconcile::{HEALTH_REPORTS_MAX, Reconciler};
use self::report::Reporter;
use self::session::SessionKeeper;
pub use self::view::GuardView;
use crate::driver::exec::ExecDriver;
use crate::driver::{Driver, SecretSource};
use crate::submit::Submit;

const STATUS_TIME: Duration = Duration::from_secs(1);
/// On top of the grace that the tasks get.
const LEAVE_SLACK: Duration = Duration::from_secs(10);

/// What an agent needs to know.
#[derive(Clone)]
pub struct Options {
    /// This node.
    pub node: NodeId,
    /// Its name.
    pub node_name: NodeName,
    /// The cluster.
    pub cluster: ClusterId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Holds the logs of tasks.
    pub data_dir: PathBuf,
    /// The way to its guard.
    pub guard: Arc<dyn GuardDoor>,
    /// Where tasks get their secrets from.
    pub secrets: Arc<dyn SecretSource>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("node", &self.node).finish_non_exhaustive()
    }
}

/// How the agent and its guard are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentStatus {
    /// What the agent knows of its guard.
    pub guard: GuardView,
    /// The lease as the guard told it just now; `None`: the guard did not answer.
    pub lease: Option<LeaseStatus>,
}

/// Starts the agent's part. It runs until [`AgentHandle::stop`], or until `state` has no more writer.
pub fn start(options: Options, state: watch::Receiver<Arc<State>>, submit: Arc<dyn Submit>) -> AgentHandle {
    tracing::info!(
        node = %options.node_name, id = %options.node, cluster = %options.cluster,
        incarnation = %options.incarnation, "the agent takes over this host's instances"
    );
    let stop = CancellationToken::new();
    let (guard, events, link) = GuardLink::new(options.guard);
    let driver: Arc<dyn Driver> =
        Arc::new(ExecDriver::new(guard.clone(), options.data_dir.clone(), options.secrets));
    let (health_sender, health_reports) = mpsc::channel(HEALTH_REPORTS_MAX);
    let (view_sender, view) = watch::channel(GuardView::default());
    let (local_sender, local) = watch::channel(Arc::default());
    let reporter = Reporter::default();
    let keeper = SessionKeeper {
        node: options.node,
        guard: guard.clone(),
        state: state.clone(),
        view: view.clone(),
        submit: Arc::clone(&submit),
    };
    let reconciler = Reconciler {
        node: options.node,
        node_name: options.node_name,
        state,
        events,
        health_reports,
        guard: guard.clone(),
        driver: Arc::clone(&driver),
        health: HealthChecks::new(driver, health_sender),
        reporter: reporter.clone(),
        view: view_sender,
        local: local_sender,
        instances: BTreeMap::new(),
        steps: JoinSet::new(),
        seen_topology: None,
    };
    let parts = TaskTracker::new();
    let run = |part: futures::future::BoxFuture<'static, ()>| {
        let stop = stop.clone();
        parts.spawn(async move { stop.run_until_cancelled(part).await });
    };
    run(Box::pin(reconciler.run()));
    run(Box::pin(keeper.run()));
    run(Box::pin(reporter.run(submit)));
    run(Box::pin(link.run()));
    parts.close();
    AgentHandle { guard, view, local, data_dir: options.data_dir, stop, parts }
}

/// A handle to the agent's own part; cheap to clone.
#[derive(Clone)]
pub struct AgentHandle {
    guard: GuardLink,
    view: watch::Receiver<GuardView>,
    local: watch::Receiver<Arc<Vec<LocalInstance>>>,
    data_dir: PathBuf,
    stop: CancellationToken,
    parts: TaskTracker,
}

impl AgentHandle {
    /// What the agent knows of its guard, without asking it.
    #[must_use]
    pub fn guard_view(&self) -> GuardView {
        self.view.borrow().clone()
    }

    /// How the agent and its guard are. Asks the guard, at most a second.
    pub async fn status(&self) -> AgentStatus {
        let lease = match self.guard.call(Request::LeaseStatus, STATUS_TIME).await {
            Ok(Reply::Lease(lease)) => Some(lease),
            _ => None,
        };
        AgentStatus { guard: self.guard_view(), lease }
    }

    /// The session under which exclusive instances may run on this host now.
    #[must_use]
    pub fn valid_session(&self) -> Option<SessionId> {
        self.view.borrow().valid_session()
    }

    /// The instances that are placed here, as this host sees them now.
    #[must_use]
    pub fn local_instances(&self) -> Arc<Vec<LocalInstance>> {
        Arc::clone(&self.local.borrow())
    }

    /// Told whenever [`Self::local_instances`] changes.
    #[must_use]
    pub fn watch_instances(&self) -> watch::Receiver<Arc<Vec<LocalInstance>>> {
        self.local.clone()
    }

    /// Reads the logs of tasks that run or ran on this host.
    pub fn read_logs<P: FnOnce() -> Past + Send + 'static>(
        &self,
        query: LogQuery,
        past: P,
    ) -> impl Stream<Item = std::io::Result<LogLine>> + Send + use<P> {
        logs::read_logs(&self.data_dir, query, past)
    }

    /// Ends the agent's part. Guard, lease and tasks go on.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.parts.wait().await;
    }

    /// The host leaves the cluster: the guard stops all tasks within `grace`, proves to the voters that nothing
    /// is left, and ends. The agent's part ends with it. Drain the node first, or its instances fail over
    /// instead of moving.
    ///
    /// # Errors
    /// When the guard can't be reached or refuses.
    pub async fn leave(&self, grace: Duration) -> Result<(), GuardError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let was_connected = self.view.borrow().boot.is_some();
        let outcome = self.guard.order(Request::StopGuard { grace_ms }, grace + LEAVE_SLACK).await;
        self.stop().await;
        match outcome {
            // A guard that ends closes its connection.
            Err(GuardError::Unreachable) if was_connected => Ok(()),
            outcome => outcome,
        }
    }
}

#[cfg(test)]
mod tests;
