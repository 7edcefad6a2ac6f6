//! Promises 5 and 6: the history of the operators' API is linearizable, and no acknowledged write is lost.
//!
//! Each annotation of a service is a register. A write that was not acknowledged may have happened at any time after
//! its call, or never. For each register an order of the operations is looked for that is a possible history of one
//! register and keeps to the order of those that did not overlap (Wing and Gong, with the tables of Lowe). The last
//! reads, when all is healed, are operations too: an acknowledged write that they don't show leaves no such order.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A service and the key of an annotation.
pub type Register = (String, String);

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// This value was written; values are never written twice.
    Wrote(String),
    /// This is what stood there.
    Read(Option<String>),
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What was done.
    pub deed: Deed,
    /// When it was called.
    pub called_ns: u64,
    /// When it was answered; `None`: never, or nobody knows whether it happened.
    pub answered_ns: Option<u64>,
}

/// What the operators did; cheap to clone.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<BTreeMap<Register, Vec<Operation>>>>);

impl History {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Register, Vec<Operation>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an operation.
    pub fn add(&self, register: Register, operation: Operation) {
        self.lock().entry(register).or_default().push(operation);
    }

    /// All registers.
    #[must_use]
    pub fn registers(&self) -> Vec<Register> {
        self.lock().keys().cloned().collect()
    }

    /// How many writes were acknowledged, and how many reads were answered.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let history = self.lock();
        let all = || history.values().flatten().filter(|operation| operation.answered_ns.is_some());
        let count = |reads: bool| all().filter(|o| matches!(o.deed, Deed::Read(_)) == reads).count();
        (u64::try_from(count(false)).unwrap_or(0), u64::try_from(count(true)).unwrap_or(0))
    }

    /// The registers whose histories no register could have had, with what was done to them.
    #[must_use]
    pub fn broken(&self) -> Vec<(Register, Vec<Operation>)> {
        let history = self.lock();
        let broken = history.iter().filter(|(_, operations)| !is_linearizable(operations));
        broken.map(|(register, operations)| (register.clone(), operations.clone())).collect()
    }
}

/// Whether one register can have had this history.
#[must_use]
pub fn is_linearizable(operations: &[Operation]) -> bool {
    let mut operations = operations.to_vec();
    operations.sort_by_key(|operation| operation.called_ns);
    let mut search = Search { seen: HashSet::new(), operations };
    let none = vec![false; search.operations.len()];
    search.goes_on(none, &None)
}

struct Search {
    operations: Vec<Operation>,
    /// Where the search has been: what was done by then, and what stood there.
    seen: HashSet<(Vec<bool>, Option<String>)>,
}

impl Search {
    /// Whether the rest can follow when these were done and that stands there.
    fn goes_on(&mut self, done: Vec<bool>, stands: &Option<String>) -> bool {
        let mut stack = vec![(done, stands.clone())];
        while let Some((done, stands)) = stack.pop() {
            let left = || self.operations.iter().zip(&done).filter(|(_, done)| !**done).map(|(o, _)| o);
            // A write that was not acknowledged need not have happened.
            if left().all(|operation| operation.answered_ns.is_none()) {
                return true;
            }
            if !self.seen.insert((done.clone(), stands.clone())) {
                continue;
            }
            // Nothing that was called after another one's answer can come before it.
            let first_answer = left().filter_map(|operation| operation.answered_ns).min().unwrap_or(u64::MAX);
            for (at, operation) in self.operations.iter().enumerate() {
                if done[at] || operation.called_ns > first_answer {
                    continue;
                }
                let after = match &operation.deed {
                    Deed::Wrote(value) => Some(value.clone()),
                    Deed::Read(value) if *value == stands => stands.clone(),
                    Deed::Read(_) => continue,
                };
                let mut then = done.clone();
                then[at] = true;
                stack.push((then, after));
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(deed: Deed, called_ns: u64, answered_ns: Option<u64>) -> Operation {
        Operation { deed, called_ns, answered_ns }
    }

    fn wrote(value: &str, called_ns: u64, answered_ns: Option<u64>) -> Operation {
        op(Deed::Wrote(value.to_owned()), called_ns, answered_ns)
    }

    fn read(value: Option<&str>, called_ns: u64, answered_ns: u64) -> Operation {
        op(Deed::Read(value.map(str::to_owned)), called_ns, Some(answered_ns))
    }

    #[test]
    fn what_one_register_can_do_is_accepted() {
        assert!(is_linearizable(&[]));
        assert!(is_linearizable(&[wrote("a", 0, Some(5)), read(None, 1, 2), read(Some("a"), 3, 4)]));
        assert!(is_linearizable(&[wrote("a", 0, None), read(None, 9, 10), read(Some("a"), 11, 12)]));
        assert!(is_linearizable(&[wrote("a", 0, None), read(None, 9, 10)]));
    }

    #[test]
    fn a_lost_write_a_stale_read_and_one_from_nowhere_are_seen() {
        assert!(!is_linearizable(&[wrote("a", 0, Some(1)), read(None, 2, 3)]), "lost");
        let turned_back = [wrote("a", 0, None), read(Some("a"), 1, 2), read(None, 3, 4)];
        assert!(!is_linearizable(&turned_back), "stale");
        assert!(!is_linearizable(&[read(Some("a"), 1, 2)]), "from nowhere");
        let before = [read(Some("a"), 1, 2), wrote("a", 3, Some(4))];
        assert!(!is_linearizable(&before), "before it was written");
    }
}
