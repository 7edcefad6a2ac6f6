//! Datagrams as a voter takes them, most of them with a good MAC, between steps of the log and of time.
//!
//! What does not verify is never answered. A session that was promised away or is closed is never acked.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use muster::acks::Acks;
use muster_core::id::{BootId, Incarnation, MembershipId, NodeId, Reopens, Revision, SessionId};
use muster_core::lease::voter::{Applied, CloseRequest, OpenSession, VoterIdentity, VoterLease};
use muster_core::lease::{
    Answer, Fenced, Heartbeat, ListVersion, Membership, Tenure, VoterAddresses, VoterList,
};
use muster_core::time::{HostInstant, closing_age_ms};
use muster_guard::datagram::{self, Buffer, DATAGRAM_BYTES_MAX, FromGuard};
use muster_guard::key::{KEY_BYTES, SessionKey};
use tokio::sync::mpsc;

use super::input::{Input, Output};
use super::scene::CLUSTER;

/// The voter's own node.
const ME: NodeId = NodeId(1);
/// Sessions are numbered within this, so that steps meet each other.
const SESSIONS: u64 = 4;
const TTL_MS: u32 = 1000;

/// The kinds of steps.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Any bytes.
    Raw,
    /// A body that gets a header and a good MAC.
    Sealed,
    Wait,
    Open,
    Close,
    Reopen,
    Promise,
    Membership,
    Truncate,
}

impl Step {
    const ALL: [Self; 9] = [
        Self::Raw,
        Self::Sealed,
        Self::Wait,
        Self::Open,
        Self::Close,
        Self::Reopen,
        Self::Promise,
        Self::Membership,
        Self::Truncate,
    ];
}

/// The key of every session; the header names which one.
pub(super) fn key() -> SessionKey {
    SessionKey([0x5a; KEY_BYTES])
}

/// A datagram of any content with a good MAC, made by the description in the module's comment and not by its code.
pub(super) fn seal(direction: u8, content: &[u8]) -> Vec<u8> {
    let content = &content[..content.len().min(DATAGRAM_BYTES_MAX - 16)];
    let mut hasher = blake3::Hasher::new_keyed(&[0x5a; KEY_BYTES]);
    hasher.update(&[direction]).update(content);
    let mut datagram = content.to_vec();
    datagram.extend_from_slice(&hasher.finalize().as_bytes()[..16]);
    datagram
}

/// Magic, version, kind, cluster, incarnation, session.
pub(super) fn header(kind: u8, session: u64) -> Vec<u8> {
    let mut bytes = vec![b'M', b'u', 1, kind];
    bytes.extend(CLUSTER.0.to_be_bytes());
    bytes.extend(1_u64.to_be_bytes());
    bytes.extend(session.to_be_bytes());
    bytes
}

struct Scene {
    lease: VoterLease,
    now: HostInstant,
    revision: u64,
    /// Promised away, under which count of re-openings.
    promised: BTreeMap<SessionId, Reopens>,
}

pub(super) fn list(id: u64, voters: u64) -> VoterList {
    let address = |node: u64| format!("10.0.0.{node}:7420").parse().expect("an address");
    let entry = |node| VoterAddresses { node: NodeId(node), addresses: vec![address(node)] };
    VoterList {
        membership: Membership::uniform(MembershipId(id), (1..=voters).map(NodeId)),
        addresses_revision: Revision(id),
        voters: (1..=voters).map(entry).collect(),
    }
}

fn identity() -> VoterIdentity {
    VoterIdentity { cluster: CLUSTER, incarnation: Incarnation(1), node: ME, boot: BootId(101) }
}

impl Scene {
    fn new() -> Self {
        let now = HostInstant::both(1_000_000_000);
        let open = |session| OpenSession {
            session: SessionId(session),
            node: NodeId(session),
            ttl_ms: TTL_MS,
            reopens: Reopens(0),
        };
        let applied = Applied {
            revision: Revision(SESSIONS),
            list: Arc::new(list(1, 3)),
            sessions: (1..=2).map(open).collect(),
            own_boot: BootId(101),
            pending: Default::default(),
        };
        let lease = VoterLease::new(now, identity(), applied);
        Self { lease, now, revision: SESSIONS, promised: BTreeMap::new() }
    }

    fn take(&mut self, datagram: &[u8]) {
        let closed = datagram::read_closed_unverified(datagram);
        let key = key();
        // Nothing is answered that is not opened first.
        let Ok(message) = datagram::open_from_guard(datagram, &key) else { return };
        assert!(closed.is_none(), "it goes to a guard and to a voter");
        let mut written = [0; DATAGRAM_BYTES_MAX];
        let length = datagram::encode_from_guard(&message, &key, &mut written);
        assert_eq!(datagram::open_from_guard(&written[..length], &key), Ok(message));
        match message {
            FromGuard::Heartbeat(heartbeat) => self.heartbeat(&heartbeat),
            FromGuard::Fenced(fenced) => drop(self.lease.on_fenced(&fenced)),
        }
    }

    fn heartbeat(&mut self, heartbeat: &Heartbeat) {
        let Some(answer) = self.lease.on_heartbeat(self.now, heartbeat) else { return };
        let mut buffer: Buffer = [0; DATAGRAM_BYTES_MAX];
        let length = datagram::encode_answer(&answer, &key(), &mut buffer);
        let read = datagram::open_answer(&buffer[..length], &key()).expect("an answer can be read");
        assert!(datagram::open_from_guard(&buffer[..length], &key()).is_err(), "it can be turned around");
        assert_eq!(read, answer);
        if let Answer::Ack(ack) = answer {
            let session = ack.tenure.session;
            assert_eq!((ack.tenure, ack.seq), (heartbeat.tenure, heartbeat.seq));
            assert!(!self.promised.contains_key(&session), "acked although it was promised away");
            assert!(self.lease.age(self.now, session).is_some(), "acked although it is not open");
        }
    }

