//! The whole agent between a guard without processes and a cluster in memory.

mod cluster;
mod fake_guard;
mod safe;

use muster_core::command::Command;
use muster_core::id::Generation;
use muster_core::spec::{Check, HealthSpec, Mode, OnQuorumLoss};
use muster_core::state::slot::InstanceState;
use muster_guard::protocol::{Binding, EnvText, ExitHow, Refusal};

use self::cluster::{Cluster, NODE, service, slot, was_revoked, with_health};
use self::fake_guard::FakeGuard;
use self::safe::{Safe, VALUE};
use super::guard_door::LocalGuard;
use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

struct World {
    dir: tempfile::TempDir,
    guard: FakeGuard,
    cluster: Arc<Cluster>,
    safe: Arc<Safe>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { guard: FakeGuard::start(dir.path()), cluster: Cluster::new(), safe: Arc::default(), dir }
    }

    fn start_agent(&self) -> AgentHandle {
        let options = Options {
            node: NODE,
            node_name: NodeName::new("n1").unwrap(),
            cluster: ClusterId(7),
            secrets: Arc::clone(&self.safe) as Arc<dyn SecretSource>,
            incarnation: Incarnation(1),
            data_dir: self.dir.path().join("data"),
            guard: Arc::new(LocalGuard {
                run_dir: self.dir.path().to_owned(),
                data_dir: self.dir.path().join("data"),
                guard_exe: PathBuf::from("/nonexistent"),
                autostart_guard: false,
            }),
        };
        start(options, self.cluster.watch(), Arc::clone(&self.cluster) as Arc<dyn Submit>)
    }

    /// An agent whose guard holds a session.
    async fn with_session() -> (Self, AgentHandle) {
        let world = Self::new();
        let agent = world.start_agent();
        until("a valid session", || agent.valid_session().is_some()).await;
        (world, agent)
    }

    /// Declares, places and waits until the state says that it runs.
    async fn run(&self, spec: muster_core::spec::ServiceSpec) -> Generation {
        let slot = slot(spec.name.as_str());
        self.cluster.declare(spec);
        let generation = self.cluster.place(&slot);
        self.until_state(&slot, InstanceState::Running).await;
        generation
    }

    async fn until_state(&self, slot: &muster_core::id::SlotId, state: InstanceState) {
        until(state.as_str(), || self.cluster.placement(slot).is_some_and(|p| p.observed.state == state))
            .await;
    }
}

/// Waits for a condition, and fails when it doesn't come true.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, wait).await.is_ok(), "not within {DEADLINE:?}: {what}");
}

#[tokio::test]
async fn a_session_is_opened_and_held() {
    let (world, agent) = World::with_session().await;
    let session = world.cluster.state().session_of(NODE).unwrap().clone();
    assert_eq!(world.guard.session(), Some(session.id));
    assert_eq!(session.key.0, [0xab; 32]);
    let status = agent.status().await;
    assert_eq!(status.guard.program, "fake");
    assert_eq!(status.lease.unwrap().session, Some(session.id));
    assert_eq!(world.cluster.count(|c| matches!(c, Command::OpenSession(_))), 1);
}

#[tokio::test]
async fn an_exclusive_instance_is_started_with_its_fencing_token() {
    let (world, agent) = World::with_session().await;
    let generation = world.run(service("db", Mode::Exclusive, &["address", "server"])).await;
    let started = world.guard.started();
    assert_eq!(started.iter().map(|s| s.task.as_str()).collect::<Vec<_>>(), ["address", "server"]);
    let start = &started[1];
    assert_eq!((start.binding, start.generation), (Binding::Exclusive, generation));
    assert_eq!(Some(start.session), world.guard.session());
    let env = |key: &str| start.spec.env.get(key).map(EnvText::as_str);
    let token = generation.to_string();
    assert_eq!(env("MUSTER_GENERATION"), Some(token.as_str()));
    assert_eq!(
        [env("MUSTER_SERVICE"), env("MUSTER_INSTANCE"), env("MUSTER_NODE")],
        ["db", "0", "n1"].map(Some)
    );
    assert_eq!(env("A"), Some("b"));
    assert!(start.spec.log.as_ref().unwrap().path.ends_with("data/logs/db/0/server.log"));
    let local = agent.local_instances();
    assert_eq!((local[0].state, local[0].generation), (InstanceState::Running, generation));
}

