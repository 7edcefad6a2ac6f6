//! The bytes of one fixed proposal of each kind are recorded in `golden.txt`: whatever changes them would make the
//! logs of existing clusters unreadable. A new kind gets a new line there.

use std::fmt::Write as _;
use std::time::Duration;

use muster_core::audit::{Actor, ActorRole, RecordedCall, RecordedCalls};
use muster_core::command::{
    AddNode, AuthorityKey, Bootstrap, CertificateHolder, CloseSession, Command, DrainWish, NewAuthority,
    NewCertificate, NodeChange, NodeDescription, Observation, OpenSession, Proposal, PutSecret, Role,
    SealedValue, SecretWrite, SessionKey, StopCause, Stopped, TokenGrant, UserRole,
};
use muster_core::id::{
    BootId, ClusterId, Generation, Incarnation, MembershipId, NodeId, NodeName, Reopens, RequestId, Revision,
    SecretKeyId, SecretName, ServiceName, SessionId, SlotId, TaskName, UserName,
};
use muster_core::scheduler::plan::{Action, ActionKind, Plan, Target};
use muster_core::spec::selector::{Requirement, Test};
use muster_core::spec::{
    Check, Driver, Enforcement, ExecSpec, HealthSpec, Limits, Mode, PlacementSpec, Preference, Resources,
    ServiceSpec, TaskSpec,
};
use muster_core::state::slot::InstanceState;
use muster_core::time::{Stamp, Timing};
use muster_wire::encode_proposal;

const GOLDEN: &str = include_str!("golden.txt");

fn db() -> ServiceName {
    ServiceName::new("db").expect("a legal name")
}

fn slot() -> SlotId {
    SlotId { service: db(), index: 0 }
}

fn node_name(name: &str) -> NodeName {
    NodeName::new(name).expect("a legal name")
}

fn proposed(command: Command) -> Proposal {
    let request = RequestId { client: 0x0102_0304_0506_0708, seq: 3 };
    Proposal { stamp: Stamp(1_700_000_000_000), request, actor: "admin".into(), command }
}

/// Who, with all that is known of it.
fn actor() -> Actor {
    Actor {
        name: "user alice".to_owned(),
        role: ActorRole::User(UserRole::Operator),
        from: "10.0.0.9".to_owned(),
        via: "n2".to_owned(),
    }
}

fn record_calls() -> Command {
    let call = RecordedCall {
        time: Stamp(1_700_000_000_001),
        before: Revision(4),
        actor: actor(),
        verb: "service apply".to_owned(),
        target: "db".to_owned(),
        refused: Some(("MU2030".to_owned(), "no".to_owned())),
        count: 3,
    };
    Command::RecordCalls(RecordedCalls { node: NodeId(1), calls: vec![call] })
}

fn description() -> NodeDescription {
    NodeDescription {
        addresses: vec!["10.0.0.1:7420".to_owned()],
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        capacity: Resources { cpu_millis: 4000, memory_mib: 8192 },
        version: "0.1.0".to_owned(),
        features: (1, 2),
    }
}

fn spec() -> ServiceSpec {
    let exec = ExecSpec {
        command: vec!["/bin/db".to_owned(), "-v".to_owned()],
        user: Some("db".to_owned()),
        env: [("A".to_owned(), "b".to_owned())].into(),
        limits: Limits { open_files: Some(1024), ..Limits::default() },
        stop_signal: Some("INT".to_owned()),
        ..ExecSpec::default()
    };
    let health = HealthSpec {
        check: Check::Tcp("127.0.0.1:1".to_owned()),
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        failures: 3,
    };
    let task = TaskSpec {
        name: TaskName::new("server").expect("a legal name"),
        driver: Driver::Exec(exec),
        health: Some(health),
    };
    let zone = Requirement { label: "zone".to_owned(), test: Test::In(vec!["a".to_owned()]) };
    ServiceSpec {
        placement: PlacementSpec {
            require: vec![Requirement { label: "disk".to_owned(), test: Test::Has }],
            prefer: vec![Preference { label: zone, weight: -5 }],
            spread: Some("zone".to_owned()),
            ..PlacementSpec::default()
        },
        rto: Some(Duration::from_secs(5)),
        ..ServiceSpec::with_defaults(db(), Mode::Exclusive, vec![task])
    }
}

fn password() -> SecretName {
    SecretName::new("db-password").expect("a legal name")
}

fn with_secret() -> ServiceSpec {
    let mut spec = spec();
    let Driver::Exec(exec) = &mut spec.tasks[0].driver;
    exec.secrets.insert("PASSWORD".to_owned(), password());
    spec
}

