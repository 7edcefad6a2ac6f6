//! The agent's connection to its guard: asks, matches the answers, hands on events in order, and comes back
//! after either side was restarted.
//!
//! ```text
//!   call() ──▶ calls ──▶ ┌──────┐ ──▶ guard.sock
//!                        │ link │
//!   LinkEvent ◀─ events ─└──────┘ ◀── replies, events
//! ```

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use muster_guard::protocol::codec::{FrameDecoder, FrameError, encode_frame};
use muster_guard::protocol::{
    ClientRole, Event, GuardFrame, Hello, Outcome, PROTOCOL_HIGHEST, PROTOCOL_LOWEST, Refusal, Reply,
    Request, RequestFrame, Welcome,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::guard_door::{GuardDoor, GuardStream};
use crate::clock;

/// Calls that wait to be sent. Each slot has at most a few calls outstanding; more callers wait their turn.
const CALLS_MAX: usize = 256;
/// Events that the agent has not looked at yet. When it is full the link stops reading, and the guard sees it.
const EVENTS_MAX: usize = 1024;
const READ_BYTES: usize = 16 * 1024;
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// How long a guard may take from its start to its first answer before another one is started.
const GUARD_START_TIME: Duration = Duration::from_secs(2);
const HELLO_TIME: Duration = Duration::from_secs(5);

/// What the link tells, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Connected. What the guard holds now; everything before is void.
    Up(Box<Welcome>),
    /// The guard tells something.
    Event(Event),
    /// The connection is gone. Calls that were outstanding have failed with [`GuardError::Unreachable`].
    Down,
}

/// Why a call to the guard brought nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// The guard refused; nothing was changed.
    #[error(transparent)]
    Refused(Refusal),
    /// There is no connection, or it broke while the call was under way: whether it was carried out is
    /// unknown until the next [`LinkEvent::Up`].
    #[error("the guard can't be reached")]
    Unreachable,
    /// No answer within the caller's limit.
    #[error("the guard did not answer in time")]
    TimedOut,
    /// The guard answered with something else.
    #[error("the guard's answer does not fit the request")]
    Unexpected,
}

enum Call {
    Ask { request: Box<Request>, answer: oneshot::Sender<Result<Reply, GuardError>> },
    Reconnect,
}

/// A handle to the link; cheap to clone.
#[derive(Clone)]
pub struct GuardLink {
    calls: mpsc::Sender<Call>,
}

impl GuardLink {
    /// A handle, the events, and the link itself, which is to be run.
    #[must_use]
    pub fn new(door: Arc<dyn GuardDoor>) -> (Self, mpsc::Receiver<LinkEvent>, Link) {
        let (calls, incoming) = mpsc::channel(CALLS_MAX);
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        (Self { calls }, receiver, Link { door, calls: incoming, events, spawned: None })
    }

    /// Asks the guard and waits for the answer, at most `limit`.
    ///
    /// # Errors
    /// [`GuardError`].
    pub async fn call(&self, request: Request, limit: Duration) -> Result<Reply, GuardError> {
        let (answer, answered) = oneshot::channel();
        let ask = async {
            let call = Call::Ask { request: Box::new(request), answer };
            self.calls.send(call).await.map_err(|_| GuardError::Unreachable)?;
            answered.await.unwrap_or(Err(GuardError::Unreachable))
        };
        tokio::time::timeout(limit, ask).await.unwrap_or(Err(GuardError::TimedOut))
    }

    /// Asks for something whose only answer is 'done'.
    ///
    /// # Errors
    /// [`GuardError`].
    pub async fn order(&self, request: Request, limit: Duration) -> Result<(), GuardError> {
        match self.call(request, limit).await? {
            Reply::Ok => Ok(()),
            Reply::Welcome(_)
            | Reply::Prepared(_)
            | Reply::Started { .. }
            | Reply::Tasks(_)
            | Reply::Checked { .. }
            | Reply::Lease(_) => Err(GuardError::Unexpected),
        }
    }

