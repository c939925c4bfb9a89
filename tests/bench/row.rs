//! A row: what was measured, beside what it must reach.

use crate::stats::Samples;

/// How the other's time compares with ours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    /// The other takes at least this many times as long.
    Faster(f64),
    /// Ours takes at most this many times as long.
    Within(f64),
    /// Told, and not judged.
    Open,
}

/// Whether a bound is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is.
    Reached,
    /// It isn't.
    Short,
    /// There is none.
    Open,
}

/// Another's time for the same work.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Comparison {
    /// What did it.
    pub(crate) with: &'static str,
    /// How long that took.
    pub(crate) took: Samples,
    /// What must be so.
    pub(crate) bound: Bound,
}

impl Comparison {
    /// The number that the bound is about.
    pub(crate) fn ratio(&self, ours: &Samples) -> f64 {
        match self.bound {
            Bound::Faster(_) | Bound::Open => self.took.median() / ours.median(),
            Bound::Within(_) => ours.median() / self.took.median(),
        }
    }

    /// Whether it is so.
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

/// One piece of work.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// What is done.
    pub(crate) work: &'static str,
    /// Our time for it.
    pub(crate) ours: Samples,
    /// The peer's, or our own for less.
    pub(crate) peer: Option<Comparison>,
    /// The least that is needed.
    pub(crate) floor: Option<Comparison>,
}

impl Row {
    /// Short in either comparison is short.
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

/// A number that has a limit and isn't a ratio.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Size {
    /// Of what.
    pub(crate) what: String,
    /// The number.
    pub(crate) value: f64,
    /// The most that it may be.
    pub(crate) limit: f64,
    /// Of both.
    pub(crate) unit: &'static str,
}

impl Size {
    /// Whether it is within the limit.
    pub(crate) fn verdict(&self) -> Verdict {
        if self.value <= self.limit {
            Verdict::Reached
        } else {
            Verdict::Short
        }
    }
}