fn user() -> UserName {
    UserName::new("alice").expect("a legal name")
}

fn target() -> Target {
    Target { node: NodeId(1), session: Some(SessionId(2)) }
}

fn plan() -> Plan {
    let action = |kind| Action { slot: slot(), kind, reason: "best".to_owned() };
    let generation = Generation(5);
    Plan {
        base: Revision(4),
        actions: vec![
            action(ActionKind::Assign(target())),
            action(ActionKind::Revoke { generation, target: Some(target()) }),
            action(ActionKind::Abandon { generation }),
            action(ActionKind::Keep { generation }),
        ],
    }
}

fn bootstrap() -> Command {
    Command::Bootstrap(Bootstrap {
        cluster: ClusterId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        name: "demo".to_owned(),
        incarnation: Incarnation(1),
        // As it was recorded, whatever the profile says by now.
        timing: Timing { raft_heartbeat_ms: 50, ..Timing::LAN },
        node: description(),
        node_name: node_name("n1"),
    })
}

fn open() -> Command {
    Command::OpenSession(OpenSession {
        node: NodeId(1),
        guard_boot: BootId(77),
        key: SessionKey([9; 32]),
        inventory: vec![(slot(), Generation(5))],
        enforcement: Enforcement::Kernel,
    })
}

fn token() -> Command {
    Command::CreateToken(TokenGrant {
        id: "t1".to_owned(),
        hash: [7; 32],
        role: Role::Worker,
        expires: Stamp(1_700_000_100_000),
        uses: 2,
    })
}

/// A cluster with one node, its session, and a service that is placed there; a token and an annotation too.
pub fn life_of_a_service() -> Vec<Proposal> {
    let assign = Action { slot: slot(), kind: ActionKind::Assign(target()), reason: "best".to_owned() };
    let commands = [
        bootstrap(),
        open(),
        Command::PutServices { services: vec![spec()], if_revision: None },
        Command::ApplyPlan(Plan { base: Revision(3), actions: vec![assign] }),
        token(),
        Command::AnnotateService { service: db(), key: "note".to_owned(), value: Some("x".to_owned()) },
    ];
    let request = |at: usize| RequestId { client: at as u64 + 1, seq: 1 };
    let commands = commands.into_iter().enumerate();
    commands.map(|(at, command)| Proposal { request: request(at), ..proposed(command) }).collect()
}

fn commands() -> Vec<Command> {
    let (service, node, slot) = (db(), NodeId(1), slot());
    let service = || service.clone();
    vec![
        bootstrap(),
        Command::AddNode(AddNode {
            name: node_name("n2"),
            description: description(),
            role: Role::Witness,
            token_hash: [7; 32],
        }),
        Command::RemoveNode { node },
        Command::DescribeNode { node, description: description() },
        Command::ChangeNode {
            node,
            change: NodeChange::Drain(DrainWish { deadline: Some(Duration::from_secs(60)), max_parallel: 2 }),
        },
        Command::VoterUp { voter: node, boot: BootId(8), replaces: Some(BootId(7)) },
        open(),
        Command::CloseSession(CloseSession {
            session: SessionId(2),
            membership: MembershipId(3),
            reopens: Reopens(1),
            promises: vec![(NodeId(1), BootId(8))],
            plan: plan(),
        }),
        Command::Fenced { session: SessionId(2), plan: plan() },
        Command::Reopen { session: SessionId(2), to: Reopens(1) },
        Command::NoteAgent { session: SessionId(2), gone: true },
        Command::ApplyPlan(plan()),
        Command::Stopped(Stopped {
            slot: slot.clone(),
            node,
            session: Some(SessionId(2)),
            generation: Generation(5),
            why: StopCause::Failed { message: "exit status 1".to_owned() },
        }),
        Command::Observe(Observation {
            slot: slot.clone(),
            node,
            generation: Generation(5),
            state: InstanceState::Running,
            restarts: 1,
            message: Some("ready".to_owned()),
        }),
        Command::PutServices { services: vec![spec()], if_revision: Some(Revision(4)) },
        Command::RemoveService { service: service() },
        Command::SetServiceWanted { service: service(), wanted: true },
        Command::RestartService { service: service() },
        Command::ScaleService { service: service(), count: 3 },
        Command::RollbackService { service: service() },
        Command::AnnotateService { service: service(), key: "k".to_owned(), value: Some(String::new()) },
        Command::MoveInstance { slot, to: Some(node) },
        Command::ClearFailures { service: service() },
        token(),
        Command::RevokeToken { id: "t1".to_owned() },
        Command::SetTiming(Timing::WAN),
    ]
}

