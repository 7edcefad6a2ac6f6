//! What openraft needs of the crate `base2histogram`, in its place: openraft records batch sizes and stage times in
//! histograms of fixed buckets, and prints their percentiles.
//!
//! The published crate (0.2.3) computes its lookup tables for all 16 widths when the first histogram is made and
//! keeps them: 25 MiB of every agent, for tables of which one is used (`docs/decisions/0011-memory-of-the-agent.md`).
//! This one has no tables: a bucket follows from the leading bits of its value. Same type and method names, so that
//! dropping the `[patch.crates-io]` line is all it takes to return to the published crate.

mod chart;
mod percentile;

use std::marker::PhantomData;

pub use chart::{AsciiChart, DetailedDisplay};
pub use percentile::PercentileStats;

/// Buckets in each power of two: a value is known to within a quarter of it.
const BUCKETS_PER_OCTAVE: usize = 4;
/// Bits of `BUCKETS_PER_OCTAVE`.
const OCTAVE_BITS: u32 = 2;
/// Values below this have a bucket of their own.
const EXACT: u64 = BUCKETS_PER_OCTAVE as u64;
/// Buckets for all of `u64`: the exact ones, then four for each higher power of two.
const BUCKETS: usize = BUCKETS_PER_OCTAVE * (u64::BITS - OCTAVE_BITS + 1) as usize;

/// Counts of `u64` values in logarithmic buckets: recording is O(1), memory is fixed, percentiles are the lower bound
/// of their bucket. `T` is the published crate's metadata of a time slot, which openraft does not use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: Vec<u64>,
    total: u64,
    metadata: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, metadata: PhantomData }
    }

    /// Counts `value` once.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts `value` `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let bucket = bucket_of(value);
        self.counts[bucket] = self.counts[bucket].saturating_add(count);
        self.total = self.total.saturating_add(count);
    }

    /// How many values were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The lower bound of the bucket that holds the value at `per_mille` of all values in order, rounded up to a
    /// whole value; 0 when nothing was counted.
    #[must_use]
    pub fn at_per_mille(&self, per_mille: u64) -> u64 {
        let rank = (u128::from(self.total) * u128::from(per_mille)).div_ceil(1000).max(1);
        let mut below = 0u128;
        for (bucket, count) in self.counts.iter().enumerate() {
            below += u128::from(*count);
            if below >= rank {
                return lower_bound_of(bucket);
            }
        }
        0
    }

    /// The percentiles that openraft reports.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total,
            p0_1: self.at_per_mille(1),
            p1: self.at_per_mille(10),
            p5: self.at_per_mille(50),
            p10: self.at_per_mille(100),
            p50: self.at_per_mille(500),
            p90: self.at_per_mille(900),
            p99: self.at_per_mille(990),
            p99_9: self.at_per_mille(999),
        }
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// The bucket of a value: itself when small, else its power of two and the two bits after the leading one.
fn bucket_of(value: u64) -> usize {
    if value < EXACT {
        return index(value);
    }
    let octave = value.ilog2() - OCTAVE_BITS;
    let offset = index((value >> octave) & (EXACT - 1));
    BUCKETS_PER_OCTAVE * (octave as usize + 1) + offset
}

/// The smallest value of a bucket.
fn lower_bound_of(bucket: usize) -> u64 {
    let (octave, offset) = (bucket / BUCKETS_PER_OCTAVE, (bucket % BUCKETS_PER_OCTAVE) as u64);
    if octave == 0 { offset } else { (EXACT + offset) << (octave - 1) }
}

fn index(small: u64) -> usize {
    usize::try_from(small).expect("below the number of buckets of an octave")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_the_bucket_that_begins_at_or_below_it() {
        let edges = (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + (1 << bit) / 3]);
        for value in edges.chain([u64::MAX]) {
            let bucket = bucket_of(value);
            assert!(lower_bound_of(bucket) <= value, "{value}");
            assert!(bucket + 1 == BUCKETS || lower_bound_of(bucket + 1) > value, "{value}");
        }
    }

    #[test]
    fn a_percentile_is_the_bucket_of_the_value_at_its_rank() {
        let mut histogram = Histogram::<()>::new();
        (1..=1000).for_each(|value| histogram.record(value));
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p0_1, stats.p50, stats.p99_9), (1000, 1, 448, 896));
    }

    #[test]
    fn an_empty_histogram_reports_zeros() {
        let stats = Histogram::<()>::new().percentile_stats();
        assert_eq!((stats.samples, stats.p50, stats.p99_9), (0, 0, 0));
    }

    #[test]
    fn one_value_is_every_percentile() {
        let mut histogram = Histogram::<()>::new();
        histogram.record_n(u64::MAX, 3);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p0_1, stats.p99_9), (3, 7 << 61, 7 << 61));
    }
}
