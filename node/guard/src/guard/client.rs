//! Connections of the agent and of those who only look.

use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::handle::Handle;
use crate::protocol::codec::{FrameDecoder, encode_frame};
use crate::protocol::{ClientRole, GuardFrame, Outcome, Refusal, Reply, RequestFrame};

/// The most connections at once.
pub(crate) const CLIENTS_MAX: usize = 32;
/// A client that lets more than this wait for it is dropped: it may come back and ask anew.
const UNSENT_BYTES_MAX: usize = 4 << 20;
/// How much is read from one client in one turn.
const READ_BYTES: usize = 64 * 1024;

/// One connection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Client {
    pub(crate) number: u64,
    pub(crate) stream: Handle,
    /// `None` until it said hello.
    pub(crate) role: Option<ClientRole>,
    pub(crate) wants_events: bool,
    decoder: FrameDecoder,
    unsent: Vec<u8>,
    pub(crate) gone: bool,
}

/// A request as it came: one that can't be read keeps its number, so that it can be refused.
pub(crate) struct Incoming {
    pub(crate) id: u64,
    pub(crate) request: Result<crate::protocol::Request, Refusal>,
}

#[derive(Deserialize)]
struct OnlyId {
    id: u64,
}

impl Client {
    pub(crate) fn new(number: u64, stream: UnixStream) -> Self {
        Self {
            number,
            stream: Handle::from(stream),
            role: None,
            wants_events: false,
            decoder: FrameDecoder::new(),
            unsent: Vec::new(),
            gone: false,
        }
    }

    pub(crate) fn is_agent(&self) -> bool {
        self.came_as_agent() && !self.gone
    }

    /// Whether it is the agent, or was until just now.
    pub(crate) fn came_as_agent(&self) -> bool {
        self.role == Some(ClientRole::Agent)
    }

    /// Whether it waits until it can be written to.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Reads what is there and returns whole requests.
    pub(crate) fn read(&mut self) -> Vec<Incoming> {
        let mut bytes = [0; 4096];
        for _ in 0..READ_BYTES / bytes.len() {
            match nix::unistd::read(&self.stream, &mut bytes) {
                Ok(0) => {
                    self.gone = true;
                    break;
                }
                Ok(count) => self.decoder.push(&bytes[..count]),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(_) => {
                    self.gone = true;
                    break;
                }
            }
        }
        self.requests()
    }

    fn requests(&mut self) -> Vec<Incoming> {
        let mut requests = Vec::new();
        loop {
            match self.decoder.next_bytes() {
                Ok(Some(frame)) => match serde_json::from_slice::<RequestFrame>(frame) {
                    Ok(frame) => requests.push(Incoming { id: frame.id, request: Ok(frame.request) }),
                    Err(error) => match serde_json::from_slice::<OnlyId>(frame) {
                        Ok(OnlyId { id }) => {
                            let refusal = Refusal::UnknownRequest { reason: error.to_string() };
                            requests.push(Incoming { id, request: Err(refusal) });
                        }
                        Err(_) => self.gone = true,
                    },
                },
                Ok(None) => return requests,
                Err(_) => {
                    self.gone = true;
                    return requests;
                }
            }
        }
    }

    pub(crate) fn answer(&mut self, id: u64, outcome: Result<Reply, Refusal>) {
        let outcome = match outcome {
            Ok(reply) => Outcome::Done(reply),
            Err(refusal) => Outcome::Refused(refusal),
        };
        self.send(&GuardFrame::Reply { id, outcome });
    }

    /// Sends a frame, or what fits of it now.
    pub(crate) fn send(&mut self, frame: &GuardFrame) {
        match encode_frame(frame) {
            Ok(bytes) if self.unsent.len() + bytes.len() <= UNSENT_BYTES_MAX => {
                self.unsent.extend_from_slice(&bytes);
                self.flush();
            }
            Ok(_) | Err(_) => self.gone = true,
        }
    }

    /// Writes what is waiting.
    pub(crate) fn flush(&mut self) {
        while !self.unsent.is_empty() && !self.gone {
            match nix::unistd::write(&self.stream, &self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                Err(_) => self.gone = true,
            }
        }
    }
}