#[tokio::test]
async fn a_task_waits_for_its_secrets_and_fails_for_no_lack_of_them() {
    let (world, _agent) = World::with_session().await;
    let mut spec = service("db", Mode::Exclusive, &["server"]);
    let muster_core::spec::Driver::Exec(exec) = &mut spec.tasks[0].driver;
    let name = muster_core::id::SecretName::new("db-password").unwrap();
    exec.secrets.insert("PASSWORD".to_owned(), name.clone());
    world.cluster.make_secret(&name);
    world.cluster.declare(spec);
    world.cluster.place(&slot("db"));
    let waits = || {
        let told = world.cluster.placement(&slot("db")).and_then(|p| p.observed.message);
        told.is_some_and(|m| m == "task server waits for its secrets: the safe is locked")
    };
    until("the lack to be told", waits).await;
    assert_eq!(world.guard.starts("server"), 0);
    *world.safe.is_open.lock().unwrap() = true;
    world.until_state(&slot("db"), InstanceState::Running).await;
    let start = &world.guard.started()[0];
    assert_eq!(start.spec.env.get("PASSWORD").map(EnvText::as_str), Some(VALUE));
    assert!(!format!("{start:?}").contains(VALUE), "it is shown");
    let placement = world.cluster.placement(&slot("db")).unwrap();
    assert_eq!((placement.observed.restarts, world.cluster.failure(&slot("db"))), (0, None));
}

#[tokio::test]
async fn a_dead_task_is_restarted_without_the_cluster() {
    let (world, _agent) = World::with_session().await;
    world.run(service("db", Mode::Exclusive, &["server"])).await;
    world.cluster.set_reachable(false);
    world.guard.exit(&slot("db"), "server", ExitHow::Code(1));
    until("a second start", || world.guard.starts("server") == 2).await;
    world.cluster.set_reachable(true);
    let is_told = || world.cluster.placement(&slot("db")).is_some_and(|p| p.observed.restarts == 1);
    until("the restart to be told", is_told).await;
    world.until_state(&slot("db"), InstanceState::Running).await;
}

#[tokio::test]
async fn after_too_many_failures_the_instance_is_given_up_with_its_cause() {
    let (world, _agent) = World::with_session().await;
    world.cluster.declare(service("db", Mode::Exclusive, &["address", "server"]));
    let path = "/usr/bin/redis-serverx".to_owned();
    world.guard.break_task("server", Refusal::CommandNotFound { path });
    let generation = world.cluster.place(&slot("db"));
    until("it to be given up", || world.cluster.failure(&slot("db")).is_some()).await;
    let message = world.cluster.failure(&slot("db")).unwrap();
    assert!(
        message.contains("task server") && message.contains("/usr/bin/redis-serverx: no such file"),
        "{message}"
    );
    assert_eq!(world.cluster.placement(&slot("db")), None);
    assert!(!world.guard.is_running(&slot("db"), "address"));
    assert_eq!(world.guard.revoked(&slot("db")), Some(generation));
}

#[tokio::test]
async fn a_revoked_instance_is_stopped_in_order_and_then_told() {
    let (world, _agent) = World::with_session().await;
    let generation = world.run(service("db", Mode::Exclusive, &["address", "server"])).await;
    world.cluster.revoke(&slot("db"));
    until("it to be gone", || world.cluster.placement(&slot("db")).is_none()).await;
    assert_eq!(world.guard.stops(), ["server", "address"]);
    assert_eq!(world.guard.revoked(&slot("db")), Some(generation));
    assert_eq!(world.cluster.count(was_revoked), 1);
    let again = world.cluster.place(&slot("db"));
    world.until_state(&slot("db"), InstanceState::Running).await;
    assert_eq!(world.guard.started().last().unwrap().generation, again);
}

