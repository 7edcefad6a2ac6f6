//! Connections from elsewhere: how many, how slow, from whom; and their end when their holder is not admitted any more.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use muster_core::state::State;
use muster_tls::{Acceptor, Live, TlsStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::admission::admit;
use super::principal::{Caller, Door, Principal};
use super::rejections::Rejections;
use crate::api::status::ApiError;
use crate::clock;

/// How many connections of nodes and users an agent keeps: a thousand nodes and many operators.
const MAX_CONNECTIONS: usize = 4096;
/// How many connections may be shaking hands or be a stranger's, in all and from one address. Who floods the agent
/// from one address takes its own places only.
const MAX_STRANGERS: usize = 256;
/// See [`MAX_STRANGERS`].
const MAX_STRANGERS_OF_ADDRESS: usize = 64;
/// How long a stranger may stay: joining needs one call.
const STRANGER_STAYS: Duration = Duration::from_secs(30);
/// Connections that have shaken hands and wait for the server.
const READY_QUEUE: usize = 64;
/// How often certificates are looked at that end while their connection stands.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Between two looks at changes of the state.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// After an error of the listener itself, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the listeners share.
#[derive(Clone)]
pub struct Entrance {
    acceptor: Acceptor,
    state: watch::Receiver<Arc<State>>,
    rejections: Rejections,
    places: Arc<Semaphore>,
    strangers: Arc<Mutex<Strangers>>,
    open: Arc<Mutex<HashMap<u64, Open>>>,
}

/// Strangers by address, and the number of the next connection.
#[derive(Default)]
pub(crate) struct Strangers {
    by_address: HashMap<IpAddr, usize>,
    all: usize,
    connections: u64,
}

/// An open connection, which can be ended.
struct Open {
    principal: Principal,
    end: CancellationToken,
}

impl Entrance {
    /// With the credentials in use.
    #[must_use]
    pub fn new(live: Live, state: watch::Receiver<Arc<State>>, rejections: Rejections) -> Self {
        Self {
            acceptor: Acceptor::new(live),
            state,
            rejections,
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            strangers: Arc::default(),
            open: Arc::default(),
        }
    }

    /// Takes connections from these listeners until `stop`; those that are let in come out.
    #[must_use]
    pub fn open(
        &self,
        listeners: Vec<(TcpListener, Door)>,
        stop: &CancellationToken,
    ) -> ReceiverStream<std::io::Result<Secured>> {
        let (ready, secured) = mpsc::channel(READY_QUEUE);
        for (listener, door) in listeners {
            let (entrance, ready, stop) = (self.clone(), ready.clone(), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = entrance.accept_all(listener, door, ready) => {}
                }
            });
        }
        let (entrance, stop) = (self.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = entrance.end_the_unadmitted() => {}
            }
        });
        ReceiverStream::new(secured)
    }

    async fn accept_all(
        &self,
        listener: TcpListener,
        door: Door,
        ready: mpsc::Sender<std::io::Result<Secured>>,
    ) {
        loop {
            let (tcp, remote) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = StrangersPlace::take(&self.strangers, remote.ip()) else {
                self.rejections.connection(remote, "too_many", &"too many that are not known yet");
                continue;
            };
            let (entrance, ready) = (self.clone(), ready.clone());
            tokio::spawn(async move {
                if let Some(secured) = entrance.secure(tcp, remote, door, place).await {
                    // The server is gone only when the agent stops.
                    let _sent = ready.send(Ok(secured)).await;
                }
            });
        }
    }

    /// Shakes hands, and finds out who it is.
    async fn secure(
        &self,
        tcp: TcpStream,
        remote: SocketAddr,
        door: Door,
        place: StrangersPlace,
    ) -> Option<Secured> {
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%remote, %error, "the connection was lost");
            return None;
        }
        let accepted = match self.acceptor.accept(tcp, clock::wall_now()).await {
            Ok(accepted) => accepted,
            Err(refused) => {
                self.rejections.connection(remote, refused.reason(), &refused);
                return None;
            }
        };
        let principal = Principal::of(accepted.identity);
        let place = if principal == Principal::Stranger {
            Place::Stranger { _place: place }
        } else {
            let known = Arc::clone(&self.places).try_acquire_owned();
            let Ok(known) = known else {
                self.rejections.connection(remote, "too_many", &"too many connections");
                return None;
            };
            Place::Known { _place: known }
        };
        let end = CancellationToken::new();
        if principal == Principal::Stranger {
            let end = end.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = end.cancelled() => {}
                    () = tokio::time::sleep(STRANGER_STAYS) => end.cancel(),
                }
            });
        }
        let number = self.enter(&principal, &end);
        let caller = Caller { principal, remote: Some(remote.ip()), uid: None, door };
        let leave = Leave { open: Arc::clone(&self.open), number, end: end.clone() };
        let ended = Box::pin(end.cancelled_owned());
        Some(Secured { stream: accepted.stream, caller, ended, _leave: leave, _place: place })
    }

    fn enter(&self, principal: &Principal, end: &CancellationToken) -> u64 {
        let number = {
            let mut strangers = lock(&self.strangers);
            strangers.connections += 1;
            strangers.connections
        };
        let open = Open { principal: principal.clone(), end: end.clone() };
        lock(&self.open).insert(number, open);
        number
    }

    /// Ends connections, and with them their streams, whose holders the state admits no longer.
    async fn end_the_unadmitted(&self) {
        let mut states = self.state.clone();
        let mut looked_at: Option<Arc<State>> = None;
        loop {
            let changed = tokio::time::timeout(LOOK_EVERY, states.changed()).await;
            if matches!(changed, Ok(Err(_))) {
                return;
            }
            let state = states.borrow_and_update().clone();
            // Most entries concern nobody's certificate.
            let same = |old: &Arc<State>| old.users.ptr_eq(&state.users) && old.nodes.ptr_eq(&state.nodes);
            if changed.is_ok() && looked_at.as_ref().is_some_and(same) {
                tokio::time::sleep(LOOK_PAUSE).await;
                continue;
            }
            let now = clock::wall_now();
            for open in lock(&self.open).values() {
                if let Err(error @ ApiError::NotAdmitted { .. }) = admit(&state, &open.principal, now) {
                    tracing::warn!(who = %open.principal, %error, "a connection is ended");
                    open.end.cancel();
                }
            }
            looked_at = Some(state);
            // On a busy cluster the state changes all the time; a revocation may take this much longer.
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place among those that are not known, in all and from one address; free again when it is dropped.
pub(crate) struct StrangersPlace {
    strangers: Arc<Mutex<Strangers>>,
    address: IpAddr,
}

impl StrangersPlace {
    /// None when all are taken.
    pub(crate) fn take(strangers: &Arc<Mutex<Strangers>>, address: IpAddr) -> Option<Self> {
        let mut counts = lock(strangers);
        let of_address = counts.by_address.get(&address).copied().unwrap_or_default();
        if counts.all >= MAX_STRANGERS || of_address >= MAX_STRANGERS_OF_ADDRESS {
            return None;
        }
        counts.all += 1;
        counts.by_address.insert(address, of_address + 1);
        Some(Self { strangers: Arc::clone(strangers), address })
    }
}

impl Drop for StrangersPlace {
    fn drop(&mut self) {
        let mut counts = lock(&self.strangers);
        counts.all = counts.all.saturating_sub(1);
        let left = counts.by_address.get(&self.address).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            counts.by_address.remove(&self.address);
        } else {
            counts.by_address.insert(self.address, left);
        }
    }
}

/// What a connection holds for as long as it stands.
enum Place {
    Known { _place: OwnedSemaphorePermit },
    Stranger { _place: StrangersPlace },
}

/// Takes a connection off the list.
struct Leave {
    open: Arc<Mutex<HashMap<u64, Open>>>,
    number: u64,
    end: CancellationToken,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.end.cancel();
        lock(&self.open).remove(&self.number);
    }
}

/// A connection of somebody who is known, or who may only ask to join.
pub struct Secured {
    stream: TlsStream<TcpStream>,
    caller: Caller,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    _leave: Leave,
    _place: Place,
}

impl Connected for Secured {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.ended.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionAborted.into()));
        }
        pin!(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        pin!(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        pin!(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        pin!(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        pin!(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_places_of_strangers() {
        let strangers = Arc::new(Mutex::new(Strangers::default()));
        let take = |last: u8| StrangersPlace::take(&strangers, IpAddr::from([10, 0, 0, last]));
        let flood: Vec<_> = (0..MAX_STRANGERS_OF_ADDRESS).map(|_| take(1).unwrap()).collect();
        assert!(take(1).is_none());
        let others: Vec<_> = (2..=4).flat_map(|last| std::iter::repeat_n(last, 64)).map(take).collect();
        assert!(others.iter().all(Option::is_some));
        assert!(take(9).is_none(), "all places are taken");
        drop(flood);
        assert!(take(9).is_some() && take(1).is_some());
        drop(others);
        assert!(lock(&strangers).by_address.is_empty(), "nothing is remembered of who has left");
    }
}