    fn promise(&mut self, session: SessionId, reopens: Reopens) {
        let membership = self.lease.list().membership.id;
        let request = CloseRequest { session, membership, reopens };
        if let Ok(promise) = self.lease.promise(self.now, request) {
            let age = self.lease.age(self.now, session).unwrap_or_default();
            assert!(age >= Duration::from_millis(closing_age_ms(TTL_MS)), "promised after {age:?}");
            self.promised.insert(session, promise.reopens);
        }
    }

    fn step(&mut self, step: Step, input: &mut Input<'_>) {
        let session = SessionId(u64::from(input.byte()) % SESSIONS + 1);
        match step {
            Step::Raw => self.take(input.part()),
            Step::Sealed => {
                let kind = input.byte() % 5;
                let content = [&header(kind, session.0), input.part()].concat();
                self.take(&seal(1, &content));
            }
            Step::Wait => {
                // Some waits are the voter's own stall.
                let ns = input.number() % 2_000_000_000;
                self.now = HostInstant::both(self.now.boottime_ns + ns);
                self.lease.tick(self.now);
            }
            Step::Open => {
                self.revision += 1;
                // Sessions are named by the index of their opening: never one that was closed.
                let open = OpenSession {
                    session: SessionId(self.revision),
                    node: NodeId(session.0),
                    ttl_ms: TTL_MS,
                    reopens: Reopens(0),
                };
                self.lease.session_opened(self.now, open);
            }
            Step::Close => self.lease.session_closed(session),
            Step::Reopen => {
                let reopens = Reopens(u64::from(input.byte()) % 4);
                self.lease.session_reopened(self.now, session, reopens);
                self.promised.retain(|id, under| *id != session || *under >= reopens);
            }
            Step::Promise => self.promise(session, Reopens(u64::from(input.byte()) % 4)),
            Step::Membership => {
                self.revision += 1;
                self.lease.membership_appended(MembershipId(self.revision));
                if input.byte() & 1 == 1 {
                    let list = list(self.revision, session.0 + 1);
                    self.lease.list_applied(self.now, Arc::new(list));
                }
            }
            Step::Truncate => self.lease.log_truncated(self.revision),
        }
        self.lease.applied_to(Revision(self.revision));
    }
}

/// The voter of an agent, whole: it knows no key, so that nothing may be answered.
fn stranger() -> &'static (Acks, mpsc::Sender<SessionId>) {
    static ACKS: OnceLock<(Acks, mpsc::Sender<SessionId>)> = OnceLock::new();
    ACKS.get_or_init(|| (Acks::new(identity()), mpsc::channel(1).0))
}

pub(super) fn body(bytes: &[u8]) {
    let (acks, fenced) = stranger();
    assert!(acks.answer(bytes, fenced).is_none(), "an answer without a key");
    assert!(acks.answer(&seal(1, bytes), fenced).is_none(), "an answer without a key");
    let mut input = Input::new(bytes);
    let mut scene = Scene::new();
    while !input.is_empty() {
        let step = Step::ALL[usize::from(input.byte()) % Step::ALL.len()];
        scene.step(step, &mut input);
    }
}

fn step(step: Step, session: u8) -> Output {
    Output::default().byte(step as u8).byte(session - 1)
}

pub(super) fn seeds() -> Vec<(String, Vec<u8>)> {
    let list = ListVersion::default();
    let tenure =
        Tenure { cluster: CLUSTER, incarnation: Incarnation(1), node: NodeId(1), session: SessionId(1) };
    let heartbeat = Heartbeat { tenure, seq: 5, list, agent_present: true };
    let sealed = |message: FromGuard| {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        let length = datagram::encode_from_guard(&message, &key(), &mut buffer);
        buffer[..length].to_vec()
    };
    let beat = sealed(FromGuard::Heartbeat(heartbeat));
    let fenced = sealed(FromGuard::Fenced(Fenced { tenure }));
    let bodies = |beat: &[u8]| beat[36..beat.len() - 16].to_vec();
    let raw = |datagram: &[u8]| step(Step::Raw, 1).part(datagram).0;
    let with_mac = |kind, body: &[u8]| step(Step::Sealed, 1).byte(kind).part(body).0;
    let waits: Vec<u8> = (0..28).flat_map(|_| step(Step::Wait, 1).number(49_000_000).0).collect();
    let promised = step(Step::Promise, 1).byte(0).0;
    let reopened = step(Step::Reopen, 1).byte(1).0;
    let changed = step(Step::Membership, 2).byte(1).0;
    let open = step(Step::Open, 2).0;
    let close = step(Step::Close, 1).0;
    vec![
        ("raw".to_owned(), [raw(&beat), raw(&fenced)].concat()),
        ("sealed".to_owned(), [with_mac(1, &bodies(&beat)), with_mac(2, &bodies(&fenced))].concat()),
        ("promise".to_owned(), [waits, promised, raw(&beat), reopened, raw(&beat)].concat()),
        ("close".to_owned(), [close, raw(&beat), raw(&fenced)].concat()),
        (
            "membership".to_owned(),
            [changed, raw(&beat), open, step(Step::Truncate, 1).0, raw(&beat)].concat(),
        ),
    ]
}
