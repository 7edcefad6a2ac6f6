//! Where the parts of an agent meet: api, controller and agent don't know each other, only these handles.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use muster_core::detector::SessionHealth;
use muster_core::id::{NodeId, SessionId};
use muster_tls::Live;
use tokio::sync::{mpsc, watch};

use crate::acks::Acks;
use crate::agent::AgentHandle;
use crate::office::Office;
use crate::peers::Peers;
use crate::proposer::Proposer;
use crate::raft::RaftHandle;
use crate::replica::Published;
use crate::secrets::Keyring;
use crate::security::gate::Gate;
use crate::security::join_rate::JoinRate;
use crate::security::recorder::Recorder;
use crate::security::rejections::Rejections;
use crate::storage::history::History;

/// The health of all open sessions as the leader's detector sees it; empty on every other node.
pub type Healths = Arc<BTreeMap<SessionId, SessionHealth>>;

/// Everything that the API needs of this agent.
#[derive(Clone)]
pub struct Handles {
    /// This node.
    pub me: NodeId,
    /// Its name.
    pub name: Arc<str>,
    /// The data directory.
    pub data_dir: PathBuf,
    /// State, events and entries as they are applied.
    pub published: Published,
    /// Whether this node, while it is outside Raft, follows somebody who is in touch with the cluster.
    pub is_in_touch: watch::Receiver<bool>,
    /// Writes.
    pub proposer: Proposer,
    /// Who leads, as far as this node may rely on it.
    pub office: Office,
    /// Raft: leadership, barriers, membership.
    pub raft: RaftHandle,
    /// Channels to the other agents.
    pub peers: Peers,
    /// The voter's half of the leases.
    pub acks: Acks,
    /// The history of events.
    pub history: History,
    /// What the detector sees while this node leads.
    pub healths: watch::Receiver<Healths>,
    /// Sessions whose guards proved that nothing is left of them; the controller closes them.
    pub fenced: mpsc::Sender<SessionId>,
    /// The agent's own part: instances, guard, logs.
    pub agent: AgentHandle,
    /// What `status` should warn of, found at start.
    pub warnings: Arc<[String]>,
    /// Who may call what.
    pub gate: Gate,
    /// How many hosts may ask to join at once.
    pub joins: JoinRate,
    /// This node's credentials; none in a simulation without TLS.
    pub live: Option<Live>,
    /// The keys that secrets are encrypted with.
    pub keyring: Keyring,
    /// What was refused at the door.
    pub rejections: Rejections,
    /// What is refused and goes to the audit trail.
    pub recorder: Recorder,
}