    /// Drops the connection and makes a new one, whose `Up` tells what really is: for a caller that can't
    /// go on without knowing whether its unanswered call was carried out.
    pub async fn reconnect(&self) {
        // A link that has ended needs no new connection.
        self.calls.send(Call::Reconnect).await.ok();
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Refused(Refusal),
    #[error("its first answer is no welcome")]
    NoWelcome,
    #[error("it did not answer in time")]
    Silent,
    #[error("a new connection was asked for")]
    Asked,
    #[error("the agent is stopping")]
    Stopping,
}

/// The link: owns the connection.
pub struct Link {
    door: Arc<dyn GuardDoor>,
    calls: mpsc::Receiver<Call>,
    events: mpsc::Sender<LinkEvent>,
    /// When a guard was last started here.
    spawned: Option<Instant>,
}

impl Link {
    /// Connects again and again, until nobody listens to its events any more.
    pub async fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        let mut complained = false;
        while !self.events.is_closed() {
            match self.connect().await {
                Ok((connection, welcome)) => {
                    tracing::info!(guard = %welcome.program, boot = %welcome.guard_boot, "connected to the guard");
                    (backoff, complained) = (BACKOFF_MIN, false);
                    let why = self.serve(connection, welcome).await;
                    tracing::warn!("the connection to the guard ended: {why}");
                    self.events.send(LinkEvent::Down).await.ok();
                }
                Err(why) => {
                    if !complained {
                        tracing::warn!("the guard does not answer: {why}");
                        complained = true;
                    }
                    self.ensure_guard(&why);
                }
            }
            self.refuse_calls_for(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn connect(&self) -> Result<(Connection, Welcome), Broken> {
        let stream = self.door.connect().await?;
        let mut connection = Connection { stream, decoder: FrameDecoder::new(), last_id: 0 };
        let hello = Hello {
            lowest: PROTOCOL_LOWEST,
            highest: PROTOCOL_HIGHEST,
            role: ClientRole::Agent,
            events: true,
            name: format!("muster {}", env!("CARGO_PKG_VERSION")),
        };
        let greeting = async {
            connection.send(Request::Hello(hello)).await?;
            loop {
                match connection.receive().await? {
                    GuardFrame::Reply { outcome: Outcome::Done(Reply::Welcome(w)), .. } => return Ok(w),
                    GuardFrame::Reply { outcome: Outcome::Refused(why), .. } => {
                        return Err(Broken::Refused(why));
                    }
                    GuardFrame::Reply { outcome: Outcome::Done(_), .. } => return Err(Broken::NoWelcome),
                    // Told before the welcome, and so part of what the welcome shows.
                    GuardFrame::Event(_) => {}
                }
            }
        };
        let welcome = tokio::time::timeout(HELLO_TIME, greeting).await.map_err(|_| Broken::Silent)??;
        Ok((connection, welcome))
    }

    async fn serve(&mut self, mut connection: Connection, welcome: Welcome) -> Broken {
        // Dropping the map answers every outstanding call with `Unreachable`.
        let mut waiting: HashMap<u64, oneshot::Sender<Result<Reply, GuardError>>> = HashMap::new();
        if self.events.send(LinkEvent::Up(Box::new(welcome))).await.is_err() {
            return Broken::Stopping;
        }
        loop {
            tokio::select! {
                frame = connection.receive() => match frame {
                    Ok(GuardFrame::Reply { id, outcome }) => {
                        if let Some(answer) = waiting.remove(&id) {
                            // A caller that gave up waiting has dropped its end.
                            answer.send(result_of(outcome)).ok();
                        }
                    }
                    Ok(GuardFrame::Event(event)) => {
                        if self.events.send(LinkEvent::Event(event)).await.is_err() {
                            return Broken::Stopping;
                        }
                    }
                    Err(why) => return why,
                },
                call = self.calls.recv() => match call {
                    Some(Call::Ask { request, answer }) => match connection.send(*request).await {
                        Ok(id) => {
                            waiting.retain(|_, waiter| !waiter.is_closed());
                            waiting.insert(id, answer);
                        }
                        Err(why) => return why,
                    },
                    Some(Call::Reconnect) => return Broken::Asked,
                    None => return Broken::Stopping,
                },
            }
        }
    }

    /// Waits, and lets nobody wait who asks meanwhile.
    async fn refuse_calls_for(&mut self, pause: Duration) {
        let end = clock::monotonic() + pause;
        loop {
            match tokio::time::timeout_at(end, self.calls.recv()).await {
                Ok(Some(Call::Ask { answer, .. })) => {
                    answer.send(Err(GuardError::Unreachable)).ok();
                }
                Ok(Some(Call::Reconnect)) => {}
                Ok(None) => {
                    tokio::time::sleep_until(end).await;
                    return;
                }
                Err(_) => return,
            }
        }
    }

    fn ensure_guard(&mut self, why: &Broken) {
        let nobody = matches!(why, Broken::Io(e)
            if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused));
        let recently = self.spawned.is_some_and(|at| at.elapsed() < GUARD_START_TIME);
        if !nobody || recently {
            return;
        }
        self.spawned = Some(clock::monotonic());
        match self.door.start_guard() {
            Ok(true) => tracing::info!("started a guard"),
            Ok(false) => {}
            Err(error) => tracing::error!("a guard can't be started from {error}"),
        }
    }
}

fn result_of(outcome: Outcome) -> Result<Reply, GuardError> {
    match outcome {
        Outcome::Done(reply) => Ok(reply),
        Outcome::Refused(why) => Err(GuardError::Refused(why)),
    }
}

struct Connection {
    stream: Box<dyn GuardStream>,
    decoder: FrameDecoder,
    last_id: u64,
}

impl Connection {
    async fn send(&mut self, request: Request) -> Result<u64, Broken> {
        self.last_id += 1;
        let frame = encode_frame(&RequestFrame { id: self.last_id, request })?;
        self.stream.write_all(&frame).await?;
        Ok(self.last_id)
    }

    /// The next frame. Nothing is lost when the future is dropped: what was read stands in the decoder.
    async fn receive(&mut self) -> Result<GuardFrame, Broken> {
        loop {
            if let Some(frame) = self.decoder.next()? {
                return Ok(frame);
            }
            let mut bytes = [0; READ_BYTES];
            match self.stream.read(&mut bytes).await? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                count => self.decoder.push(&bytes[..count]),
            }
        }
    }
}
