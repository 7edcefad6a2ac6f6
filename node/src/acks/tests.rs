//! Datagrams of strangers against the real voter's half, over a loopback socket: they have no effect, get no answer, and
//! are counted by their kind.

use std::net::SocketAddr;

use muster_core::id::{BootId, ClusterId, Incarnation};
use muster_core::lease::{Ack, Closed, Fenced, Heartbeat, ListVersion, Membership, Tenure, VoterList};
use muster_guard::datagram::Kind;

use super::*;

const IDENTITY: VoterIdentity =
    VoterIdentity { cluster: ClusterId(7), incarnation: Incarnation(1), node: NodeId(1), boot: BootId(11) };
const TENURE: Tenure =
    Tenure { cluster: ClusterId(7), incarnation: Incarnation(1), node: NodeId(9), session: SessionId(20) };
const KEY: DatagramKey = DatagramKey([3; 32]);
/// Nothing comes later than that over loopback, unless the test is to fail.
const PATIENCE: Duration = Duration::from_secs(10);

/// The voter's half on its thread, and a guard's socket.
struct Voter {
    acks: Acks,
    address: SocketAddr,
    guard: UdpSocket,
    _thread: AckThread,
    fenced: mpsc::Receiver<SessionId>,
}

impl Voter {
    fn start() -> Self {
        let acks = Acks::new(IDENTITY);
        {
            let mut inner = acks.lock();
            let membership = Membership::uniform(MembershipId(5), [NodeId(1)]);
            let applied = Applied {
                revision: Revision(30),
                list: Arc::new(VoterList { membership, ..VoterList::default() }),
                sessions: vec![OpenSession {
                    session: TENURE.session,
                    node: TENURE.node,
                    ttl_ms: 1000,
                    reopens: Reopens(0),
                }],
                own_boot: IDENTITY.boot,
                pending: BTreeSet::new(),
            };
            inner.lease.snapshot_installed(clock::host_now(), applied);
            inner.keys.insert(TENURE.session, SessionKey(KEY.0));
            // Closed, but its guard can still be told so.
            inner.keys.insert(SessionId(12), SessionKey(KEY.0));
        }
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (sender, fenced) = mpsc::channel(4);
        let thread = serve(acks.clone(), vec![socket], sender).unwrap();
        let guard = UdpSocket::bind("127.0.0.1:0").unwrap();
        guard.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { acks, address, guard, _thread: thread, fenced }
    }

    fn send(&self, bytes: &[u8]) {
        self.guard.send_to(bytes, self.address).unwrap();
    }

    fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        let (length, _) = self.guard.recv_from(&mut buffer).expect("an answer");
        buffer[..length].to_vec()
    }

    /// Sends what must get no answer. The heartbeat behind it does; whatever came first would be received first.
    fn is_passed_over(&self, bytes: &[u8], rejection: Rejection, seq: u64) {
        let (age, seen) = (self.acks.ages(), self.acks.counters().rejected(rejection));
        self.send(bytes);
        let until = clock::monotonic() + PATIENCE;
        while self.acks.counters().rejected(rejection) == seen {
            assert!(clock::monotonic() < until, "{rejection:?} is not counted");
            std::thread::yield_now();
        }
        let later = self.acks.ages();
        assert!(later.sessions[0].age >= age.sessions[0].age, "{rejection:?} made the session younger");
        self.send(&heartbeat(TENURE, seq, KEY));
        let Ok(Answer::Ack(ack)) = datagram::open_answer(&self.receive(), &KEY) else {
            panic!("{rejection:?} was answered")
        };
        assert_eq!((ack.seq, self.acks.counters().rejected(rejection)), (seq, seen + 1), "{rejection:?}");
    }
}

fn heartbeat(tenure: Tenure, seq: u64, key: DatagramKey) -> Vec<u8> {
    let list = ListVersion { membership: MembershipId(5), addresses: Revision(0) };
    sealed(&FromGuard::Heartbeat(Heartbeat { tenure, seq, list, agent_present: true }), &key)
}

fn sealed(message: &FromGuard, key: &DatagramKey) -> Vec<u8> {
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    let length = datagram::encode_from_guard(message, key, &mut buffer);
    buffer[..length].to_vec()
}

fn answered(answer: &Answer) -> Vec<u8> {
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    let length = datagram::encode_answer(answer, &KEY, &mut buffer);
    buffer[..length].to_vec()
}

