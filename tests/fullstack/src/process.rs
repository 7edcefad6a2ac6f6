//! A process of a simulated host: a runtime of its own, whose time passes only when the world lets it.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Why a process ended by itself; nothing: it had come to its end in order.
pub type Exit = Result<(), String>;

/// A process that runs.
pub struct Process {
    runtime: Runtime,
    main: JoinHandle<Exit>,
    /// The runtime's time when it began.
    began: Instant,
    /// The host's monotonic clock then, in nanoseconds.
    began_ns: u64,
    /// Until when, on the world's clock, it gets no processor.
    stopped_until_ns: Option<u64>,
}

impl Process {
    /// Begins with this future.
    ///
    /// # Panics
    /// When the system has no room for another runtime.
    #[must_use]
    pub fn start(now_ns: u64, main: impl Future<Output = Exit> + Send + 'static) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without input and output needs nothing of the system");
        let began = runtime.block_on(async { Instant::now() });
        let main = runtime.spawn(main);
        Self { runtime, main, began, began_ns: now_ns, stopped_until_ns: None }
    }

    /// Gives it no processor for a while.
    pub fn stop_until(&mut self, until_ns: u64) {
        self.stopped_until_ns = Some(self.stopped_until_ns.unwrap_or(0).max(until_ns));
    }

    /// Whether it gets no processor.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped_until_ns.is_some()
    }

    /// Runs it until the host's monotonic clock shows `until_ns`. Says how it ended, if it did.
    pub fn run(&mut self, world_ns: u64, until_ns: u64) -> Option<Exit> {
        let target = self.began + Duration::from_nanos(until_ns.saturating_sub(self.began_ns));
        if let Some(stopped_until_ns) = self.stopped_until_ns {
            if world_ns < stopped_until_ns {
                return None;
            }
            self.stopped_until_ns = None;
            // Everything that became due meanwhile is due at once, and late.
            self.runtime.block_on(async {
                let gap = target.saturating_duration_since(Instant::now());
                tokio::time::advance(gap).await;
            });
        }
        self.runtime.block_on(async { tokio::time::sleep_until(target).await });
        if !self.main.is_finished() {
            return None;
        }
        let ended = self.runtime.block_on(&mut self.main);
        Some(ended.unwrap_or_else(|panic| Err(format!("panicked: {panic}"))))
    }
}
