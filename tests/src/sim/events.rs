//! What happens, and the queue of what is still to happen.

use muster_core::id::{Generation, NodeId, SessionId};

use super::clocks::Time;
use super::ledger::Slot;
use super::network::Message;

/// Something that happens at a time.
#[allow(missing_docs, reason = "the variants say it; their fields are named for what they are")]
#[derive(Clone, Debug)]
pub enum Event {
    /// A message arrives.
    Deliver { to: NodeId, from: NodeId, message: Message },
    /// The guard looks at its lease.
    Guard { host: NodeId, epoch: u64 },
    /// The guard arms the shim's timer: the absolute value, and what was left when it was computed.
    Arm { host: NodeId, epoch: u64, value: u64, left: u64 },
    /// The shim's timer may be due.
    Timer { host: NodeId, number: u64 },
    /// A killed task ends.
    Dies { host: NodeId, slot: Slot, task: u64 },
    /// The agent looks at the state and talks to its guard.
    Agent { host: NodeId },
    /// The agent's word reaches the guard.
    Order { host: NodeId, order: Order },
    /// A guard starts.
    GuardStarts { host: NodeId },
    /// A machine goes on.
    Thaws { host: NodeId },
    /// A replica's regular work.
    Replica { id: NodeId, epoch: u64 },
    /// A replica starts.
    ReplicaStarts { id: NodeId },
    /// The oracle looks whether an election is due.
    Election,
    /// The next fault.
    Fault,
    /// A step of a fault that has several.
    Step(Step),
    /// The adversary's turn.
    Adversary,
    /// All faults end.
    Heal,
    /// Everything had time to recover.
    EpisodeEnds,
}

/// One step of a fault that has several.
#[allow(missing_docs, reason = "the variants say it; their fields are named for what they are")]
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Host and voter don't reach each other for so long.
    Cut { host: NodeId, voter: NodeId, length: Time },
    /// A voter restarts, after so long.
    Restart { voter: NodeId, down: Time },
    /// A voter is cut off from the other voters for so long.
    Isolate { voter: NodeId, length: Time },
    /// A voter applies nothing for so long.
    StallApply { voter: NodeId, length: Time },
    /// The host's session is taken back, or the last taking back is repeated.
    Reopen { host: NodeId, repeats: bool },
    /// A leader asks the voter for a promise under the next count of re-openings, and again under the former one.
    AskCounts { host: NodeId, voter: NodeId },
    /// A leader asks all voters for promises under memberships that are still to come.
    AskAhead { host: NodeId },
    /// The voters wished for by the last storm are wished for now.
    Voters,
}

impl Step {
    /// The name under which it is counted.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cut { .. } => "host cut off from one voter",
            Self::Restart { .. } => "voter crashed",
            Self::Isolate { .. } => "voter isolated",
            Self::StallApply { .. } => "voter appends without applying",
            Self::Reopen { .. } => "session taken back",
            Self::AskCounts { .. } | Self::AskAhead { .. } => "promise asked for ahead of the log",
            Self::Voters => "other voters wished for",
        }
    }
}

/// What an agent tells its guard.
#[allow(missing_docs, reason = "the variants say it; their fields are named for what they are")]
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// The session that this request asked for is open.
    Grant { session: SessionId, request: u64, ttl_ms: u32, from: NodeId },
    /// Run this.
    Start { slot: Slot, session: SessionId, generation: Generation },
    /// End this.
    Stop { slot: Slot, session: SessionId, generation: Generation },
}

/// What is still to happen, in order of time; what is due at the same time, in the order in which it was queued.
///
/// Nearly everything is due soon, so a sorted list is cheaper than a heap: what is new goes close to its end, and what
/// is next is its last element. Events are large and stay where they are until they happen.
#[derive(Default)]
pub struct Queue {
    /// A key an event, the latest first: when, its number, and its place in `events`.
    order: Vec<u128>,
    events: Vec<Event>,
    free_places: Vec<Place>,
    next: u64,
}

/// Where an event is.
#[derive(Clone, Copy, Debug)]
pub struct Place(u32);

/// How many bits of a key are the event's place: far more than a run has events waiting.
const PLACE_BITS: u32 = 24;

impl Queue {
    /// Queues an event.
    #[inline]
    pub fn push(&mut self, at: Time, event: Event) {
        let place = self.put(event);
        self.queue(at, place);
    }

    /// Removes the next event from the order, not from its place: when it is due, and where it is.
    pub fn pop(&mut self) -> Option<(Time, Place)> {
        let key = self.order.pop()?;
        let place = u32::try_from(key & ((1 << PLACE_BITS) - 1)).ok()?;
        Some((Time::try_from(key >> 64).ok()?, Place(place)))
    }

    /// The event there.
    #[must_use]
    pub fn event(&self, place: Place) -> &Event {
        &self.events[place.index()]
    }

    /// Queues what `pop` gave once more, for later.
    pub fn queue(&mut self, at: Time, place: Place) {
        self.next += 1;
        let key = (u128::from(at) << 64) | (u128::from(self.next) << PLACE_BITS) | u128::from(place.0);
        let later = self.order.iter().rposition(|known| *known > key);
        self.order.insert(later.map_or(0, |later| later + 1), key);
    }

    /// Takes what `pop` gave from its place.
    #[inline]
    pub fn take(&mut self, place: Place) -> Event {
        self.free_places.push(place);
        std::mem::replace(&mut self.events[place.index()], Event::Election)
    }

    #[inline]
    fn put(&mut self, event: Event) -> Place {
        if let Some(place) = self.free_places.pop() {
            self.events[place.index()] = event;
            return place;
        }
        self.events.push(event);
        let place = u32::try_from(self.events.len() - 1).ok().filter(|place| *place < 1 << PLACE_BITS);
        Place(place.expect("a run has few events waiting"))
    }
}

impl Place {
    fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}
