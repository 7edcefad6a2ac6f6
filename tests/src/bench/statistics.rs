//! Quantiles of samples.

/// Samples of one quantity, all in the same unit.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds a sample.
    pub fn add(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest sample that at least `share` (0 to 1) of all samples do not exceed: the nearest rank, so always
    /// something that was really measured. 0 without samples.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the rank of a sample among fewer than 2^52, clamped to the valid ones"
    )]
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (share * sorted.len() as f64).ceil() as usize;
        let at = rank.clamp(1, sorted.len().max(1)) - 1;
        sorted.get(at).copied().unwrap_or_default()
    }

    /// The middle.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The largest.
    #[must_use]
    pub fn max(&self) -> f64 {
        self.quantile(1.0)
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(samples: I) -> Self {
        Self(samples.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up_to(last: u32) -> Samples {
        (1..=last).rev().map(f64::from).collect()
    }

    fn is(measured: f64, expected: f64) {
        assert!((measured - expected).abs() < 1e-9, "{measured} is not {expected}");
    }

    #[test]
    fn quantiles_are_samples_of_the_nearest_rank() {
        let twenty = up_to(20);
        is(twenty.median(), 10.0);
        is(twenty.quantile(0.95), 19.0);
        is(twenty.max(), 20.0);
        is(up_to(5).median(), 3.0);
        is(up_to(100).quantile(0.99), 99.0);
    }

    #[test]
    fn one_sample_is_every_quantile_and_none_is_zero() {
        let one: Samples = [7.0].into_iter().collect();
        is(one.median(), 7.0);
        is(one.quantile(0.0), 7.0);
        is(one.max(), 7.0);
        is(Samples::default().max(), 0.0);
    }
}
