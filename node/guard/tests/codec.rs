//! Bytes in and out: frames of the Unix socket and datagrams of the lease.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use muster_core::id::{BootId, ClusterId, Incarnation, MembershipId, NodeId, Revision, SessionId};
use muster_core::lease::{
    Ack, Answer, Closed, Fenced, Heartbeat, ListVersion, Membership, Tenure, VoterAddresses, VoterList,
};
use muster_guard::datagram::{self, DATAGRAM_BYTES_MAX, DatagramError, FromGuard};
use muster_guard::key::SessionKey;
use muster_guard::protocol::codec::{FrameDecoder, FrameError, encode_frame};
use muster_guard::protocol::{FRAME_BYTES_MAX, Request, RequestFrame, TaskSpec};
use proptest::prelude::*;

prop_compose! {
    fn tenure()(cluster: u128, incarnation: u64, node: u64, session: u64) -> Tenure {
        Tenure {
            cluster: ClusterId(cluster),
            incarnation: Incarnation(incarnation),
            node: NodeId(node),
            session: SessionId(session),
        }
    }
}

prop_compose! {
    fn version()(membership: u64, addresses: u64) -> ListVersion {
        ListVersion { membership: MembershipId(membership), addresses: Revision(addresses) }
    }
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<[u8; 3]>().prop_map(|[a, b, c]| IpAddr::from([10, a, b, c]));
    let v6 = any::<[u16; 7]>().prop_map(|[a, b, c, d, e, f, g]| IpAddr::from([0xfd00, a, b, c, d, e, f, g]));
    (prop_oneof![v4, v6], 1..=u16::MAX).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

/// A well-formed list of up to `voters` voters; joint when the second set is not empty.
fn list(voters: usize, addresses: usize) -> impl Strategy<Value = VoterList> {
    let sets = proptest::collection::vec(proptest::collection::btree_set(0..20_u64, 1..=voters), 1..=2);
    (version(), sets, proptest::collection::vec(proptest::collection::vec(address(), 0..=addresses), 14))
        .prop_map(|(version, sets, addresses)| {
            let configs = sets.into_iter().map(|set| set.into_iter().map(NodeId).collect()).collect();
            let membership = Membership { id: version.membership, configs };
            let nodes = membership.voters();
            let entry = |(node, addresses)| VoterAddresses { node, addresses };
            let voters = nodes.into_iter().zip(addresses).map(entry).collect();
            VoterList { membership, addresses_revision: version.addresses, voters }
        })
}

fn from_guard() -> impl Strategy<Value = FromGuard> {
    let heartbeat =
        (tenure(), any::<u64>(), version(), any::<bool>()).prop_map(|(tenure, seq, list, agent_present)| {
            FromGuard::Heartbeat(Heartbeat { tenure, seq, list, agent_present })
        });
    prop_oneof![heartbeat, tenure().prop_map(|tenure| FromGuard::Fenced(Fenced { tenure }))]
}

prop_compose! {
    fn ack(voters: usize, addresses: usize)(
        tenure in tenure(), voter: u64, boot: u64, seq: u64, release: bool, version in version(),
        list in proptest::option::of(list(voters, addresses)),
    ) -> Answer {
        let list_version = list.as_ref().map_or(version, VoterList::version);
        let (voter, boot) = (NodeId(voter), BootId(boot));
        Answer::Ack(Ack { tenure, voter, boot, seq, list_version, release, list: list.map(Arc::new) })
    }
}

fn answer(voters: usize, addresses: usize) -> impl Strategy<Value = Answer> {
    let closed = (tenure(), any::<u64>())
        .prop_map(|(tenure, voter)| Answer::Closed(Closed { tenure, voter: NodeId(voter) }));
    prop_oneof![ack(voters, addresses), closed]
}

fn sealed_answer(answer: &Answer, key: &SessionKey) -> Vec<u8> {
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    let length = datagram::encode_answer(answer, key, &mut buffer);
    buffer[..length].to_vec()
}

fn sealed(message: &FromGuard, key: &SessionKey) -> Vec<u8> {
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    let length = datagram::encode_from_guard(message, key, &mut buffer);
    buffer[..length].to_vec()
}

proptest! {
    #[test]
    fn what_a_guard_sends_is_read_back(message in from_guard(), key: [u8; 32]) {
        let key = SessionKey(key);
        let bytes = sealed(&message, &key);
        prop_assert_eq!(datagram::open_from_guard(&bytes, &key), Ok(message));
        prop_assert!(datagram::open_answer(&bytes, &key).is_err(), "it can't be sent back");
    }

    #[test]
    fn what_a_voter_answers_is_read_back(answer in answer(5, 4), key: [u8; 32]) {
        let key = SessionKey(key);
        let bytes = sealed_answer(&answer, &key);
        prop_assert_eq!(datagram::open_answer(&bytes, &key), Ok(answer));
        prop_assert!(datagram::open_from_guard(&bytes, &key).is_err());
    }

    #[test]
    fn the_largest_lists_lose_addresses_but_no_voter(answer in ack(7, 4)) {
        let key = SessionKey([7; 32]);
        let bytes = sealed_answer(&answer, &key);
        let read = datagram::open_answer(&bytes, &key);
        let (Ok(Answer::Ack(read)), Answer::Ack(sent)) = (read, answer) else {
            return Err(TestCaseError::fail("not an ack"));
        };
        if let (Some(read), Some(sent)) = (read.list, sent.list) {
            prop_assert_eq!(&read.membership, &sent.membership);
            for (read, sent) in read.voters.iter().zip(&sent.voters) {
                prop_assert_eq!(read.node, sent.node);
                prop_assert!(sent.addresses.starts_with(&read.addresses));
                prop_assert_eq!(read.addresses.is_empty(), sent.addresses.is_empty());
            }
        }
    }

    #[test]
    fn a_changed_byte_is_refused(
        message in from_guard(), key: [u8; 32], at: prop::sample::Index, change in 1..=u8::MAX,
    ) {
        let key = SessionKey(key);
        let mut bytes = sealed(&message, &key);
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        prop_assert!(datagram::open_from_guard(&bytes, &key).is_err());
    }

    #[test]
    fn another_key_is_refused(message in from_guard(), key: [u8; 32], other: [u8; 32]) {
        prop_assume!(key != other);
        let bytes = sealed(&message, &SessionKey(key));
        prop_assert_eq!(datagram::open_from_guard(&bytes, &SessionKey(other)), Err(DatagramError::Tag));
    }

    #[test]
    fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..1400), begins_well: bool) {
        let mut bytes = bytes;
        if begins_well {
            for (byte, good) in bytes.iter_mut().zip([b'M', b'u', 1, 3]) {
                *byte = good;
            }
        }
        let key = SessionKey([1; 32]);
        prop_assert!(datagram::open_answer(&bytes, &key).is_err());
        prop_assert!(datagram::open_from_guard(&bytes, &key).is_err());
    }

    #[test]
    fn frames_survive_any_cut(ids in proptest::collection::vec(any::<u64>(), 1..20), cut in 1..50_usize) {
        let frames: Vec<RequestFrame> =
            ids.into_iter().map(|id| RequestFrame { id, request: Request::LeaseStatus }).collect();
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| encode_frame(frame).expect("small")).collect();
        let mut decoder = FrameDecoder::new();
        let mut read = Vec::new();
        for part in bytes.chunks(cut) {
            decoder.push(part);
            while let Some(frame) = decoder.next::<RequestFrame>().expect("whole frames") {
                read.push(frame);
            }
        }
        prop_assert_eq!(read, frames);
    }
}

