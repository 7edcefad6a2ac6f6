//! How late this machine wakes who sleeps: a bound in time that a busy machine broke is no fault of Muster's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::wait::{self, Moment};

/// Between two beats.
const BEAT: Duration = Duration::from_millis(2);
/// Less than this is not kept.
const NOTICED: Duration = Duration::from_millis(10);

/// Beats all the time in an ordinary thread.
#[derive(Debug)]
pub struct Metronome {
    stalls: Arc<Mutex<Vec<(Moment, Duration)>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Metronome {
    /// Starts beating.
    #[must_use]
    pub fn start() -> Self {
        let (stalls, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (kept, stopped) = (Arc::clone(&stalls), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let before = Moment::now();
                wait::pass(BEAT);
                let late = before.elapsed().saturating_sub(BEAT);
                if late > NOTICED {
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push((before, late));
                }
            }
        });
        Self { stalls, stop, thread: Some(thread) }
    }

    /// The time by which beats between two moments were late, all together.
    #[must_use]
    pub fn late(&self, from: Moment, to: Moment) -> Duration {
        let stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        stalls.iter().filter(|(at, _)| *at >= from && *at <= to).map(|(_, late)| *late).sum()
    }
}

impl Drop for Metronome {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("the metronome panicked");
        }
    }
}
