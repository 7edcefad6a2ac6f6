//! The session that the guard holds: its lease, its key and its heartbeats.

use std::time::Duration;

use muster_core::id::{NodeId, SessionId};
use muster_core::lease::{Answer, HostEffect, HostLease, HostLeaseState, Phase};
use muster_core::time::HostInstant;
use serde::{Deserialize, Serialize};

use super::network::Network;
use crate::clock;
use crate::datagram::{self, Buffer, DATAGRAM_BYTES_MAX, FromGuard, Header, Rejection, Rejections};
use crate::key::SessionKey;
use crate::protocol::{LeasePhase, SessionGrant};

/// A session, from its grant until the next one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    #[serde(with = "saved_lease")]
    pub(crate) lease: HostLease,
    #[serde(with = "crate::key::as_hex")]
    key: SessionKey,
    /// The phase that the clients know.
    pub(crate) told: LeasePhase,
    pub(crate) heartbeat_ms: u32,
    /// The controller asks for an orderly stop.
    pub(crate) release: bool,
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    #[serde(default)]
    pub(crate) rejections: Rejections,
    /// Smallest time until the kill that was seen just before a renewal.
    pub(crate) headroom_ms: u64,
    /// The value of `CLOCK_BOOTTIME` that the shims' timers were last armed for.
    #[serde(default)]
    timer_boottime_ns: Option<u64>,
    #[serde(skip, default = "empty_buffer")]
    buffer: Box<Buffer>,
}

fn empty_buffer() -> Box<Buffer> {
    Box::new([0; DATAGRAM_BYTES_MAX])
}

impl Session {
    pub(crate) fn new(now: HostInstant, grant: SessionGrant, key: SessionKey) -> Self {
        Self {
            heartbeat_ms: grant.grant.heartbeat_ms,
            lease: HostLease::new(now, grant.grant),
            key,
            told: LeasePhase::None,
            release: false,
            sent: 0,
            acked: 0,
            rejections: Rejections::default(),
            headroom_ms: u64::MAX,
            timer_boottime_ns: None,
            buffer: empty_buffer(),
        }
    }

    pub(crate) fn id(&self) -> SessionId {
        self.lease.tenure().session
    }

    pub(crate) fn phase(&mut self, now: HostInstant) -> LeasePhase {
        match self.lease.phase(now) {
            Phase::Waiting => LeasePhase::Waiting,
            Phase::Active => LeasePhase::Valid,
            Phase::Killing => LeasePhase::Killing,
            Phase::Fencing => LeasePhase::Lapsed,
            Phase::Ended => LeasePhase::Ended,
        }
    }

    /// For the log: what each voter last acked.
    pub(crate) fn last_acks(&self, now: HostInstant) -> String {
        let told = |(voter, ago): (NodeId, Option<Duration>)| match ago {
            Some(ago) => format!("voter {voter} {} ms ago", ago.as_millis()),
            None => format!("voter {voter} none for long"),
        };
        self.lease.acked_ago(now).into_iter().map(told).collect::<Vec<_>>().join(", ")
    }

    /// What to arm the shims' timers for at `now`; see [`HostLease::timer_boottime_ns`].
    pub(crate) fn timer_boottime_ns(&mut self, now: HostInstant) -> Option<u64> {
        self.timer_boottime_ns = self.lease.timer_boottime_ns(now);
        self.timer_boottime_ns
    }

    /// A shim died. When its timer's moment has come it was the kernel, before the guard's own moment by as much as
    /// the clocks are assumed to diverge: killing has begun with it, and is irrevocable (R4). Were the lease taken for
    /// valid still, the tasks would be started again just to be killed.
    pub(crate) fn end_if_timer_fired(&mut self, now: HostInstant) {
        if self.timer_boottime_ns.is_some_and(|timer_ns| now.boottime_ns >= timer_ns) {
            self.lease.end(now);
        }
    }

    /// Sends the heartbeat or the `Fenced` that is due at `now`, a reading of the clocks made before this call.
    pub(crate) fn send_due(&mut self, now: HostInstant, agent_present: bool, network: &Network) {
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
        let length = datagram::encode_from_guard(&message, &self.key, &mut self.buffer);
        for target in self.lease.targets() {
            network.send(&self.buffer[..length], target.address);
            self.sent += 1;
        }
    }

    /// Takes one received datagram.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> HostEffect {
        match self.open(bytes) {
            Ok(answer) => self.take(&answer),
            Err(rejection) => {
                self.rejections.count(rejection);
                HostEffect::default()
            }
        }
    }

    /// What costs nothing is looked at first: no MAC is computed for what can't be an answer to this session.
    fn open(&self, bytes: &[u8]) -> Result<Answer, Rejection> {
        let header = Header::read(bytes)?;
        let tenure = self.lease.tenure();
        if header.kind.goes_to_voters() {
            return Err(Rejection::Direction);
        }
        if (header.cluster, header.incarnation) != (tenure.cluster, tenure.incarnation) {
            return Err(Rejection::Cluster);
        }
        if header.session != tenure.session {
            return Err(Rejection::Session);
        }
        Ok(datagram::open_answer(bytes, &self.key)?)
    }

    fn take(&mut self, answer: &Answer) -> HostEffect {
        let now = clock::now();
        let left = self.lease.kill_at().map(|kill_at| kill_at.shortest_since(now));
        let effect = self.lease.on_answer(now, answer);
        if matches!(answer, Answer::Ack(_)) {
            self.acked += 1;
        }
        if let (true, Some(left)) = (effect.renewed, left) {
            self.headroom_ms = self.headroom_ms.min(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        }
        effect
    }

    /// The `Fenced` of this session as it will be sent, for a successor of a crashed guard, which has no key.
    pub(crate) fn fenced_in_advance(&self) -> Vec<u8> {
        let mut buffer: Buffer = [0; DATAGRAM_BYTES_MAX];
        let fenced = muster_core::lease::Fenced { tenure: self.lease.tenure() };
        let length = datagram::encode_from_guard(&FromGuard::Fenced(fenced), &self.key, &mut buffer);
        buffer[..length].to_vec()
    }
}

