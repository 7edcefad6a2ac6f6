//! What a voter keeps of one open session: its age and its promise (R2d, R5, R6, R9).

use std::time::Duration;

use crate::id::{NodeId, Reopens};
use crate::lease::message::MAX_ADDRESSES;
use crate::time::HostInstant;

/// How many heartbeats back one that comes late is still answered: longer than any profile's TTL, beyond which an ack
/// is worth nothing. What is older has been recorded by somebody.
pub(super) const REPLAY_WINDOW: usize = 64;
/// How often one heartbeat is answered: it comes over each of the voter's addresses. Whoever sends a recorded one
/// again, perhaps under a foreign address, gets at most what is left of that.
const COPIES: u8 = 4;
const _: () = assert!(COPIES as usize == MAX_ADDRESSES);

/// One session that is open in the voter's applied state.
#[derive(Clone, Debug)]
pub(super) struct Tracked {
    pub(super) node: NodeId,
    pub(super) ttl_ms: u32,
    /// As applied.
    pub(super) reopens: Reopens,
    /// When the session was last acked, or counts as acked.
    pub(super) last_ack: HostInstant,
    /// The highest heartbeat number seen in this boot of the voter.
    pub(super) highest_seq: u64,
    /// How often each of the last heartbeats was answered, by its number modulo the window.
    pub(super) answered: [u8; REPLAY_WINDOW],
    /// The count of re-openings that the promise named; `None`: not promised. From the promise on the session
    /// is never acked, until a `Reopen` to a higher count.
    pub(super) promised: Option<Reopens>,
    /// When a heartbeat last said that the host's agent was connected.
    pub(super) agent_seen: HostInstant,
    /// The controller wishes an orderly stop.
    pub(super) release: bool,
}

impl Tracked {
    /// The age on the voter's slowest clock (R3, R5).
    pub(super) fn age(&self, now: HostInstant) -> Duration {
        now.shortest_since(self.last_ack)
    }

    /// Whether a heartbeat of that number may be answered, which counts as an answer.
    pub(super) fn takes(&mut self, seq: u64) -> bool {
        const WINDOW: u64 = REPLAY_WINDOW as u64;
        if seq > self.highest_seq {
            let new = (seq - self.highest_seq).min(WINDOW);
            for number in seq - new + 1..=seq {
                self.answered[place(number)] = 0;
            }
        } else if self.highest_seq - seq >= WINDOW {
            return false;
        }
        let answered = &mut self.answered[place(seq)];
        let is_taken = *answered < COPIES;
        *answered += u8::from(is_taken);
        is_taken
    }

    /// Makes the session `gap` younger, on each clock by that clock's part of it (R6, stalls).
    pub(super) fn shift(&mut self, stalled_since: HostInstant, now: HostInstant) {
        for at in [&mut self.last_ack, &mut self.agent_seen] {
            let boot_gap = now.boottime_ns.saturating_sub(stalled_since.boottime_ns);
            let raw_gap = now.raw_ns.saturating_sub(stalled_since.raw_ns);
            at.boottime_ns = at.boottime_ns.saturating_add(boot_gap).min(now.boottime_ns);
            at.raw_ns = at.raw_ns.saturating_add(raw_gap).min(now.raw_ns);
        }
    }
}

fn place(seq: u64) -> usize {
    // Below the window's size, whatever the width of a usize.
    usize::try_from(seq % REPLAY_WINDOW as u64).unwrap_or_default()
}
