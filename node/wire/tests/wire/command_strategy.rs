//! Arbitrary proposals. Ids and names come from small ranges, so that applied commands often meet what is there.

use muster_core::audit::{Actor, ActorRole, AuditOutcome, AuditRecord, RecordedCall, RecordedCalls};
use muster_core::command::{
    AddNode, AuthorityKey, Bootstrap, CertificateHolder, CloseSession, Command, DrainWish, NewAuthority,
    NewCertificate, NodeChange, NodeDescription, Observation, OpenSession, Proposal, PutSecret, Role,
    SealedValue, SecretWrite, SessionKey, StopCause, Stopped, TokenGrant, UserRole,
};
use muster_core::id::{
    BootId, ClusterId, Generation, Incarnation, MembershipId, NodeId, NodeName, Reopens, RequestId, Revision,
    SecretKeyId, SessionId, SlotId, UserName,
};
use muster_core::scheduler::plan::{Action, ActionKind, Plan, Target};
use muster_core::state::slot::InstanceState;
use muster_core::time::{Stamp, Timing};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::spec_strategy::{
    enforcement, number, resources, secret_name, service_name, spec, text, text_map, texts, time,
};

pub fn node_id() -> impl Strategy<Value = NodeId> {
    prop_oneof![4 => (0..6u64).prop_map(NodeId), 1 => any::<u64>().prop_map(NodeId)]
}

pub fn session_id() -> impl Strategy<Value = SessionId> {
    number().prop_map(SessionId)
}

pub fn generation() -> impl Strategy<Value = Generation> {
    number().prop_map(Generation)
}

pub fn stamp() -> impl Strategy<Value = Stamp> + Clone {
    number().prop_map(Stamp)
}

pub fn node_name() -> impl Strategy<Value = NodeName> {
    "[a-c]{1,2}".prop_map(|name| NodeName::new(&name).expect("legal by construction"))
}

pub fn slot_id() -> impl Strategy<Value = SlotId> {
    (service_name(), prop_oneof![4 => Just(0), 1 => number()])
        .prop_map(|(service, index)| SlotId { service, index })
}

pub fn role() -> impl Strategy<Value = Role> {
    select(vec![Role::Auto, Role::Worker, Role::Witness])
}

pub fn timing() -> impl Strategy<Value = Timing> {
    let custom = any::<[u32; 6]>().prop_map(|[h, ttl, k, raft, min, max]| Timing {
        heartbeat_ms: h,
        lease_ttl_ms: ttl,
        kill_budget_ms: k,
        raft_heartbeat_ms: raft,
        raft_election_min_ms: min,
        raft_election_max_ms: max,
    });
    prop_oneof![select(vec![Timing::FAST, Timing::LAN, Timing::WAN]), custom]
}

pub fn description() -> impl Strategy<Value = NodeDescription> {
    (texts(), text_map(), resources(), text(), any::<(u32, u32)>()).prop_map(
        |(addresses, labels, capacity, version, features)| NodeDescription {
            addresses,
            labels,
            capacity,
            version,
            features,
        },
    )
}

pub fn drain_wish() -> impl Strategy<Value = DrainWish> {
    (option::of(time()), any::<u32>())
        .prop_map(|(deadline, max_parallel)| DrainWish { deadline, max_parallel })
}

pub fn instance_state() -> impl Strategy<Value = InstanceState> {
    select(vec![
        InstanceState::Placed,
        InstanceState::Starting,
        InstanceState::Running,
        InstanceState::Unhealthy,
        InstanceState::Stopping,
        InstanceState::Stopped,
        InstanceState::Failed,
        InstanceState::Lost,
    ])
}

pub fn target() -> impl Strategy<Value = Target> {
    (node_id(), option::of(session_id())).prop_map(|(node, session)| Target { node, session })
}

