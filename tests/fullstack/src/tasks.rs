//! What a simulated host's kernel does for its guard: it runs tasks, ends them, and kills those that are bound to the
//! lease when the guard's timer is due, whether or not the guard gets the processor.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_core::id::{Generation, SessionId, SlotId, TaskName};
use muster_core::lease::Tenure;
use muster_core::time::HostInstant;
use muster_guard::protocol::{Binding, ExitHow};
use tokio::sync::Notify;

use crate::invariants::Checker;
use crate::kernel::Clocks;
use crate::trace;

const MS: u64 = 1_000_000;
/// How soon the kernel kills.
const KILLED_WITHIN_NS: u64 = 2 * MS;
const SIGKILL: i32 = 9;

/// A task that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its slot.
    pub slot: SlotId,
    /// Its name.
    pub task: TaskName,
    /// Its placement.
    pub generation: Generation,
    /// The session under which it was started.
    pub session: SessionId,
    /// How it hangs on the lease.
    pub binding: Binding,
    /// Whether the end of the lease ends it.
    pub ends_with_lease: bool,
    /// When it ends and how, if that is settled.
    pub ending: Option<(u64, ExitHow)>,
}

/// A task that ended and whose guard has not looked yet.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its number.
    pub number: u64,
    /// How.
    pub how: ExitHow,
}

/// What a guard leaves behind for its successor on the same boot of the kernel.
#[derive(Clone, Debug)]
pub struct Note {
    /// The session.
    pub tenure: Tenure,
    /// Its `Fenced`, sealed with the session's key.
    pub fenced: Vec<u8>,
    /// To whom.
    pub targets: Vec<SocketAddr>,
}

#[derive(Default)]
struct Table {
    made: u64,
    running: BTreeMap<u64, Running>,
    ended: VecDeque<Ended>,
    timer_boottime_ns: Option<u64>,
    deadline: Option<HostInstant>,
    shim_dead: bool,
    note: Option<Note>,
}

/// The tasks of one host; cheap to clone.
#[derive(Clone)]
pub struct Tasks {
    host: Arc<str>,
    table: Arc<Mutex<Table>>,
    changed: Arc<Notify>,
    checker: Checker,
}

impl Tasks {
    /// None yet.
    #[must_use]
    pub fn new(host: &str, checker: Checker) -> Self {
        Self { host: host.into(), table: Arc::default(), changed: Arc::default(), checker }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- asked by the guard -------------------------------------------------------------------------------

    /// Starts one; its number.
    pub fn start(&self, world_ns: u64, task: Running) -> u64 {
        let mut table = self.lock();
        table.made += 1;
        let number = table.made;
        self.checker.started(world_ns, &self.host, &task);
        table.running.insert(number, task);
        number
    }

    /// What runs, by number.
    #[must_use]
    pub fn running(&self) -> BTreeMap<u64, Running> {
        self.lock().running.clone()
    }

    /// Ends one after a while.
    pub fn end(&self, number: u64, at_ns: u64, how: ExitHow) {
        if let Some(task) = self.lock().running.get_mut(&number) {
            let sooner = task.ending.is_none_or(|(known_ns, _)| at_ns < known_ns);
            if sooner {
                task.ending = Some((at_ns, how));
            }
        }
    }

    /// Kills everything that ends with the lease.
    pub fn kill_bound(&self, world_ns: u64) {
        let mut table = self.lock();
        kill(&mut table, world_ns, |task| task.ends_with_lease);
    }

    /// What ended since the last call.
    #[must_use]
    pub fn ended(&self) -> Vec<Ended> {
        self.lock().ended.drain(..).collect()
    }

    /// Sets the timer of what is bound to the lease; absolute, on `CLOCK_BOOTTIME`.
    pub fn arm(&self, boottime_ns: u64, deadline: Option<HostInstant>) {
        let mut table = self.lock();
        table.timer_boottime_ns = Some(boottime_ns);
        table.deadline = deadline;
    }

    /// Whether the timer has fired since it was last disarmed.
    #[must_use]
    pub fn timer_fired(&self) -> bool {
        self.lock().shim_dead
    }

    /// Nothing is bound any more.
    pub fn disarm(&self) {
        let mut table = self.lock();
        (table.timer_boottime_ns, table.deadline, table.shim_dead) = (None, None, false);
    }

    /// Keeps a note for a successor, or takes it away.
    pub fn set_note(&self, note: Option<Note>) {
        self.lock().note = note;
    }

    /// The predecessor's note.
    #[must_use]
    pub fn note(&self) -> Option<Note> {
        self.lock().note.clone()
    }

    /// Told whenever something ended or the timer fired.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    // ---- done by the world --------------------------------------------------------------------------------

    /// Time has come to `world_ns`.
    pub fn advance(&self, world_ns: u64, clocks: Clocks) {
        let mut table = self.lock();
        if table.timer_boottime_ns.is_some_and(|at_ns| clocks.boottime_ns >= at_ns) {
            table.timer_boottime_ns = None;
            table.shim_dead = true;
            trace::line(&format!("{}: the kernel's timer fires", self.host));
            kill(&mut table, world_ns, |task| task.ends_with_lease);
            self.changed.notify_one();
        }
        let over: Vec<(u64, ExitHow)> = table
            .running
            .iter()
            .filter_map(|(number, task)| {
                task.ending.filter(|(at_ns, _)| *at_ns <= world_ns).map(|(_, how)| (*number, how))
            })
            .collect();
        for (number, how) in over {
            let Some(task) = table.running.remove(&number) else { continue };
            self.checker.ended(world_ns, &self.host, &task, how);
            table.ended.push_back(Ended { number, how });
            self.changed.notify_one();
        }
        let late = table.deadline.is_some_and(|deadline| {
            clocks.boottime_ns >= deadline.boottime_ns || clocks.raw_ns >= deadline.raw_ns
        });
        if late {
            for task in table.running.values().filter(|task| task.binding == Binding::Exclusive) {
                self.checker.outlived(world_ns, &self.host, task);
            }
        }
    }

    /// A task fails by itself: the lowest number that runs.
    pub fn fail_one(&self, world_ns: u64) {
        let mut table = self.lock();
        if let Some(task) = table.running.values_mut().find(|task| task.ending.is_none()) {
            trace::line(&format!("{}: {} fails", self.host, task.slot));
            task.ending = Some((world_ns, ExitHow::Code(1)));
        }
    }

    /// The guard's process has died: its tasks die with it.
    pub fn guard_died(&self, world_ns: u64) {
        let mut table = self.lock();
        kill(&mut table, world_ns, |_| true);
        table.timer_boottime_ns = None;
        table.shim_dead = false;
    }

    /// The power fails.
    pub fn power_off(&self, world_ns: u64) {
        let mut table = self.lock();
        for (_, task) in std::mem::take(&mut table.running) {
            self.checker.ended(world_ns, &self.host, &task, ExitHow::Signal(SIGKILL));
        }
        *table = Table { made: table.made, ..Table::default() };
    }
}

fn kill(table: &mut Table, world_ns: u64, which: impl Fn(&Running) -> bool) {
    let at_ns = world_ns + KILLED_WITHIN_NS;
    for task in table.running.values_mut().filter(|task| which(task)) {
        if task.ending.is_none_or(|(known_ns, _)| at_ns < known_ns) {
            task.ending = Some((at_ns, ExitHow::Signal(SIGKILL)));
        }
    }
}
