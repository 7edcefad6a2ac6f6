//! Concurrent clients of the operator's API, each by way of any agent, all the time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use muster_proto::v1;

use super::operation::{Call, Operation, Value};
use super::recorder::{Judged, Recorder};
use super::registers::{ANNOTATIONS, Answer, Registers, Sight};
use crate::harness::wait::{self, Moment};
use crate::harness::{Api, HarnessError};
use crate::sim::rng::Rng;

/// How many there are: enough that calls overlap, few enough for two processors.
const CLIENTS: usize = 4;
/// Between two calls of a client, at most.
const PAUSE_MS: u64 = 120;
/// How long a write is tried again under its request id before its outcome counts as unknown.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// Between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How long the last look at the registers is tried; the cluster is whole then.
const LAST_LOOK_LIMIT: Duration = Duration::from_secs(10);

/// The clients and what they have recorded.
#[derive(Debug)]
pub struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    api: Api,
    recorder: Recorder,
    /// Held for reading during a call, so that a generation ends between calls.
    registers: RwLock<(u64, Registers)>,
    values: AtomicU64,
    surprises: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Clients {
    /// Makes the first registers and starts calling.
    ///
    /// # Errors
    /// When the registers can't be made.
    pub fn start(api: Api, seed: u64) -> Result<Self, HarnessError> {
        let registers = Registers::new(0);
        registers.create(&api)?;
        let shared = Arc::new(Shared {
            api,
            recorder: Recorder::default(),
            registers: RwLock::new((0, registers)),
            values: AtomicU64::new(1),
            surprises: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let threads = (0..CLIENTS).map(|number| {
            let (shared, rng) = (Arc::clone(&shared), Rng::new(seed.wrapping_add(number as u64)));
            std::thread::spawn(move || Client { number, shared, rng, id: 0, seq: 0, seen: None }.run())
        });
        let threads = threads.collect();
        Ok(Self { shared, threads })
    }

    /// Ends a generation of registers: looks at them for the last time, judges what was done with them, and makes
    /// new ones. The cluster must be able to answer.
    ///
    /// # Errors
    /// When it can't.
    pub fn turn(&self) -> Result<Judged, HarnessError> {
        let Shared { api, recorder, registers, .. } = &*self.shared;
        let mut current = registers.write().unwrap_or_else(PoisonError::into_inner);
        let (generation, old) = current.clone();
        let (invoked, sight) = wait::until(LAST_LOOK_LIMIT, "a last look at the registers", || {
            let invoked = Moment::now();
            let looks = (0..api.agents()).find_map(|agent| old.read(api, agent));
            looks.map(|sight| (invoked, sight)).ok_or_else(|| "no agent answers".to_owned())
        })?;
        self.shared.record_sight(&old, CLIENTS, invoked, &sight);
        let new = Registers::new(generation + 1);
        new.create(api)?;
        *current = (generation + 1, new);
        drop(current);
        old.remove(api)?;
        let mut judged = recorder.judge(|register| old.holds(register));
        judged.violations.append(&mut self.shared.surprises.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(judged)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("a client of the API panicked");
            }
        }
    }
}

impl Shared {
    fn record_sight(&self, registers: &Registers, client: usize, invoked: Moment, sight: &Sight) {
        let returned = Some(Moment::now());
        let read = |value| Operation { client, call: Call::Read(value), invoked, returned };
        for (number, value) in sight.annotations.iter().enumerate() {
            self.recorder.record(&registers.annotation(number), read(*value));
        }
        self.recorder.record(&registers.declaration(), read(sight.declaration));
    }
}

struct Client {
    number: usize,
    shared: Arc<Shared>,
    rng: Rng,
    /// Its number in request ids; a new one after each write of unknown outcome.
    id: u64,
    seq: u64,
    /// The last declaration that it saw: generation, value, revision.
    seen: Option<(u64, Value, u64)>,
}

impl Client {
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let shared = Arc::clone(&self.shared);
            let current = shared.registers.read().unwrap_or_else(PoisonError::into_inner);
            match self.rng.below(10) {
                0..4 => self.read(&current),
                4..8 => self.write(&current.1),
                _ => self.declare(&current),
            }
            drop(current);
            wait::pass(Duration::from_millis(self.rng.below(PAUSE_MS)));
        }
    }

    fn agent(&mut self) -> usize {
        let agents = u64::try_from(self.shared.api.agents()).unwrap_or(1);
        usize::try_from(self.rng.below(agents)).unwrap_or(0)
    }

    fn read(&mut self, (generation, registers): &(u64, Registers)) {
        let (agent, invoked) = (self.agent(), Moment::now());
        if let Some(sight) = registers.read(&self.shared.api, agent) {
            self.shared.record_sight(registers, self.number, invoked, &sight);
            self.seen = Some((*generation, sight.declaration, sight.revision));
        }
    }

    fn write(&mut self, registers: &Registers) {
        let number = usize::try_from(self.rng.below(ANNOTATIONS as u64)).unwrap_or(0);
        let value = self.new_value();
        let invoked = Moment::now();
        let answer =
            self.until_known(|shared, agent, id| registers.write(&shared.api, agent, number, value, id));
        self.record(&registers.annotation(number), invoked, Call::Write(value), answer);
    }

    /// Replaces the declaration that it saw last, or any.
    fn declare(&mut self, (generation, registers): &(u64, Registers)) {
        let new = self.new_value();
        let seen = self.seen.filter(|(of, _, _)| of == generation).filter(|_| self.rng.percent(80));
        let revision = seen.map(|(_, _, revision)| revision);
        let invoked = Moment::now();
        let answer =
            self.until_known(|shared, agent, id| registers.declare(&shared.api, agent, new, revision, id));
        let call = match seen {
            Some((_, expected, _)) => {
                Call::CompareAndSet { expected, new, succeeded: answer == Answer::Done }
            }
            None => Call::Write(new),
        };
        self.record(&registers.declaration(), invoked, call, answer);
    }

    fn new_value(&self) -> Value {
        Value(self.shared.values.fetch_add(1, Ordering::Relaxed))
    }

    /// Tries a write until its outcome is known: with a request id at one agent after the other, so that it must
    /// take effect once; without one at one agent only.
    fn until_known(&mut self, write: impl Fn(&Shared, usize, Option<v1::RequestId>) -> Answer) -> Answer {
        let shared = Arc::clone(&self.shared);
        if self.rng.percent(30) {
            let agent = self.agent();
            return write(&shared, agent, None);
        }
        if self.id == 0 {
            self.id = self.rng.number().max(1);
        }
        self.seq += 1;
        let id = v1::RequestId { client: self.id, seq: self.seq };
        let begun = Moment::now();
        loop {
            let agent = self.agent();
            let answer = write(&shared, agent, Some(id));
            if answer != Answer::Unknown {
                return answer;
            }
            if begun.elapsed() > GIVE_UP_AFTER || shared.stop.load(Ordering::Relaxed) {
                self.id = 0;
                return answer;
            }
            wait::pass(RETRY_PAUSE);
        }
    }

    fn record(&self, register: &str, invoked: Moment, call: Call, answer: Answer) {
        let returned = match answer {
            Answer::Done | Answer::Mismatch => Some(Moment::now()),
            Answer::Unknown => None,
            Answer::Surprise(why) => {
                let mut surprises = self.shared.surprises.lock().unwrap_or_else(PoisonError::into_inner);
                surprises.push(format!("{register}: client {} was refused: {why}", self.number));
                None
            }
        };
        self.shared.recorder.record(register, Operation { client: self.number, call, invoked, returned });
    }
}