#[test]
fn what_is_not_the_guards_is_passed_over_and_counted() {
    let voter = Voter::start();
    let good = heartbeat(TENURE, 1, KEY);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let cases = [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Rejection::Foreign),
        (good[..20].to_vec(), Rejection::Foreign),
        (with(&|bytes| bytes[2] = 9), Rejection::Version),
        (with(&|bytes| bytes.resize(DATAGRAM_BYTES_MAX + 1, 0)), Rejection::Malformed),
        (with(&|bytes| bytes[3] = 77), Rejection::Malformed),
        (heartbeat(Tenure { cluster: ClusterId(8), ..TENURE }, 1, KEY), Rejection::Cluster),
        (heartbeat(Tenure { incarnation: Incarnation(2), ..TENURE }, 1, KEY), Rejection::Cluster),
        (heartbeat(Tenure { session: SessionId(99), ..TENURE }, 1, KEY), Rejection::Session),
        (heartbeat(TENURE, 1, DatagramKey([4; 32])), Rejection::Mac),
        (with(&|bytes| *bytes.last_mut().unwrap() ^= 1), Rejection::Mac),
        (heartbeat(Tenure { node: NodeId(8), ..TENURE }, 1, KEY), Rejection::Node),
    ];
    for (seq, (bytes, rejection)) in (100..).zip(cases) {
        voter.is_passed_over(&bytes, rejection, seq);
    }
}

#[test]
fn a_datagram_that_comes_back_is_passed_over() {
    let voter = Voter::start();
    voter.send(&heartbeat(TENURE, 1, KEY));
    let ack = voter.receive();
    voter.is_passed_over(&ack, Rejection::Direction, 100);
    // Called a heartbeat, it is still MACed as an answer.
    let mut turned = ack;
    turned[3] = Kind::Heartbeat as u8;
    voter.is_passed_over(&turned, Rejection::Mac, 101);
    let closed = answered(&Answer::Closed(Closed { tenure: TENURE, voter: NodeId(1) }));
    voter.is_passed_over(&closed, Rejection::Direction, 102);
}

#[test]
fn a_recorded_datagram_makes_nothing_younger_and_gets_no_more_than_it_is_long() {
    let voter = Voter::start();
    let recorded = heartbeat(TENURE, 1, KEY);
    voter.send(&recorded);
    voter.receive();
    let before = voter.acks.ages();
    for _ in 0..100 {
        voter.send(&recorded);
        let answer = voter.receive();
        assert!(answer.len() <= recorded.len(), "{} bytes for {}", answer.len(), recorded.len());
    }
    assert!(voter.acks.ages().sessions[0].age >= before.sessions[0].age);
    voter.send(&heartbeat(TENURE, 100, KEY));
    voter.receive();
    voter.is_passed_over(&recorded, Rejection::Replayed, 101);
    assert_eq!(voter.acks.counters().rejected(Rejection::Replayed), 1);
}

#[test]
fn no_answer_without_a_list_is_longer_than_what_asked_for_it() {
    let mut voter = Voter::start();
    let ack = Ack {
        tenure: TENURE,
        voter: NodeId(1),
        boot: BootId(u64::MAX),
        seq: u64::MAX,
        list_version: ListVersion::default(),
        list: None,
        release: true,
    };
    assert!(answered(&Answer::Ack(ack)).len() <= heartbeat(TENURE, 1, KEY).len());
    let over = Tenure { session: SessionId(12), ..TENURE };
    for asked in [sealed(&FromGuard::Fenced(Fenced { tenure: over }), &KEY), heartbeat(over, 1, KEY)] {
        voter.send(&asked);
        let told = voter.receive();
        assert!(matches!(datagram::open_answer(&told, &KEY), Ok(Answer::Closed(_))));
        assert!(told.len() <= asked.len(), "{} bytes for {}", told.len(), asked.len());
    }
    voter.send(&sealed(&FromGuard::Fenced(Fenced { tenure: TENURE }), &KEY));
    assert_eq!(voter.fenced.blocking_recv(), Some(TENURE.session), "a proof is handed on");
}

#[test]
fn what_the_kernel_drops_is_counted() {
    let acks = Acks::new(IDENTITY);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    setsockopt(&socket, sockopt::RxqOvfl, &1).unwrap();
    setsockopt(&socket, sockopt::RcvBuf, &4096).unwrap();
    let (address, sender) = (socket.local_addr().unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    (0..200).for_each(|_| drop(sender.send_to(&[0; 1000], address)));
    let (fenced, _proofs) = mpsc::channel(1);
    let mut listening = Listening { socket, overflowed: 0 };
    // The count comes with the next datagram that finds room.
    drain(&acks, &mut listening, &fenced);
    sender.send_to(&[0; 10], address).unwrap();
    drain(&acks, &mut listening, &fenced);
    let counters = acks.counters();
    let (dropped, seen) =
        (counters.overflowed.load(Ordering::Relaxed), counters.rejected(Rejection::Foreign));
    assert_eq!(dropped + seen, 201, "{dropped} dropped, {seen} seen");
    assert!(dropped > 100);
}
