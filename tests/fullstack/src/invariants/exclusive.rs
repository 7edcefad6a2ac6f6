//! Promise 1: an exclusive service never runs on two hosts at once.

use std::collections::BTreeMap;

use muster_core::id::SlotId;
use muster_guard::protocol::Binding;

use crate::tasks::Running;

/// The copies of each exclusive slot that run now.
#[derive(Debug, Default)]
pub(super) struct Copies(BTreeMap<SlotId, Vec<String>>);

impl Copies {
    pub(super) fn started(&mut self, host: &str, task: &Running) -> Option<(&'static str, String)> {
        if task.binding != Binding::Exclusive {
            return None;
        }
        let copies = self.0.entry(task.slot.clone()).or_default();
        let other = copies.first().cloned();
        copies.push(host.to_owned());
        other.map(|other| ("1 never two", format!("{} runs on {other} and on {host}", task.slot)))
    }

    pub(super) fn ended(&mut self, host: &str, task: &Running) {
        if let Some(copies) = self.0.get_mut(&task.slot)
            && let Some(at) = copies.iter().position(|copy| copy == host)
        {
            copies.remove(at);
        }
    }
}
