//! Datagrams.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;

use bytes::Bytes;

use super::Network;
use super::fabric::Socket;

/// A bound socket.
#[derive(Debug)]
pub struct SimUdp {
    network: Network,
    address: SocketAddr,
}

impl SimUdp {
    pub(super) fn open(network: Network, address: SocketAddr) -> std::io::Result<Self> {
        let taken = network.lock().sockets.insert(address, Socket::default()).is_some();
        if taken { Err(std::io::ErrorKind::AddrInUse.into()) } else { Ok(Self { network, address }) }
    }

    /// Sends; it may arrive.
    pub fn send(&self, content: &[u8], to: SocketAddr) {
        self.network.lock().send_datagram(self.address, to, content);
    }

    /// The next one that arrives.
    pub async fn receive(&self) -> (SocketAddr, Bytes) {
        poll_fn(|context| {
            let mut fabric = self.network.lock();
            let Some(socket) = fabric.sockets.get_mut(&self.address) else { return Poll::Pending };
            if let Some(datagram) = socket.held.pop_front() {
                return Poll::Ready(datagram);
            }
            socket.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// One that has arrived already.
    #[must_use]
    pub fn received(&self) -> Option<(SocketAddr, Bytes)> {
        self.network.lock().sockets.get_mut(&self.address)?.held.pop_front()
    }
}

impl Drop for SimUdp {
    fn drop(&mut self) {
        self.network.lock().sockets.remove(&self.address);
    }
}