#[tokio::test]
async fn a_task_that_does_not_stop_is_killed_in_time() {
    let (world, _agent) = World::with_session().await;
    world.guard.make_stubborn("server");
    let mut spec = service("db", Mode::Exclusive, &["server"]);
    spec.stop_timeout = Duration::from_millis(50);
    world.run(spec).await;
    world.cluster.revoke(&slot("db"));
    until("it to be gone", || world.cluster.placement(&slot("db")).is_none()).await;
}

#[tokio::test]
async fn a_new_agent_takes_over_what_runs() {
    let (world, agent) = World::with_session().await;
    world.run(service("db", Mode::Exclusive, &["server"])).await;
    world.run(service("web", Mode::Replicated { count: 1 }, &["nginx"])).await;
    let commands = world.cluster.count(|_| true);
    agent.stop().await;
    until("the agent to be gone", || !world.guard.has_agent()).await;
    let agent = world.start_agent();
    let all_run = || {
        let local = agent.local_instances();
        local.len() == 2 && local.iter().all(|i| i.state == InstanceState::Running)
    };
    until("everything to be taken over", all_run).await;
    assert_eq!(world.cluster.count(|_| true), commands, "a restart of the agent itself writes nothing");
    world.guard.exit(&slot("web"), "nginx", ExitHow::Signal(11));
    until("it to be restarted", || world.guard.starts("nginx") == 2).await;
    assert_eq!(world.guard.starts("server"), 1);
    assert_eq!(world.guard.stops(), Vec::<String>::new());
    assert_eq!(world.cluster.count(|c| matches!(c, Command::OpenSession(_))), 1);
}

#[tokio::test]
async fn what_ended_while_no_agent_looked_is_restarted() {
    let (world, agent) = World::with_session().await;
    world.run(service("db", Mode::Exclusive, &["server"])).await;
    agent.stop().await;
    until("the agent to be gone", || !world.guard.has_agent()).await;
    world.guard.exit(&slot("db"), "server", ExitHow::Code(3));
    let _agent = world.start_agent();
    until("a second start", || world.guard.starts("server") == 2).await;
}

#[tokio::test]
async fn a_new_guard_gets_a_new_session_once_the_old_one_is_closed() {
    let (world, agent) = World::with_session().await;
    world.run(service("db", Mode::Exclusive, &["server"])).await;
    let old = world.guard.session();
    world.guard.restart();
    until("the new guard", || agent.guard_view().boot == Some(muster_core::id::BootId(2))).await;
    assert_eq!(world.guard.session(), None, "the old session is still open in the cluster");
    assert_eq!(world.guard.starts("server"), 1, "nothing exclusive starts without a lease");
    world.cluster.close_session();
    until("a new session", || agent.valid_session() > old).await;
    world.cluster.place(&slot("db"));
    world.until_state(&slot("db"), InstanceState::Running).await;
    assert_eq!(world.guard.starts("server"), 2);
}

#[tokio::test]
async fn the_end_of_a_lease_is_no_failure_and_leads_to_a_new_session() {
    let (world, agent) = World::with_session().await;
    world.run(service("db", Mode::Exclusive, &["server"])).await;
    world.run(service("web", Mode::Replicated { count: 1 }, &["nginx"])).await;
    let old = world.guard.session();
    world.guard.lapse();
    world.cluster.close_session();
    until("a new session", || agent.valid_session() > old).await;
    assert_eq!(world.cluster.failure(&slot("db")), None);
    world.cluster.place(&slot("db"));
    world.until_state(&slot("db"), InstanceState::Running).await;
    world.until_state(&slot("web"), InstanceState::Running).await;
    assert_eq!(world.guard.starts("nginx"), 1, "what is not exclusive ran on and was bound anew");
}