pub fn token() -> impl Strategy<Value = TokenGrant> {
    (text(), any::<[u8; 32]>(), role(), stamp(), any::<u32>())
        .prop_map(|(id, hash, role, expires, uses)| TokenGrant { id, hash, role, expires, uses })
}

fn plan() -> impl Strategy<Value = Plan> {
    let kind = prop_oneof![
        target().prop_map(ActionKind::Assign),
        (generation(), option::of(target()))
            .prop_map(|(generation, target)| ActionKind::Revoke { generation, target }),
        generation().prop_map(|generation| ActionKind::Abandon { generation }),
        generation().prop_map(|generation| ActionKind::Keep { generation }),
    ];
    let action = (slot_id(), kind, text()).prop_map(|(slot, kind, reason)| Action { slot, kind, reason });
    (number(), prop::collection::vec(action, 0..4))
        .prop_map(|(base, actions)| Plan { base: Revision(base), actions })
}

fn bootstrap() -> impl Strategy<Value = Bootstrap> {
    (any::<u128>(), text(), any::<u64>(), timing(), description(), node_name()).prop_map(
        |(cluster, name, incarnation, timing, node, node_name)| Bootstrap {
            cluster: ClusterId(cluster),
            name,
            incarnation: Incarnation(incarnation),
            timing,
            node,
            node_name,
        },
    )
}

fn node_change() -> impl Strategy<Value = NodeChange> {
    prop_oneof![
        any::<bool>().prop_map(NodeChange::Cordon),
        any::<bool>().prop_map(NodeChange::Maintenance),
        drain_wish().prop_map(NodeChange::Drain),
        Just(NodeChange::Undrain),
        (text(), option::of(text())).prop_map(|(key, value)| NodeChange::Label { key, value }),
    ]
}

fn node_command() -> impl Strategy<Value = Command> {
    let add = (node_name(), description(), role(), any::<[u8; 32]>())
        .prop_map(|(name, description, role, token_hash)| AddNode { name, description, role, token_hash });
    prop_oneof![
        bootstrap().prop_map(Command::Bootstrap),
        add.prop_map(Command::AddNode),
        node_id().prop_map(|node| Command::RemoveNode { node }),
        (node_id(), description())
            .prop_map(|(node, description)| Command::DescribeNode { node, description }),
        (node_id(), node_change()).prop_map(|(node, change)| Command::ChangeNode { node, change }),
        (node_id(), number(), option::of(number())).prop_map(|(voter, boot, replaces)| Command::VoterUp {
            voter,
            boot: BootId(boot),
            replaces: replaces.map(BootId),
        }),
        token().prop_map(Command::CreateToken),
        text().prop_map(|id| Command::RevokeToken { id }),
        timing().prop_map(Command::SetTiming),
    ]
}

/// Opens a session with any key but the empty one, which stands for a key that was left out.
pub fn open_session() -> impl Strategy<Value = OpenSession> {
    let inventory = prop::collection::vec((slot_id(), generation()), 0..3);
    (node_id(), number(), any::<[u8; 32]>(), inventory, enforcement()).prop_map(
        |(node, boot, key, inventory, enforcement)| OpenSession {
            node,
            guard_boot: BootId(boot),
            key: SessionKey(key),
            inventory,
            enforcement,
        },
    )
}

fn session_command() -> impl Strategy<Value = Command> {
    let promise = (node_id(), number()).prop_map(|(voter, boot)| (voter, BootId(boot)));
    let close = (session_id(), number(), number(), prop::collection::vec(promise, 0..3), plan()).prop_map(
        |(session, membership, reopens, promises, plan)| CloseSession {
            session,
            membership: MembershipId(membership),
            reopens: Reopens(reopens),
            promises,
            plan,
        },
    );
    prop_oneof![
        3 => open_session().prop_map(Command::OpenSession),
        1 => close.prop_map(Command::CloseSession),
        1 => (session_id(), plan()).prop_map(|(session, plan)| Command::Fenced { session, plan }),
        1 => (session_id(), any::<u64>())
            .prop_map(|(session, to)| Command::Reopen { session, to: Reopens(to) }),
        1 => (session_id(), any::<bool>()).prop_map(|(session, gone)| Command::NoteAgent { session, gone }),
        3 => plan().prop_map(Command::ApplyPlan),
    ]
}

