//! What goes wrong, and when. Times are multiples of the TTL, so that every profile sees the same proportions.

use std::collections::BTreeSet;

use muster_core::id::NodeId;
use muster_core::lease::membership::Membership;

use super::clocks::{MS, Time};
use super::episodes::Theme;
use super::events::{Event, Step};
use super::host::Death;
use super::ledger::Entry;
use super::world::{World, tell};

impl World {
    /// One more fault, and the time of the next.
    pub(super) fn next_fault(&mut self) {
        if self.healed {
            return;
        }
        if self.theme != Theme::Anything {
            let next = self.rng.between(self.ttl(), 5 * self.ttl());
            self.after(next, Event::Fault);
            match self.theme {
                Theme::Voters if self.rng.percent(80) => self.storm_against_the_host(),
                Theme::Voters => self.choose_voters(),
                Theme::Turns | Theme::Anything => self.rotation(),
            }
            return;
        }
        let busy = self.rng.pick(&[1, 1, 3]).unwrap_or(1);
        let next = self.rng.between(self.ttl() / 20, busy * self.ttl());
        self.after(next, Event::Fault);
        match self.rng.below(34) {
            0..=4 => self.cut_host(),
            5 | 6 => self.isolate_replica(),
            7 | 8 => self.split(),
            9 | 10 => self.weather(),
            11..=13 => self.crash_replica(),
            14..=16 => self.hit_guard(),
            17 | 18 => self.hit_machine(),
            19 => self.freeze_replica(),
            20 | 21 => self.choose_voters(),
            22..=24 => self.storm(),
            25 => self.stall_apply(),
            26 => {
                self.tally.fault("leader replaced");
                self.elect();
            }
            27 | 28 => self.touch_service(),
            30..=33 => self.rotation(),
            _ => self.drift(),
        }
    }

    fn a_while(&mut self) -> Time {
        let most = self.rng.pick(&[self.ttl() / 4, self.ttl(), 3 * self.ttl()]).unwrap_or(MS);
        self.rng.between(MS, most)
    }

    fn a_replica(&mut self) -> NodeId {
        let ids: Vec<NodeId> = self.replicas.ids().collect();
        self.rng.pick(&ids).unwrap_or(NodeId(1))
    }

    fn a_host(&mut self) -> NodeId {
        let ids: Vec<NodeId> = self.hosts.ids().collect();
        self.rng.pick(&ids).unwrap_or(NodeId(101))
    }

    /// Cuts a host from some replicas, in one direction or both.
    fn cut_host(&mut self) {
        let (host, until) = (self.a_host(), self.now + self.a_while());
        let ids: Vec<NodeId> = self.replicas.ids().collect();
        let share = self.rng.pick(&[30, 60, 100]).unwrap_or(60);
        let direction = self.rng.below(4);
        let one_way = direction < 2;
        self.tally.fault(match (share, one_way) {
            (100, false) => "host cut off",
            (100, true) => "host cut off one way",
            (_, false) => "host partly cut off",
            (_, true) => "host partly cut off one way",
        });
        tell!(self, "host {host} is cut from {share} % of the voters, direction {direction}");
        for id in ids {
            if self.rng.percent(share) {
                if direction != 1 {
                    self.network.cut(host, id, until);
                }
                if direction != 0 {
                    self.network.cut(id, host, until);
                }
            }
        }
    }

    fn isolate_replica(&mut self) {
        let (id, until) = (self.a_replica(), self.now + self.a_while());
        let others: Vec<NodeId> = self.replicas.ids().chain(self.hosts.ids()).collect();
        let from_hosts_too = self.rng.percent(50);
        self.tally.fault("voter isolated");
        tell!(self, "voter {id} is isolated (from hosts too: {from_hosts_too})");
        for other in others {
            if from_hosts_too || self.replicas.contains(other) {
                self.network.cut(id, other, until);
                self.network.cut(other, id, until);
            }
        }
    }

    /// Splits all into two sides; a few links between them hold.
    fn split(&mut self) {
        let until = self.now + self.a_while();
        let all: Vec<NodeId> = self.replicas.ids().chain(self.hosts.ids()).collect();
        let left: BTreeSet<NodeId> = all.iter().copied().filter(|_| self.rng.percent(50)).collect();
        self.tally.fault("network split");
        tell!(self, "the network is split: {left:?} on one side");
        for from in &all {
            for to in &all {
                if left.contains(from) != left.contains(to) && self.rng.percent(90) {
                    self.network.cut(*from, *to, until);
                }
            }
        }
    }

