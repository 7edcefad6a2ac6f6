//! What goes wrong in a run, and what ends it again.

use std::collections::BTreeMap;

use muster_tests::sim::rng::Rng;

use crate::disk::Manners;
use crate::network::Weather;
use crate::trace;
use crate::world::World;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// How rough a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    /// Everything happens.
    Rough,
    /// Agents are killed, stopped and held up, one at a time: no service may notice.
    Gentle,
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// An agent is killed and started again.
    AgentKilled,
    /// An agent is stopped in order and started again.
    AgentStopped,
    /// An agent gets no processor.
    AgentHeld,
    /// A guard is killed; the next one starts.
    GuardKilled,
    /// A guard gets no processor.
    GuardHeld,
    /// Agent and guard of a host get no processor.
    HostHeld,
    /// A host loses its power.
    PowerLost,
    /// A host is cut off from all others.
    CutOff,
    /// A host hears others, but they don't hear it, or the other way round.
    OneWay,
    /// Two hosts don't reach each other.
    PairCut,
    /// The hosts are split into two groups.
    Split,
    /// The same, in the middle of a change of voters.
    SplitAtChange,
    /// Loss, delay and doubles.
    BadWeather,
    /// A disk stalls.
    SlowDisk,
    /// A disk fails; later it is well again.
    BrokenDisk,
    /// A task fails by itself.
    TaskFails,
}

const ROUGH: [Fault; 15] = [
    Fault::AgentKilled,
    Fault::AgentStopped,
    Fault::AgentHeld,
    Fault::GuardKilled,
    Fault::GuardHeld,
    Fault::HostHeld,
    Fault::PowerLost,
    Fault::CutOff,
    Fault::OneWay,
    Fault::PairCut,
    Fault::Split,
    Fault::BadWeather,
    Fault::SlowDisk,
    Fault::BrokenDisk,
    Fault::TaskFails,
];
const GENTLE: [Fault; 3] = [Fault::AgentKilled, Fault::AgentStopped, Fault::AgentHeld];

/// What ends a fault.
#[derive(Clone, Debug)]
enum Remedy {
    PowerOn(usize),
    Mend(Vec<(usize, usize)>),
    FairWeather,
    GoodDisk(usize),
}

/// The faults of a run.
pub struct Faults {
    rng: Rng,
    temper: Temper,
    next_ns: u64,
    remedies: BTreeMap<(u64, u64), Remedy>,
    made: u64,
    /// How often the voters had been changed when it was last looked at.
    voters_changed: u64,
    /// A split in the middle of a change of voters.
    split_at_ns: Option<u64>,
    /// How many of each kind there were.
    pub counts: BTreeMap<Fault, u64>,
}

