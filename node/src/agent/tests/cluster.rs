//! A cluster of one voter in memory: commands are applied to a real state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use muster_core::command::{
    Bootstrap, Command, NodeDescription, Proposal, PutSecret, SealedValue, SecretWrite, StopCause,
};
use muster_core::id::{
    ClusterId, Generation, Incarnation, NodeId, NodeName, RequestId, Revision, SecretKeyId, SecretName,
    ServiceName, SlotId, TaskName,
};
use muster_core::scheduler::plan::{Action, ActionKind, Plan, Target};
use muster_core::spec::{Driver, ExecSpec, HealthSpec, Mode, RestartPolicy, ServiceSpec, TaskSpec};
use muster_core::state::State;
use muster_core::state::apply::Reply;
use muster_core::state::slot::Placement;
use muster_core::time::{Stamp, Timing};
use tokio::sync::watch;

use crate::submit::{Submit, SubmitError};

pub const NODE: NodeId = NodeId(1);

pub struct Cluster {
    state: watch::Sender<Arc<State>>,
    is_reachable: AtomicBool,
    commands: Mutex<Vec<Command>>,
}

impl Cluster {
    pub fn new() -> Arc<Self> {
        let cluster = Self {
            state: watch::Sender::new(Arc::default()),
            is_reachable: AtomicBool::new(true),
            commands: Mutex::default(),
        };
        let node =
            NodeDescription { addresses: vec!["127.0.0.1:7420".to_owned()], ..NodeDescription::default() };
        let bootstrap = Bootstrap {
            cluster: ClusterId(7),
            name: "test".to_owned(),
            incarnation: Incarnation(1),
            timing: Timing::LAN,
            node,
            node_name: NodeName::new("n1").unwrap(),
        };
        cluster.apply(Command::Bootstrap(bootstrap)).unwrap();
        cluster.state.send_modify(|state| {
            let state = Arc::make_mut(state);
            let at = Revision(state.revision.0 + 1);
            state.apply_membership(at, vec![BTreeSet::from([NODE])], BTreeSet::new());
        });
        Arc::new(cluster)
    }

    pub fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.state.subscribe()
    }

    pub fn state(&self) -> Arc<State> {
        self.state.borrow().clone()
    }

    pub fn apply(&self, command: Command) -> Result<Reply, SubmitError> {
        self.commands.lock().unwrap().push(command.clone());
        let mut reply = None;
        self.state.send_modify(|state| {
            let state = Arc::make_mut(state);
            let at = Revision(state.revision.0 + 1);
            let proposal =
                Proposal { stamp: Stamp(at.0), request: RequestId::default(), actor: "test".into(), command };
            reply = Some(state.apply(at, &proposal).reply);
        });
        reply.unwrap().map_err(SubmitError::Refused)
    }

    pub fn set_reachable(&self, is_reachable: bool) {
        self.is_reachable.store(is_reachable, Ordering::SeqCst);
    }

    pub fn declare(&self, spec: ServiceSpec) {
        self.apply(Command::PutServices { services: vec![spec], if_revision: None }).unwrap();
    }

    /// Makes a secret, whose value nobody here looks at.
    pub fn make_secret(&self, name: &SecretName) {
        let key = SecretKeyId([1; 16]);
        self.apply(Command::OfferSecretKey { key }).unwrap();
        self.apply(Command::HoldSecretKey { node: NODE, key }).unwrap();
        let (name, sealed) = (name.clone(), SealedValue::default());
        self.apply(Command::PutSecret(PutSecret { name, key, sealed, how: SecretWrite::Create })).unwrap();
    }

    fn act(&self, slot: &SlotId, kind: ActionKind) {
        let action = Action { slot: slot.clone(), kind, reason: "test".to_owned() };
        let plan = Plan { base: self.state().topology, actions: vec![action] };
        self.apply(Command::ApplyPlan(plan)).unwrap();
    }

    /// Places the slot on the node under its open session.
    pub fn place(&self, slot: &SlotId) -> Generation {
        let session = self.state().session_of(NODE).map(|session| session.id);
        self.act(slot, ActionKind::Assign(Target { node: NODE, session }));
        self.placement(slot).unwrap().generation
    }

    pub fn revoke(&self, slot: &SlotId) {
        let generation = self.placement(slot).unwrap().generation;
        self.act(slot, ActionKind::Revoke { generation, target: None });
    }

    /// Closes the node's session, as the voters' promises or Fenced would.
    pub fn close_session(&self) {
        let session = self.state().session_of(NODE).unwrap().id;
        let plan = Plan { base: self.state().topology, actions: Vec::new() };
        self.apply(Command::Fenced { session, plan }).unwrap();
    }

    pub fn placement(&self, slot: &SlotId) -> Option<Placement> {
        self.state().slots.get(slot).and_then(|s| s.current()).cloned()
    }

    /// The last failure that the state remembers of a slot.
    pub fn failure(&self, slot: &SlotId) -> Option<String> {
        self.state().slots.get(slot).and_then(|s| s.failures.last()).map(|f| f.message.clone())
    }

    pub fn count(&self, is_meant: impl Fn(&Command) -> bool) -> usize {
        self.commands.lock().unwrap().iter().filter(|c| is_meant(c)).count()
    }
}

pub fn was_revoked(command: &Command) -> bool {
    matches!(command, Command::Stopped(stopped) if stopped.why == StopCause::Revoked)
}

impl Submit for Cluster {
    fn submit(&self, command: Command) -> BoxFuture<'_, Result<Reply, SubmitError>> {
        Box::pin(async move {
            if self.is_reachable.load(Ordering::SeqCst) {
                self.apply(command)
            } else {
                Err(SubmitError::Unavailable("no leader".to_owned()))
            }
        })
    }
}

pub fn slot(service: &str) -> SlotId {
    SlotId { service: ServiceName::new(service).unwrap(), index: 0 }
}

/// A service whose restarts wait for nobody.
pub fn service(name: &str, mode: Mode, tasks: &[&str]) -> ServiceSpec {
    let task = |name: &&str| TaskSpec {
        name: TaskName::new(name).unwrap(),
        driver: Driver::Exec(ExecSpec {
            command: vec!["/bin/server".to_owned()],
            env: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
            ..ExecSpec::default()
        }),
        health: None,
    };
    let tasks = tasks.iter().map(task).collect();
    let mut spec = ServiceSpec::with_defaults(ServiceName::new(name).unwrap(), mode, tasks);
    spec.restart = RestartPolicy {
        backoff_min: std::time::Duration::from_millis(20),
        backoff_max: std::time::Duration::from_millis(40),
        ..spec.restart
    };
    spec
}

pub fn with_health(mut spec: ServiceSpec, health: HealthSpec) -> ServiceSpec {
    spec.tasks[0].health = Some(health);
    spec
}
