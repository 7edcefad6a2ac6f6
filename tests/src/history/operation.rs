//! One call of a client: what it asked, what it was told, and when.

use std::fmt;

use crate::harness::wait::Moment;

/// What a register holds. Every write of a history writes another value; 0: nothing was ever written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub u64);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A call and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Saw this value.
    Read(Value),
    /// Wrote this value.
    Write(Value),
    /// Wrote `new` if the register held `expected`.
    CompareAndSet {
        /// What it had to hold.
        expected: Value,
        /// What was to be written.
        new: Value,
        /// Whether it was; of no meaning while the outcome is unknown.
        succeeded: bool,
    },
}

/// A call with its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who called.
    pub client: usize,
    /// What.
    pub call: Call,
    /// Just before the call was sent.
    pub invoked: Moment,
    /// Just after the answer was there; `None`: the outcome is unknown.
    pub returned: Option<Moment>,
}

impl Operation {
    /// When it had surely taken effect; the end of time while its outcome is unknown.
    #[must_use]
    pub fn end(&self) -> Moment {
        self.returned.unwrap_or(Moment(u64::MAX))
    }

    /// The value that it may have written.
    #[must_use]
    pub fn written(&self) -> Option<Value> {
        match self.call {
            Call::Write(value) => Some(value),
            Call::CompareAndSet { new, succeeded, .. } if succeeded || self.returned.is_none() => Some(new),
            Call::Read(_) | Call::CompareAndSet { .. } => None,
        }
    }

    /// What the register holds if this takes effect while it holds `held`; `None`: it can't have happened then.
    #[must_use]
    pub fn applied_to(&self, held: Value) -> Option<Value> {
        match self.call {
            Call::Read(seen) => (seen == held).then_some(held),
            Call::Write(value) => Some(value),
            Call::CompareAndSet { expected, new, .. } if self.returned.is_none() => {
                Some(if expected == held { new } else { held })
            }
            Call::CompareAndSet { expected, new, succeeded: true } => (expected == held).then_some(new),
            Call::CompareAndSet { expected, succeeded: false, .. } => (expected != held).then_some(held),
        }
    }

    /// Whether it leaves the register as it is whenever it can take effect.
    #[must_use]
    pub fn only_looks(&self) -> bool {
        self.returned.is_some() && self.written().is_none()
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = if self.returned.is_some() { "" } else { " (outcome unknown)" };
        match self.call {
            Call::Read(value) => write!(f, "client {} read {value}", self.client),
            Call::Write(value) => write!(f, "client {} wrote {value}{outcome}", self.client),
            Call::CompareAndSet { expected, new, succeeded } => {
                let word = if succeeded || self.returned.is_none() { "replaced" } else { "did not replace" };
                write!(f, "client {} {word} {expected} by {new}{outcome}", self.client)
            }
        }
    }
}
