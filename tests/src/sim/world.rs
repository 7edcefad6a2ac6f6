//! The run of one seed: a queue of events in true time, and everything that takes part.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_core::id::{BootId, MembershipId, NodeId, SessionId};
use muster_core::lease::Membership;
use muster_core::time::Timing;

use super::adversary::Adversary;
use super::check::Violation;
use super::clocks::{Clocks, MS, Slew, Time};
use super::episodes::{Episodes, Theme};
use super::events::{Event, Queue};
use super::host::{Death, Host};
use super::ledger::{Ledger, Slot, list_of};
use super::network::{Message, Network};
use super::protocol::Protocol;
use super::replica::Replica;
use super::rng::Rng;
use super::roster::Roster;
use super::tally::Tally;
use super::twin::Twin;

/// Everything of one run.
pub struct World {
    /// What is under test.
    pub protocol: Protocol,
    /// All chance comes from here.
    pub rng: Rng,
    /// True time.
    pub now: Time,
    /// The control plane.
    pub replicas: Roster<Replica>,
    /// The hosts of services.
    pub hosts: Roster<Host>,
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
    /// The product's own state machine, in some seeds.
    pub(super) twin: Option<Twin>,
    /// What went wrong.
    pub violation: Option<Violation>,
    /// What happened, if it is to be told.
    pub story: Option<Vec<String>>,
    /// TTL at the start; times of the scenario are multiples of it.
    pub ttl_ms: u32,
    /// No election before this.
    pub leaderless_since: Option<Time>,
    queue: Queue,
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

/// One of so many seeds of the sound protocol has a [`Twin`]: it costs about as much as everything else.
pub const TWIN_EVERY: u64 = 8;

/// The first replica's id.
const FIRST_REPLICA: NodeId = NodeId(1);
/// The first host's id.
const FIRST_HOST: NodeId = NodeId(101);

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
            replicas: Roster::from(FIRST_REPLICA),
            hosts: Roster::from(FIRST_HOST),
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
            twin: None,
            violation: None,
            story: told.then(Vec::new),
            ttl_ms,
            leaderless_since: Some(0),
            queue: Queue::default(),
            next_number: 0,
            rng,
        };
        for id in (1..=voters + 2).map(NodeId) {
            let clocks = world.new_clocks(true);
            let boot = BootId(world.number());
            world.replicas.push(Replica::new(id, boot, clocks, &initial, &protocol));
            world.after(0, Event::Replica { id, epoch: 0 });
        }
        let hosts = world.rng.between(2, 3);
        for id in (FIRST_HOST.0..FIRST_HOST.0 + hosts).map(NodeId) {
            let clocks = world.new_clocks(false);
            world.hosts.push(Host::new(id, clocks));
            world.after(0, Event::GuardStarts { host: id });
            let first = world.rng.below(30 * MS);
            world.after(first, Event::Agent { host: id });
        }
        if protocol.is_sound() && seed.is_multiple_of(TWIN_EVERY) {
            let nodes = world.replicas.ids().chain(world.hosts.ids());
            world.twin = Some(Twin::of(&initial, nodes));
        }
        world.after(0, Event::Election);
        world.episode_begins();
        world
    }

    /// Runs to the end, or to the first violation.
    pub fn run(&mut self) {
        while self.violation.is_none() && self.episodes.left > 0 {
            let Some((at, place)) = self.queue.pop() else { break };
            self.now = at;
            match self.held_up(self.queue.event(place)) {
                Some(until) => self.queue.queue(until, place),
                None => {
                    let event = self.queue.take(place);
                    self.handle(&event);
                }
            }
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
    #[inline]
    pub fn after(&mut self, delay: Time, event: Event) {
        self.queue.push(self.now + delay, event);
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

    fn handle(&mut self, event: &Event) {
        match *event {
            Event::Deliver { to, from, ref message } => self.deliver(to, from, message),
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

    fn deliver(&mut self, to: NodeId, from: NodeId, message: &Message) {
        if self.hosts.contains(to) {
            if let Message::Answer(answer) = message {
                self.guard_hears(to, answer);
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
