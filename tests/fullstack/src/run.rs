//! One run: a cluster is made, everything goes wrong, everything is healed, and the promises are judged.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::faults::{Fault, Faults, Temper};
use crate::invariants::Violation;
use crate::invariants::history::History;
use crate::mutant::Mutant;
use crate::operators::{self, Agreement};
use crate::trace;
use crate::world::World;

const SECOND: u64 = 1_000_000_000;
/// How long the making of the cluster may take.
const MAKING_LIMIT_NS: u64 = 20 * SECOND;
/// When everything is healed.
const HEALED_AT_NS: u64 = 45 * SECOND;
/// Promise 7: how long everything may take to run again after that.
const PLACED_WITHIN_NS: u64 = 5 * SECOND;
/// How long a run may last until everything is read out and equal.
const END_LIMIT_NS: u64 = 90 * SECOND;
/// The least time of a run.
const LENGTH_NS: u64 = 60 * SECOND;

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// What is broken on purpose.
    pub mutant: Option<Mutant>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Broken promises.
    pub violations: Vec<Violation>,
    /// Faults of each kind.
    pub faults: BTreeMap<Fault, u64>,
    /// Acknowledged writes.
    pub writes: u64,
    /// Answered reads.
    pub reads: u64,
    /// Tasks that were started.
    pub starts: u64,
    /// Messages that arrived.
    pub messages: u64,
    /// How long it was, in nanoseconds of the world.
    pub length_ns: u64,
    /// How long after the healing everything ran, in nanoseconds.
    pub placed_after_ns: Option<u64>,
    /// Lines of the trace, the sum over them, and the sum over all messages.
    pub digest: (u64, u64, u64),
}

impl Plan {
    fn hosts(self) -> u8 {
        3 + u8::try_from(self.seed % 3).unwrap_or(0)
    }

    /// One run in five is gentle.
    fn temper(self) -> Temper {
        if self.seed.is_multiple_of(5) && self.mutant.is_none() { Temper::Gentle } else { Temper::Rough }
    }

    /// Runs it; once in a process.
    ///
    /// # Errors
    /// When the run could not begin.
    pub fn run(self, root: &Path) -> Result<Outcome, String> {
        let mut world = World::new(self.seed, self.hosts(), root, self.mutant)?;
        let history = History::default();
        let agreement = Agreement::default();
        let temper = self.temper();
        world.start_operators(operators::Setting {
            network: world.network.clone(),
            agents: world.machines.iter().map(|m| m.place.agent().to_string()).collect(),
            names: world.machines.iter().map(|m| m.place.name.clone()).collect(),
            cluster: world.cluster()?,
            seed: self.seed,
            history: history.clone(),
            checker: world.checker.clone(),
            moves: temper == Temper::Rough,
            mutant: self.mutant,
            agreement: agreement.clone(),
        });
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        while !is(&agreement.declared) && world.now_ns() < MAKING_LIMIT_NS {
            world.step();
        }
        let settled_ns = world.now_ns() + 2 * SECOND;
        while world.now_ns() < settled_ns {
            world.step();
        }
        world.checker.expect_calm(temper == Temper::Gentle);
        let mut faults = Faults::new(self.seed, temper, world.now_ns());
        while world.now_ns() < HEALED_AT_NS {
            faults.step(&mut world);
            world.step();
        }
        faults.heal(&mut world);
        world.checker.expect_calm(false);
        agreement.peace.store(true, Ordering::Relaxed);
        let placed_after_ns = judge_peace(&mut world, &agreement);
        for ((service, key), operations) in history.broken() {
            let what = format!("{service} {key}: {}", told(&operations));
            world.checker.report("5 linearizable, 6 nothing lost", world.now_ns(), what);
        }
        let (writes, reads) = history.counts();
        let (lines, sum) = trace::digest();
        Ok(Outcome {
            violations: world.checker.violations(),
            faults: faults.counts,
            writes,
            reads,
            starts: world.checker.starts(),
            messages: world.network.delivered(),
            length_ns: world.now_ns(),
            placed_after_ns,
            digest: (lines, sum, world.network.digest()),
        })
    }
}

/// From the healing to the end.
fn judge_peace(world: &mut World, agreement: &Agreement) -> Option<u64> {
    let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
    let healed_ns = world.now_ns();
    let mut placed_after_ns = None;
    while world.now_ns() < END_LIMIT_NS {
        world.step();
        let since_ns = world.now_ns() - healed_ns;
        if placed_after_ns.is_none() && is(&agreement.placed) {
            placed_after_ns = Some(since_ns);
            trace::line("everything runs again");
        }
        if since_ns == PLACED_WITHIN_NS && placed_after_ns.is_none() {
            let what = "not every service runs again in time".to_owned();
            world.checker.report("7 placed in time", world.now_ns(), what);
        }
        if since_ns == 2 * PLACED_WITHIN_NS {
            agreement.end.store(true, Ordering::Relaxed);
        }
        let over = is(&agreement.read_out) && is(&agreement.equal) && placed_after_ns.is_some();
        if over && world.now_ns() >= LENGTH_NS {
            return placed_after_ns;
        }
    }
    let what = format!(
        "read out: {}, replicas equal: {}, placed: {}",
        is(&agreement.read_out),
        is(&agreement.equal),
        placed_after_ns.is_some()
    );
    world.checker.report("the cluster comes to rest", world.now_ns(), what);
    placed_after_ns
}

fn told(operations: &[crate::invariants::history::Operation]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for operation in operations {
        let ms = |ns: u64| ns / 1_000_000;
        let answered = operation.answered_ns.map_or_else(|| "?".to_owned(), |ns| ms(ns).to_string());
        write!(text, "\n    {}..{answered} {:?}", ms(operation.called_ns), operation.deed)
            .expect("a String takes everything");
    }
    text
}
