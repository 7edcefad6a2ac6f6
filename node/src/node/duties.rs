//! What every agent tells the cluster about itself, until the state says so.

use std::sync::Arc;
use std::time::Duration;

use muster_core::command::{
    self, AuthorityKey, Bootstrap, Command, NewAuthority, NodeDescription, TokenGrant,
};
use muster_core::id::{ClusterId, Incarnation, NodeId, NodeName, RequestId};
use muster_core::lease::voter::VoterIdentity;
use muster_core::refusal::Refusal;
use muster_core::state::State;
use muster_core::time::{Stamp, Timing};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::proposer::{Proposer, SUBMIT_TIMEOUT};
use crate::raft::{Peer, RaftHandle, Role};
use crate::security::store::Store;
use crate::seed::FirstToken;
use crate::storage::directory::Identity;
use crate::submit::{Submit, SubmitError};

/// Between two tries to tell something.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a leader that stops waits for a successor.
const HAND_OVER_LIMIT: Duration = Duration::from_millis(400);

/// LEASES.md R8: after every start a voter or standby commits its `VoterUp` before it acks or promises anything.
pub(super) async fn announce_voter(
    identity: VoterIdentity,
    state: watch::Receiver<Arc<State>>,
    proposer: Proposer,
    stop: CancellationToken,
) {
    let wanted = |state: &State| {
        let current = state.nodes.get(&identity.node)?.boot;
        (state.is_in_raft(identity.node) && current != Some(identity.boot)).then_some(Command::VoterUp {
            voter: identity.node,
            boot: identity.boot,
            replaces: current,
        })
    };
    tell(wanted, state, proposer, stop).await;
}

/// Tells what the host has, whenever the state says something else.
pub(super) async fn describe_host(
    me: NodeId,
    description: NodeDescription,
    state: watch::Receiver<Arc<State>>,
    proposer: Proposer,
    stop: CancellationToken,
) {
    let wanted = |state: &State| {
        let known = &state.nodes.get(&me)?.description;
        (*known != description).then(|| Command::DescribeNode { node: me, description: description.clone() })
    };
    tell(wanted, state, proposer, stop).await;
}

/// Says what the configuration asks for in vain, as soon as the cluster's own timing is known.
pub(super) async fn compare_timing(
    config: Config,
    mut state: watch::Receiver<Arc<State>>,
    stop: CancellationToken,
) {
    let known = state.wait_for(|state| state.cluster.is_some());
    let timing = tokio::select! {
        () = stop.cancelled() => None,
        known = known => known.ok().and_then(|state| Some(state.cluster.as_ref()?.timing)),
    };
    if let Some(told) = timing.and_then(|timing| config.timing_in_vain(&timing)) {
        tracing::warn!("{told}");
    }
}

/// Submits what `wanted` says of the newest state, for as long as it says something.
async fn tell(
    wanted: impl Fn(&State) -> Option<Command>,
    mut state: watch::Receiver<Arc<State>>,
    proposer: Proposer,
    stop: CancellationToken,
) {
    loop {
        let command = wanted(&state.borrow_and_update());
        let round = async {
            match command {
                Some(command) => {
                    if let Err(error) = proposer.submit(command).await {
                        tracing::debug!(%error, "could not be told yet");
                        tokio::time::sleep(PAUSE).await;
                        return true;
                    }
                    // The answer may be here before the entry is applied on this node.
                    let _changed = tokio::time::timeout(PAUSE, state.changed()).await;
                    true
                }
                None => state.changed().await.is_ok(),
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            go_on = round => if !go_on { return },
        }
    }
}

/// A leader that stops hands its office over first: writes go on without waiting for an election.
pub(super) async fn hand_over(raft: &RaftHandle) {
    let status = raft.status();
    if status.role != Role::Leader {
        return;
    }
    let voters = status.voters.iter().flatten().copied().filter(|id| *id != status.id);
    let recent =
        |id: &u64| status.since_ack.get(id).copied().flatten().is_some_and(|age| age < HAND_OVER_LIMIT);
    let Some(to) = voters.filter(recent).max_by_key(|id| status.matched.get(id).copied().flatten()) else {
        return;
    };
    let mut leadership = raft.leadership();
    if let Err(error) = raft.transfer_leader(to).await {
        tracing::debug!(%error, "the leadership could not be handed over");
        return;
    }
    let handed = async { while leadership.changed().await.is_some_and(|now| now.role == Role::Leader) {} };
    if tokio::time::timeout(HAND_OVER_LIMIT, handed).await.is_err() {
        tracing::debug!("nobody took the leadership in time");
    }
}

/// What `muster init` left to be done.
pub(super) struct Bootstrapping {
    pub(super) identity: Identity,
    pub(super) cluster: ClusterId,
    pub(super) timing: Timing,
    pub(super) description: NodeDescription,
    pub(super) token: FirstToken,
    pub(super) store: Store,
}

/// Makes the cluster: the first start after `muster init`, or a later one if that was cut short.
pub(super) async fn bootstrap(
    wish: Bootstrapping,
    raft: RaftHandle,
    proposer: Proposer,
    state: watch::Receiver<Arc<State>>,
    stop: CancellationToken,
) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = make_cluster(wish, raft, proposer, state) => {}
    }
}

