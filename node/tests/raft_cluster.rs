//! Three Raft nodes in one process, over gRPC on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "a test that fails should panic where it fails"
)]

#[path = "support/toy.rs"]
#[allow(dead_code, reason = "each test file uses a part of the toy")]
mod toy;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use muster::raft::{ChangeError, Group, Peer, ProposeError, ReadError, Role};
use muster_proto::v1;
use muster_proto::v1::raft_client::RaftClient;
use prost::Message;
use toy::{GROUP, Node, Told, UNKNOWN, leader, propose, three, until};

fn directories() -> [tempfile::TempDir; 3] {
    std::array::from_fn(|_| tempfile::tempdir().unwrap())
}

fn command(number: u32) -> Bytes {
    Bytes::from(format!("command {number}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_reach_every_node_in_one_order() {
    let directories = directories();
    let nodes = three(&directories, 10_000).await;
    let proposals = (0..200).map(|number| nodes[0].raft.propose(command(number)));
    let applied = futures::future::join_all(proposals).await;
    let mut indices = BTreeSet::new();
    for applied in applied {
        let applied = applied.unwrap();
        let reply = applied.reply::<(u64, usize)>().unwrap();
        assert_eq!(reply.0, applied.index);
        indices.insert(applied.index);
    }
    assert_eq!(indices.len(), 200);
    // The proposer sees its own writes at once.
    assert_eq!(nodes[0].published().commands.len(), 200);
    for node in &nodes {
        until("all commands are applied", || node.published().commands.len() == 200).await;
        assert_eq!(node.published().commands, nodes[0].published().commands);
        assert_eq!(node.published().membership.configs, [BTreeSet::from([1, 2, 3])]);
    }
    assert!(matches!(
        nodes[1].raft.propose(command(0)).await,
        Err(ProposeError::NotLeader { leader: Some(1) })
    ));
    nodes[0].raft.read_barrier().await.unwrap();
    assert_eq!(nodes[1].raft.read_barrier().await, Err(ReadError::NotLeader { leader: Some(1) }));
    let status = nodes[0].raft.status();
    assert_eq!(status.role, Role::Leader);
    assert!(status.since_quorum_ack.is_some());
    assert_eq!(status.matched.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leadership_moves_on_request_and_when_the_leader_is_gone() {
    let directories = directories();
    let mut nodes = three(&directories, 10_000).await;
    until("node 2 has caught up", || nodes[1].raft.status().applied == nodes[0].raft.status().applied).await;
    nodes[0].raft.transfer_leader(2).await.unwrap();
    until("node 2 leads", || nodes[1].raft.status().role == Role::Leader).await;
    propose(&nodes, command(1)).await;

    nodes.remove(1).vanish().await;
    until("another node leads", || nodes.iter().any(|node| node.raft.status().role == Role::Leader)).await;
    propose(&nodes, command(2)).await;
    for node in &nodes {
        until("both commands are applied", || node.published().commands == [command(1), command(2)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_led_before_is_elected_again() {
    let directories = directories();
    let mut nodes = three(&directories, 10_000).await;
    for successor in [2, 3] {
        let old = &nodes[leader(&nodes).await].raft;
        let position = old.status().applied;
        until("all have caught up", || nodes.iter().all(|node| node.raft.status().applied >= position)).await;
        old.transfer_leader(successor).await.unwrap();
        let leads = |node: &Node| node.raft.id() == successor && node.raft.status().role == Role::Leader;
        until("the successor leads", || nodes.iter().any(leads)).await;
    }
    // Both others have led, so their ticks were off for a time.
    nodes.remove(2).vanish().await;
    leader(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_follower_stops_naming_its_leader() {
    let directories = directories();
    let mut nodes = three(&directories, 10_000).await;
    until("all know the leader", || nodes.iter().all(|node| node.raft.status().leader == Some(1))).await;
    nodes.remove(2).vanish().await;
    nodes.remove(0).vanish().await;
    until("nobody is known to lead", || nodes[0].raft.status().leader.is_none()).await;
    assert_ne!(nodes[0].raft.status().role, Role::Leader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_a_quorum_does_not_count_as_one() {
    let directories = directories();
    let mut nodes = three(&directories, 10_000).await;
    until("the leader has a quorum", || nodes[0].raft.status().leader == Some(1)).await;
    nodes.remove(2).vanish().await;
    nodes.remove(1).vanish().await;
    until("the quorum is lost", || nodes[0].raft.status().leader.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_come_back_with_everything_acknowledged() {
    let directories = directories();
    let mut nodes = three(&directories, 50).await;
    for number in 0..120 {
        propose(&nodes, command(number)).await;
    }
    for round in 0..3 {
        let addresses: Vec<_> = nodes.iter().map(|node| node.address).collect();
        for node in nodes {
            if round == 1 { node.stop().await } else { node.vanish().await }
        }
        nodes = Vec::new();
        for ((id, directory), address) in (1..).zip(&directories).zip(addresses) {
            nodes.push(Node::start(id, directory.path(), Some(address), 50).await.unwrap());
        }
        leader(&nodes).await;
        propose(&nodes, command(1_000 + round)).await;
        for node in &nodes {
            let expected = 121 + round as usize;
            until("everything is there again", || node.published().commands.len() == expected).await;
            assert_eq!(node.published().commands[..120], (0..120).map(command).collect::<Vec<_>>());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_gets_a_snapshot_when_the_log_is_gone() {
    let directories = directories();
    let first = Node::start(1, directories[0].path(), None, 20).await.unwrap();
    first.raft.initialize_single(first.peer()).await.unwrap();
    let content = Bytes::from(vec![7; 40_000]);
    for _ in 0..150 {
        first.raft.propose(content.clone()).await.unwrap();
    }
    until("the log was shortened", || first.raft.status().purged.is_some()).await;

    let second = Node::start(2, directories[1].path(), None, 20).await.unwrap();
    first.raft.add_learner(2, second.peer()).await.unwrap();
    until("the state has arrived", || second.published().commands.len() == 150).await;
    assert!(second.published().installs > 0);
    assert!(second.published().commands.iter().all(|command| *command == content));
    until("the member knows itself", || second.raft.status().learners == BTreeSet::from([2])).await;

    let address = second.address;
    second.stop().await;
    let second = Node::start(2, directories[1].path(), Some(address), 20).await.unwrap();
    assert_eq!(second.published().commands.len(), 150, "restored before Raft has heard from anyone");
    first.raft.propose(command(1)).await.unwrap();
    until("it follows again", || second.published().commands.len() == 151).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_command_stops_the_agent_and_is_never_skipped() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(1, directory.path(), None, 10_000).await.unwrap();
    node.raft.initialize_single(node.peer()).await.unwrap();
    node.raft.propose(command(1)).await.unwrap();
    assert!(matches!(node.raft.propose(Bytes::from_static(UNKNOWN)).await, Err(ProposeError::Fatal { .. })));
    let reason = tokio::time::timeout(Duration::from_secs(10), node.raft.stopped()).await.unwrap();
    assert!(reason.contains("upgrade this agent"), "{reason}");
    assert_eq!(node.published().commands, [command(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(1, directory.path(), None, 10_000).await.unwrap();
    let ours = v1::RaftOrigin {
        cluster_id: Bytes::copy_from_slice(&GROUP.cluster_id.to_be_bytes()),
        incarnation: GROUP.incarnation,
        from: 2,
        to: 1,
    };
    let vote = v1::VoteRequest {
        vote: Some(v1::RaftVote { term: 9, node: 2, committed: false }),
        pre_vote: true,
        ..v1::VoteRequest::default()
    };
    let mut client = RaftClient::connect(format!("http://{}", node.address)).await.unwrap();
    let mut ask = async |origin: Option<v1::RaftOrigin>| {
        let mut request = tonic::Request::new(vote);
        if let Some(origin) = origin {
            let value = tonic::metadata::BinaryMetadataValue::from_bytes(&origin.encode_to_vec());
            request.metadata_mut().insert_bin("muster-origin-bin", value);
        }
        client.vote(request).await.map(|_| ()).map_err(|status| status.code())
    };
    assert_eq!(ask(Some(ours.clone())).await, Ok(()));
    let refused = Err(tonic::Code::FailedPrecondition);
    assert_eq!(ask(None).await, refused);
    assert_eq!(ask(Some(v1::RaftOrigin { to: 3, ..ours.clone() })).await, refused);
    assert_eq!(ask(Some(v1::RaftOrigin { incarnation: 2, ..ours.clone() })).await, refused);
    assert_eq!(ask(Some(v1::RaftOrigin { cluster_id: Bytes::from_static(&[1; 16]), ..ours })).await, refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_incarnation_gets_nothing() {
    let directories = directories();
    let first = Node::start(1, directories[0].path(), None, 10_000).await.unwrap();
    first.raft.initialize_single(first.peer()).await.unwrap();
    let other = Group { incarnation: 2, ..GROUP };
    let stranger = Node::start_in(other, 2, directories[1].path(), None, 10_000).await.unwrap();
    first.raft.add_learner(2, stranger.peer()).await.unwrap();
    first.raft.propose(command(1)).await.unwrap();
    until("the leader has tried", || first.raft.status().matched.contains_key(&2)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stranger.raft.status().last_log_index, None);
    assert_eq!(first.raft.status().matched[&2], None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_address_is_used_when_the_first_is_dead() {
    let directories = directories();
    let first = Node::start(1, directories[0].path(), None, 10_000).await.unwrap();
    let second = Node::start(2, directories[1].path(), None, 10_000).await.unwrap();
    first.raft.initialize_single(first.peer()).await.unwrap();
    // Nobody listens on port 1.
    let addresses = vec!["127.0.0.1:1".to_owned(), second.address.to_string()];
    first.raft.add_learner(2, Peer { name: "n2".into(), addresses }).await.unwrap();
    first.raft.propose(command(1)).await.unwrap();
    until("the command arrives", || second.published().commands == [command(1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unsafe_changes_of_the_voters_are_refused() {
    let directories = directories();
    let nodes = three(&directories, 10_000).await;
    let refused = nodes[0].raft.change_voters(BTreeSet::from([1])).await;
    assert!(matches!(refused, Err(ChangeError::Refused { .. })), "{refused:?}");
    nodes[0].raft.change_voters(BTreeSet::from([1, 2])).await.unwrap();
    nodes[0].raft.remove_learner(3).await.unwrap();
    assert_eq!(nodes[0].raft.status().voters, [BTreeSet::from([1, 2])]);
    let removed = nodes[0].raft.remove_learner(2).await;
    assert!(matches!(removed, Err(ChangeError::Refused { .. })), "{removed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_is_told_of_each_membership_entry_and_again_at_start() {
    let directories = directories();
    let nodes = three(&directories, 10_000).await;
    for node in &nodes {
        until("the change is applied", || node.published().membership.configs == [BTreeSet::from([1, 2, 3])])
            .await;
        let at = node.published().membership.at.unwrap().index;
        let told = node.gate.0.lock().unwrap().clone();
        assert_eq!(told[0], Told::Truncated(None), "an empty log has no membership");
        assert!(told.contains(&Told::Appended(at)), "{told:?}");
    }
    let at = nodes[1].published().membership.at.unwrap().index;
    let mut nodes = nodes;
    nodes.remove(1).stop().await;
    let again = Node::start(2, directories[1].path(), None, 10_000).await.unwrap();
    assert_eq!(again.gate.0.lock().unwrap()[0], Told::Truncated(Some(at)));
}
