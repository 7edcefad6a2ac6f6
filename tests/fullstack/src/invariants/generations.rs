//! Promise 4: the generations of an exclusive slot only grow, and one is never seen on two hosts.

use std::collections::BTreeMap;

use muster_core::id::{Generation, SlotId};
use muster_guard::protocol::Binding;

use crate::tasks::Running;

/// The highest generation of each slot, and where it ran.
#[derive(Debug, Default)]
pub(super) struct Generations(BTreeMap<SlotId, (Generation, String)>);

impl Generations {
    pub(super) fn started(&mut self, host: &str, task: &Running) -> Option<(&'static str, String)> {
        if task.binding != Binding::Exclusive {
            return None;
        }
        let known = self.0.insert(task.slot.clone(), (task.generation, host.to_owned()))?;
        let (slot, new) = (&task.slot, task.generation);
        let what = match known {
            (old, before) if new < old => {
                format!("{slot} has generation {new} on {host} after {old} on {before}")
            }
            (old, before) if new == old && before != host => {
                format!("{slot} has generation {new} on {before} and on {host}")
            }
            _ => return None,
        };
        Some(("4 generations only grow", what))
    }
}
