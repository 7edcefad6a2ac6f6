//! Arbitrary states whose records name only what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_core::audit::AuditRecord;
use muster_core::command::SessionKey;
use muster_core::id::{
    BootId, CertificateId, ClusterId, Incarnation, MembershipId, NodeId, Reopens, Revision, SessionId, SlotId,
};
use muster_core::lease::membership::Membership;
use muster_core::refusal::{RefusalClass, RefusalText};
use muster_core::state::apply::{Declared, Reply, ReplyValue};
use muster_core::state::client::ClientRecord;
use muster_core::state::node::{Drain, Lost, LostCause, Node};
use muster_core::state::secret::{Secret, SecretKey};
use muster_core::state::service::Service;
use muster_core::state::session::Session;
use muster_core::state::slot::{Failure, Observed, Phase, Placement, Slot};
use muster_core::state::trust::{Authority, Certificates, User};
use muster_core::state::{Cluster, State};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::command_strategy::{
    audit_record, description, drain_wish, generation, instance_state, new_authority, node_id, node_name,
    role, sealed, secret_key, stamp, target, timing, token, user_name, user_role,
};
use crate::spec_strategy::{enforcement, number, secret_name, service_name, spec, text, text_map};

fn certificates() -> impl Strategy<Value = Certificates> {
    (number(), number(), stamp()).prop_map(|(oldest, newest, ends)| Certificates {
        oldest: CertificateId(oldest),
        newest: CertificateId(newest),
        ends,
    })
}

fn authority() -> impl Strategy<Value = Authority> {
    (stamp(), new_authority()).prop_map(|(since, new)| Authority {
        id: CertificateId(0),
        since,
        certificate: new.certificate,
        introduction: new.introduction,
        key: new.key,
    })
}

fn user() -> impl Strategy<Value = User> {
    (user_name(), user_role(), stamp(), certificates()).prop_map(|(name, role, created, certificates)| User {
        name,
        role,
        created,
        certificates,
    })
}

fn secret_key_record() -> impl Strategy<Value = SecretKey> {
    let holders = prop::collection::btree_set(node_id(), 0..3);
    (secret_key(), stamp(), holders, any::<bool>()).prop_map(|(id, since, holders, counts)| SecretKey {
        id,
        since,
        holders: holders.into_iter().collect(),
        counts,
    })
}

fn secret() -> impl Strategy<Value = Secret> {
    (number(), stamp(), stamp(), secret_key(), sealed()).prop_map(
        |(revision, created, changed, key, sealed)| Secret {
            revision: Revision(revision),
            created,
            changed,
            key,
            sealed,
        },
    )
}

fn node() -> impl Strategy<Value = Node> {
    let lost = (stamp(), select(vec![LostCause::Joining, LostCause::Silent, LostCause::Fenced]))
        .prop_map(|(since, cause)| Lost { since, cause });
    let drain = (stamp(), drain_wish()).prop_map(|(since, wish)| Drain { since, wish });
    let flags = any::<(bool, bool)>();
    let fate =
        (option::of(drain), option::of(lost), option::of(number().prop_map(BootId)), stamp(), certificates());
    (node_id(), node_name(), role(), description(), text_map(), flags, fate).prop_map(
        |(id, name, role, description, labels, flags, (drain, lost, boot, joined, certificates))| Node {
            id,
            name,
            role,
            description,
            labels,
            cordoned: flags.0,
            maintenance: flags.1,
            drain,
            session: None,
            lost,
            boot,
            joined,
            certificates,
        },
    )
}

fn session() -> impl Strategy<Value = Session> {
    let gone = prop::option::of(stamp());
    (number(), any::<[u8; 32]>(), timing(), enforcement(), number(), stamp(), gone).prop_map(
        |(boot, key, timing, enforcement, reopens, opened, agent_gone)| Session {
            id: SessionId(0),
            node: NodeId(0),
            guard_boot: BootId(boot),
            key: SessionKey(key),
            timing,
            enforcement,
            reopens: Reopens(reopens),
            opened,
            agent_gone,
        },
    )
}

fn service() -> impl Strategy<Value = Service> {
    let revision = || number().prop_map(Revision);
    let former = prop::collection::vec(spec().prop_map(Arc::new), 0..2);
    (spec(), revision(), revision(), any::<(bool, bool)>(), former, text_map(), stamp()).prop_map(
        |(spec, declared, rollout, (wanted, removing), former, annotations, created)| Service {
            spec: Arc::new(spec),
            declared,
            rollout,
            wanted,
            removing,
            former,
            annotations: annotations.into_iter().map(|(k, v)| (k, Arc::from(v))).collect(),
            created,
        },
    )
}

fn placement() -> impl Strategy<Value = Placement> {
    let phase = prop_oneof![
        Just(Phase::Active),
        (option::of(target()), stamp()).prop_map(|(target, since)| Phase::Revoking { target, since }),
        stamp().prop_map(|since| Phase::Adrift { since }),
    ];
    let observed = (instance_state(), stamp(), any::<u32>(), option::of(text()))
        .prop_map(|(state, since, restarts, message)| Observed { state, since, restarts, message });
    (node_id(), generation(), phase, observed, text(), stamp()).prop_map(
        |(node, generation, phase, observed, reason, since)| Placement {
            node,
            session: None,
            generation,
            phase,
            observed,
            reason,
            since,
        },
    )
}