#[tokio::test]
async fn without_a_leader_what_is_not_exclusive_goes_on_and_is_restarted() {
    let (world, _agent) = World::with_session().await;
    world.run(service("web", Mode::Replicated { count: 1 }, &["nginx"])).await;
    world.cluster.set_reachable(false);
    world.guard.lapse();
    world.guard.exit(&slot("web"), "nginx", ExitHow::Code(1));
    until("a second start", || world.guard.starts("nginx") == 2).await;
}

#[tokio::test]
async fn what_is_to_stop_without_quorum_needs_a_lease_to_start() {
    let (world, _agent) = World::with_session().await;
    let mut spec = service("web", Mode::Replicated { count: 1 }, &["nginx"]);
    spec.on_quorum_loss = OnQuorumLoss::Stop;
    world.run(spec).await;
    let start = &world.guard.started()[0];
    assert_eq!((start.binding, start.stop_on_quorum_loss), (Binding::Free, true));
}

#[tokio::test]
async fn what_the_state_does_not_place_here_is_ended() {
    let world = World::new();
    let unknown = slot("ghost");
    world.guard.adopt(&unknown, "server", Generation(1));
    let _agent = world.start_agent();
    until("it to be ended", || world.guard.revoked(&unknown) == Some(Generation(1))).await;
    assert_eq!(world.guard.stops(), ["server"]);
}

#[tokio::test]
async fn a_state_older_than_an_instance_does_not_end_it() {
    let world = World::new();
    let newer = slot("newer");
    world.guard.adopt(&newer, "server", Generation(1000));
    let agent = world.start_agent();
    until("a session", || agent.valid_session().is_some()).await;
    world.run(service("db", Mode::Exclusive, &["server"])).await;
    assert!(world.guard.is_running(&newer, "server"));
    assert_eq!(world.guard.revoked(&newer), None);
}

#[tokio::test]
async fn an_unhealthy_task_is_restarted_and_the_check_is_named() {
    let (world, _agent) = World::with_session().await;
    world.guard.set_check(ExitHow::Code(0));
    let health = HealthSpec {
        check: Check::Exec(vec!["/bin/ping-me".to_owned()]),
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(1),
        failures: 2,
    };
    let mut spec = with_health(service("db", Mode::Exclusive, &["server"]), health);
    spec.restart.attempts = 1;
    world.run(spec).await;
    world.guard.set_check(ExitHow::Code(7));
    until("a restart", || world.guard.starts("server") == 2).await;
    until("it to be given up", || world.cluster.failure(&slot("db")).is_some()).await;
    let message = world.cluster.failure(&slot("db")).unwrap();
    assert!(message.contains("unhealthy") && message.contains("/bin/ping-me: exit status 7"), "{message}");
}

#[tokio::test]
async fn an_end_that_could_not_be_told_is_told_later() {
    let (world, _agent) = World::with_session().await;
    let generation = world.run(service("db", Mode::Exclusive, &["server"])).await;
    world.cluster.revoke(&slot("db"));
    world.cluster.set_reachable(false);
    until("the guard to end it", || world.guard.revoked(&slot("db")) == Some(generation)).await;
    world.cluster.set_reachable(true);
    until("it to be gone", || world.cluster.placement(&slot("db")).is_none()).await;
}

#[tokio::test]
async fn an_instance_given_up_before_a_restart_of_the_agent_is_not_started_again() {
    let (world, agent) = World::with_session().await;
    let mut spec = service("db", Mode::Exclusive, &["server"]);
    spec.restart.attempts = 0;
    let generation = world.run(spec).await;
    agent.stop().await;
    until("the agent to be gone", || !world.guard.has_agent()).await;
    world.guard.exit(&slot("db"), "server", ExitHow::Code(1));
    let _agent = world.start_agent();
    until("it to be given up", || world.cluster.failure(&slot("db")).is_some()).await;
    assert_eq!(world.guard.revoked(&slot("db")), Some(generation));
    assert_eq!(world.guard.starts("server"), 1);
}
