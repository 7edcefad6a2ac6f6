//! The voter's half of all leases: answers heartbeats on its own thread, and holds the one lock of LEASES.md R2.
//!
//! The decisions are [`muster_core::lease::voter::VoterLease`]'s. This file reads datagrams and clocks, and is
//! told by the replica what was applied and by the log store what is about to be appended.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_core::command::SessionKey;
use muster_core::id::{MembershipId, NodeId, Reopens, Revision, SessionId};
use muster_core::lease::Answer;
use muster_core::lease::voter::{
    AgeReports, Applied, CloseRequest, FencedEffect, NoAnswer, OpenSession, Promise, Refusal, VoterIdentity,
    VoterLease,
};
use muster_core::state::State;
use muster_core::state::session::Session;
use muster_guard::datagram::{self, Buffer, DATAGRAM_BYTES_MAX, FromGuard, Rejection};
use muster_guard::key::SessionKey as DatagramKey;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendto, setsockopt, sockopt,
};
use tokio::sync::mpsc;

use crate::clock;
use crate::raft::VoterGate;

/// How long the thread waits for datagrams before it tells the lease that it is awake: well below R6's 50 ms.
const TICK: Duration = Duration::from_millis(20);
/// How many keys of closed sessions are kept, so that their guards can be told.
const KEPT_CLOSED_KEYS: usize = 1024;
/// How many datagrams are read from one socket before the others get their turn.
const BATCH: usize = 64;
/// Room for what the kernel says beside a datagram: one count.
const CONTROL_BYTES: usize = 64;

/// That room, aligned as the kernel's headers in it are read.
#[repr(align(8))]
struct Control([u8; CONTROL_BYTES]);

/// The voter's half, shared by the datagram thread, the replica, the log store and the controller.
#[derive(Clone)]
pub struct Acks {
    identity: VoterIdentity,
    inner: Arc<Mutex<Inner>>,
    counters: Arc<Counters>,
}

struct Inner {
    lease: VoterLease,
    keys: HashMap<SessionId, SessionKey>,
    closed: VecDeque<SessionId>,
    /// Membership entries that the log holds and the state machine has not applied (R2b).
    pending: BTreeSet<MembershipId>,
    applied: Revision,
}

/// What the datagram thread counted since its start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Datagrams that were answered.
    pub answered: AtomicU64,
    /// Datagrams that were passed over, in the order of [`Rejection::ALL`].
    rejected: [AtomicU64; Rejection::ALL.len()],
    /// Datagrams that the kernel dropped because a receive buffer was full.
    pub overflowed: AtomicU64,
}

impl Counters {
    /// How many datagrams were passed over for that.
    #[must_use]
    pub fn rejected(&self, rejection: Rejection) -> u64 {
        self.rejected[rejection as usize].load(Ordering::Relaxed)
    }

