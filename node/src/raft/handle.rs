//! The handle through which the rest of the agent uses Raft.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_core::time::Timing;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{InitializeError, LinearizableReadError, RaftError};
use openraft::metrics::RaftServerMetrics;
use openraft::{ChangeMembers, ReadPolicy};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::MAX_COMMAND_BYTES;
use super::contact::Contact;
use super::error::{ChangeError, ProposeError, ReadError, Refusal, change_error, propose_error};
use super::heartbeats::send_while_leading;
use super::state_machine::StateMachine;
use super::status::{Leadership, RaftStatus, Role};
use super::types::{Applied, Payload, Peer, TypeConfig};
use crate::storage::log::EntryLog;

pub(super) type OpenRaft = openraft::Raft<TypeConfig, StateMachine>;
type ServerMetrics = openraft::type_config::alias::WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>;

/// How long a proposal may take; without a quorum it would wait for ever.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a change of the members may take: it is two proposals.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long to wait before a proposal is repeated that a new leader could not take yet.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// Raft on this node. Cheap to clone.
#[derive(Clone)]
pub struct RaftHandle {
    id: u64,
    raft: OpenRaft,
    log: Arc<dyn EntryLog>,
    contact: Arc<Contact>,
    election_max: Duration,
    /// Ends with the last handle: the task must not keep Raft alive.
    _heartbeats: Arc<AbortOnDropHandle<()>>,
}

