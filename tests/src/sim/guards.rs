//! What guards and agents do: heartbeats, kills, starts, stops, and asking for sessions (R1, R3, R4, R10, R11).

use muster_core::id::{ClusterId, Generation, Incarnation, NodeId, SessionId};
use muster_core::lease::{Answer, Fenced, Grant, Phase, Tenure};

use super::check::Violation;
use super::clocks::{MS, Time};
use super::events::{Event, Order};
use super::host::{Death, Guard, Task};
use super::ledger::{Entry, Slot};
use super::network::Message;
use super::protocol::HostHalf;
use super::world::{World, tell};

/// How soon the kernel kills when a timer fires or a guard dies.
const KERNEL_KILLS_WITHIN: Time = 3 * MS;
/// How soon what the guard kills is dead.
const GUARD_KILLS_WITHIN: Time = 20 * MS;

impl World {
    /// A guard starts: after a boot, or after its predecessor's crash.
    pub(super) fn guard_starts(&mut self, id: NodeId) {
        let (key, request) = (self.number(), self.number());
        let Some(host) = self.hosts.get_mut(&id).filter(|host| host.guard.is_none()) else { return };
        host.epoch += 1;
        host.shim_dead = false;
        let predecessor = host.predecessor.take();
        host.guard = Some(Guard { key, request, predecessor, ..Guard::default() });
        let epoch = host.epoch;
        tell!(self, "host {id}: a guard starts");
        self.after(0, Event::Guard { host: id, epoch });
    }

    /// The guard's regular look: send what is due, kill what must end.
    pub(super) fn guard_looks(&mut self, id: NodeId, epoch: u64) {
        let period = self.ttl() / 32;
        let (key, request) = (self.number(), self.number());
        let Some(host) = self.hosts.get_mut(&id).filter(|host| host.epoch == epoch) else { return };
        let now = host.clocks.read(self.now);
        let nothing_runs = host.tasks.is_empty();
        let shim_dead = host.shim_dead;
        let Some(guard) = &mut host.guard else { return };
        let Some(lease) = &mut guard.lease else {
            self.after(period, Event::Guard { host: id, epoch });
            self.fence_predecessor(id);
            return;
        };
        if shim_dead {
            lease.end(now);
        }
        let mut out = None;
        match lease.phase(now) {
            Phase::Waiting | Phase::Active => {
                if lease.send_due_in(now).is_some_and(|due| due.is_zero()) {
                    out = lease.heartbeat(now).map(|beat| Message::Beat(beat, guard.key));
                }
            }
            Phase::Killing if nothing_runs => {
                lease.nothing_left(now);
                tell!(self, "host {id}: nothing is left of session {}", lease.tenure().session);
            }
            Phase::Killing => {}
            Phase::Fencing => out = lease.fenced(now).map(|fenced| Message::Fenced(fenced, guard.key)),
            Phase::Ended => {
                *guard = Guard { key, request, ..Guard::default() };
                host.shim_dead = false;
                host.timer = None;
            }
        }
        let lease = host.guard.as_mut().and_then(|guard| guard.lease.as_mut());
        let mut due = None;
        let killing = lease.is_some_and(|lease| {
            due = lease.send_due_in(now).and_then(|due| Time::try_from(due.as_nanos()).ok());
            lease.phase(now) == Phase::Killing
        }) && !nothing_runs;
        if let Some(message) = out {
            self.send_to_voters(id, &message);
        }
        if killing {
            self.kill_all(id, GUARD_KILLS_WITHIN, Death::Lease);
        }
        let next = due.map_or(period, |due| due.clamp(MS, period * 2));
        self.after(next, Event::Guard { host: id, epoch });
    }

    /// A voter's answer arrives.
    pub(super) fn guard_hears(&mut self, id: NodeId, answer: &Answer) {
        let at = self.now;
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let now = host.clocks.read(at);
        let (epoch, stall) = (host.epoch, host.stall_before_arming);
        let Some(lease) = host.guard.as_mut().and_then(|guard| guard.lease.as_mut()) else { return };
        let session = lease.tenure().session;
        let effect = lease.on_answer(now, answer);
        if effect.kill {
            tell!(self, "host {id}: session {session} is closed; killing");
            self.kill_all(id, GUARD_KILLS_WITHIN, Death::Lease);
            return;
        }
        if !effect.renewed {
            return;
        }
        let value = lease.timer_boottime_ns(now).unwrap_or(now.boottime_ns);
        if let Some((first, _)) = stall {
            host.guard_frozen_until = at + first;
            tell!(self, "host {id}: the guard stalls before it arms the timer");
        }
        if self.closed.contains(&session) {
            self.violated(Violation::RenewedAfterClose { session, host: id });
        }
        let left = value.saturating_sub(now.boottime_ns);
        self.after(MS / 50, Event::Arm { host: id, epoch, value, left });
    }

