//! Connections to one peer: lazily made, kept, one per address; when one fails the next is tried.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster_core::id::NodeId;
use muster_tls::Expected;
use tonic::transport::{Channel, Endpoint};

use crate::raft::types::Peer;
use crate::security::dial::Dial;

/// How long a TCP connection may take to come up: a dead host must not slow the others down.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
/// A connection without any traffic is probed this often, to notice a host that vanished without a word.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the answer to such a probe may take.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The window of a stream: what may be under way to a peer that is busy with its disk.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// The window of a connection: a snapshot must not keep the log's stream waiting.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Why an address is not usable at all.
#[derive(Debug, thiserror::Error)]
#[error("'{address}' is not a usable address (HOST:PORT): {detail}")]
pub struct DialError {
    /// The address.
    pub address: String,
    /// What is wrong.
    pub detail: String,
}

/// The settings that every connection between peers has.
///
/// # Errors
/// [`DialError`] when the address can't be one.
pub fn endpoint(address: &str) -> Result<Endpoint, DialError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| DialError { address: address.to_owned(), detail: error.to_string() })?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
}

/// The connections to one peer.
pub(super) struct Link {
    addresses: Vec<String>,
    channels: Vec<Channel>,
    current: AtomicUsize,
}

impl Link {
    fn new(id: u64, peer: &Peer, dialer: &dyn Dial) -> Self {
        let mut channels = Vec::new();
        for address in &peer.addresses {
            match endpoint(address) {
                Ok(settings) => {
                    channels.push(dialer.dial(&settings, address, Expected::Node(NodeId(id))));
                }
                Err(error) => tracing::warn!(peer = peer.name, %error, "an address of a peer is skipped"),
            }
        }
        Self { addresses: peer.addresses.clone(), channels, current: AtomicUsize::new(0) }
    }

    /// The channel to use now, and its number for [`Self::failed`]; none when the peer has no usable address.
    pub(super) fn channel(&self) -> Option<(usize, Channel)> {
        let number = self.current.load(Ordering::Relaxed);
        self.channels.get(number).map(|channel| (number, channel.clone()))
    }

    /// Whether the channel with that number is the one to use now.
    pub(super) fn is_current(&self, number: usize) -> bool {
        self.current.load(Ordering::Relaxed) == number
    }

    /// The channel with that number has failed: the next address is tried from now on.
    pub(super) fn failed(&self, number: usize) {
        let next = (number + 1) % self.channels.len().max(1);
        // Several calls that fail together must not skip an address.
        let switched =
            self.current.compare_exchange(number, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if switched && next != number {
            tracing::debug!(from = number, to = next, "trying another address of a peer");
        }
    }
}

/// The connections to all peers, shared by everything that talks to them.
pub(super) struct Links {
    dialer: Arc<dyn Dial>,
    links: Mutex<HashMap<u64, Arc<Link>>>,
}

impl Links {
    pub(super) fn new(dialer: Arc<dyn Dial>) -> Self {
        Self { dialer, links: Mutex::default() }
    }

    /// The link to a peer; a new one when its addresses have changed.
    pub(super) fn link(&self, id: u64, peer: &Peer) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(link) = links.get(&id).filter(|link| link.addresses == peer.addresses) {
            return Arc::clone(link);
        }
        let link = Arc::new(Link::new(id, peer, &*self.dialer));
        links.insert(id, Arc::clone(&link));
        link
    }
}
