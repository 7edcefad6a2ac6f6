//! The run of one seed: a queue of events in true time, and everything that takes part.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use muster_core::id::{BootId, Generation, MembershipId, NodeId, SessionId};
use muster_core::lease::Membership;
use muster_core::time::Timing;

use super::adversary::Adversary;
use super::check::Violation;
use super::clocks::{Clocks, MS, Slew, Time};
use super::episodes::{Episodes, Theme};
use super::host::{Death, Host};
use super::ledger::{Ledger, Slot, list_of};
use super::network::{Message, Network};
use super::protocol::Protocol;
use super::replica::Replica;
use super::rng::Rng;
use super::tally::Tally;

/// Something that happens at a time.
#[allow(missing_docs, reason = "the variants say it; their fields are named for what they are")]
#[derive(Clone, Debug)]
pub enum Event {
    /// A message arrives.
    Deliver { to: NodeId, from: NodeId, message: Message },
    /// The guard looks at its lease.
    Guard { host: NodeId, epoch: u64 },
    /// The guard arms the shim's timer: the absolute value, and what was left when it was computed.
    Arm { host: NodeId, epoch: u64, value: u64, left: u64 },
    /// The shim's timer may be due.
    Timer { host: NodeId, number: u64 },
    /// A killed task ends.
    Dies { host: NodeId, slot: Slot, task: u64 },
    /// The agent looks at the state and talks to its guard.
    Agent { host: NodeId },
    /// The agent's word reaches the guard.
    Order { host: NodeId, order: Order },
    /// A guard starts.
    GuardStarts { host: NodeId },
    /// A machine goes on.
    Thaws { host: NodeId },
    /// A replica's regular work.
    Replica { id: NodeId, epoch: u64 },
    /// A replica starts.
    ReplicaStarts { id: NodeId },
    /// The oracle looks whether an election is due.
    Election,
    /// The next fault.
    Fault,
    /// A step of a fault that has several.
    Step(Step),
    /// The adversary's turn.
    Adversary,
    /// All faults end.
    Heal,
    /// Everything had time to recover.
    EpisodeEnds,
}

/// One step of a fault that has several.
#[allow(missing_docs, reason = "the variants say it; their fields are named for what they are")]
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Host and voter don't reach each other for so long.
    Cut { host: NodeId, voter: NodeId, length: Time },
    /// A voter restarts, after so long.
    Restart { voter: NodeId, down: Time },
    /// A voter is cut off from the other voters for so long.
    Isolate { voter: NodeId, length: Time },
    /// A voter applies nothing for so long.
    StallApply { voter: NodeId, length: Time },
    /// The host's session is taken back, or the last taking back is repeated.
    Reopen { host: NodeId, repeats: bool },
    /// A leader asks the voter for a promise under the next count of re-openings, and again under the former one.
    AskCounts { host: NodeId, voter: NodeId },
    /// A leader asks all voters for promises under memberships that are still to come.
    AskAhead { host: NodeId },
    /// The voters wished for by the last storm are wished for now.
    Voters,
}

impl Step {
    /// The name under which it is counted.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cut { .. } => "host cut off from one voter",
            Self::Restart { .. } => "voter crashed",
            Self::Isolate { .. } => "voter isolated",
            Self::StallApply { .. } => "voter appends without applying",
            Self::Reopen { .. } => "session taken back",
            Self::AskCounts { .. } | Self::AskAhead { .. } => "promise asked for ahead of the log",
            Self::Voters => "other voters wished for",
        }
    }
}

/// What an agent tells its guard.
#[allow(missing_docs, reason = "the variants say it; their fields are named for what they are")]
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// The session that this request asked for is open.
    Grant { session: SessionId, request: u64, ttl_ms: u32, from: NodeId },
    /// Run this.
    Start { slot: Slot, session: SessionId, generation: Generation },
    /// End this.
    Stop { slot: Slot, session: SessionId, generation: Generation },
}

/// Everything of one run.
pub struct World {
    /// What is under test.
    pub protocol: Protocol,
    /// All chance comes from here.
    pub rng: Rng,
    /// True time.
    pub now: Time,
    /// The control plane.
    pub replicas: BTreeMap<NodeId, Replica>,
    /// The hosts of services.
    pub hosts: BTreeMap<NodeId, Host>,
    /// The network.
    pub network: Network,
    /// Uses whatever was ever said at any later time.
    pub adversary: Adversary,
    /// The voters wished for.
    pub wanted_voters: BTreeSet<NodeId>,
    /// What the last storm wishes for.
    pub storm_voters: BTreeSet<NodeId>,
    /// Whether leaders take nodes back (R9).
    pub reopens: bool,
    /// All clocks run at their limits, hosts slow and voters fast: the worst case for W.
    pub worst_clocks: bool,
    /// Which faults this episode has.
    pub theme: Theme,
    /// What the run consists of.
    pub episodes: Episodes,
    /// What happened, counted.
    pub tally: Tally,
    /// Where each slot ran last, and under which session.
    pub last_ran: BTreeMap<Slot, (NodeId, SessionId)>,
    /// All faults have ended.
    pub healed: bool,
    /// The highest index that any replica has applied.
    pub applied: u64,
    /// The sessions closed up to there.
    pub closed: BTreeSet<SessionId>,
    /// What went wrong.
    pub violation: Option<Violation>,
    /// What happened, if it is to be told.
    pub story: Option<Vec<String>>,
    /// TTL at the start; times of the scenario are multiples of it.
    pub ttl_ms: u32,
    /// No election before this.
    pub leaderless_since: Option<Time>,
    /// What comes next: when, its number, and its place in `events`.
    queue: BinaryHeap<Reverse<(Time, u64, usize)>>,
    events: Vec<Option<Event>>,
    free_places: Vec<usize>,
    next_event: u64,
    next_number: u64,
}