    /// The guard arms the shim's timer.
    pub(super) fn guard_arms(&mut self, id: NodeId, epoch: u64, value: u64, left: u64) {
        let number = self.number();
        let absolute = self.protocol.habits.absolute_timer;
        let at = self.now;
        let Some(host) = self.hosts.get_mut(&id).filter(|host| host.epoch == epoch && host.guard.is_some())
        else {
            return;
        };
        let value = if absolute { value } else { host.now(at).boottime_ns + left };
        host.timer = Some((value, number));
        let due = host.clocks.when_boottime(value).max(at);
        if let Some((_, second)) = host.stall_before_arming.take() {
            host.guard_frozen_until = at + second;
        }
        self.after(due - at, Event::Timer { host: id, number });
    }

    /// The shim's timer may be due.
    pub(super) fn timer_due(&mut self, id: NodeId, number: u64) {
        let at = self.now;
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let Some((value, _)) = host.timer.filter(|(_, armed)| *armed == number) else { return };
        if host.now(at).boottime_ns < value {
            let due = host.clocks.when_boottime(value).max(at + 1);
            self.after(due - at, Event::Timer { host: id, number });
            return;
        }
        host.timer = None;
        host.shim_dead = true;
        if !host.tasks.is_empty() {
            tell!(self, "host {id}: the kernel's timer kills what the guard left alive");
            self.kill_all(id, KERNEL_KILLS_WITHIN, Death::Lease);
        }
    }

    /// A stopped machine goes on: its overdue timer fires before any process gets the processor.
    pub(super) fn machine_thaws(&mut self, id: NodeId) {
        let at = self.now;
        let Some(host) = self.hosts.get_mut(&id) else { return };
        host.thawed_at = at;
        // A signal that was sent before the stop is delivered before the process executes anything.
        host.tasks.retain(|_, task| !matches!(task.dying, Some(Death::Lease | Death::Guard)));
        if host.timer.is_some_and(|(value, _)| host.now(at).boottime_ns >= value) {
            host.timer = None;
            host.shim_dead = true;
            host.tasks.clear();
        }
        tell!(self, "host {id}: the machine goes on");
        for slot in self.slots() {
            self.check_slot(slot);
        }
    }

    /// A killed task ends.
    pub(super) fn task_dies(&mut self, id: NodeId, slot: Slot, number: u64) {
        let recorded = self.protocol.habits.failure_is_recorded;
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let Some(task) = host.tasks.get(&slot).copied().filter(|task| task.id == number) else { return };
        self.check_deadline(id, slot, task.session);
        let Some(host) = self.hosts.get_mut(&id) else { return };
        host.tasks.remove(&slot);
        let why = task.dying.unwrap_or(Death::Failed);
        tell!(self, "host {id}: slot {slot} of session {} is dead ({why:?})", task.session);
        let Some(guard) = &mut host.guard else { return };
        if matches!(why, Death::Revoked | Death::Failed) {
            if recorded || why == Death::Revoked {
                record_revoked(guard, slot, task.generation);
            }
            record_ended(guard, slot, task.session, task.generation);
        }
    }

    /// The agent asks for a session, passes on what the state says, and reports what ended. It follows some replica,
    /// which may lag.
    pub(super) fn agent_looks(&mut self, id: NodeId) {
        let often = (self.ttl() / 50).max(20 * MS);
        let next = self.rng.between(often, 2 * often);
        self.after(next, Event::Agent { host: id });
        let at = self.now;
        let network = &self.network;
        let connected = self
            .replicas
            .values()
            .filter(|replica| replica.up && replica.frozen_until <= at)
            .filter(|replica| network.connects(id, replica.id, at) && network.connects(replica.id, id, at))
            .map(|replica| replica.id);
        let Some(source) = self.rng.pick_of(connected) else { return };
        let view = &self.replicas[source].ledger;
        let Some(guard) = self.hosts.get(&id).and_then(|host| host.guard.as_ref()) else { return };
        let mut orders = Vec::new();
        let mut writes = Vec::new();
        let mut asks_anew = false;
        if guard.lease.is_none() {
            match view.session_of(id) {
                Some(session) if session.request == guard.request => orders.push(Order::Grant {
                    session: session.open.session,
                    request: guard.request,
                    ttl_ms: session.open.ttl_ms,
                    from: source,
                }),
                Some(_) => {}
                None if view.used_up(guard.request) => asks_anew = true,
                None => writes.push(Entry::Open { node: id, request: guard.request, key: guard.key }),
            }
        }
        for (slot, held) in &view.slots {
            let Some(held) = held.filter(|held| held.node == id) else { continue };
            let (slot, session, generation) = (*slot, held.session, held.generation);
            if guard.ended.get(&slot) == Some(&(session, generation)) {
                writes.push(Entry::Stopped { slot, session, generation });
            }
            if held.revoking.is_some() {
                orders.push(Order::Stop { slot, session, generation });
            } else {
                orders.push(Order::Start { slot, session, generation });
            }
        }
        if asks_anew {
            // Its session was closed before the guard had the grant.
            let (key, request) = (self.number(), self.number());
            let guard = self.hosts.get_mut(&id).and_then(|host| host.guard.as_mut());
            if let Some(guard) = guard {
                (guard.key, guard.request) = (key, request);
            }
        }
        for order in orders {
            self.pass_on(id, order);
        }
        for write in writes {
            self.propose(id, write);
        }
    }

