//! A voter in a thread, whose answers a test decides.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use muster_core::id::{BootId, MembershipId, NodeId, Revision, SessionId};
use muster_core::lease::{Ack, Answer, Closed, Membership, VoterAddresses, VoterList};
use muster_guard::datagram::{self, DATAGRAM_BYTES_MAX, FromGuard};
use muster_guard::key::SessionKey;

/// A voter that acks, or doesn't.
pub struct Voter {
    pub address: SocketAddr,
    pub acks: Arc<AtomicBool>,
    /// Answers `Closed` to everything.
    pub closed: Arc<AtomicBool>,
    pub release: Arc<AtomicBool>,
    pub heartbeats: Arc<AtomicU64>,
    pub fenced: Arc<AtomicU64>,
    pub agent_present: Arc<AtomicBool>,
    pub keys: Arc<Mutex<BTreeMap<SessionId, SessionKey>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Voter {
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let flag = |value| Arc::new(AtomicBool::new(value));
        let mut voter = Self {
            address: socket.local_addr().expect("bound"),
            acks: flag(true),
            closed: flag(false),
            release: flag(false),
            heartbeats: Arc::default(),
            fenced: Arc::default(),
            agent_present: flag(false),
            keys: Arc::default(),
            end: flag(false),
            thread: None,
        };
        let shared = voter.share();
        voter.thread = Some(std::thread::spawn(move || shared.serve(&socket)));
        voter
    }

    fn share(&self) -> Self {
        Self {
            address: self.address,
            acks: Arc::clone(&self.acks),
            closed: Arc::clone(&self.closed),
            release: Arc::clone(&self.release),
            heartbeats: Arc::clone(&self.heartbeats),
            fenced: Arc::clone(&self.fenced),
            agent_present: Arc::clone(&self.agent_present),
            keys: Arc::clone(&self.keys),
            end: Arc::clone(&self.end),
            thread: None,
        }
    }

    fn serve(&self, socket: &UdpSocket) {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        while !self.end.load(Ordering::Relaxed) {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            let datagram = &buffer[..length];
            let header = datagram::Header::read(datagram).expect("only guards send here");
            let key = self.keys.lock().expect("not poisoned").get(&header.session).cloned();
            let Some(key) = key else { continue };
            let answer = match datagram::open_from_guard(datagram, &key).expect("the key is right") {
                FromGuard::Heartbeat(heartbeat) => {
                    self.heartbeats.fetch_add(1, Ordering::Relaxed);
                    self.agent_present.store(heartbeat.agent_present, Ordering::Relaxed);
                    if self.closed.load(Ordering::Relaxed) {
                        Answer::Closed(Closed { tenure: heartbeat.tenure, voter: NodeId(1) })
                    } else if self.acks.load(Ordering::Relaxed) {
                        Answer::Ack(Ack {
                            tenure: heartbeat.tenure,
                            voter: NodeId(1),
                            boot: BootId(1),
                            seq: heartbeat.seq,
                            list_version: self.list().version(),
                            list: None,
                            release: self.release.load(Ordering::Relaxed),
                        })
                    } else {
                        continue;
                    }
                }
                FromGuard::Fenced(fenced) => {
                    self.fenced.fetch_add(1, Ordering::Relaxed);
                    if !self.closed.load(Ordering::Relaxed) {
                        continue;
                    }
                    Answer::Closed(Closed { tenure: fenced.tenure, voter: NodeId(1) })
                }
            };
            let mut reply = [0; DATAGRAM_BYTES_MAX];
            let length = datagram::encode_answer(&answer, &key, &mut reply);
            socket.send_to(&reply[..length], from).expect("loopback");
        }
    }

    pub fn list(&self) -> VoterList {
        VoterList {
            membership: Membership::uniform(MembershipId(1), [NodeId(1)]),
            addresses_revision: Revision(1),
            voters: vec![VoterAddresses { node: NodeId(1), addresses: vec![self.address] }],
        }
    }
}

impl Drop for Voter {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.end.store(true, Ordering::Relaxed);
            thread.join().expect("the voter's thread ends");
        }
    }
}
