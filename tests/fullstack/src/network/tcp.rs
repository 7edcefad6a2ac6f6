//! Connections.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures::Stream;
use hyper_util::rt::TokioIo;
use muster::security::dial::Dial;
use muster::security::principal::{Caller, Door, Principal};
use muster_core::id::{CertificateId, NodeId};
use muster_core::time::Stamp;
use muster_tls::Expected;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Uri};

use super::Network;
use super::fabric::{EndId, Listener, Segment};

/// What may be under way and unread in one direction.
const WINDOW_BYTES: usize = 256 << 10;

/// One end of a connection.
#[derive(Debug)]
pub struct SimStream {
    network: Network,
    id: EndId,
}

pub(super) async fn connect(
    network: Network,
    from: IpAddr,
    to: SocketAddr,
    who: Principal,
) -> io::Result<SimStream> {
    let id = {
        let mut fabric = network.lock();
        let port = fabric.port(from);
        fabric.open(SocketAddr::new(from, port), to, who)
    };
    let stream = SimStream { network, id };
    poll_fn(|context| {
        let mut fabric = stream.network.lock();
        let Some(end) = fabric.ends.get_mut(&id).filter(|end| !end.reset) else {
            return Poll::Ready(Err(io::Error::from(ErrorKind::ConnectionRefused)));
        };
        if end.open {
            return Poll::Ready(Ok(()));
        }
        end.reader = Some(context.waker().clone());
        Poll::Pending
    })
    .await?;
    Ok(stream)
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut fabric = self.network.lock();
        let Some(end) = fabric.ends.get_mut(&self.id) else {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        };
        if let Some(bytes) = end.inbox.front_mut() {
            let count = bytes.len().min(buffer.remaining());
            buffer.put_slice(&bytes[..count]);
            bytes.advance(count);
            if bytes.is_empty() {
                end.inbox.pop_front();
            }
            end.inbox_bytes -= count;
            let writer = fabric.ends.get_mut(&self.id.other()).and_then(|end| end.writer.take());
            if let Some(writer) = writer {
                writer.wake();
            }
            return Poll::Ready(Ok(()));
        }
        if end.reset {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        if end.ended {
            return Poll::Ready(Ok(()));
        }
        end.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        content: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut fabric = self.network.lock();
        let unread = fabric.ends.get(&self.id.other()).map_or(0, |end| end.inbox_bytes);
        let Some(end) = fabric.ends.get_mut(&self.id).filter(|end| !end.reset && !end.end_sent) else {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        };
        let room = WINDOW_BYTES.saturating_sub(end.outbox_bytes + unread);
        if room == 0 {
            end.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = content.len().min(room);
        fabric.push(self.id, Segment::Data(Bytes::copy_from_slice(&content[..count])));
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut fabric = self.network.lock();
        let Some(end) = fabric.ends.get_mut(&self.id) else { return Poll::Ready(Ok(())) };
        if !end.end_sent {
            end.end_sent = true;
            fabric.push(self.id, Segment::End);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.network.lock().release(self.id);
    }
}

impl Connected for SimStream {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        let fabric = self.network.lock();
        let principal = fabric.ends.get(&self.id).map_or(Principal::Stranger, |end| end.peer.clone());
        Caller { principal, remote: None, uid: None, door: Door::Any }
    }
}

/// A listener, as the stream of its connections.
#[derive(Debug)]
pub struct Incoming {
    network: Network,
    address: SocketAddr,
}

impl Incoming {
    pub(super) fn open(network: Network, address: SocketAddr) -> io::Result<Self> {
        let taken = network.lock().listeners.insert(address, Listener::default()).is_some();
        if taken { Err(ErrorKind::AddrInUse.into()) } else { Ok(Self { network, address }) }
    }
}

impl Stream for Incoming {
    type Item = io::Result<SimStream>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut fabric = self.network.lock();
        let Some(listener) = fabric.listeners.get_mut(&self.address) else { return Poll::Ready(None) };
        match listener.waiting.pop_front() {
            Some(id) => Poll::Ready(Some(Ok(SimStream { network: self.network.clone(), id }))),
            None => {
                listener.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let mut fabric = self.network.lock();
        if let Some(listener) = fabric.listeners.remove(&self.address) {
            for id in listener.waiting {
                fabric.release(id);
            }
        }
    }
}

/// Reaches agents over the simulated network.
#[derive(Clone, Debug)]
pub struct SimDial {
    /// The network.
    pub network: Network,
    /// From where.
    pub from: IpAddr,
    /// Who calls: what a certificate would prove.
    pub who: Principal,
}

/// A node's principal.
#[must_use]
pub fn node(id: u64) -> Principal {
    Principal::Node { id: NodeId(id), certificate: CertificateId(id), ends: Stamp(u64::MAX) }
}

impl Dial for SimDial {
    fn dial(&self, settings: &Endpoint, _address: &str, _expected: Expected) -> Channel {
        let dialer = self.clone();
        settings.connect_with_connector_lazy(tower::service_fn(move |uri: Uri| {
            let dialer = dialer.clone();
            async move {
                let to = uri.authority().and_then(|to| to.as_str().parse().ok());
                let to = to.ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
                let SimDial { network, from, who } = dialer;
                network.connect_as(from, to, who).await.map(TokioIo::new)
            }
        }))
    }
}
