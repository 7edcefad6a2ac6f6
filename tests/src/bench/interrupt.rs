//! Ctrl-C: the run at hand is ended in order, so that every process and namespace it made is removed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::harness::HarnessError;

/// Whether somebody wants the benchmark to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Watches for SIGINT, SIGTERM and SIGHUP from now on.
    ///
    /// # Errors
    /// When the handlers can't be installed.
    pub fn watch() -> Result<Self, HarnessError> {
        let interrupt = Self::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(HarnessError::io("starting a runtime"))?;
        let inside = runtime.enter();
        let mut streams = Vec::new();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            streams.push(signal(kind).map_err(HarnessError::io("watching for signals"))?);
        }
        drop(inside);
        let told = interrupt.clone();
        std::thread::spawn(move || {
            runtime.block_on(async {
                futures::future::select_all(streams.iter_mut().map(|s| Box::pin(s.recv()))).await;
            });
            eprintln!("interrupted: ending what was started");
            told.0.store(true, Ordering::Relaxed);
        });
        Ok(interrupt)
    }

    /// Fails once the signal has come.
    ///
    /// # Errors
    /// Then.
    pub fn check(&self) -> Result<(), HarnessError> {
        if self.is_set() { Err(HarnessError::broken("interrupted")) } else { Ok(()) }
    }

    /// Whether the signal has come.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