fn report_command() -> impl Strategy<Value = Command> {
    let why =
        prop_oneof![Just(StopCause::Revoked), text().prop_map(|message| StopCause::Failed { message }),];
    let stopped = (slot_id(), node_id(), option::of(session_id()), generation(), why)
        .prop_map(|(slot, node, session, generation, why)| Stopped { slot, node, session, generation, why });
    prop_oneof![stopped.prop_map(Command::Stopped), observe()]
}

fn observe() -> impl Strategy<Value = Command> {
    (slot_id(), node_id(), generation(), instance_state(), any::<u32>(), option::of(text())).prop_map(
        |(slot, node, generation, state, restarts, message)| {
            Command::Observe(Observation { slot, node, generation, state, restarts, message })
        },
    )
}

fn annotate() -> impl Strategy<Value = Command> {
    (service_name(), text(), option::of(text())).prop_map(|(service, key, value)| Command::AnnotateService {
        service,
        key,
        value,
    })
}

fn service_command() -> impl Strategy<Value = Command> {
    let put = (prop::collection::vec(spec(), 1..3), option::of(number().prop_map(Revision)))
        .prop_map(|(services, if_revision)| Command::PutServices { services, if_revision });
    prop_oneof![
        put,
        service_name().prop_map(|service| Command::RemoveService { service }),
        (service_name(), any::<bool>())
            .prop_map(|(service, wanted)| Command::SetServiceWanted { service, wanted }),
        service_name().prop_map(|service| Command::RestartService { service }),
        (service_name(), any::<u32>()).prop_map(|(service, count)| Command::ScaleService { service, count }),
        service_name().prop_map(|service| Command::RollbackService { service }),
        annotate(),
        (slot_id(), option::of(node_id())).prop_map(|(slot, to)| Command::MoveInstance { slot, to }),
        service_name().prop_map(|service| Command::ClearFailures { service }),
    ]
}

pub fn user_name() -> impl Strategy<Value = UserName> {
    "[a-c]{1,2}".prop_map(|name| UserName::new(&name).expect("legal by construction"))
}

pub fn user_role() -> impl Strategy<Value = UserRole> {
    select(UserRole::ALL.to_vec())
}

fn der() -> impl Strategy<Value = std::sync::Arc<[u8]>> {
    prop::collection::vec(any::<u8>(), 1..80).prop_map(Into::into)
}

/// A CA with any key but the empty one, which stands for a key that was left out.
pub fn new_authority() -> impl Strategy<Value = NewAuthority> {
    (der(), option::of(der()), der()).prop_map(|(certificate, introduction, key)| NewAuthority {
        certificate,
        introduction,
        key: AuthorityKey(key),
    })
}

fn trust_command() -> impl Strategy<Value = Command> {
    let node = (node_id(), option::of(any::<[u8; 32]>()))
        .prop_map(|(node, token_hash)| NewCertificate::Node { node, token_hash });
    let user = (user_name(), user_role(), time()).prop_map(|(name, role, life)| NewCertificate::User {
        name,
        role,
        life,
    });
    let holder = prop_oneof![
        node_id().prop_map(CertificateHolder::Node),
        user_name().prop_map(CertificateHolder::User),
    ];
    prop_oneof![
        new_authority().prop_map(Command::AddAuthority),
        any::<bool>().prop_map(|forced| Command::RetireAuthority { forced }),
        prop_oneof![node, user].prop_map(Command::IssueCertificate),
        holder.prop_map(Command::RevokeCertificates),
        user_name().prop_map(|name| Command::RemoveUser { name }),
    ]
}