    fn reject(&self, rejection: Rejection) {
        self.rejected[rejection as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl Acks {
    /// A voter that has applied nothing yet.
    #[must_use]
    pub fn new(identity: VoterIdentity) -> Self {
        let lease = VoterLease::new(clock::host_now(), identity, Applied::default());
        let inner = Inner {
            lease,
            keys: HashMap::new(),
            closed: VecDeque::new(),
            pending: BTreeSet::new(),
            applied: Revision::default(),
        };
        Self { identity, inner: Arc::new(Mutex::new(inner)), counters: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This start of the voter.
    #[must_use]
    pub fn identity(&self) -> VoterIdentity {
        self.identity
    }

    /// What the thread counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    // ---- told by the replica ------------------------------------------------------------------------------

    /// Runs `tell` under the lock with the present time. The replica calls it for each entry that matters.
    pub fn applied(&self, tell: impl FnOnce(&mut AppliedEntry<'_>)) {
        let mut inner = self.lock();
        tell(&mut AppliedEntry { inner: &mut inner });
    }

    /// A snapshot replaced the state (R6).
    pub fn snapshot_installed(&self, state: &State) {
        let mut inner = self.lock();
        inner.applied_to(state.revision);
        let me = inner.lease.identity().node;
        let applied = Applied {
            revision: state.revision,
            list: Arc::new(state.voter_list()),
            sessions: state.sessions.values().map(open_session).collect(),
            own_boot: state.nodes.get(&me).and_then(|n| n.boot).unwrap_or_default(),
            pending: inner.pending.clone(),
        };
        inner.lease.snapshot_installed(clock::host_now(), applied);
        inner.keys = state.sessions.values().map(|s| (s.id, s.key)).collect();
        inner.closed.clear();
    }

    // ---- asked by the controller and by other voters ------------------------------------------------------

    /// The ages of all open sessions.
    #[must_use]
    pub fn ages(&self) -> AgeReports {
        self.lock().lease.ages(clock::host_now())
    }

    /// R5.
    ///
    /// # Errors
    /// Why not.
    pub fn promise(&self, request: CloseRequest) -> Result<Promise, Refusal> {
        self.lock().lease.promise(clock::host_now(), request)
    }

    // ---- called by whoever has the datagrams ---------------------------------------------------------------

    /// Tells that the voter is awake: a gap between two calls is a stall of its own (R6).
    pub fn tick(&self) {
        self.lock().lease.tick(clock::host_now());
    }

    /// What to answer to a datagram. What does not verify is counted by its kind and gets nothing. A session that is
    /// proven to be over goes to `fenced`.
    #[must_use]
    pub fn answer(&self, datagram: &[u8], fenced: &mpsc::Sender<SessionId>) -> Option<(Buffer, usize)> {
        let (answer, key) = match self.judge(datagram, fenced) {
            Ok(answered) => answered?,
            Err(rejection) => {
                self.counters.reject(rejection);
                return None;
            }
        };
        let mut buffer = [0u8; DATAGRAM_BYTES_MAX];
        let length = datagram::encode_answer(&answer, &key, &mut buffer);
        Some((buffer, length))
    }

    /// What costs nothing is looked at first. The MAC is computed for known sessions only, and outside the lock: a flood
    /// that names one keeps nobody waiting.
    fn judge(
        &self,
        datagram: &[u8],
        fenced: &mpsc::Sender<SessionId>,
    ) -> Result<Option<(Answer, DatagramKey)>, Rejection> {
        let header = datagram::Header::read(datagram)?;
        if !header.kind.goes_to_voters() {
            return Err(Rejection::Direction);
        }
        if (header.cluster, header.incarnation) != (self.identity.cluster, self.identity.incarnation) {
            return Err(Rejection::Cluster);
        }
        let key = self.lock().keys.get(&header.session).map(|key| DatagramKey(key.0));
        let key = key.ok_or(Rejection::Session)?;
        let answer = match datagram::open_from_guard(datagram, &key)? {
            FromGuard::Heartbeat(heartbeat) => {
                match self.lock().lease.judge_heartbeat(clock::host_now(), &heartbeat) {
                    Ok(answer) => Some(answer),
                    Err(NoAnswer::OtherCluster) => return Err(Rejection::Cluster),
                    Err(NoAnswer::OtherNode) => return Err(Rejection::Node),
                    Err(NoAnswer::Replayed) => return Err(Rejection::Replayed),
                    Err(NoAnswer::NotNow) => None,
                }
            }
            FromGuard::Fenced(proof) => match self.lock().lease.on_fenced(&proof) {
                FencedEffect::Answer(closed) => Some(Answer::Closed(closed)),
                FencedEffect::Forward(session) => {
                    // A full queue drops it: the guard repeats it every heartbeat.
                    let _queued = fenced.try_send(session);
                    None
                }
                FencedEffect::Ignore => return Err(Rejection::Node),
            },
        };
        Ok(answer.map(|answer| (answer, key)))
    }

    /// Which sessions' acks ask for an orderly stop; all others do not.
    pub fn set_release(&self, sessions: &BTreeSet<SessionId>) {
        let mut inner = self.lock();
        let all: Vec<SessionId> = inner.keys.keys().copied().collect();
        for session in all {
            inner.lease.set_release(session, sessions.contains(&session));
        }
    }
}

/// R2b: the gate closes before a membership entry goes to disk.
impl VoterGate for Acks {
    fn appended_membership(&self, index: u64) {
        self.lock().hold_back(index);
    }

    fn truncated(&self, last_unapplied_membership: Option<u64>) {
        let mut inner = self.lock();
        let from = last_unapplied_membership.map_or(0, |index| index + 1);
        inner.pending.retain(|id| id.0 < from);
        inner.lease.log_truncated(from);
        if let Some(index) = last_unapplied_membership {
            inner.hold_back(index);
        }
    }
}

impl Inner {
    fn hold_back(&mut self, index: u64) {
        if index > self.applied.0 {
            self.pending.insert(MembershipId(index));
            self.lease.membership_appended(MembershipId(index));
        }
    }

    fn applied_to(&mut self, revision: Revision) {
        self.applied = self.applied.max(revision);
        self.pending.retain(|id| id.0 > revision.0);
        self.lease.applied_to(revision);
    }
}

/// One applied entry, as the lease is told about it, under its lock.
pub struct AppliedEntry<'a> {
    inner: &'a mut Inner,
}

impl AppliedEntry<'_> {
    /// The membership or an address changed.
    pub fn list(&mut self, state: &State) {
        self.inner.lease.list_applied(clock::host_now(), Arc::new(state.voter_list()));
    }

    /// R8.
    pub fn voter_up(&mut self, voter: NodeId, boot: muster_core::id::BootId) {
        self.inner.lease.voter_up_applied(voter, boot);
    }

    /// R6: counts as just acked.
    pub fn opened(&mut self, session: &Session) {
        self.inner.lease.session_opened(clock::host_now(), open_session(session));
        self.inner.keys.insert(session.id, session.key);
    }

    /// From now on the guard is told so.
    pub fn closed(&mut self, session: SessionId) {
        self.inner.lease.session_closed(session);
        self.inner.closed.push_back(session);
        if self.inner.closed.len() > KEPT_CLOSED_KEYS
            && let Some(oldest) = self.inner.closed.pop_front()
        {
            self.inner.keys.remove(&oldest);
        }
    }

    /// R9.
    pub fn reopened(&mut self, session: SessionId, reopens: Reopens) {
        self.inner.lease.session_reopened(clock::host_now(), session, reopens);
    }

    /// Everything up to here is applied.
    pub fn up_to(&mut self, revision: Revision) {
        self.inner.applied_to(revision);
    }
}

fn open_session(session: &Session) -> OpenSession {
    OpenSession {
        session: session.id,
        node: session.node,
        ttl_ms: session.timing.lease_ttl_ms,
        reopens: session.reopens,
    }
}

/// The datagram thread; it ends when this is dropped.
pub struct AckThread {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for AckThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has ended the process already.
            let _ended = thread.join();
        }
    }
}

/// Answers heartbeats on `sockets`, one thread for all. Sessions proven to be over go to `fenced`.
///
/// # Errors
/// If the thread can't be started.
pub fn serve(
    acks: Acks,
    sockets: Vec<UdpSocket>,
    fenced: mpsc::Sender<SessionId>,
) -> std::io::Result<AckThread> {
    for socket in &sockets {
        socket.set_nonblocking(true)?;
        setsockopt(socket, sockopt::RxqOvfl, &1)?;
    }
    let mut sockets: Vec<Listening> =
        sockets.into_iter().map(|socket| Listening { socket, overflowed: 0 }).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let thread = std::thread::Builder::new().name("acks".to_owned()).spawn(move || {
        raise_priority();
        while !seen.load(Ordering::Relaxed) {
            wait_readable(&sockets);
            acks.tick();
            for socket in &mut sockets {
                drain(&acks, socket, &fenced);
            }
        }
    })?;
    Ok(AckThread { stop, thread: Some(thread) })
}

/// A socket, and what the kernel said that it dropped there.
struct Listening {
    socket: UdpSocket,
    overflowed: u32,
}

fn wait_readable(sockets: &[Listening]) {
    let mut fds: Vec<PollFd<'_>> =
        sockets.iter().map(|s| PollFd::new(s.socket.as_fd(), PollFlags::POLLIN)).collect();
    let timeout = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::ZERO);
    // An interrupted or failed wait is as good as a short one: the sockets are non-blocking.
    let _ready = poll(&mut fds, timeout);
}

fn drain(acks: &Acks, listening: &mut Listening, fenced: &mpsc::Sender<SessionId>) {
    let mut received = [0u8; DATAGRAM_BYTES_MAX + 1];
    let mut control = Control([0; CONTROL_BYTES]);
    for _ in 0..BATCH {
        let mut space = [IoSliceMut::new(&mut received)];
        let fd = listening.socket.as_raw_fd();
        let message =
            recvmsg::<SockaddrStorage>(fd, &mut space, Some(&mut control.0), MsgFlags::MSG_DONTWAIT);
        let (length, from) = match message {
            Ok(message) => {
                let counts = message.cmsgs().into_iter().flatten();
                let dropped = counts.filter_map(|part| match part {
                    ControlMessageOwned::RxqOvfl(total) => Some(total),
                    _ => None,
                });
                if let Some(total) = dropped.last() {
                    // The kernel counts since the socket was opened, and wraps.
                    let new = total.wrapping_sub(std::mem::replace(&mut listening.overflowed, total));
                    acks.counters.overflowed.fetch_add(u64::from(new), Ordering::Relaxed);
                }
                (message.bytes, message.address)
            }
            // An ICMP answer to an earlier datagram is reported as an error of the socket.
            Err(nix::errno::Errno::ECONNREFUSED) => continue,
            Err(_) => return,
        };
        let answer = acks.answer(&received[..length], fenced);
        if let (Some((bytes, length)), Some(from)) = (answer, from) {
            send(acks, &listening.socket, &bytes[..length], &from);
        }
    }
}

fn send(acks: &Acks, socket: &UdpSocket, bytes: &[u8], to: &SockaddrStorage) {
    // A lost answer is what the protocol is made for.
    if sendto(socket.as_raw_fd(), bytes, to, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL).is_ok() {
        acks.counters.answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Real-time priority where it is allowed: contention for the CPU matters more than lost datagrams.
fn raise_priority() {
    let raised = muster_guard::priority::raise_this_thread();
    tracing::debug!(raised, "priority of the thread that answers heartbeats");
}

#[cfg(test)]
mod tests;
