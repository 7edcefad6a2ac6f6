//! Explores a model and says what was found.

use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// What the checker found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How many different states were visited.
    pub states: usize,
    /// The longest shortest way to a state.
    pub depth: usize,
    /// The shortest way to two holders, action by action, if there is one.
    pub two_holders: Option<Vec<String>>,
    /// What should be reachable and was not: a model that can't move proves nothing.
    pub unreached: Vec<&'static str>,
}

/// Visits every state; with `stop_early` only until two holders are found.
pub fn explore<M>(model: M, stop_early: bool) -> Verdict
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq,
{
    let properties = model.properties();
    let checker = model.checker().threads(1);
    let checker = if stop_early { checker.finish_when(HasDiscoveries::AnyFailures) } else { checker };
    let checker = checker.spawn_bfs().join();
    let found = checker.discoveries();
    let two_holders = properties
        .iter()
        .filter(|property| property.expectation == Expectation::Always)
        .find_map(|property| found.get(property.name))
        .map(|path| path.clone().into_actions().iter().map(|action| format!("{action:?}")).collect());
    let unreached = properties
        .iter()
        .filter(|property| {
            property.expectation == Expectation::Sometimes && !found.contains_key(property.name)
        })
        .map(|property| property.name)
        .collect();
    Verdict { states: checker.unique_state_count(), depth: checker.max_depth(), two_holders, unreached }
}
