//! Promise 8: with no fault on its host, no service is stopped. In a run whose faults hit only agents, and no two
//! voters at once, no task may end.

use muster_guard::protocol::ExitHow;

use crate::tasks::Running;

/// Whether a reason for an end could exist.
#[derive(Debug, Default)]
pub(super) struct Calm {
    expected: bool,
}

impl Calm {
    pub(super) fn expect(&mut self, calm: bool) {
        self.expected = calm;
    }

    pub(super) fn ended(&self, host: &str, task: &Running, how: ExitHow) -> Option<String> {
        self.expected.then(|| format!("{} was ended on {host} ({how:?})", task.slot))
    }
}
