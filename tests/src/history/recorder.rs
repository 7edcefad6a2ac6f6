//! What all clients did, by register.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::judge::{Verdict, judge};
use super::operation::{Operation, Value};

/// Collects calls from all threads.
#[derive(Debug, Default)]
pub struct Recorder {
    calls: Mutex<BTreeMap<String, Vec<Operation>>>,
}

/// What histories came to.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// Registers.
    pub registers: u64,
    /// Calls whose outcome is known.
    pub known: u64,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Calls without an answer.
    pub unknown: u64,
    /// What is not linearizable, or could not be judged.
    pub violations: Vec<String>,
}

impl Judged {
    /// Adds what other histories came to.
    pub fn add(&mut self, other: Self) {
        self.registers += other.registers;
        self.known += other.known;
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.violations.extend(other.violations);
    }
}

impl Recorder {
    /// Keeps a call.
    pub fn record(&self, register: &str, call: Operation) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.entry(register.to_owned()).or_default().push(call);
    }

    /// Judges registers for which `is_over` holds, and forgets them.
    #[must_use]
    pub fn judge(&self, is_over: impl Fn(&str) -> bool) -> Judged {
        let over: BTreeMap<String, Vec<Operation>> = {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            let (over, kept) =
                std::mem::take(&mut *calls).into_iter().partition(|(register, _)| is_over(register));
            *calls = kept;
            over
        };
        let mut judged = Judged::default();
        for (register, calls) in over {
            judged.registers += 1;
            for call in &calls {
                judged.known += u64::from(call.returned.is_some());
                judged.unknown += u64::from(call.returned.is_none());
                judged.acknowledged += u64::from(call.returned.is_some() && call.written().is_some());
            }
            match judge(&calls, Value::default()) {
                Verdict::Linearizable => {}
                verdict => judged.violations.push(format!("{register}: {verdict}")),
            }
        }
        judged
    }
}
