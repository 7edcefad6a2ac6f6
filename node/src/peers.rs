//! gRPC channels to the other agents.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster_core::id::NodeId;
use muster_core::state::State;
use muster_proto::v1;
use muster_proto::v1::cluster_client::ClusterClient;
use muster_proto::v1::joining_client::JoiningClient;
use muster_proto::v1::node_link_client::NodeLinkClient;
use muster_tls::Expected;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

use crate::security::dial::Dial;

/// How long a connection attempt may take: a dead peer must not hold anything up.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
/// The largest message that an agent accepts from another, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;

/// Why a peer can't be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The state has no such node, or it has no address.
    #[error("node #{0} has no known address")]
    NoAddress(NodeId),
    /// An address can't be used.
    #[error("'{0}' is not an address")]
    BadAddress(String),
}

/// Channels to other agents, made on first use and kept.
#[derive(Clone)]
pub struct Peers {
    state: watch::Receiver<Arc<State>>,
    dialer: Arc<dyn Dial>,
    channels: Arc<Mutex<HashMap<NodeId, Connected>>>,
}

struct Connected {
    addresses: Vec<String>,
    /// Which of the addresses is in use; failures move on to the next.
    turn: usize,
    channel: Channel,
}

impl Peers {
    /// No channels yet.
    #[must_use]
    pub fn new(state: watch::Receiver<Arc<State>>, dialer: Arc<dyn Dial>) -> Self {
        Self { state, dialer, channels: Arc::default() }
    }

    /// A channel to HOST:PORT, for an agent that is not known by the state.
    ///
    /// # Errors
    /// [`PeerError::BadAddress`].
    pub fn dial(&self, address: &str) -> Result<Channel, PeerError> {
        Ok(self.dialer.dial(&settings(address)?, address, Expected::AnyNode))
    }

    /// A client of another agent's link.
    ///
    /// # Errors
    /// [`PeerError`] when its address isn't known.
    pub fn link(&self, node: NodeId) -> Result<NodeLinkClient<Channel>, PeerError> {
        let channel = self.channel(node)?;
        Ok(NodeLinkClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// A client of another agent's operator API.
    ///
    /// # Errors
    /// [`PeerError`] when its address isn't known.
    pub fn cluster(&self, node: NodeId) -> Result<ClusterClient<Channel>, PeerError> {
        let channel = self.channel(node)?;
        Ok(ClusterClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// A client of another agent's door for hosts that join, to pass one's wish on.
    ///
    /// # Errors
    /// [`PeerError`] when its address isn't known.
    pub fn joining(&self, node: NodeId) -> Result<JoiningClient<Channel>, PeerError> {
        Ok(JoiningClient::new(self.channel(node)?))
    }

    /// Tells that a call failed: the next one tries the node's next address.
    pub fn failed(&self, node: NodeId) {
        let mut channels = lock(&self.channels);
        if let Some(old) = channels.get(&node).filter(|c| c.addresses.len() > 1) {
            let turn = (old.turn + 1) % old.addresses.len();
            let addresses = old.addresses.clone();
            if let Ok(channel) = self.dial_node(node, &addresses[turn]) {
                channels.insert(node, Connected { addresses, turn, channel });
            }
        }
    }

    fn channel(&self, node: NodeId) -> Result<Channel, PeerError> {
        let addresses = self.state.borrow().nodes.get(&node).map(|n| n.description.addresses.clone());
        let addresses = addresses.filter(|a| !a.is_empty()).ok_or(PeerError::NoAddress(node))?;
        let mut channels = lock(&self.channels);
        if let Some(known) = channels.get(&node).filter(|c| c.addresses == addresses) {
            return Ok(known.channel.clone());
        }
        let channel = self.dial_node(node, &addresses[0])?;
        channels.insert(node, Connected { addresses, turn: 0, channel: channel.clone() });
        Ok(channel)
    }
}

impl Peers {
    fn dial_node(&self, node: NodeId, address: &str) -> Result<Channel, PeerError> {
        Ok(self.dialer.dial(&settings(address)?, address, Expected::Node(node)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The settings of a connection to HOST:PORT.
///
/// # Errors
/// [`PeerError::BadAddress`].
pub fn settings(address: &str) -> Result<Endpoint, PeerError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| PeerError::BadAddress(address.to_owned()))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(2)))
}

/// Who speaks: stands first in every message between agents.
#[must_use]
pub fn sender(state: &State, me: NodeId) -> v1::Sender {
    let (cluster, incarnation) = state.cluster.as_ref().map_or((0, 0), |c| (c.id.0, c.incarnation.0));
    v1::Sender { cluster_id: cluster.to_be_bytes().to_vec().into(), incarnation, node: me.0 }
}
