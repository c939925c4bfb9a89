//! Rows: measurements and their bounds.

use crate::stats::Samples;

/// Bound on the ratio of the compared time to that of patchbay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    /// The compared time is at least this multiple.
    Faster(f64),
    /// The time of patchbay is at most this multiple of it.
    Within(f64),
    /// No bound.
    Open,
}

/// Result of a comparison with its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Within the bound.
    Reached,
    /// Outside the bound.
    Short,
    /// Without a bound.
    Open,
}

/// Time of another program for the same work.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Comparison {
    /// Name of the program.
    pub(crate) with: &'static str,
    /// Its times.
    pub(crate) took: Samples,
    /// Bound on the ratio.
    pub(crate) bound: Bound,
}

impl Comparison {
    /// Returns the ratio to which the bound applies.
    pub(crate) fn ratio(&self, ours: &Samples) -> f64 {
        match self.bound {
            Bound::Faster(_) | Bound::Open => self.took.median() / ours.median(),
            Bound::Within(_) => ours.median() / self.took.median(),
        }
    }

    /// Compares the ratio with the bound.
    pub(crate) fn verdict(&self, ours: &Samples) -> Verdict {
        let kept = match self.bound {
            Bound::Faster(least) => self.ratio(ours) >= least,
            Bound::Within(most) => self.ratio(ours) <= most,
            Bound::Open => return Verdict::Open,
        };
        if kept {
            Verdict::Reached
        } else {
            Verdict::Short
        }
    }
}

/// Measurements of one piece of work.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// Description of the work.
    pub(crate) work: &'static str,
    /// Times of patchbay.
    pub(crate) ours: Samples,
    /// Times of the peer, or of patchbay for less work.
    pub(crate) peer: Option<Comparison>,
    /// Times of the floor.
    pub(crate) floor: Option<Comparison>,
}

impl Row {
    /// Returns `Short` if either comparison is.
    pub(crate) fn verdict(&self) -> Verdict {
        let both = [&self.peer, &self.floor];
        let verdicts = both
            .into_iter()
            .flatten()
            .map(|comparison| comparison.verdict(&self.ours));
        verdicts.fold(Verdict::Open, |worst, verdict| match (worst, verdict) {
            (Verdict::Short, _) | (_, Verdict::Short) => Verdict::Short,
            (Verdict::Reached, _) | (_, Verdict::Reached) => Verdict::Reached,
            _ => Verdict::Open,
        })
    }
}

/// An absolute number with a limit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Size {
    /// Description of the number.
    pub(crate) what: String,
    /// The measured value.
    pub(crate) value: f64,
    /// Its limit.
    pub(crate) limit: f64,
    /// Unit of both.
    pub(crate) unit: &'static str,
}

impl Size {
    /// Compares the value with the limit.
    pub(crate) fn verdict(&self) -> Verdict {
        if self.value <= self.limit {
            Verdict::Reached
        } else {
            Verdict::Short
        }
    }
}
