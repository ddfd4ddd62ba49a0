//! Since when samples count: the start timestamps of OpenTelemetry and Prometheus.
//!
//! Most samples have none, and those of a counter mostly the same for hours. So they are kept beside
//! the samples, as a step function of their instants: what began last holds on.

/// Start timestamps of a series' samples, milliseconds; 0 is unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Starts(Vec<(i64, i64)>);

impl Starts {
    /// From the starts of samples at instants in any order; of two at one instant the first stays.
    pub fn of_samples(mut samples: Vec<(i64, i64)>) -> Self {
        if !samples.is_sorted_by_key(|(at_ms, _)| *at_ms) {
            samples.sort_by_key(|(at_ms, _)| *at_ms);
        }
        samples.dedup_by_key(|(at_ms, _)| *at_ms);
        let mut starts = Self::default();
        samples.into_iter().for_each(|(at_ms, start_ms)| starts.push(at_ms, start_ms));
        starts
    }

    /// Adds a sample later than all before.
    pub fn push(&mut self, at_ms: i64, start_ms: i64) {
        let before = self.0.last().map_or(0, |(_, start_ms)| *start_ms);
        if before != start_ms {
            self.0.push((at_ms, start_ms));
        }
    }

    /// Whether no sample has one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// That of the sample at an instant.
    pub fn at(&self, at_ms: i64) -> i64 {
        let after = self.0.partition_point(|(from_ms, _)| *from_ms <= at_ms);
        after.checked_sub(1).map_or(0, |at| self.0[at].1)
    }

    /// Those of samples at instants in order of time.
    pub fn each(&self, instants: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let mut steps = self.0.iter().peekable();
        let mut now_ms = 0;
        let start = |at_ms: i64| {
            while let Some((_, start_ms)) = steps.next_if(|(from_ms, _)| *from_ms <= at_ms) {
                now_ms = *start_ms;
            }
            now_ms
        };
        instants.into_iter().map(start).collect()
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.0.len() * size_of::<(i64, i64)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(samples: &[(i64, i64)], steps: &[(i64, i64)]) {
        let starts = Starts::of_samples(samples.to_vec());
        assert_eq!(starts.0, steps);
        let mut first = std::collections::BTreeMap::new();
        for (at, start) in samples {
            first.entry(*at).or_insert(*start);
        }
        let expected: Vec<i64> = first.values().copied().collect();
        assert_eq!(starts.each(first.keys().copied()), expected);
        assert_eq!(first.keys().map(|at| starts.at(*at)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn starts_are_steps() {
        check(&[], &[]);
        check(&[(1, 0), (2, 0)], &[]);
        check(&[(10, 5), (20, 5), (30, 5)], &[(10, 5)]);
        check(&[(10, 0), (20, 5), (30, 0), (40, 5)], &[(20, 5), (30, 0), (40, 5)]);
        check(&[(10, -3), (20, 10), (30, 20)], &[(10, -3), (20, 10), (30, 20)]);
        check(&[(30, 1), (10, 5), (30, 2), (10, 6)], &[(10, 5), (30, 1)]);
        check(&[(i64::MIN, 1), (i64::MAX, i64::MIN)], &[(i64::MIN, 1), (i64::MAX, i64::MIN)]);
    }
}