fn trust_commands() -> Vec<Command> {
    let node = NodeId(1);
    vec![
        Command::AddAuthority(NewAuthority {
            certificate: [1, 2].into(),
            introduction: Some([3].into()),
            key: AuthorityKey([4, 5].into()),
        }),
        Command::RetireAuthority { forced: true },
        Command::IssueCertificate(NewCertificate::Node { node, token_hash: Some([7; 32]) }),
        Command::IssueCertificate(NewCertificate::User {
            name: user(),
            role: UserRole::Admin,
            life: Duration::from_secs(60),
        }),
        Command::RevokeCertificates(CertificateHolder::User(user())),
        Command::RemoveUser { name: user() },
    ]
}

fn secret_commands() -> Vec<Command> {
    let node = NodeId(1);
    vec![
        Command::OfferSecretKey { key: SecretKeyId([6; 16]) },
        Command::HoldSecretKey { node, key: SecretKeyId([6; 16]) },
        Command::PutSecret(PutSecret {
            name: password(),
            key: SecretKeyId([6; 16]),
            sealed: SealedValue([1, 2, 3].into()),
            how: SecretWrite::Reseal { of: Revision(9) },
        }),
        Command::RemoveSecret { name: password(), forced: true },
        Command::PutServices { services: vec![with_secret()], if_revision: None },
    ]
}

/// Exhaustive, so that a new command cannot be forgotten here.
fn kind(command: &Command) -> &'static str {
    match command {
        Command::Bootstrap(_) => "bootstrap",
        Command::AddNode(_) => "add_node",
        Command::RemoveNode { .. } => "remove_node",
        Command::DescribeNode { .. } => "describe_node",
        Command::ChangeNode { .. } => "change_node",
        Command::VoterUp { .. } => "voter_up",
        Command::OpenSession(_) => "open_session",
        Command::CloseSession(_) => "close_session",
        Command::Fenced { .. } => "fenced",
        Command::Reopen { .. } => "reopen",
        Command::NoteAgent { .. } => "note_agent",
        Command::ApplyPlan(_) => "apply_plan",
        Command::Stopped(_) => "stopped",
        Command::Observe(_) => "observe",
        Command::PutServices { .. } => "put_services",
        Command::RemoveService { .. } => "remove_service",
        Command::SetServiceWanted { .. } => "set_service_wanted",
        Command::RestartService { .. } => "restart_service",
        Command::ScaleService { .. } => "scale_service",
        Command::RollbackService { .. } => "rollback_service",
        Command::AnnotateService { .. } => "annotate_service",
        Command::MoveInstance { .. } => "move_instance",
        Command::ClearFailures { .. } => "clear_failures",
        Command::CreateToken(_) => "create_token",
        Command::RevokeToken { .. } => "revoke_token",
        Command::SetTiming(_) => "set_timing",
        Command::AddAuthority(_) => "add_authority",
        Command::RetireAuthority { .. } => "retire_authority",
        Command::IssueCertificate(_) => "issue_certificate",
        Command::RevokeCertificates(_) => "revoke_certificates",
        Command::RemoveUser { .. } => "remove_user",
        Command::OfferSecretKey { .. } => "offer_secret_key",
        Command::HoldSecretKey { .. } => "hold_secret_key",
        Command::PutSecret(_) => "put_secret",
        Command::RemoveSecret { .. } => "remove_secret",
        Command::RecordCalls(_) => "record_calls",
    }
}

#[test]
fn the_bytes_of_every_kind_of_command_stay_as_recorded() {
    let mut actual = String::new();
    for command in
        commands().into_iter().chain(trust_commands()).chain(secret_commands()).chain([record_calls()])
    {
        write!(actual, "{} ", kind(&command)).unwrap();
        for byte in encode_proposal(&proposed(command)) {
            write!(actual, "{byte:02x}").unwrap();
        }
        actual.push('\n');
    }
    write!(actual, "with_actor ").unwrap();
    let with_actor = Proposal { actor: actor(), ..proposed(Command::RemoveUser { name: user() }) };
    for byte in encode_proposal(&with_actor) {
        write!(actual, "{byte:02x}").unwrap();
    }
    actual.push('\n');
    for (actual, recorded) in actual.lines().zip(GOLDEN.lines()) {
        assert_eq!(actual, recorded);
    }
    assert_eq!(actual.lines().count(), GOLDEN.lines().count(), "the bytes now are:\n{actual}");
}