impl RaftHandle {
    pub(super) fn new(
        id: u64,
        raft: OpenRaft,
        log: Arc<dyn EntryLog>,
        contact: Arc<Contact>,
        timing: &Timing,
    ) -> Self {
        let election_max = Duration::from_millis(u64::from(timing.raft_election_max_ms));
        let period = Duration::from_millis(u64::from(timing.raft_heartbeat_ms));
        let leadership = LeadershipWatch::of(&raft);
        let heartbeats = tokio::spawn(send_while_leading(raft.clone(), leadership, period));
        let heartbeats = Arc::new(AbortOnDropHandle::new(heartbeats));
        Self { id, raft, log, contact, election_max, _heartbeats: heartbeats }
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Replicates an encoded command and applies it; returns once it is applied on this node, which must be
    /// the leader.
    ///
    /// # Errors
    /// [`ProposeError`]; after `Retry` and `TimedOut` the command may still be applied.
    pub async fn propose(&self, command: Bytes) -> Result<Applied, ProposeError> {
        if command.len() > MAX_COMMAND_BYTES {
            return Err(ProposeError::TooLarge { bytes: command.len() });
        }
        let attempts = async {
            // A new leader takes nothing until a quorum has answered it once: that is worth a short wait.
            let give_up = Instant::now() + self.election_max;
            loop {
                let written = self.raft.client_write(Payload(command.clone())).await;
                match written {
                    Ok(response) => return Ok(response.data),
                    Err(error) => match propose_error(error) {
                        // Refused before it was appended, so that repeating it can't apply it twice.
                        Refusal::NotYet if Instant::now() < give_up => tokio::time::sleep(RETRY_PAUSE).await,
                        Refusal::NotYet => return Err(ProposeError::Retry),
                        Refusal::Other(error) => return Err(error),
                    },
                }
            }
        };
        tokio::time::timeout(PROPOSE_TIMEOUT, attempts).await.unwrap_or(Err(ProposeError::TimedOut))
    }

    /// Returns once this node's state holds everything that was acknowledged anywhere before the call: it
    /// asks a quorum whether this node still leads (ReadIndex), never a clock.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read_barrier(&self) -> Result<(), ReadError> {
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Err(ReadError::NotLeader { leader: to.leader_id })
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(ReadError::NoQuorum),
            Err(RaftError::Fatal(fatal)) => Err(ReadError::Fatal { reason: fatal.to_string() }),
        }
    }

    /// Makes a new cluster with this node as its only voter, and returns when it leads.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] when this node belongs to a cluster already.
    pub async fn initialize_single(&self, peer: Peer) -> Result<(), ChangeError> {
        let members = BTreeMap::from([(self.id, peer)]);
        match self.raft.initialize(members).await {
            Ok(()) => self.leads().await,
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {
                Err(ChangeError::Refused { detail: "this node already belongs to a cluster".into() })
            }
            Err(RaftError::APIError(InitializeError::NotInMembers(error))) => {
                Err(ChangeError::Refused { detail: error.to_string() })
            }
            Err(RaftError::Fatal(fatal)) => Err(ProposeError::Fatal { reason: fatal.to_string() }.into()),
        }
    }

    async fn leads(&self) -> Result<(), ChangeError> {
        let mut leadership = self.leadership();
        let leads = async {
            while leadership.now().role != Role::Leader {
                if leadership.changed().await.is_none() {
                    let reason = self.stopped().await;
                    return Err(ProposeError::Fatal { reason }.into());
                }
            }
            // Its first entries are applied: only then can members be added.
            self.read_barrier().await.map_err(|error| ChangeError::Busy { detail: error.to_string() })
        };
        tokio::time::timeout(CHANGE_TIMEOUT, leads).await.unwrap_or(Err(ProposeError::TimedOut.into()))
    }

    /// Adds a member without a vote. Returns when that is committed; it catches up afterwards.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn add_learner(&self, id: u64, peer: Peer) -> Result<(), ChangeError> {
        self.change(ChangeMembers::AddNodes(BTreeMap::from([(id, peer)]))).await
    }

    /// Makes exactly these members the voters, in one joint change; former voters stay as learners.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] when the new voters don't include a majority of the old ones (LEASES.md R3),
    /// or one is not a member.
    pub async fn change_voters(&self, voters: BTreeSet<u64>) -> Result<(), ChangeError> {
        let status = self.status();
        for old in &status.voters {
            let kept = old.intersection(&voters).count();
            if kept * 2 <= old.len() {
                return Err(ChangeError::Refused {
                    detail: format!(
                        "of the voters {old:?} a majority must stay, but {voters:?} has only {kept} of them: change \
                         them in several steps"
                    ),
                });
            }
        }
        self.change(ChangeMembers::ReplaceAllVoters(voters)).await
    }

    /// Removes a member that has no vote.
    ///
    /// # Errors
    /// [`ChangeError`]; a voter is refused.
    pub async fn remove_learner(&self, id: u64) -> Result<(), ChangeError> {
        self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id]))).await
    }

    /// Changes a member's name or addresses.
    ///
    /// # Errors
    /// [`ChangeError`]; a node that is no member is refused.
    pub async fn update_peer(&self, id: u64, peer: Peer) -> Result<(), ChangeError> {
        if !self.status().peers.contains_key(&id) {
            return Err(ChangeError::Refused { detail: format!("node {id} is not a member") });
        }
        self.change(ChangeMembers::SetNodes(BTreeMap::from([(id, peer)]))).await
    }

    async fn change(&self, change: ChangeMembers<u64, Peer>) -> Result<(), ChangeError> {
        let changing = self.raft.change_membership(change, true);
        match tokio::time::timeout(CHANGE_TIMEOUT, changing).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(change_error(error)),
            Err(_) => Err(ProposeError::TimedOut.into()),
        }
    }

    /// Hands the leadership over. Returns when that was asked for; see [`Self::leadership`] for the outcome.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`] or [`ProposeError::Fatal`].
    pub async fn transfer_leader(&self, to: u64) -> Result<(), ProposeError> {
        let now = self.leadership().now();
        if now.role != Role::Leader {
            return Err(ProposeError::NotLeader { leader: now.leader });
        }
        let asked = self.raft.trigger().transfer_leader(to).await;
        asked.map_err(|fatal| ProposeError::Fatal { reason: fatal.to_string() })
    }

    /// Begins to write a snapshot.
    ///
    /// # Errors
    /// [`ProposeError::Fatal`] when Raft has stopped.
    pub async fn trigger_snapshot(&self) -> Result<(), ProposeError> {
        let asked = self.raft.trigger().snapshot().await;
        asked.map_err(|fatal| ProposeError::Fatal { reason: fatal.to_string() })
    }

    /// Waits until this node has applied everything that it may have shown before it was restarted. Until
    /// then its local state may be older than what it has already told.
    pub async fn recovered(&self) {
        // An error means that Raft has stopped, which `stopped` reports.
        drop(self.raft.wait_for_recovery(None).await);
    }

    /// The state of Raft right now.
    #[must_use]
    pub fn status(&self) -> RaftStatus {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let mut status = RaftStatus::of(&metrics, self.log.torn_tail_bytes(), self.log.disk_bytes());
        if !self.contact.confirms(&status) {
            status.leader = None;
        }
        status
    }

    /// Who leads, as far as this node ever heard: it may be gone. Unlike [`Self::status`] it copies nothing and takes no lock of the log, so
    /// that every write may ask.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        self.raft.server_metrics().borrow_watched().current_leader
    }

    /// Watches who leads. It wakes only when that changes, not at each heartbeat, and so names the last known
    /// leader even when nothing is heard of it any more; [`Self::status`] doesn't.
    #[must_use]
    pub fn leadership(&self) -> LeadershipWatch {
        LeadershipWatch::of(&self.raft)
    }

    /// Waits until Raft stops, and says why. Unless the agent is ending anyway it must end now: after a
    /// write error this node may not vote, nor go on without its log.
    pub async fn stopped(&self) -> String {
        let mut metrics = self.raft.server_metrics();
        while metrics.changed().await.is_ok() {}
        let reason = self.status().stopped;
        reason.unwrap_or_else(|| "it was shut down".into())
    }

    /// Stops Raft, syncs the log and closes it.
    pub async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "Raft did not stop in order");
        }
        let log = Arc::clone(&self.log);
        if let Err(error) = crate::blocking::run(move || log.close()).await {
            tracing::error!(%error, "the log did not close in order");
        }
    }

    /// A cluster of one voter needs no one's consent: it need not wait for its election timeout.
    pub(super) async fn lead_if_alone(&self) {
        if self.status().is_only_voter() && self.raft.trigger().elect(false).await.is_err() {
            tracing::debug!("Raft stopped while it was starting");
        }
    }
}

/// Watches who leads.
pub struct LeadershipWatch {
    metrics: ServerMetrics,
}

impl LeadershipWatch {
    fn of(raft: &OpenRaft) -> Self {
        Self { metrics: raft.server_metrics() }
    }

    /// Who leads now, as this node knows it.
    #[must_use]
    pub fn now(&self) -> Leadership {
        let metrics = self.metrics.borrow_watched();
        Leadership {
            term: metrics.vote.leader_id().term,
            leader: metrics.current_leader,
            role: Role::of(metrics.state),
        }
    }

    /// Waits for the next change of term, leader, role or members; none when Raft has stopped.
    pub async fn changed(&mut self) -> Option<Leadership> {
        self.metrics.changed().await.ok()?;
        Some(self.now())
    }
}