#[test]
fn a_frame_beyond_the_limit_is_refused_by_its_header() {
    let mut decoder = FrameDecoder::new();
    decoder.push(&u32::try_from(FRAME_BYTES_MAX + 1).expect("it fits").to_be_bytes());
    assert!(matches!(decoder.next_bytes(), Err(FrameError::TooLong { .. })));
}

#[test]
fn another_version_is_told_from_garbage() {
    let key = SessionKey([7; 32]);
    let tenure =
        Tenure { cluster: ClusterId(1), incarnation: Incarnation(1), node: NodeId(1), session: SessionId(1) };
    let mut bytes = sealed(&FromGuard::Fenced(Fenced { tenure }), &key);
    bytes[2] = 9;
    assert_eq!(datagram::Header::read(&bytes), Err(DatagramError::Version(9)));
    bytes[0] = 9;
    assert_eq!(datagram::Header::read(&bytes), Err(DatagramError::Foreign));
}

#[test]
fn addresses_that_no_heartbeat_may_go_to_are_left_out() {
    let key = SessionKey([7; 32]);
    let addresses = ["169.254.1.1:7420", "[fe80::1]:7420", "224.0.0.1:7420", "10.0.0.1:0", "10.0.0.1:7420"];
    let addresses: Vec<SocketAddr> = addresses.iter().map(|text| text.parse().expect("an address")).collect();
    let list = VoterList {
        membership: Membership::uniform(MembershipId(1), [NodeId(1)]),
        addresses_revision: Revision(1),
        voters: vec![VoterAddresses { node: NodeId(1), addresses }],
    };
    let tenure =
        Tenure { cluster: ClusterId(1), incarnation: Incarnation(1), node: NodeId(1), session: SessionId(1) };
    let ack = Answer::Ack(Ack {
        tenure,
        voter: NodeId(1),
        boot: BootId(1),
        seq: 1,
        list_version: list.version(),
        release: false,
        list: Some(Arc::new(list)),
    });
    match datagram::open_answer(&sealed_answer(&ack, &key), &key) {
        Ok(Answer::Ack(Ack { list: Some(list), .. })) => {
            assert_eq!(list.voters[0].addresses, ["10.0.0.1:7420".parse().expect("an address")]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_environment_is_never_shown_and_not_kept_once_it_was_read() {
    let spec = TaskSpec {
        argv: vec!["a".to_owned()],
        env: [("PASSWORD".to_owned(), "hunter2".into())].into(),
        ..TaskSpec::default()
    };
    assert!(!format!("{spec:?}").contains("hunter2"));
    let mut decoder = FrameDecoder::new();
    decoder.push(&encode_frame(&spec).unwrap());
    let read: TaskSpec = decoder.next().unwrap().unwrap();
    assert_eq!(read, spec);
    assert!(decoder.next::<TaskSpec>().unwrap().is_none());
    // As it is handed over to another binary.
    let kept = serde_json::to_string(&decoder).unwrap();
    assert_eq!(kept, "{\"bytes\":[],\"start\":0}");
}