/// Tells one line of the story.
macro_rules! tell {
    ($world:expr, $($arg:tt)*) => {
        if let Some(story) = &mut $world.story {
            let ms = $world.now / 1000;
            story.push(format!("{:>6}.{:03} ms  {}", ms / 1000, ms % 1000, format!($($arg)*)));
        }
    };
}
pub(super) use tell;

/// The first host's id; replicas count from 1.
const FIRST_HOST: u64 = 101;

impl World {
    /// The world of a seed before its first event.
    #[must_use]
    pub fn new(protocol: Protocol, seed: u64, told: bool) -> Self {
        let mut rng = Rng::new(seed);
        let profiles = [Timing::FAST, Timing::LAN, Timing::LAN, Timing::CLOUD, Timing::WAN];
        let ttl_ms = rng.pick(&profiles).unwrap_or(Timing::LAN).lease_ttl_ms;
        let voters = rng.pick(&[3, 3, 3, 5, 5, 1]).unwrap_or(3);
        let members: BTreeSet<NodeId> = (1..=voters).map(NodeId).collect();
        let mut initial = Ledger::new(rng.between(1, 2), ttl_ms);
        initial.revision = 1;
        initial.list = Arc::new(list_of(Membership { id: MembershipId(1), configs: vec![members.clone()] }));
        let initial = Arc::new(initial);
        let mut world = Self {
            protocol,
            now: 0,
            replicas: BTreeMap::new(),
            hosts: BTreeMap::new(),
            network: Network::default(),
            adversary: Adversary::default(),
            storm_voters: members.clone(),
            wanted_voters: members,
            reopens: rng.percent(60),
            worst_clocks: rng.percent(40),
            theme: Theme::default(),
            episodes: Episodes::of(u64::from(ttl_ms) * MS),
            tally: Tally { seeds: 1, ..Tally::default() },
            last_ran: BTreeMap::new(),
            healed: false,
            applied: 1,
            closed: BTreeSet::new(),
            violation: None,
            story: told.then(Vec::new),
            ttl_ms,
            leaderless_since: Some(0),
            queue: BinaryHeap::new(),
            events: Vec::new(),
            free_places: Vec::new(),
            next_event: 0,
            next_number: 0,
            rng,
        };
        for id in (1..=voters + 2).map(NodeId) {
            let clocks = world.new_clocks(true);
            let boot = BootId(world.number());
            world.replicas.insert(id, Replica::new(id, boot, clocks, &initial, &protocol));
            world.after(0, Event::Replica { id, epoch: 0 });
        }
        let hosts = world.rng.between(2, 3);
        for id in (FIRST_HOST..FIRST_HOST + hosts).map(NodeId) {
            let clocks = world.new_clocks(false);
            world.hosts.insert(id, Host::new(id, clocks));
            world.after(0, Event::GuardStarts { host: id });
            let first = world.rng.below(30 * MS);
            world.after(first, Event::Agent { host: id });
        }
        world.after(0, Event::Election);
        world.episode_begins();
        world
    }

    /// Runs to the end, or to the first violation.
    pub fn run(&mut self) {
        while self.violation.is_none() && self.episodes.left > 0 {
            let Some(Reverse((at, _, place))) = self.queue.pop() else { break };
            self.now = at;
            let event = self.events[place].take().expect("each place in the queue has an event");
            self.free_places.push(place);
            self.handle(event);
        }
        self.tally.simulated_ms = self.now / MS;
    }

    /// A TTL of this scenario in true time.
    #[must_use]
    pub fn ttl(&self) -> Time {
        u64::from(self.ttl_ms) * MS
    }

    /// The cluster's timing with this TTL: a profile, or something between them.
    #[must_use]
    pub fn timing(ttl_ms: u32) -> Timing {
        let profiles = [Timing::FAST, Timing::LAN, Timing::CLOUD, Timing::WAN];
        let between = Timing {
            heartbeat_ms: ttl_ms / 16,
            lease_ttl_ms: ttl_ms,
            kill_budget_ms: (ttl_ms / 20).max(40),
            ..Timing::LAN
        };
        profiles.into_iter().find(|profile| profile.lease_ttl_ms == ttl_ms).unwrap_or(between)
    }