impl Faults {
    /// None yet; the first one comes after `from_ns`.
    #[must_use]
    pub fn new(seed: u64, temper: Temper, from_ns: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            temper,
            next_ns: from_ns,
            remedies: BTreeMap::new(),
            made: 0,
            voters_changed: trace::voters_changed(),
            split_at_ns: None,
            counts: BTreeMap::new(),
        }
    }

    /// What is due now.
    pub fn step(&mut self, world: &mut World) {
        let now_ns = world.now_ns();
        while let Some(entry) = self.remedies.first_entry().filter(|entry| entry.key().0 <= now_ns) {
            apply(entry.remove(), world);
        }
        self.strike_at_changes(world);
        if now_ns < self.next_ns {
            return;
        }
        let fault = match self.temper {
            Temper::Rough => self.rng.pick(&ROUGH),
            Temper::Gentle => self.rng.pick(&GENTLE),
        };
        let index = usize::try_from(self.rng.below(world.machines.len() as u64)).unwrap_or(0);
        if let Some(fault) = fault {
            *self.counts.entry(fault).or_default() += 1;
            self.begin(fault, index, world);
        }
        let pause_ms = match self.temper {
            Temper::Rough => self.rng.between(100, 2_000),
            // The one before must be over, and the agent back in its office.
            Temper::Gentle => self.rng.between(5_000, 7_000),
        };
        self.next_ns = now_ns + pause_ms * MS;
    }

    /// A leader begins to change the voters: some milliseconds later the hosts are split, for longer than a lease.
    fn strike_at_changes(&mut self, world: &World) {
        let changed = trace::voters_changed();
        if changed > self.voters_changed && self.temper == Temper::Rough {
            self.split_at_ns = Some(world.now_ns() + self.rng.between(MS, 12 * MS));
        }
        self.voters_changed = changed;
        if self.split_at_ns.is_some_and(|at_ns| world.now_ns() >= at_ns) {
            self.split_at_ns = None;
            *self.counts.entry(Fault::SplitAtChange).or_default() += 1;
            self.cut(Fault::SplitAtChange, 0, world);
        }
    }

    /// No more faults: everything is set right at once.
    pub fn heal(&mut self, world: &mut World) {
        trace::line("everything is healed");
        for remedy in std::mem::take(&mut self.remedies).into_values() {
            apply(remedy, world);
        }
        apply(Remedy::FairWeather, world);
        for index in 0..world.machines.len() {
            apply(Remedy::GoodDisk(index), world);
            world.power_on(index);
        }
    }

    fn later(&mut self, world: &World, least_ns: u64, most_ns: u64, remedy: Remedy) {
        self.made += 1;
        let at_ns = world.now_ns() + self.rng.between(least_ns, most_ns);
        self.remedies.insert((at_ns, self.made), remedy);
    }

    fn begin(&mut self, fault: Fault, index: usize, world: &mut World) {
        let now_ns = world.now_ns();
        let held_ns = now_ns + self.rng.between(20 * MS, 3 * SECOND);
        trace::line(&format!("FAULT {fault:?} {}", world.machines[index].place.name));
        let machine = &mut world.machines[index];
        match fault {
            Fault::AgentKilled => world.kill_agent(index, self.rng.between(50 * MS, 3 * SECOND)),
            Fault::AgentStopped => machine.stop.cancel(),
            Fault::AgentHeld => machine.agent.iter_mut().for_each(|agent| agent.stop_until(held_ns)),
            Fault::GuardHeld => machine.guard.iter_mut().for_each(|guard| guard.stop_until(held_ns)),
            Fault::HostHeld => {
                let both = machine.guard.iter_mut().chain(machine.agent.iter_mut());
                both.for_each(|process| process.stop_until(held_ns));
            }
            Fault::GuardKilled => world.kill_guard(index, self.rng.between(10 * MS, SECOND)),
            Fault::PowerLost => {
                world.power_off(index);
                self.later(world, 500 * MS, 8 * SECOND, Remedy::PowerOn(index));
            }
            Fault::CutOff | Fault::OneWay | Fault::PairCut | Fault::Split | Fault::SplitAtChange => {
                self.cut(fault, index, world)
            }
            Fault::BadWeather => {
                world.network.set_weather(Weather {
                    loss_percent: self.rng.between(1, 25),
                    twice_percent: self.rng.below(20),
                    latency_ns: self.rng.between(MS / 5, 30 * MS),
                    jitter_ns: self.rng.between(MS, 60 * MS),
                });
                self.later(world, SECOND, 6 * SECOND, Remedy::FairWeather);
            }
            Fault::SlowDisk => {
                machine.disk.set_manners(Manners::SLOW);
                self.later(world, SECOND, 8 * SECOND, Remedy::GoodDisk(index));
            }
            Fault::BrokenDisk => {
                machine.disk.set_manners(Manners::BROKEN);
                self.later(world, 100 * MS, 3 * SECOND, Remedy::GoodDisk(index));
            }
            Fault::TaskFails => machine.tasks.fail_one(now_ns),
        }
    }

    fn cut(&mut self, fault: Fault, index: usize, world: &World) {
        let count = world.machines.len();
        let others: Vec<usize> = (0..count).filter(|other| *other != index).collect();
        let both = |a: usize, b: usize| [(a, b), (b, a)];
        let ways: Vec<(usize, usize)> = match fault {
            Fault::OneWay => {
                let outward = self.rng.percent(50);
                others.iter().map(|other| if outward { (index, *other) } else { (*other, index) }).collect()
            }
            Fault::PairCut => {
                self.rng.pick(&others).into_iter().flat_map(|other| both(index, other)).collect()
            }
            Fault::Split | Fault::SplitAtChange => {
                let left: Vec<usize> = (0..count).filter(|_| self.rng.percent(50)).collect();
                let is_left = |host: &usize| left.contains(host);
                let right: Vec<usize> = (0..count).filter(|host| !is_left(host)).collect();
                left.iter().flat_map(|a| right.iter().flat_map(move |b| both(*a, *b))).collect()
            }
            _ => others.iter().flat_map(|other| both(index, *other)).collect(),
        };
        for (from, to) in &ways {
            world.network.cut(world.machines[*from].place.ip(), world.machines[*to].place.ip());
        }
        self.later(world, 200 * MS, 6 * SECOND, Remedy::Mend(ways));
    }
}

fn apply(remedy: Remedy, world: &mut World) {
    match remedy {
        Remedy::PowerOn(index) => world.power_on(index),
        Remedy::Mend(ways) => {
            for (from, to) in ways {
                let ip = |index: usize| world.machines[index].place.ip();
                world.network.mend(ip(from), ip(to));
            }
        }
        Remedy::FairWeather => world.network.set_weather(Weather::FAIR),
        Remedy::GoodDisk(index) => world.machines[index].disk.set_manners(Manners::GOOD),
    }
}