/// Few enough that a key is often met again.
pub fn secret_key() -> impl Strategy<Value = SecretKeyId> {
    prop_oneof![4 => (0..3u8).prop_map(|byte| SecretKeyId([byte; 16])), 1 => any::<[u8; 16]>().prop_map(SecretKeyId)]
}

/// With any value but the empty one, which stands for a value that was left out.
pub fn sealed() -> impl Strategy<Value = SealedValue> {
    prop::collection::vec(any::<u8>(), 1..80).prop_map(|bytes| SealedValue(bytes.into()))
}

pub fn put_secret() -> impl Strategy<Value = PutSecret> {
    let how = prop_oneof![
        Just(SecretWrite::Create),
        Just(SecretWrite::Set),
        number().prop_map(|of| SecretWrite::Reseal { of: Revision(of) }),
    ];
    (secret_name(), secret_key(), sealed(), how).prop_map(|(name, key, sealed, how)| PutSecret {
        name,
        key,
        sealed,
        how,
    })
}

fn secret_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        secret_key().prop_map(|key| Command::OfferSecretKey { key }),
        (node_id(), secret_key()).prop_map(|(node, key)| Command::HoldSecretKey { node, key }),
        put_secret().prop_map(Command::PutSecret),
        (secret_name(), any::<bool>()).prop_map(|(name, forced)| Command::RemoveSecret { name, forced }),
    ]
}

fn actor() -> impl Strategy<Value = Actor> {
    let roles = vec![
        ActorRole::Muster,
        ActorRole::Node,
        ActorRole::User(UserRole::Viewer),
        ActorRole::User(UserRole::Operator),
        ActorRole::User(UserRole::Admin),
        ActorRole::Local,
        ActorRole::Stranger,
    ];
    (text(), select(roles), text(), text()).prop_map(|(name, role, from, via)| Actor {
        name,
        role,
        from,
        via,
    })
}

fn recorded_call() -> impl Strategy<Value = RecordedCall> {
    (stamp(), number(), actor(), text(), text(), option::of((text(), text())), any::<u32>()).prop_map(
        |(time, before, actor, verb, target, refused, count)| RecordedCall {
            time,
            before: Revision(before),
            actor,
            verb,
            target,
            refused,
            count,
        },
    )
}

fn record_calls() -> impl Strategy<Value = Command> {
    (node_id(), prop::collection::vec(recorded_call(), 0..4))
        .prop_map(|(node, calls)| Command::RecordCalls(RecordedCalls { node, calls }))
}

/// A line of the audit trail, at any place.
pub fn audit_record() -> impl Strategy<Value = AuditRecord> {
    let outcomes = vec![AuditOutcome::Applied, AuditOutcome::Unchanged, AuditOutcome::Refused];
    (recorded_call(), select(outcomes), text(), text()).prop_map(|(call, outcome, code, message)| {
        AuditRecord {
            revision: Revision(0),
            sequence: 0,
            time: call.time,
            before: call.before,
            actor: call.actor,
            verb: call.verb,
            target: call.target,
            outcome,
            code,
            message,
            count: call.count,
        }
    })
}

pub fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        node_command(),
        session_command(),
        report_command(),
        service_command(),
        trust_command(),
        secret_command(),
        record_calls(),
    ]
}

pub fn proposal() -> impl Strategy<Value = Proposal> {
    proposal_of(command())
}

/// The commands that have a way of encoding of their own.
pub fn frequent_proposal() -> impl Strategy<Value = Proposal> {
    proposal_of(prop_oneof![observe(), annotate()])
}

fn proposal_of(command: impl Strategy<Value = Command>) -> impl Strategy<Value = Proposal> {
    (stamp(), number(), number(), actor(), command).prop_map(|(stamp, client, seq, actor, command)| {
        Proposal { stamp, request: RequestId { client, seq }, actor, command }
    })
}