    /// A number that was not given out before.
    pub fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Puts an event into the queue.
    pub fn after(&mut self, delay: Time, event: Event) {
        self.next_event += 1;
        let place = self.free_places.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.queue.push(Reverse((self.now + delay, self.next_event, place)));
    }

    /// Sends a message.
    pub fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        let datagram = matches!(message, Message::Beat(..) | Message::Answer(_) | Message::Fenced(..));
        let [first, second] = self.network.arrivals(from, to, datagram, self.now, &mut self.rng);
        if let Some(arrival) = second {
            let message = message.clone();
            self.tally.doubled += 1;
            self.after(arrival - self.now, Event::Deliver { to, from, message });
        }
        if let Some(arrival) = first {
            self.tally.sent += 1;
            self.after(arrival - self.now, Event::Deliver { to, from, message });
        } else {
            self.tally.lost += 1;
        }
    }

    /// Notes the first violation.
    pub fn violated(&mut self, violation: Violation) {
        tell!(self, "VIOLATION: {violation}");
        self.tally.violations += 1;
        self.violation.get_or_insert(violation);
    }

    fn new_clocks(&mut self, fast: bool) -> Clocks {
        let slew = if self.worst_clocks { Slew::None } else { Slew::any(&mut self.rng) };
        let mut clocks = Clocks::new(slew, &mut self.rng);
        if self.worst_clocks {
            clocks.run_at_limit(0, fast);
        }
        clocks
    }

    fn handle(&mut self, event: Event) {
        if let Some(until) = self.held_up(&event) {
            self.after(until - self.now, event);
            return;
        }
        match event {
            Event::Deliver { to, from, message } => self.deliver(to, from, message),
            Event::Guard { host, epoch } => self.guard_looks(host, epoch),
            Event::Arm { host, epoch, value, left } => self.guard_arms(host, epoch, value, left),
            Event::Timer { host, number } => self.timer_due(host, number),
            Event::Dies { host, slot, task } => self.task_dies(host, slot, task),
            Event::Agent { host } => self.agent_looks(host),
            Event::Order { host, order } => self.guard_takes(host, order),
            Event::GuardStarts { host } => self.guard_starts(host),
            Event::Thaws { host } => self.machine_thaws(host),
            Event::Replica { id, epoch } => self.replica_works(id, epoch),
            Event::ReplicaStarts { id } => self.replica_starts(id),
            Event::Election => self.election_due(),
            Event::Fault => self.next_fault(),
            Event::Step(step) => self.take_step(step),
            Event::Adversary => self.adversary_acts(),
            Event::Heal => self.heal(),
            Event::EpisodeEnds => self.episode_ends(),
        }
    }

    /// Until when a stopped process or machine leaves this event waiting.
    fn held_up(&self, event: &Event) -> Option<Time> {
        let stopped = match event {
            Event::Deliver { to, .. } => match self.hosts.get(to) {
                Some(host) => host.stopped_until(self.now),
                None => self.replicas.get(to).map_or(0, |replica| replica.frozen_until),
            },
            Event::Guard { host, .. }
            | Event::Arm { host, .. }
            | Event::Agent { host }
            | Event::Order { host, .. }
            | Event::GuardStarts { host } => {
                self.hosts.get(host).map_or(0, |known| known.stopped_until(self.now))
            }
            Event::Timer { host, .. } | Event::Dies { host, .. } => {
                self.hosts.get(host).map_or(0, |known| known.machine_frozen_until)
            }
            Event::Replica { id, .. } => self.replicas.get(id).map_or(0, |replica| replica.frozen_until),
            Event::Thaws { .. }
            | Event::ReplicaStarts { .. }
            | Event::Election
            | Event::Fault
            | Event::Step(_)
            | Event::Adversary
            | Event::Heal
            | Event::EpisodeEnds => 0,
        };
        (stopped > self.now).then_some(stopped)
    }

    fn deliver(&mut self, to: NodeId, from: NodeId, message: Message) {
        if self.hosts.contains_key(&to) {
            if let Message::Answer(answer) = message {
                self.guard_hears(to, &answer);
            }
        } else if self.replicas.get(&to).is_some_and(|replica| replica.up) {
            self.replica_hears(to, from, message);
        }
    }

    /// Kills every task of a host within `within`.
    pub fn kill_all(&mut self, host: NodeId, within: Time, why: Death) {
        let slots: Vec<Slot> =
            self.hosts.get(&host).map_or(Vec::new(), |known| known.tasks.keys().copied().collect());
        for slot in slots {
            self.kill(host, slot, within, why);
        }
    }

    /// Kills one task within `within`; one that is dying already dies no later.
    pub fn kill(&mut self, host: NodeId, slot: Slot, within: Time, why: Death) {
        let delay = self.rng.below(within.max(1));
        let Some(task) = self.hosts.get_mut(&host).and_then(|known| known.tasks.get_mut(&slot)) else {
            return;
        };
        task.dying.get_or_insert(why);
        let task = task.id;
        self.after(delay, Event::Dies { host, slot, task });
    }
}
