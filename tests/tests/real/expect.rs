//! What a command must say and how it must end.

use muster_tests::harness::HarnessError;
use muster_tests::harness::tool::Finished;

use crate::stage::Played;

/// Fails unless the command ended with this status and said all of this, whatever the case of letters.
pub fn says(finished: &Finished, status: i32, words: &[&str]) -> Played {
    let text = finished.text();
    said(&finished.command, finished.status, &text, status, words)
}

/// The same for a program that ran on its own.
pub fn said(command: &str, actual: i32, text: &str, status: i32, words: &[&str]) -> Played {
    let lower = text.to_lowercase();
    let missing: Vec<_> = words.iter().filter(|word| !lower.contains(&word.to_lowercase())).collect();
    if actual == status && missing.is_empty() {
        return Ok(());
    }
    Err(HarnessError::broken(format!(
        "{command}\n  ended with {actual} (expected {status}), and does not say {missing:?}:\n{}",
        text.trim()
    )))
}