    /// Loss, duplicates and delays for everybody.
    fn weather(&mut self) {
        self.network.loss_percent = self.rng.pick(&[0, 0, 5, 30, 60]).unwrap_or(0);
        self.network.twice_percent = self.rng.pick(&[0, 10]).unwrap_or(0);
        if self.rng.percent(50) {
            let until = self.now + self.a_while();
            self.network.slow = (until, self.rng.between(2 * MS, self.ttl()));
        }
        self.tally.fault("loss, duplicates, delays");
        tell!(self, "loss {} %, slow {:?}", self.network.loss_percent, self.network.slow);
    }

    fn crash_replica(&mut self) {
        let (id, down) = (self.a_replica(), self.a_while() / 2);
        let Some(replica) = self.replicas.get_mut(&id).filter(|replica| replica.up) else { return };
        replica.up = false;
        replica.leading = None;
        self.tally.fault("voter crashed");
        tell!(self, "voter {id} crashes");
        self.after(down, Event::ReplicaStarts { id });
    }

    fn hit_guard(&mut self) {
        let id = self.a_host();
        let (first, second) = (self.a_while(), self.a_while());
        if self.hosts.get(&id).is_some_and(|host| host.machine_frozen_until > self.now) {
            return;
        }
        match self.rng.below(5) {
            0 => {
                let token_survives = self.rng.percent(50);
                self.tally.fault("guard crashed");
                self.guard_crashes(id, token_survives);
            }
            1 => {
                self.tally.fault("guard re-executed");
                self.guard_upgrades(id, first.min(50 * MS));
            }
            2 => {
                self.tally.fault("guard stopped before it arms the timer");
                if let Some(host) = self.hosts.get_mut(&id) {
                    host.stall_before_arming = Some((first, second));
                }
            }
            3 => {
                self.tally.fault("Fenced forged");
                self.forge_fenced(id);
            }
            _ => {
                self.tally.fault("guard stopped");
                tell!(self, "host {id}: the guard stops for {} ms", first / MS);
                if let Some(host) = self.hosts.get_mut(&id) {
                    host.guard_frozen_until = self.now + first;
                }
            }
        }
    }

    fn hit_machine(&mut self) {
        let (id, length) = (self.a_host(), self.a_while());
        if self.rng.percent(30) {
            self.tally.fault("machine lost power");
            self.machine_crashes(id);
            return;
        }
        let clocks_go_on = self.protocol.habits.clocks_survive_pauses;
        let until = self.now + length;
        let Some(host) = self.hosts.get_mut(&id).filter(|host| host.machine_frozen_until <= self.now) else {
            return;
        };
        host.machine_frozen_until = until;
        if !clocks_go_on {
            host.clocks.lose(self.now, until);
        }
        self.tally.fault("machine stopped");
        tell!(self, "host {id}: the machine stops for {} ms", length / MS);
        self.after(length, Event::Thaws { host: id });
    }

