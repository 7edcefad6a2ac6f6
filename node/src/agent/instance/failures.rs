//! How often an instance failed here under one placement, and when it may be tried again.

use std::collections::VecDeque;
use std::time::Duration;

use muster_core::spec::RestartPolicy;
use tokio::time::Instant;

/// The failures of one placement.
#[derive(Clone, Debug, Default)]
pub(super) struct Failures {
    restarts: u32,
    recent: VecDeque<Instant>,
    message: Option<String>,
    not_before: Option<Instant>,
    is_waiting: bool,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Restart,
    GiveUp,
}

impl Failures {
    /// Goes on counting where the agent before stopped.
    pub fn with_restarts(restarts: u32) -> Self {
        Self { restarts, ..Self::default() }
    }

    /// Counts a failure. The first restart is immediate, further ones wait longer and longer.
    pub fn count(&mut self, now: Instant, message: String, policy: &RestartPolicy) -> Verdict {
        self.recent.retain(|at| now.duration_since(*at) < policy.window);
        self.recent.push_back(now);
        self.message = Some(message);
        let within_window = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        if within_window > policy.attempts {
            return Verdict::GiveUp;
        }
        self.restarts = self.restarts.saturating_add(1);
        let pause = match within_window {
            0 | 1 => Duration::ZERO,
            n => {
                policy.backoff_min.saturating_mul(1_u32.checked_shl(n - 2).unwrap_or(u32::MAX)).min(policy.backoff_max)
            }
        };
        self.is_waiting = !pause.is_zero();
        self.not_before = now.checked_add(pause);
        Verdict::Restart
    }

    /// When the next start may be, if that lies ahead.
    pub fn wait_until(&mut self, now: Instant) -> Option<Instant> {
        let until = self.not_before.filter(|at| *at > now);
        self.is_waiting = until.is_some();
        until
    }

    /// Whether a restart is being put off.
    pub fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Restarts so far.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// The last failure, in words.
    pub fn message(&self) -> Option<String> {
        self.message.clone()
    }
}
