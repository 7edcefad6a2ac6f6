//! How late this machine wakes who sleeps: a bound in time that a busy machine broke is no fault of Muster's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::wait::{self, Moment};

/// Less than this is not kept.
const NOTICED: Duration = Duration::from_millis(10);

/// Beats all the time: in an ordinary thread, as services and agents run, and on each processor in a thread with the
/// guards' priority, because on a virtual machine one processor may stand still while the others go on.
#[derive(Debug)]
pub struct Metronome {
    beats: Vec<Beat>,
    stop: Arc<AtomicBool>,
}

/// One thread, and when it was late by how much.
#[derive(Debug)]
struct Beat {
    stalls: Arc<Mutex<Vec<(Moment, Duration)>>>,
    thread: Option<JoinHandle<()>>,
}

impl Metronome {
    /// Starts beating.
    #[must_use]
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let own = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        let processors = (0..CpuSet::count()).filter(|processor| own.is_set(*processor).unwrap_or(false));
        let everywhere = Beat::start(Duration::from_millis(2), &stop, || {});
        let on_each = processors
            .map(|processor| Beat::start(Duration::from_millis(5), &stop, move || stay_on(processor)));
        Self { beats: std::iter::once(everywhere).chain(on_each).collect(), stop }
    }

    /// The time by which beats between two moments were late, all together, of the thread that was late most.
    #[must_use]
    pub fn late(&self, from: Moment, to: Moment) -> Duration {
        self.beats.iter().map(|beat| beat.late(from, to)).max().unwrap_or_default()
    }
}

impl Beat {
    fn start(every: Duration, stop: &Arc<AtomicBool>, begin: impl FnOnce() + Send + 'static) -> Self {
        let stalls = Arc::new(Mutex::new(Vec::new()));
        let (kept, stopped) = (Arc::clone(&stalls), Arc::clone(stop));
        let thread = std::thread::spawn(move || {
            begin();
            while !stopped.load(Ordering::Relaxed) {
                let before = Moment::now();
                wait::pass(every);
                let late = before.elapsed().saturating_sub(every);
                if late > NOTICED {
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push((before, late));
                }
            }
        });
        Self { stalls, thread: Some(thread) }
    }

    fn late(&self, from: Moment, to: Moment) -> Duration {
        let stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        stalls.iter().filter(|(at, _)| *at >= from && *at <= to).map(|(_, late)| *late).sum()
    }
}

fn stay_on(processor: usize) {
    let mut only = CpuSet::new();
    let set = only.set(processor).and_then(|()| sched_setaffinity(Pid::from_raw(0), &only));
    if let Err(error) = set {
        eprintln!("the metronome of processor {processor} beats anywhere: {error}");
    }
    // Where it may not be raised, it is late more often, and forgives more.
    muster_guard::priority::raise_this_thread();
}

impl Drop for Metronome {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for beat in &mut self.beats {
            if beat.thread.take().is_some_and(|thread| thread.join().is_err()) {
                eprintln!("the metronome panicked");
            }
        }
    }
}
