//! Budgets: what one question may use, and whether anybody still waits for its answer.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{MatchOp, Matcher, PatternBudget, Stopped, Watch};
use parking_lot::Mutex;
use query::{Cancel, Error, Usage};
use tenancy::Limits;

use crate::column::Column;
use crate::cpu;
use crate::phases::Phases;
use crate::queryable::Queryable;

/// Someone else who counts the memory, too: DataFusion's pool when the evaluator is a plan's node.
pub(crate) trait Accountant: Debug + Send + Sync {
    fn grow(&self, bytes: usize) -> Result<(), Error>;
    fn shrink(&self, bytes: usize);
}

/// Limits of one evaluation and what it has used of them. Shared by all threads that work on it.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: Arc<Limits>,
    cancel: Cancel,
    deadline: Instant,
    timeout: Duration,
    accountant: Option<Arc<dyn Accountant>>,
    pub(crate) queryable: Queryable,
    pub(crate) phases: Phases,
    /// What is left for patterns that are read during the evaluation.
    patterns: Mutex<PatternBudget>,
}

impl Budget {
    pub(crate) fn new(
        limits: Arc<Limits>,
        cancel: Cancel,
        timeout: Duration,
        accountant: Option<Arc<dyn Accountant>>,
    ) -> Arc<Self> {
        let timeout =
            timeout.min(Duration::try_from_secs_f64(limits.query_seconds_max).unwrap_or(timeout));
        let now = Instant::now();
        Arc::new(Self {
            limits,
            cancel,
            // A timeout beyond the clock's reach is none: a day is longer than any question.
            deadline: now.checked_add(timeout).unwrap_or(now + Duration::from_secs(86_400)),
            timeout,
            accountant,
            queryable: Queryable::default(),
            phases: Phases::default(),
            patterns: Mutex::default(),
        })
    }

    /// Tells whoever does a part of the work when to stop: when nobody waits any more, when time is
    /// up, and when the question has used its processor time.
    pub(crate) fn cancel(&self) -> Cancel {
        let (usage, limit) = (self.cancel.clone(), self.limits.query_cpu_seconds_max);
        self.cancel.until(self.deadline).watched(Arc::new(CpuWatch { usage, limit }))
    }

    /// What ended a part of the work, with how much was used where that was too much.
    pub(crate) fn ended(&self, error: Error) -> Error {
        self.check().err().unwrap_or(error)
    }

