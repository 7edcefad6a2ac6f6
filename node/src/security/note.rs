//! What is noted about a call while it is answered, for the audit trail.

use std::sync::{Arc, Mutex, PoisonError};

use muster_core::audit::Actor;

/// Goes with a call from the gate to its handler. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct CallNote {
    /// Who is at the other end of the connection.
    pub actor: Actor,
    /// The agent that the caller called: this one, or the one that passes the call on.
    pub via: String,
    /// Another agent passes the call on that is believed who its caller is, and that will record how the call ended: a
    /// member of Raft.
    pub is_vouched_for: bool,
    said: Arc<Mutex<Option<Said>>>,
}

/// What a call asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// As `musterctl` has it.
    pub verb: &'static str,
    /// Names and arguments, no secrets.
    pub target: String,
}

impl Said {
    /// With that target.
    pub fn new(verb: &'static str, target: impl Into<String>) -> Self {
        Self { verb, target: target.into() }
    }
}

impl CallNote {
    /// A note of a call that begins.
    #[must_use]
    pub fn new(actor: Actor, via: String, is_vouched_for: bool) -> Self {
        Self { actor, via, is_vouched_for, said: Arc::default() }
    }

    /// The handler has read what is asked for.
    pub fn says(&self, said: Said) {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
    }

    /// What the handler has read.
    #[must_use]
    pub fn said(&self) -> Option<Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
