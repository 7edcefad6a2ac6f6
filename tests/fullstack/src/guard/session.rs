//! The session that the guard holds.

use muster_core::id::SessionId;
use muster_core::lease::{Fenced, HostEffect, HostLease, Phase};
use muster_core::time::HostInstant;
use muster_guard::datagram::{self, DATAGRAM_BYTES_MAX, FromGuard};
use muster_guard::key::SessionKey;
use muster_guard::protocol::{LeasePhase, SessionGrant};

use crate::network::SimUdp;
use crate::tasks::Note;

/// A session, from its grant until the next one.
pub(super) struct Session {
    pub(super) lease: HostLease,
    key: SessionKey,
    /// The phase that the clients know.
    pub(super) told: LeasePhase,
    /// The controller asks for an orderly stop.
    pub(super) release: bool,
    pub(super) sent: u64,
    pub(super) acked: u64,
    pub(super) rejected: u64,
}

impl Session {
    pub(super) fn new(now: HostInstant, grant: SessionGrant, key: SessionKey) -> Self {
        Self {
            lease: HostLease::new(now, grant.grant),
            key,
            told: LeasePhase::None,
            release: false,
            sent: 0,
            acked: 0,
            rejected: 0,
        }
    }

    pub(super) fn id(&self) -> SessionId {
        self.lease.tenure().session
    }

    pub(super) fn phase(&mut self, now: HostInstant) -> LeasePhase {
        match self.lease.phase(now) {
            Phase::Waiting => LeasePhase::Waiting,
            Phase::Active => LeasePhase::Valid,
            Phase::Killing => LeasePhase::Killing,
            Phase::Fencing => LeasePhase::Lapsed,
            Phase::Ended => LeasePhase::Ended,
        }
    }

    /// Sends the heartbeat or the `Fenced` that is due.
    pub(super) fn send_due(&mut self, now: HostInstant, agent_present: bool, socket: &SimUdp) {
        if !self.lease.send_due_in(now).is_some_and(|left| left.is_zero()) {
            return;
        }
        let message = match self.lease.heartbeat(now, agent_present) {
            Some(heartbeat) => FromGuard::Heartbeat(heartbeat),
            None => match self.lease.fenced(now) {
                Some(fenced) => FromGuard::Fenced(fenced),
                None => return,
            },
        };
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        let length = datagram::encode_from_guard(&message, &self.key, &mut buffer);
        for target in self.lease.targets() {
            socket.send(&buffer[..length], target.address);
            self.sent += 1;
        }
    }

    /// Takes one datagram.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> HostEffect {
        match datagram::open_answer(bytes, &self.key) {
            Ok(answer) => {
                self.acked += 1;
                self.lease.on_answer(muster::clock::host_now(), &answer)
            }
            Err(_) => {
                self.rejected += 1;
                HostEffect::default()
            }
        }
    }

    pub(super) fn note(&self) -> Note {
        let tenure = self.lease.tenure();
        let targets = self.lease.targets().iter().map(|target| target.address).collect();
        Note { tenure, fenced: super::sealed_fenced(Fenced { tenure }, &self.key), targets }
    }
}