    /// The guard gets an agent's word.
    pub(super) fn guard_takes(&mut self, id: NodeId, order: Order) {
        match order {
            Order::Grant { session, request, ttl_ms, from } => {
                self.take_grant(id, session, request, ttl_ms, from)
            }
            Order::Start { slot, session, generation } => self.start(id, slot, session, generation),
            Order::Stop { slot, session, generation } => self.stop(id, slot, session, generation),
        }
    }

    /// Sends to every voter that the guard has heard of.
    fn send_to_voters(&mut self, id: NodeId, message: &Message) {
        let mut sent = 0;
        while let Some(voter) = self.target(id, sent) {
            self.send(id, voter, message.clone());
            sent += 1;
        }
    }

    fn target(&self, id: NodeId, number: usize) -> Option<NodeId> {
        let lease = self.hosts.get(&id)?.guard.as_ref()?.lease.as_ref()?;
        lease.targets().get(number).map(|target| target.voter)
    }

    /// R10, R11: the successor has cleaned up and fences its predecessor's session with the token it found.
    fn fence_predecessor(&mut self, id: NodeId) {
        let Some(host) = self.hosts.get(&id).filter(|host| host.tasks.is_empty()) else { return };
        let Some((tenure, key)) = host.guard.as_ref().and_then(|guard| guard.predecessor) else { return };
        let replicas: Vec<NodeId> = self.replicas.ids().collect();
        if self.rng.percent(30) {
            for replica in replicas {
                self.send(id, replica, Message::Fenced(Fenced { tenure }, key));
            }
        }
    }

    /// Passes an order on; some arrive late, some twice.
    fn pass_on(&mut self, host: NodeId, order: Order) {
        let late = self.rng.percent(3) && !self.healed;
        let delay = if late { self.rng.below(4 * self.ttl()) } else { self.rng.between(MS / 10, 2 * MS) };
        self.after(delay, Event::Order { host, order });
        if self.rng.percent(3) && !self.healed {
            let delay = self.rng.below(4 * self.ttl());
            self.after(delay, Event::Order { host, order });
        }
    }

    fn take_grant(&mut self, id: NodeId, session: SessionId, request: u64, ttl_ms: u32, from: NodeId) {
        let list = self.replicas.get(&from).map(|replica| replica.ledger.list.as_ref().clone());
        let (Some(list), Some(host)) = (list, self.hosts.get_mut(&id)) else { return };
        let now = host.clocks.read(self.now);
        let Some(guard) =
            host.guard.as_mut().filter(|guard| guard.lease.is_none() && guard.request == request)
        else {
            return;
        };
        let timing = Self::timing(ttl_ms);
        let tenure = Tenure { cluster: ClusterId(1), incarnation: Incarnation(1), node: id, session };
        let grant = Grant {
            tenure,
            ttl_ms,
            heartbeat_ms: timing.heartbeat_ms,
            kill_budget_ms: timing.kill_budget_ms,
            list,
        };
        guard.lease = Some((self.protocol.host)(now, grant));
        guard.predecessor = None;
        host.shim_dead = false;
        host.timer = None;
        tell!(self, "host {id}: holds session {session}, TTL {ttl_ms} ms");
    }