    /// Takes from the patterns' budget what the question's own selectors took.
    pub(crate) fn take_patterns<'a>(&self, matchers: impl Iterator<Item = &'a Matcher>) {
        let mut patterns = self.patterns.lock();
        matchers.for_each(|matcher| matcher.take_from(&mut patterns));
    }

    /// Reads a pattern within what selectors and patterns before have left.
    pub(crate) fn pattern(&self, text: &str) -> Result<Matcher, String> {
        let mut patterns = self.patterns.lock();
        let read = Matcher::within(&mut patterns, MatchOp::Regex, String::new(), text);
        read.map_err(|e| e.reason)
    }

    /// Whether to go on. Looked at once per morsel and every few thousand points.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.cancel.is_set() {
            return Err(Error::Canceled("query was canceled in expression evaluation".to_owned()));
        }
        if Instant::now() >= self.deadline {
            let seconds = self.timeout.as_secs_f64();
            let text = format!("query timed out in expression evaluation after {seconds} s");
            return Err(Error::Timeout(text));
        }
        let limit = self.limits.query_cpu_seconds_max;
        if may_exceed(&self.cancel, limit)
            && let cpu = cpu_of(&self.cancel)
            && cpu.as_secs_f64() > limit
        {
            let over = cpu.as_secs_f64() - limit;
            return Err(Error::Execution(format!(
                "query processing would use too much processor time in query execution: {:.3} s, the limit is {limit} s (query_cpu_seconds_max), exceeded by {over:.3} s",
                cpu.as_secs_f64()
            )));
        }
        Ok(())
    }

    fn usage(&self) -> &Usage {
        self.cancel.usage()
    }

    pub(crate) fn take_series(&self, count: usize) -> Result<(), Error> {
        let total = self.usage().add_series(count as u64);
        let limit = self.limits.query_series_max as u64;
        within(total, limit, "touch too many series", "", "query_series_max")
    }

    pub(crate) fn take_samples(&self, count: usize) -> Result<(), Error> {
        let total = self.usage().add_samples(count as u64);
        let limit = self.limits.query_samples_max as u64;
        within(total, limit, "load too many samples into memory", "", "query_samples_max")
    }

    /// Does a short piece of work here and charges what it takes by the clock. Longer ones go to
    /// the pool, which charges processor time.
    pub(crate) fn charged<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = work();
        self.usage().add_cpu(begun.elapsed());
        result
    }

    /// Counts bytes read from storage.
    pub(crate) fn take_bytes(&self, count: usize) -> Result<(), Error> {
        let total = self.usage().add_bytes(count as u64);
        let limit = self.limits.query_bytes_max as u64;
        within(total, limit, "read too much from storage", " bytes", "query_bytes_max")
    }

    /// Counts memory that is given back by [`Budget::shrink`].
    pub(crate) fn grow(&self, bytes: usize) -> Result<(), Error> {
        let limit = self.limits.query_memory_bytes_max as u64;
        let check = |total: u64| {
            within(total, limit, "use too much memory", " bytes", "query_memory_bytes_max")
        };
        // By itself first, so that no sum can overflow.
        check(bytes as u64)?;
        let total = self.usage().add_memory(bytes as u64);
        check(total).inspect_err(|_| self.shrink(bytes))?;
        self.usage().keep_memory(total);
        Ok(())
    }

    /// Counts memory that is held whatever the limit says.
    pub(crate) fn hold(&self, bytes: usize) {
        let total = self.usage().add_memory(bytes as u64);
        self.usage().keep_memory(total);
    }

    /// Gives counted memory back.
    pub(crate) fn shrink(&self, bytes: usize) {
        self.usage().release_memory(bytes as u64);
    }

    /// What is held now.
    pub(crate) fn held_bytes(&self) -> usize {
        usize::try_from(self.usage().now().memory_bytes).unwrap_or(usize::MAX)
    }

    /// Accounts for memory until the returned value is dropped.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: usize) -> Result<Reserved, Error> {
        self.grow(bytes)?;
        let mut reserved =
            Reserved { budget: Some(Arc::clone(self)), bytes, with_accountant: false };
        if let Some(accountant) = &self.accountant {
            accountant.grow(bytes)?;
            reserved.with_accountant = true;
        }
        Ok(reserved)
    }

    /// Accounts for so many columns of so many steps.
    pub(crate) fn reserve_columns(
        self: &Arc<Self>,
        columns: usize,
        steps: usize,
    ) -> Result<Reserved, Error> {
        self.reserve(columns.saturating_mul(Column::bytes(steps)))
    }

    /// What was used: series, samples, samples looked at by steps, most memory in samples.
    pub(crate) fn used(&self) -> (u64, u64, u64, u64) {
        let used = self.usage().now();
        let peak = used.memory_bytes_peak / size_of::<f64>() as u64;
        (used.series, used.samples, self.queryable.total(), peak)
    }
}

/// Processor time that a question has used, what runs on this thread included.
fn cpu_of(question: &Cancel) -> Duration {
    question.usage().now().cpu + cpu::of_job()
}

/// Whether it may have used more than so many seconds. What it has is looked up only then: that is
/// a call of the system.
fn may_exceed(question: &Cancel, limit: f64) -> bool {
    (question.usage().now().cpu + cpu::of_job_at_most()).as_secs_f64() > limit
}

/// Ends work on a question that has used its processor time.
#[derive(Debug)]
struct CpuWatch {
    usage: Cancel,
    /// Seconds.
    limit: f64,
}

impl Watch for CpuWatch {
    fn check(&self) -> Result<(), Stopped> {
        let is_over =
            may_exceed(&self.usage, self.limit) && cpu_of(&self.usage).as_secs_f64() > self.limit;
        if is_over { Err(Stopped::Costly) } else { Ok(()) }
    }
}