fn slot() -> impl Strategy<Value = Slot> {
    let failure = (node_id(), stamp(), text()).prop_map(|(node, at, message)| Failure { node, at, message });
    (
        prop::collection::vec(placement(), 0..3),
        prop::collection::vec(failure, 0..3),
        option::of(node_id()),
        option::of(stamp()),
    )
        .prop_map(|(placements, failures, wish, vacant_since)| Slot {
            placements,
            failures,
            wish,
            vacant_since,
        })
}

fn reply() -> impl Strategy<Value = Result<Reply, RefusalText>> {
    let declared = select(vec![Declared::Created, Declared::Changed, Declared::Unchanged]);
    let value = prop_oneof![
        Just(ReplyValue::Nothing),
        node_id().prop_map(ReplyValue::Node),
        number().prop_map(|id| ReplyValue::Session(SessionId(id))),
        prop::collection::vec((service_name(), declared), 1..3).prop_map(ReplyValue::Services),
    ];
    let accepted = (number(), any::<bool>(), value)
        .prop_map(|(revision, changed, value)| Ok(Reply { revision: Revision(revision), changed, value }));
    let class = select(vec![
        RefusalClass::NotFound,
        RefusalClass::Exists,
        RefusalClass::Conflict,
        RefusalClass::Invalid,
        RefusalClass::Denied,
    ]);
    let refused = (text(), text(), class).prop_map(|(code, message, class)| {
        Err(RefusalText { code: code.into(), message: message.into(), class })
    });
    prop_oneof![accepted, refused]
}

fn cluster() -> impl Strategy<Value = Cluster> {
    (any::<u128>(), text(), any::<u64>(), timing(), stamp()).prop_map(
        |(id, name, incarnation, timing, created)| Cluster {
            id: ClusterId(id),
            name,
            incarnation: Incarnation(incarnation),
            timing,
            created,
        },
    )
}

fn membership() -> impl Strategy<Value = Membership> {
    let voters = prop::collection::btree_set(node_id(), 1..4);
    (number(), prop::collection::vec(voters, 0..3))
        .prop_map(|(id, configs)| Membership { id: MembershipId(id), configs })
}

pub fn state() -> impl Strategy<Value = State> {
    let base = (any::<[u64; 2]>(), stamp(), option::of(cluster()), membership());
    let nodes = prop::collection::vec((node(), option::of(session())), 0..4);
    let services =
        prop::collection::vec((service(), prop::collection::btree_map(0..3u64, slot(), 0..3)), 0..3);
    let standbys = prop::collection::btree_set(node_id(), 0..3);
    let tokens = prop::collection::vec(token(), 0..3);
    let clients = prop::collection::btree_map(1..100u64, (number(), reply()), 0..4);
    let trust = (
        prop::collection::vec(authority(), 0..3),
        prop::collection::vec(user(), 0..3),
        prop::collection::vec(secret_key_record(), 0..3),
        prop::collection::btree_map(secret_name(), secret(), 0..3),
        prop::collection::vec(audit_record(), 0..4),
    );
    (base, nodes, services, standbys, tokens, clients, trust).prop_map(
        |(
            ([revision, topology], now, cluster, membership),
            nodes,
            services,
            standbys,
            tokens,
            clients,
            trust,
        )| {
            let mut state = State {
                revision: Revision(revision),
                topology: Revision(topology),
                observed: Revision(topology),
                addresses: Revision(topology / 2),
                now,
                cluster,
                membership,
                ..State::default()
            };
            state.standbys = standbys.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
            put_nodes(&mut state, nodes);
            put_services(&mut state, services);
            state.tokens = tokens.into_iter().map(|token| (token.id.clone(), token)).collect();
            let authorities = trust.0.into_iter().enumerate();
            let numbered =
                authorities.map(|(at, a)| Arc::new(Authority { id: CertificateId(at as u64 + 1), ..a }));
            state.authorities = numbered.collect();
            state.users = trust.1.into_iter().map(|user| (user.name.clone(), user)).collect();
            for key in trust.2 {
                if state.secret_keys.iter().all(|known| known.id != key.id) {
                    state.secret_keys.push(key);
                }
            }
            state.secrets = trust.3.into_iter().map(|(name, secret)| (name, Arc::new(secret))).collect();
            state.audit.restore_totals(topology, revision);
            for (revision, record) in (1..).map(Revision).zip(trust.4) {
                state.audit.restore(AuditRecord { revision, ..record });
            }
            for (at, (client, (seq, reply))) in clients.into_iter().enumerate() {
                let at = Revision(at as u64);
                state.clients.restore(client, ClientRecord { seq, at, reply });
            }
            state
        },
    )
}

/// Each session gets an id of its own and its node's.
fn put_nodes(state: &mut State, nodes: Vec<(Node, Option<Session>)>) {
    for (at, (mut node, session)) in nodes.into_iter().enumerate() {
        if state.nodes.contains_key(&node.id) {
            continue;
        }
        if let Some(session) = session {
            let id = SessionId(at as u64);
            node.session = Some(id);
            state.sessions.insert(id, Session { id, node: node.id, ..session });
        }
        state.nodes.insert(node.id, node);
    }
}

/// Placements stay where there is a node; they get its session, if it has one.
fn put_services(state: &mut State, services: Vec<(Service, BTreeMap<u64, Slot>)>) {
    for (service, slots) in services {
        let name = service.spec.name.clone();
        state.services.insert(name.clone(), Arc::new(service));
        for (index, mut slot) in slots {
            slot.placements.retain(|placement| state.nodes.contains_key(&placement.node));
            for placement in &mut slot.placements {
                placement.session = state.session_of(placement.node).map(|session| session.id);
            }
            state.slots.insert(SlotId { service: name.clone(), index }, slot);
        }
    }
}
