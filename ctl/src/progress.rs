//! What a waiting command shows: one changing line on stderr, and only on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the line is redrawn.
const TICK: Duration = Duration::from_millis(100);
/// Longer lists are summed up.
const SHOWN: usize = 3;

/// The changing line.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Draws only if `visible`.
    pub fn new(visible: bool) -> Self {
        if !visible {
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self { bar }
    }

    /// Shows what is still missing.
    pub fn show(&self, waiting_for: &[String]) {
        let mut text = waiting_for.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
        if waiting_for.len() > SHOWN {
            text.push_str(&format!("; and {} more", waiting_for.len() - SHOWN));
        }
        self.bar.set_message(format!("waiting for {text}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
