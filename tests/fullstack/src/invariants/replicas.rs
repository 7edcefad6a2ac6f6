//! Promise 3: every replica is sound in itself, and two of them with the same index are equal.

use std::collections::BTreeMap;

use muster_core::check;
use muster_core::state::State;

/// What was seen of replicas, by index.
#[derive(Debug, Default)]
pub(super) struct Replicas(BTreeMap<u64, (u64, String)>);

impl Replicas {
    /// A replica on `host` has this state, whose records have that sum.
    pub(super) fn seen(&mut self, host: &str, state: &State, sum: u64) -> Option<String> {
        if let Some(unsound) = check::violations(state).first() {
            return Some(format!("the state of {host} at {}: {unsound}", state.revision));
        }
        let (known, before) =
            self.0.entry(state.revision.0).or_insert_with(|| (sum, host.to_owned())).clone();
        (known != sum).then(|| format!("{host} and {before} differ at {}", state.revision))
    }
}