    fn freeze_replica(&mut self) {
        let (id, until) = (self.a_replica(), self.now + self.a_while());
        self.tally.fault("voter stopped");
        tell!(self, "voter {id}: the process stops for {} ms", (until - self.now) / MS);
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.frozen_until = until;
        }
    }

    /// Wishes for other voters: one more, one less, one swapped, or two more or less; a majority of the old stays.
    fn choose_voters(&mut self) {
        let all: Vec<NodeId> = self.replicas.ids().collect();
        let mut wanted: Vec<NodeId> = self.wanted_voters.iter().copied().collect();
        let spare: Vec<NodeId> = all.iter().copied().filter(|id| !self.wanted_voters.contains(id)).collect();
        let spare = self.rng.shuffled(&spare);
        match (self.rng.below(3), wanted.len()) {
            (0, 1 | 3) => wanted.extend(spare.iter().take(2)),
            (0 | 1, 5) => {
                wanted = self.rng.shuffled(&wanted);
                wanted.truncate(3);
            }
            (_, 3 | 5) => {
                wanted = self.rng.shuffled(&wanted);
                if let (Some(new), Some(last)) = (spare.first(), wanted.last_mut()) {
                    *last = *new;
                }
            }
            _ => wanted.extend(spare.iter().take(2)),
        }
        self.wanted_voters = wanted.into_iter().collect();
        self.tally.fault("other voters wished for");
        tell!(self, "the voters should be {:?}", self.wanted_voters);
    }

    /// The worst change of voters: the host is left with a majority of the old voters that applies nothing new,
    /// and the rest is a majority of the new ones. The change comes at once, or after the rest has given the host up.
    fn storm_against_the_host(&mut self) {
        let (host, length) = (self.a_host(), 4 * self.ttl());
        let leader =
            self.replicas.values().filter(|replica| replica.leading.is_some()).max_by_key(|r| r.term);
        let leader = leader.map(|replica| replica.id);
        let old: Vec<NodeId> = self.wanted_voters.iter().copied().collect();
        let followers: Vec<NodeId> = old.iter().copied().filter(|id| Some(*id) != leader).collect();
        let kept: Vec<NodeId> = self.rng.shuffled(&followers).into_iter().take(old.len() / 2 + 1).collect();
        let rest = old.iter().copied().filter(|id| !kept.contains(id));
        let spare = self.replicas.ids().filter(|id| !self.wanted_voters.contains(id));
        self.storm_voters = match old.len() {
            5 => rest.chain(kept.iter().copied().take(1)).collect(),
            _ => old.iter().copied().chain(spare.take(2)).collect(),
        };
        self.tally.fault("change of voters against a host");
        tell!(self, "host {host} keeps {kept:?} only; the voters will be {:?}", self.storm_voters);
        let others: Vec<NodeId> = self.replicas.ids().filter(|id| !kept.contains(id)).collect();
        for voter in others {
            self.after(0, Event::Step(Step::Cut { host, voter, length }));
        }
        let stall = self.rng.percent(60);
        for voter in kept.into_iter().filter(|_| stall) {
            self.after(0, Event::Step(Step::StallApply { voter, length }));
        }
        let late = self.rng.percent(50);
        let delay = if late { self.ttl() * 5 / 4 } else { MS };
        if late && self.rng.percent(50) {
            self.after(delay - 5 * MS, Event::Step(Step::AskAhead { host }));
        }
        self.after(delay, Event::Step(Step::Voters));
    }

    /// Whether a replica or a host goes by a membership of one voter: that one alone is the majority that R3 asks, so
    /// nothing protects from what it says.
    fn anybody_trusts_one_voter(&self) -> bool {
        let alone = |membership: &Membership| membership.configs.iter().any(|config| config.len() == 1);
        let mut replicas = self.replicas.values();
        let leases = self.hosts.values().filter_map(|host| host.guard.as_ref()?.lease.as_ref());
        replicas.any(|replica| alone(replica.effective()) || alone(&replica.ledger.list.membership))
            || leases.map(|lease| &lease.list().membership).any(alone)
    }

    /// A change of voters in the middle of trouble: replicas that append but don't apply, and a split at about the
    /// moment of the change.
    fn storm(&mut self) {
        self.choose_voters();
        let ids: Vec<NodeId> = self.replicas.ids().collect();
        for id in &ids {
            if self.rng.percent(45) {
                let until = self.now + self.a_while();
                tell!(self, "voter {id} appends, but applies nothing for a while");
                if let Some(replica) = self.replicas.get_mut(id) {
                    replica.apply_stalled_until = until;
                }
            }
        }
        if self.rng.percent(40)
            && self.wanted_voters.len() > 1
            && let Some(id) = self.rng.pick(&ids)
            && !self.replicas.values().any(|replica| replica.liar)
            && !self.anybody_trusts_one_voter()
        {
            self.tally.fault("voter sends wrong lists");
            tell!(self, "voter {id} sends wrong lists of voters from now on");
            if let Some(replica) = self.replicas.get_mut(&id) {
                replica.liar = true;
            }
        }
        let hosts: Vec<NodeId> = self.hosts.ids().collect();
        let until = self.now + 2 * self.ttl() + self.a_while();
        for host in hosts {
            let seen: BTreeSet<NodeId> = ids.iter().copied().filter(|_| self.rng.percent(50)).collect();
            tell!(self, "host {host} is cut from all voters but {seen:?}");
            for id in ids.iter().filter(|id| !seen.contains(id)) {
                self.network.cut(host, *id, until);
                self.network.cut(*id, host, until);
            }
        }
    }

    /// Voter after voter misses a host for longer than W, and something happens to the first one in between: the host
    /// keeps a majority all the time, but promises of different times add up to one.
    fn rotation(&mut self) {
        let host = self.a_host();
        let voters: Vec<NodeId> = self.wanted_voters.iter().copied().collect();
        let order = self.rng.shuffled(&voters);
        let w = self.ttl() + self.ttl() / 16;
        let asks_ahead = self.rng.percent(20);
        let turns = if asks_ahead { 3 } else { 2 };
        let mut at = 0;
        for (turn, voter) in order.iter().copied().take(turns).enumerate() {
            let length = w + self.rng.between(self.ttl() / 8, self.ttl());
            self.after(at, Event::Step(Step::Cut { host, voter, length }));
            at += length;
            match turn {
                0 if asks_ahead => self.reopen_before(at, host, order.get(1).copied()),
                0 => self.between_turns(at, host, voter, order.get(1).copied()),
                1 if asks_ahead => self.after(at - MS, Event::Step(Step::AskCounts { host, voter })),
                _ => {}
            }
        }
        tell!(self, "host {host} misses one voter after the other: {order:?}");
    }

    /// The host is taken back just before the second voter's turn, and that one does not hear of it for a while.
    fn reopen_before(&mut self, at: Time, host: NodeId, second: Option<NodeId>) {
        let just_before = at.saturating_sub(self.ttl() / 32);
        if let Some(voter) = second {
            let length = 5 * self.ttl() / 2;
            self.after(just_before.saturating_sub(MS * 5), Event::Step(Step::StallApply { voter, length }));
        }
        self.after(just_before, Event::Step(Step::Reopen { host, repeats: false }));
    }

    fn between_turns(&mut self, at: Time, host: NodeId, first: NodeId, second: Option<NodeId>) {
        let length = 3 * self.ttl();
        let just_before = at.saturating_sub(self.ttl() / 32);
        match self.rng.below(5) {
            0 => self.after(just_before, Event::Step(Step::Restart { voter: first, down: MS })),
            1 => {
                // Its start can't be committed for a while, although hosts reach it.
                self.after(just_before, Event::Step(Step::Isolate { voter: first, length }));
                self.after(just_before, Event::Step(Step::Restart { voter: first, down: MS }));
            }
            // The second voter does not hear of it, and promises under the former count.
            2 | 3 => self.reopen_before(at, host, second),
            _ => self.after(just_before, Event::Step(Step::Reopen { host, repeats: true })),
        }
    }

    /// One step of a fault that has several.
    pub(super) fn take_step(&mut self, step: Step) {
        if self.healed {
            return;
        }
        self.tally.fault(step.name());
        tell!(self, "{step:?}");
        match step {
            Step::Cut { host, voter, length } => {
                self.network.cut(host, voter, self.now + length);
                self.network.cut(voter, host, self.now + length);
            }
            Step::Restart { voter, down } => {
                if let Some(replica) = self.replicas.get_mut(&voter).filter(|replica| replica.up) {
                    replica.up = false;
                    replica.leading = None;
                    self.after(down, Event::ReplicaStarts { id: voter });
                }
            }
            Step::Isolate { voter, length } => {
                let others: Vec<NodeId> = self.replicas.ids().filter(|id| *id != voter).collect();
                for other in others {
                    self.network.cut(voter, other, self.now + length);
                    self.network.cut(other, voter, self.now + length);
                }
            }
            Step::StallApply { voter, length } => {
                if let Some(replica) = self.replicas.get_mut(&voter) {
                    replica.apply_stalled_until = self.now + length;
                }
            }
            Step::Reopen { host, repeats } => self.reopen_again(host, repeats),
            Step::AskCounts { host, voter } => self.ask_counts(host, voter),
            Step::AskAhead { host } => self.ask_ahead(host),
            Step::Voters => self.wanted_voters.clone_from(&self.storm_voters),
        }
    }

    fn stall_apply(&mut self) {
        let (id, until) = (self.a_replica(), self.now + self.a_while());
        self.tally.fault("voter appends without applying");
        tell!(self, "voter {id} appends, but applies nothing for a while");
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.apply_stalled_until = until;
        }
    }

    /// An operator moves an instance, one fails, or the timing changes.
    fn touch_service(&mut self) {
        let slot = self.rng.pick(&self.slots()).unwrap_or(0);
        let from = self.a_replica();
        match self.rng.below(3) {
            0 => {
                let Some(view) = self.replicas.get(&from).map(|replica| &replica.ledger) else { return };
                let sessions: Vec<_> = view.sessions.keys().copied().collect();
                let Some(held) = view.placement(slot) else { return };
                self.tally.fault("move wished for");
                let target = self.rng.pick(&sessions);
                self.propose(from, Entry::Revoke { slot, generation: held.generation, target });
            }
            1 => {
                let running = self.hosts.values().find(|host| host.runs(slot, self.now)).map(|host| host.id);
                if let Some(host) = running {
                    self.tally.fault("instance failed");
                    tell!(self, "host {host}: slot {slot} fails");
                    self.kill(host, slot, 1, Death::Failed);
                }
            }
            _ => {
                let ttl_ms =
                    self.rng.pick(&[self.ttl_ms, self.ttl_ms / 2, self.ttl_ms * 2]).unwrap_or(self.ttl_ms);
                self.tally.fault("TTL changed");
                self.propose(from, Entry::SetTtl { ttl_ms });
            }
        }
    }

    fn drift(&mut self) {
        if self.worst_clocks {
            return;
        }
        let (host, replica, at) = (self.a_host(), self.a_replica(), self.now);
        self.tally.fault("clock rates changed");
        if let Some(host) = self.hosts.get_mut(&host).filter(|host| host.machine_frozen_until <= at) {
            host.clocks.drift(at, &mut self.rng);
        }
        if let Some(replica) = self.replicas.get_mut(&replica) {
            replica.clocks.drift(at, &mut self.rng);
        }
    }
}