async fn make_cluster(
    wish: Bootstrapping,
    raft: RaftHandle,
    proposer: Proposer,
    state: watch::Receiver<Arc<State>>,
) {
    if raft.status().peers.is_empty() {
        let peer =
            Peer { name: wish.identity.node_name.clone(), addresses: wish.description.addresses.clone() };
        if let Err(error) = raft.initialize_single(peer).await {
            tracing::error!(%error, "the cluster could not be made");
            return;
        }
    }
    let Ok(node_name) = NodeName::new(&wish.identity.node_name) else {
        tracing::error!(name = wish.identity.node_name, "identity.json holds a name that is not valid");
        return;
    };
    let bootstrap = Command::Bootstrap(Bootstrap {
        cluster: wish.cluster,
        name: wish.identity.cluster_name.clone(),
        incarnation: Incarnation(wish.identity.incarnation),
        timing: wish.timing,
        node: wish.description,
        node_name,
    });
    if !done(&proposer, bootstrap).await {
        return;
    }
    if !hand_over_authority(&wish.store, &proposer, state).await {
        return;
    }
    let Some(hash) = hash_from_hex(&wish.token.hash) else {
        tracing::error!("seed.json holds a token hash that is not valid: create another token");
        return;
    };
    let grant = TokenGrant {
        id: wish.token.id,
        hash,
        role: command::Role::Auto,
        expires: Stamp(wish.token.expires_ms),
        uses: wish.token.uses,
    };
    done(&proposer, Command::CreateToken(grant)).await;
}

/// The CA that `muster init` made moves into the replicated state, and is not kept in a file beside it.
pub(super) async fn hand_over_authority(
    store: &Store,
    proposer: &Proposer,
    mut state: watch::Receiver<Arc<State>>,
) -> bool {
    let authority = match store.authority() {
        Ok(Some(authority)) => authority,
        Ok(None) => return true,
        Err(error) => {
            tracing::error!(%error, "the cluster's CA can't be read: run 'muster init' again with an empty data_dir");
            return false;
        }
    };
    let new = NewAuthority {
        certificate: authority.certificate().der().as_ref().into(),
        introduction: None,
        key: AuthorityKey(authority.key_der().into()),
    };
    // A retry is the same request, which is applied once.
    let request = RequestId { client: u64::from_le_bytes(*b"first CA"), seq: 1 };
    loop {
        match state.wait_for(|state| state.cluster.is_some()).await {
            // An earlier start handed it over, and was cut short then.
            Ok(state) if !state.authorities.is_empty() => break,
            Ok(_) => {}
            Err(_) => return false,
        }
        let command = Command::AddAuthority(new.clone());
        match proposer.submit_for(&"muster".into(), request, command, SUBMIT_TIMEOUT).await {
            Ok(_) => break,
            Err(SubmitError::Refused(refusal)) => {
                tracing::error!(%refusal, "the cluster has no CA");
                return false;
            }
            Err(SubmitError::Unavailable(_)) => tokio::time::sleep(PAUSE).await,
        }
    }
    if let Err(error) = store.forget_authority() {
        tracing::warn!(%error, "the file with the CA's key could not be removed");
    }
    true
}

/// Submits until it is applied; what an earlier start did already counts as done.
async fn done(proposer: &Proposer, command: Command) -> bool {
    loop {
        match proposer.submit(command.clone()).await {
            Ok(_) | Err(SubmitError::Refused(Refusal::ClusterExists | Refusal::TokenExists(_))) => {
                return true;
            }
            Err(SubmitError::Refused(refusal)) => {
                tracing::error!(%refusal, "the cluster could not be made");
                return false;
            }
            Err(SubmitError::Unavailable(_)) => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn hash_from_hex(digits: &str) -> Option<[u8; 32]> {
    let mut hash = [0u8; 32];
    if digits.len() != 64 {
        return None;
    }
    for (place, pair) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *place = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}
