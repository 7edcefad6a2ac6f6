//! Datagrams as a guard takes them, most of them with a good MAC: voters may lie one by one.
//!
//! A lease never reaches beyond TTL after a heartbeat that was sent, never grows back, and never without a majority.

use std::collections::BTreeSet;
use std::sync::Arc;

use muster_core::id::{BootId, Incarnation, MembershipId, NodeId, Revision, SessionId};
use muster_core::lease::message::{MAX_ADDRESSES, MAX_LISTED};
use muster_core::lease::{Ack, Answer, Closed, Grant, HostLease, ListVersion, Phase, Tenure};
use muster_core::time::HostInstant;
use muster_guard::datagram::{self, DATAGRAM_BYTES_MAX};

use super::input::{Input, Output};
use super::scene::CLUSTER;
use super::voter::{header, key, list, seal};

const SESSION: u64 = 1;
const TTL_MS: u32 = 1000;
const TTL_NS: u64 = 1_000_000_000;
const KILL_BUDGET_MS: u32 = 50;

/// The kinds of steps.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Any bytes.
    Raw,
    /// A body that gets a header and a good MAC.
    Sealed,
    /// The ack of one of three voters of the heartbeat that many rounds ago.
    Ack,
    Beat,
    Wait,
    NothingLeft,
    Restart,
}

impl Step {
    const ALL: [Self; 7] =
        [Self::Raw, Self::Sealed, Self::Ack, Self::Beat, Self::Wait, Self::NothingLeft, Self::Restart];
}

fn tenure() -> Tenure {
    Tenure { cluster: CLUSTER, incarnation: Incarnation(1), node: NodeId(4), session: SessionId(SESSION) }
}

struct Scene {
    lease: HostLease,
    now: HostInstant,
    phase: Phase,
    last_seq: u64,
    last_sent: Option<HostInstant>,
    /// Which voters have said anything that was readable.
    spoke: BTreeSet<NodeId>,
}

impl Scene {
    fn new() -> Self {
        let now = HostInstant::both(5_000_000_000);
        let grant = Grant {
            tenure: tenure(),
            ttl_ms: TTL_MS,
            heartbeat_ms: 50,
            kill_budget_ms: KILL_BUDGET_MS,
            list: list(1, 3),
        };
        let lease = HostLease::new(now, grant);
        let spoke = BTreeSet::new();
        Self { lease, now, phase: Phase::Waiting, last_seq: 0, last_sent: None, spoke }
    }

    fn take(&mut self, datagram: &[u8]) {
        let Ok(answer) = datagram::open_answer(datagram, &key()) else { return };
        let mut written = [0; DATAGRAM_BYTES_MAX];
        let length = datagram::encode_answer(&answer, &key(), &mut written);
        // A list may have addresses that are not sent on; everything else comes back.
        assert!(datagram::open_answer(&written[..length], &key()).is_ok());
        self.answer(&answer);
    }

    fn answer(&mut self, answer: &Answer) {
        if let Answer::Ack(ack) = answer {
            self.spoke.insert(ack.voter);
        }
        let effect = self.lease.on_answer(self.now, answer);
        if effect.renewed {
            assert!(self.phase <= Phase::Active, "a lapsed lease was renewed");
            assert!(self.spoke.len() >= 2, "a lease by one voter alone");
        }
    }

    fn beat(&mut self) {
        let sent = self.lease.heartbeat(self.now, true);
        assert_eq!(sent.is_some(), self.lease.phase(self.now) <= Phase::Active);
        if let Some(heartbeat) = sent {
            assert!(heartbeat.seq > self.last_seq, "a number was given twice");
            (self.last_seq, self.last_sent) = (heartbeat.seq, Some(self.now));
        }
    }

