//! Request ids for writes whose caller gave none. The agent itself tries a write again when no answer came back from
//! the leader; without an id the second try would be applied as a second write, perhaps after somebody else's.
//!
//! A client of the replicated state is remembered by its last request alone. So each write that is under way has a
//! client of its own, which the next one takes over when it is done.

use std::sync::{Arc, Mutex, PoisonError};

use muster_core::id::RequestId;

/// The numbers of an agent.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// The next id of every client that is not in use. As many as writes were ever under way at once.
    free: Arc<Mutex<Vec<RequestId>>>,
}

/// The id of one write, for as long as it is under way.
#[derive(Debug)]
pub struct Number {
    id: RequestId,
    numbers: Numbers,
}

impl Numbers {
    /// An id that no other write has. Without a source of randomness it is none, and a retry may be applied twice.
    #[must_use]
    pub fn take(&self) -> Number {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let new = || RequestId { client: getrandom::u64().unwrap_or_default(), seq: 1 };
        Number { id: free.unwrap_or_else(new), numbers: self.clone() }
    }
}

impl Number {
    /// It.
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.id
    }
}

impl Drop for Number {
    /// Whatever became of the write: with the next number applied, a late copy of it is refused.
    fn drop(&mut self) {
        let next = RequestId { seq: self.id.seq + 1, ..self.id };
        self.numbers.free.lock().unwrap_or_else(PoisonError::into_inner).push(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_at_once_have_clients_of_their_own_and_later_ones_higher_numbers() {
        let numbers = Numbers::default();
        let (a, b) = (numbers.take(), numbers.take());
        assert_ne!(a.id().client, b.id().client);
        let first = a.id();
        drop(a);
        let again = numbers.take();
        assert_eq!((again.id().client, again.id().seq), (first.client, first.seq + 1));
        assert_ne!(again.id().client, b.id().client);
    }
}
