//! Whether the history of one register is linearizable: whether its calls can be put into an order, each at some
//! moment between its begin and its end, in which every answer is right.
//!
//! The search of Wing and Gong with Lowe's memory of what was tried: depth first, a step takes one of the calls that
//! may come next (those that began before any other open one ended); a set of taken calls with the value that they
//! leave behind is tried once. Two steps need no alternative: a look that sees what the register holds costs
//! nothing, and a write of unknown outcome whose value nobody ever saw may as well never have happened.

use std::collections::HashSet;
use std::fmt;

use super::operation::{Operation, Value};
use crate::harness::wait::Moment;

/// So many positions are tried before a history is given up as too hard. It takes a history with dozens of open
/// writes at once; the clients make none.
const POSITIONS_MAX: usize = 4_000_000;
/// How many calls around the failure a verdict shows.
const SHOWN: usize = 12;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is such an order.
    Linearizable,
    /// There is none. The calls after the longest order that was found.
    Broken(Vec<Operation>),
    /// The search was given up.
    TooHard,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linearizable => write!(f, "linearizable"),
            Self::TooHard => write!(f, "too hard to judge: more than {POSITIONS_MAX} positions"),
            Self::Broken(calls) => {
                write!(f, "not linearizable; no order goes on beyond:")?;
                calls
                    .iter()
                    .try_for_each(|call| write!(f, "\n    {} .. {}: {call}", call.invoked.0, call.end().0))
            }
        }
    }
}

/// Judges the calls of one register that held `initial` at first.
#[must_use]
pub fn judge(calls: &[Operation], initial: Value) -> Verdict {
    let mut calls = relevant(calls);
    calls.sort_by_key(|call| call.invoked);
    Search { tried: HashSet::new(), taken: Taken::none(calls.len()), calls }.run(initial)
}

/// Without the writes of unknown outcome whose value was never seen nor replaced.
fn relevant(calls: &[Operation]) -> Vec<Operation> {
    use super::operation::Call;
    let mut seen = HashSet::new();
    for call in calls {
        match call.call {
            Call::Read(value) => seen.insert(value),
            Call::CompareAndSet { expected, .. } => seen.insert(expected),
            Call::Write(_) => false,
        };
    }
    let matters = |call: &&Operation| {
        call.returned.is_some() || call.written().is_some_and(|value| seen.contains(&value))
    };
    calls.iter().filter(matters).copied().collect()
}

/// A set of calls, by number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Taken(Vec<u64>);

impl Taken {
    fn none(calls: usize) -> Self {
        Self(vec![0; calls.div_ceil(64)])
    }

    fn has(&self, call: usize) -> bool {
        self.0[call / 64] >> (call % 64) & 1 == 1
    }

    fn flip(&mut self, call: usize) {
        self.0[call / 64] ^= 1 << (call % 64);
    }
}

struct Search {
    /// By the moment of their begin.
    calls: Vec<Operation>,
    taken: Taken,
    tried: HashSet<(Taken, Value)>,
}

/// One step of the order: what the register held before it, what may come next, and what did.
struct Step {
    held: Value,
    open: Vec<usize>,
    chosen: Option<usize>,
}

impl Search {
    fn run(mut self, initial: Value) -> Verdict {
        let mut deepest: (usize, Vec<Operation>) = (0, self.rest());
        let mut steps = vec![Step { held: initial, open: self.next(initial), chosen: None }];
        while let Some(step) = steps.last_mut() {
            if let Some(chosen) = step.chosen.take() {
                self.taken.flip(chosen);
            }
            let Some(call) = step.open.pop() else {
                steps.pop();
                continue;
            };
            let Some(holds) = self.calls[call].applied_to(step.held) else { continue };
            step.chosen = Some(call);
            self.taken.flip(call);
            if self.rest_is_optional() {
                return Verdict::Linearizable;
            }
            if !self.tried.insert((self.taken.clone(), holds)) {
                continue;
            }
            if self.tried.len() > POSITIONS_MAX {
                return Verdict::TooHard;
            }
            if steps.len() > deepest.0 {
                deepest = (steps.len(), self.rest());
            }
            let open = self.next(holds);
            steps.push(Step { held: holds, open, chosen: None });
        }
        if self.rest_is_optional() { Verdict::Linearizable } else { Verdict::Broken(deepest.1) }
    }

    /// What may come next, the best choice last.
    fn next(&self, held: Value) -> Vec<usize> {
        let mut first_end = Moment(u64::MAX);
        let mut open = Vec::new();
        for (number, call) in self.calls.iter().enumerate().filter(|(number, _)| !self.taken.has(*number)) {
            if call.invoked > first_end {
                break;
            }
            first_end = first_end.min(call.end());
            open.push(number);
        }
        open.retain(|number| self.calls[*number].invoked <= first_end);
        let free = |number: &usize| {
            let call = &self.calls[*number];
            call.only_looks() && call.applied_to(held).is_some()
        };
        if let Some(look) = open.iter().copied().find(free) {
            return vec![look];
        }
        // What ends first had to happen first, most often.
        open.sort_by_key(|number| std::cmp::Reverse(self.calls[*number].end()));
        open
    }

    fn rest(&self) -> Vec<Operation> {
        let left = self.calls.iter().enumerate().filter(|(number, _)| !self.taken.has(*number));
        left.map(|(_, call)| *call).take(SHOWN).collect()
    }

    /// Calls of unknown outcome need not have happened.
    fn rest_is_optional(&self) -> bool {
        let mut left = self.calls.iter().enumerate().filter(|(number, _)| !self.taken.has(*number));
        left.all(|(_, call)| call.returned.is_none())
    }
}

#[cfg(test)]
mod tests;
