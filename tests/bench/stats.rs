//! Statistics of a few measurements.

use std::time::Duration;

/// Times of the same work, in milliseconds; never empty.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// Requires at least one time.
    pub(crate) fn new(times: impl IntoIterator<Item = Duration>) -> Self {
        Self::of(times.into_iter().map(|time| time.as_secs_f64() * 1e3))
    }

    fn of(times: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = times.into_iter().collect();
        assert!(!sorted.is_empty(), "nothing was measured");
        sorted.sort_by(f64::total_cmp);
        Self(sorted)
    }

    /// Returns the median.
    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        if self.0.len() % 2 == 1 {
            self.0[middle]
        } else {
            f64::midpoint(self.0[middle - 1], self.0[middle])
        }
    }

    /// Returns the minimum.
    pub(crate) fn least(&self) -> f64 {
        self.0[0]
    }

    /// Returns the maximum.
    pub(crate) fn most(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// Multiplies all times by this factor.
    pub(crate) fn times(&self, factor: f64) -> Self {
        Self::of(self.0.iter().map(|time| time * factor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(times: &[f64]) -> Samples {
        Samples::of(times.iter().copied())
    }

    #[test]
    #[allow(clippy::float_cmp)]
    fn median_and_spread() {
        assert_eq!(samples(&[3.0, 1.0, 2.0]).median(), 2.0);
        let even = samples(&[4.0, 1.0, 2.0, 8.0]);
        assert_eq!((even.least(), even.median(), even.most()), (1.0, 3.0, 8.0));
    }

    #[test]
    #[should_panic(expected = "nothing was measured")]
    fn median_of_nothing_is_none() {
        Samples::new([]);
    }
}