mod saved_lease {
    use super::{Deserialize, HostLease, HostLeaseState, Serialize, clock};

    pub(super) fn serialize<S: serde::Serializer>(
        lease: &HostLease,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        lease.save().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<HostLease, D::Error> {
        HostLeaseState::deserialize(from).map(|state| HostLease::restore(clock::now(), state))
    }
}

#[cfg(test)]
mod tests {
    use muster_core::id::{BootId, ClusterId, Incarnation, MembershipId, Revision};
    use muster_core::lease::{Ack, Grant, Membership, Tenure, VoterList};

    use super::*;

    fn at(ms: u64) -> HostInstant {
        HostInstant::both((1_000 + ms) * 1_000_000)
    }

    /// A session of one voter whose first heartbeat, sent at 0, was acknowledged at 10 ms.
    fn leased() -> Session {
        let tenure = Tenure {
            cluster: ClusterId::default(),
            incarnation: Incarnation::default(),
            node: NodeId(9),
            session: SessionId(7),
        };
        let membership = Membership::uniform(MembershipId(1), [NodeId(1)]);
        let list = VoterList { membership, addresses_revision: Revision(1), voters: Vec::new() };
        let list_version = list.version();
        let grant = Grant { tenure, ttl_ms: 1000, heartbeat_ms: 50, kill_budget_ms: 50, list };
        let mut session =
            Session::new(at(0), SessionGrant { guard_boot: BootId(1), grant }, SessionKey([7; 32]));
        let seq = session.lease.heartbeat(at(0), true).expect("the first one").seq;
        let ack =
            Ack { tenure, voter: NodeId(1), boot: BootId(1), seq, list_version, list: None, release: false };
        session.lease.on_answer(at(10), &Answer::Ack(ack));
        session
    }

    #[test]
    fn what_is_no_answer_to_this_session_is_counted_by_kind_and_changes_nothing() {
        let mut session = leased();
        let before = (session.lease.kill_at(), session.acked);
        let tenure = session.lease.tenure();
        let closed = |tenure| Answer::Closed(muster_core::lease::Closed { tenure, voter: NodeId(1) });
        let sealed = |answer: &Answer, key: [u8; 32]| {
            let mut buffer: Buffer = [0; DATAGRAM_BYTES_MAX];
            let length = datagram::encode_answer(answer, &SessionKey(key), &mut buffer);
            buffer[..length].to_vec()
        };
        let mut own: Buffer = [0; DATAGRAM_BYTES_MAX];
        let fenced = FromGuard::Fenced(muster_core::lease::Fenced { tenure });
        let length = datagram::encode_from_guard(&fenced, &SessionKey([7; 32]), &mut own);
        let mut turned = own[..length].to_vec();
        // Called an answer, it is still MACed as a question.
        turned[3] = datagram::Kind::Closed as u8;
        let mut old = sealed(&closed(tenure), [7; 32]);
        old[2] = 99;
        for (bytes, rejection) in [
            (b"GET / HTTP/1.1".to_vec(), Rejection::Foreign),
            (old, Rejection::Version),
            (own[..length].to_vec(), Rejection::Direction),
            (turned, Rejection::Mac),
            (sealed(&closed(tenure), [8; 32]), Rejection::Mac),
            (sealed(&closed(Tenure { cluster: ClusterId(5), ..tenure }), [7; 32]), Rejection::Cluster),
            (sealed(&closed(Tenure { session: SessionId(8), ..tenure }), [7; 32]), Rejection::Session),
        ] {
            let seen = session.rejections.of(rejection);
            assert_eq!(session.receive(&bytes), HostEffect::default(), "{rejection:?}");
            assert_eq!(session.rejections.of(rejection), seen + 1, "{rejection:?}: {:?}", session.rejections);
        }
        assert_eq!((session.lease.kill_at(), session.acked), before);
    }

    #[test]
    fn the_kernels_timer_ends_a_young_lease_however_early_it_is() {
        let mut session = leased();
        let timer_ns = session.timer_boottime_ns(at(10)).expect("there is a lease");
        let early_ns = at(950).boottime_ns - timer_ns;
        assert!(
            early_ns > 50_000_000,
            "clocks not compared yet are distrusted by more than a heartbeat: {early_ns}"
        );
        session.end_if_timer_fired(HostInstant::both(timer_ns - 1));
        assert_eq!(
            session.phase(HostInstant::both(timer_ns - 1)),
            LeasePhase::Valid,
            "a shim may die by itself"
        );
        session.end_if_timer_fired(HostInstant::both(timer_ns));
        assert_eq!(session.phase(HostInstant::both(timer_ns)), LeasePhase::Killing);
    }
}