/// Refuses what is more than the limit: what, how much, which limit, and by how much.
fn within(total: u64, limit: u64, doing: &str, unit: &str, key: &str) -> Result<(), Error> {
    if total <= limit {
        return Ok(());
    }
    Err(Error::Execution(format!(
        "query processing would {doing} in query execution: {total}{unit}, the limit is {limit} ({key}), exceeded by {}",
        total - limit
    )))
}

/// Accounted memory; given back on drop.
#[derive(Debug, Default)]
pub(crate) struct Reserved {
    budget: Option<Arc<Budget>>,
    bytes: usize,
    with_accountant: bool,
}

impl Reserved {
    /// Takes over what another one holds.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        if self.budget.is_none() {
            std::mem::swap(self, &mut other);
        } else if self.with_accountant == other.with_accountant {
            self.bytes += std::mem::take(&mut other.bytes);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let Some(budget) = &self.budget else { return };
        budget.usage().release_memory(self.bytes as u64);
        if let (Some(accountant), true) = (&budget.accountant, self.with_accountant) {
            accountant.shrink(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(limits: Limits) -> Arc<Budget> {
        Budget::new(Arc::new(limits), Cancel::default(), Duration::from_secs(10), None)
    }

    #[test]
    fn memory_comes_back() {
        let budget = budget(Limits { query_memory_bytes_max: 100, ..Limits::default() });
        let mut first = budget.reserve(60).expect("within the limit");
        let error = budget.reserve(50).expect_err("over the limit").to_string();
        assert!(error.contains("110 bytes, the limit is 100"), "{error}");
        first.absorb(budget.reserve(40).expect("exactly the limit"));
        drop(first);
        assert!(budget.reserve(100).is_ok());
        assert!(budget.reserve(usize::MAX).is_err());
        assert!(budget.reserve_columns(1, 8).is_ok() && budget.reserve_columns(1, 12).is_err());
        assert!(budget.reserve_columns(usize::MAX, 2).is_err());
    }

    #[test]
    fn limits_are_named_with_their_values() {
        let budget =
            budget(Limits { query_samples_max: 10, query_series_max: 1, ..Limits::default() });
        assert!(budget.take_samples(10).is_ok());
        let error = budget.take_samples(1).expect_err("over the limit").to_string();
        assert!(
            error.starts_with("query processing would load too many samples into memory"),
            "{error}"
        );
        let error = budget.take_series(3).expect_err("over the limit").to_string();
        assert!(error.ends_with("3, the limit is 1 (query_series_max), exceeded by 2"), "{error}");
    }

    #[test]
    fn what_is_read_and_computed_is_limited() {
        let budget = budget(Limits {
            query_bytes_max: 1000,
            query_cpu_seconds_max: 0.5,
            ..Limits::default()
        });
        assert!(budget.take_bytes(1000).is_ok());
        let error = budget.take_bytes(24).expect_err("over the limit").to_string();
        let told = "1024 bytes, the limit is 1000 (query_bytes_max), exceeded by 24";
        assert!(error.ends_with(told), "{error}");
        assert!(budget.check().is_ok());
        budget.usage().add_cpu(Duration::from_millis(750));
        let error = budget.check().expect_err("over the limit").to_string();
        let told = "0.750 s, the limit is 0.5 s (query_cpu_seconds_max), exceeded by 0.250 s";
        assert!(error.ends_with(told), "{error}");
    }

    #[test]
    fn nobody_works_for_nobody() {
        let cancel = Cancel::default();
        let budget = Budget::new(Arc::default(), cancel.clone(), Duration::from_secs(10), None);
        assert!(budget.check().is_ok());
        drop(cancel.guard());
        assert!(matches!(budget.check(), Err(Error::Canceled(_))));
        let late = Budget::new(Arc::default(), Cancel::default(), Duration::ZERO, None);
        assert!(matches!(late.check(), Err(Error::Timeout(_))));
    }
}
