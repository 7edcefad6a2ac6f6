//! A small synchronous client of the guard's socket, for tests and one-off questions.
//!
//! The agent, which is asynchronous, uses [`crate::protocol::codec`] on its own socket instead.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::protocol::codec::{FrameDecoder, FrameError, encode_frame};
use crate::protocol::{
    ClientRole, Event, GuardFrame, Hello, Outcome, PROTOCOL_HIGHEST, PROTOCOL_LOWEST, Refusal, Reply,
    Request, RequestFrame, Welcome,
};

/// The most events that are kept for [`Client::next_event`]; older ones are dropped.
const EVENTS_MAX: usize = 1024;
const READ_BYTES: usize = 4096;

/// Why a request got no reply that it wanted.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The guard can't be reached, or the connection broke, or an answer took too long.
    #[error("the guard's socket failed")]
    Io(#[source] std::io::Error),
    /// The guard sent nonsense.
    #[error("the guard's answer can't be read")]
    Frame(#[source] FrameError),
    /// The guard refused.
    #[error("the guard refused")]
    Refused(#[source] Refusal),
    /// The guard answered with something else.
    #[error("the guard's answer does not fit the request")]
    Unexpected,
}

/// A connection to the guard.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    decoder: FrameDecoder,
    events: VecDeque<Event>,
    last_id: u64,
}

impl Client {
    /// Connects to the guard's socket and says hello.
    ///
    /// # Errors
    /// [`ClientError`]; [`Refusal::Version`] when the versions do not overlap.
    pub fn connect(socket: &Path, role: ClientRole) -> Result<(Self, Welcome), ClientError> {
        let stream = UnixStream::connect(socket).map_err(ClientError::Io)?;
        let mut client = Self { stream, decoder: FrameDecoder::new(), events: VecDeque::new(), last_id: 0 };
        let hello = Hello {
            lowest: PROTOCOL_LOWEST,
            highest: PROTOCOL_HIGHEST,
            role,
            events: true,
            name: format!("muster {}", env!("CARGO_PKG_VERSION")),
        };
        match client.call(Request::Hello(hello))? {
            Reply::Welcome(welcome) => Ok((client, welcome)),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// How long [`Self::call`] and [`Self::next_event`] wait for bytes; `None`: for ever.
    ///
    /// # Errors
    /// When the socket refuses it.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<(), ClientError> {
        self.stream.set_read_timeout(timeout).map_err(ClientError::Io)
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn call(&mut self, request: Request) -> Result<Reply, ClientError> {
        let asked = self.send(request)?;
        loop {
            match self.receive()? {
                GuardFrame::Reply { id, outcome } if id == asked => {
                    return match outcome {
                        Outcome::Done(reply) => Ok(reply),
                        Outcome::Refused(refusal) => Err(ClientError::Refused(refusal)),
                    };
                }
                // The late answer to a call that gave up waiting.
                GuardFrame::Reply { .. } => {}
                GuardFrame::Event(event) => self.keep(event),
            }
        }
    }

    /// Asks without waiting; the answer is skipped when it comes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn send(&mut self, request: Request) -> Result<u64, ClientError> {
        self.last_id += 1;
        let frame = encode_frame(&RequestFrame { id: self.last_id, request }).map_err(ClientError::Frame)?;
        self.stream.write_all(&frame).map_err(ClientError::Io)?;
        Ok(self.last_id)
    }

    /// The next event, waiting for it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn next_event(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if let GuardFrame::Event(event) = self.receive()? {
                self.keep(event);
            }
        }
    }

    fn keep(&mut self, event: Event) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn receive(&mut self) -> Result<GuardFrame, ClientError> {
        loop {
            if let Some(frame) = self.decoder.next().map_err(ClientError::Frame)? {
                return Ok(frame);
            }
            let mut bytes = [0; READ_BYTES];
            match self.stream.read(&mut bytes).map_err(ClientError::Io)? {
                0 => return Err(ClientError::Io(std::io::ErrorKind::UnexpectedEof.into())),
                count => self.decoder.push(&bytes[..count]),
            }
        }
    }
}