    /// R10: under its own session, with a valid lease, above the last revoked generation, and only while nothing of
    /// the slot still runs.
    fn start(&mut self, id: NodeId, slot: Slot, session: SessionId, generation: Generation) {
        let habits = self.protocol.habits;
        let number = self.number();
        let at = self.now;
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let now = host.clocks.read(at);
        let (timer, idle) = (host.timer.is_some(), !host.tasks.contains_key(&slot));
        let Some(guard) = &mut host.guard else { return };
        let Some(lease) = &mut guard.lease else { return };
        let own = lease.tenure().session;
        let leased = lease.phase(now) == Phase::Active && timer && !host.shim_dead;
        let revoked = guard.revoked.get(&slot).is_some_and(|revoked| generation <= *revoked);
        let refused = (session != own && habits.assignment_names_session)
            || (!leased && habits.start_needs_lease)
            || (revoked && habits.start_needs_newer_generation)
            || !idle;
        if refused {
            return;
        }
        host.tasks.insert(slot, Task { id: number, session: own, generation, dying: None });
        tell!(self, "host {id}: slot {slot} runs under session {own}, generation {generation}");
        match self.last_ran.insert(slot, (id, own)) {
            Some((host, session)) if host != id && self.closed.contains(&session) => {
                self.tally.failovers += 1
            }
            Some((host, _)) if host != id => self.tally.moves += 1,
            _ => {}
        }
        if !self.healed && self.rng.percent(5) {
            // A young guard has seen little of its clocks.
            self.tally.fault("guard stopped after it starts something");
            let stall = (0, self.rng.between(self.ttl() / 2, 2 * self.ttl()));
            if let Some(host) = self.hosts.get_mut(&id) {
                host.stall_before_arming = Some(stall);
            }
        }
        self.check_slot(slot);
    }

    fn stop(&mut self, id: NodeId, slot: Slot, session: SessionId, generation: Generation) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        if host.session() != Some(session) {
            return;
        }
        let task = host.tasks.get(&slot).copied();
        let Some(guard) = &mut host.guard else { return };
        match task {
            Some(task) if task.generation > generation || task.dying.is_some() => {}
            Some(_) => self.kill(id, slot, 20 * MS, Death::Revoked),
            None => {
                record_revoked(guard, slot, generation);
                record_ended(guard, slot, session, generation);
            }
        }
    }

    /// A guard dies; its tasks die with it, by the kernel's hand.
    pub(super) fn guard_crashes(&mut self, id: NodeId, token_survives: bool) {
        let outlive = !self.protocol.habits.tasks_die_with_guard;
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let Some(guard) = host.guard.take() else { return };
        let token = guard.lease.as_ref().map(|lease| (lease.tenure(), guard.key)).or(guard.predecessor);
        host.predecessor = token.filter(|_| token_survives);
        host.epoch += 1;
        host.timer = None;
        tell!(self, "host {id}: the guard crashes");
        if !outlive {
            self.kill_all(id, KERNEL_KILLS_WITHIN, Death::Guard);
        }
        let delay = self.rng.between(20 * MS, self.ttl());
        self.after(delay, Event::GuardStarts { host: id });
    }

    /// A machine loses power and boots again.
    pub(super) fn machine_crashes(&mut self, id: NodeId) {
        let delay = self.rng.between(self.ttl(), 3 * self.ttl());
        let Some(host) = self.hosts.get_mut(&id) else { return };
        host.guard = None;
        host.predecessor = None;
        host.epoch += 1;
        host.timer = None;
        host.tasks.clear();
        host.guard_frozen_until = 0;
        tell!(self, "host {id}: loses power");
        self.after(delay, Event::GuardStarts { host: id });
    }

    /// A guard replaces itself by another binary.
    pub(super) fn guard_upgrades(&mut self, id: NodeId, takes: Time) {
        let at = self.now;
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let now = host.clocks.read(at + takes);
        let Some(lease) = host.guard.as_mut().and_then(|guard| guard.lease.as_mut()) else { return };
        let successor: Box<dyn HostHalf> = lease.re_executed(now);
        *lease = successor;
        host.guard_frozen_until = host.guard_frozen_until.max(at + takes);
        tell!(self, "host {id}: the guard executes another binary");
    }
}

/// Notes what the agent shall report. A late order to stop what ended long ago must not hide what ended since.
fn record_ended(guard: &mut Guard, slot: Slot, session: SessionId, generation: Generation) {
    let ended = guard.ended.entry(slot).or_insert((session, generation));
    if ended.1 < generation {
        *ended = (session, generation);
    }
}

fn record_revoked(guard: &mut Guard, slot: Slot, generation: Generation) {
    let revoked = guard.revoked.entry(slot).or_default();
    *revoked = generation.max(*revoked);
}
