//! When each recent heartbeat was sent: a ring by sequence number, allocated once (R1, R3).

use crate::time::HostInstant;

/// The send times of the newest heartbeats.
#[derive(Clone, Debug)]
pub(super) struct SendTimes {
    /// The time of `seq` is at `seq % slots.len()`, for the newest `slots.len()` numbers.
    slots: Vec<HostInstant>,
    /// The newest number sent; 0 before the first.
    last_seq: u64,
}

/// The least and the largest number of send times kept.
const SLOTS: std::ops::RangeInclusive<usize> = 32..=4096;

impl SendTimes {
    /// Room for twice the heartbeats of one TTL: whatever is older can't renew anything any more.
    pub(super) fn new(ttl_ms: u32, heartbeat_ms: u32) -> Self {
        let wanted = usize::try_from(2 * (ttl_ms / heartbeat_ms.max(1)) + 16).unwrap_or(usize::MAX);
        let slots = wanted.clamp(*SLOTS.start(), *SLOTS.end());
        Self { slots: vec![HostInstant::default(); slots], last_seq: 0 }
    }

    /// Notes a send and returns its number.
    pub(super) fn record(&mut self, now: HostInstant) -> u64 {
        self.last_seq += 1;
        let slot = self.slot(self.last_seq);
        self.slots[slot] = now;
        self.last_seq
    }

    /// When `seq` was sent; `None` when it was never sent or too long ago.
    pub(super) fn get(&self, seq: u64) -> Option<HostInstant> {
        let kept = u64::try_from(self.slots.len()).unwrap_or(u64::MAX);
        let known = seq >= 1 && seq <= self.last_seq && self.last_seq - seq < kept;
        known.then(|| self.slots[self.slot(seq)])
    }

    /// The newest number sent and when; `None` before the first.
    pub(super) fn last(&self) -> Option<(u64, HostInstant)> {
        self.get(self.last_seq).map(|sent| (self.last_seq, sent))
    }

    /// All that are known, ascending: for the hand-over.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, HostInstant)> + '_ {
        let kept = u64::try_from(self.slots.len()).unwrap_or(u64::MAX);
        let first = self.last_seq.saturating_sub(kept) + 1;
        (first..=self.last_seq).filter_map(|seq| self.get(seq).map(|sent| (seq, sent)))
    }

    /// Takes over what `iter` gave; numbers without a gap.
    pub(super) fn restore(&mut self, sends: impl IntoIterator<Item = (u64, HostInstant)>) {
        for (seq, sent) in sends {
            let slot = self.slot(seq);
            self.slots[slot] = sent;
            self.last_seq = seq;
        }
    }

    fn slot(&self, seq: u64) -> usize {
        let slots = u64::try_from(self.slots.len()).unwrap_or(u64::MAX);
        usize::try_from(seq % slots).expect("a remainder of the number of slots is an index")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_are_kept_and_only_the_sent_are_known() {
        let mut sends = SendTimes::new(1000, 50);
        assert_eq!(sends.last(), None);
        for ns in 1..=100 {
            assert_eq!(sends.record(HostInstant::both(ns)), ns);
        }
        assert_eq!(sends.get(100), Some(HostInstant::both(100)));
        assert_eq!(sends.get(101), None);
        assert_eq!(sends.get(0), None);
        assert_eq!(sends.get(1), None, "the ring holds 56");
        assert_eq!(sends.iter().count(), 56);
        let mut copy = SendTimes::new(1000, 50);
        copy.restore(sends.iter());
        assert!(copy.iter().eq(sends.iter()));
    }
}