    fn judge(&mut self) {
        let phase = self.lease.phase(self.now);
        assert!(phase >= self.phase, "{phase:?} after {:?}", self.phase);
        self.phase = phase;
        if let Some(deadline) = self.lease.deadline() {
            let sent = self.last_sent.expect("a lease without a heartbeat");
            assert!(deadline.boottime_ns <= sent.boottime_ns + TTL_NS, "a lease beyond TTL");
            if phase == Phase::Active {
                let timer = self.lease.timer_boottime_ns(self.now).expect("a lease has a timer");
                assert!(timer <= deadline.boottime_ns - u64::from(KILL_BUDGET_MS) * 1_000_000);
            }
        }
        assert!(self.lease.targets().len() <= (MAX_LISTED + 1) * MAX_LISTED * MAX_ADDRESSES);
        assert!(self.lease.list().is_well_formed());
    }

    fn step(&mut self, step: Step, input: &mut Input<'_>) {
        match step {
            Step::Raw => self.take(input.part()),
            Step::Sealed => {
                let content = [&header(input.byte() % 5, SESSION), input.part()].concat();
                self.take(&seal(2, &content));
            }
            Step::Ack => {
                let (voter, back) = (u64::from(input.byte()) % 3 + 1, u64::from(input.byte()) % 8);
                let ack = ack(voter, self.last_seq.saturating_sub(back));
                self.answer(&Answer::Ack(ack));
            }
            Step::Beat => self.beat(),
            Step::Wait => {
                // The two clocks differ by up to 10 %, as when one is slewed.
                let ns = input.number() % 400_000_000;
                let slower = ns - ns / 10;
                let by = if input.byte() & 1 == 1 { (ns, slower) } else { (slower, ns) };
                self.now.boottime_ns += by.0;
                self.now.raw_ns += by.1;
            }
            Step::NothingLeft => {
                self.lease.nothing_left(self.now);
                let _fenced = self.lease.fenced(self.now);
            }
            Step::Restart => {
                let saved = self.lease.save();
                self.lease = HostLease::restore(self.now, saved);
            }
        }
    }
}

fn ack(voter: u64, seq: u64) -> Ack {
    Ack {
        tenure: tenure(),
        voter: NodeId(voter),
        boot: BootId(voter + 100),
        seq,
        list_version: ListVersion { membership: MembershipId(1), addresses: Revision(1) },
        list: None,
        release: false,
    }
}

pub(super) fn body(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut scene = Scene::new();
    while !input.is_empty() {
        let step = Step::ALL[usize::from(input.byte()) % Step::ALL.len()];
        scene.step(step, &mut input);
        scene.judge();
    }
}

pub(super) fn seeds() -> Vec<(String, Vec<u8>)> {
    let raw = |answer: &Answer| {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        let length = datagram::encode_answer(answer, &key(), &mut buffer);
        (Output::default().byte(Step::Raw as u8).part(&buffer[..length]).0, buffer[36..length - 16].to_vec())
    };
    let beat = vec![Step::Beat as u8];
    let wait = Output::default().byte(Step::Wait as u8).number(60_000_000).byte(0).0;
    let acked = |voter: u8| vec![Step::Ack as u8, voter, 0];
    let round = [beat.clone(), wait.clone(), acked(0), acked(1)].concat();
    let newer = Arc::new(list(2, 4));
    let offered = |voter| {
        let list = Some(Arc::clone(&newer));
        raw(&Answer::Ack(Ack { list_version: newer.version(), list, ..ack(voter, 1) })).0
    };
    let (closed, body) = raw(&Answer::Closed(Closed { tenure: tenure(), voter: NodeId(2) }));
    let sealed = Output::default().byte(Step::Sealed as u8).byte(4).part(&body).0;
    let end = vec![Step::NothingLeft as u8, Step::Restart as u8];
    let long: Vec<u8> = (0..20).flat_map(|_| wait.clone()).collect();
    vec![
        (
            "renewed".to_owned(),
            [round.clone(), round.clone(), vec![Step::Restart as u8], round.clone()].concat(),
        ),
        ("list".to_owned(), [beat, offered(1), offered(2), round.clone()].concat()),
        ("closed".to_owned(), [round.clone(), closed, end.clone(), sealed].concat()),
        ("lapse".to_owned(), [round, long, end].concat()),
    ]
}
