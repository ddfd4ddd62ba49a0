//! Answers to range queries that are kept: what a dashboard asks again is evaluated where time has
//! gone on, and taken from here where it has not.
//!
//! ```text
//! plan ─► reach (how far around a step is read) ─► kept stretch: cut to the steps that still hold
//!      ─► the steps before and after it are evaluated ─► joined ─► kept
//! ```
//!
//! Invariant: an answer with kept parts is the one without, to the last bit. A stretch says from which
//! generation of the store it is; steps that read what came or went since do not hold, nor those
//! that read what is no longer kept. What depends on the question's range, and what has notes, is
//! never kept. Memory is bounded in all, and for each scope, so that no tenant displaces the others.

mod joined;
mod reach;

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use model::TimeRange;
use parking_lot::Mutex;
use query::promql::{Expr, ExprKind};
use query::{Answer, Evaluation, MatrixSeries, Value};
use storage::{Lru, Storage};
use tenancy::{ReadScope, TenantId};

use crate::grid::Grid;
use crate::plan::Plan;
pub(crate) use joined::{absorb, join};
use joined::{bytes_of, cut, is_in_order};
pub(crate) use reach::Reach;

/// A scope may have this part of the memory.
const PART_OF_SCOPE: usize = 4;

/// Words of the language that make a part depend on where the question's range lies, or on how
/// many steps it has.
const OF_THE_RANGE: &[&str] = &["start(", "end(", "range(", "step("];

/// Functions that can give series the same labels, which is an error wherever they lie in the range.
const RELABELLING: &[&str] = &["info", "label_join", "label_replace"];

/// Kept answers.
#[derive(Debug)]
pub(crate) struct Results {
    bytes_max: usize,
    kept: Mutex<Kept>,
    hits: AtomicU64,
    partial: AtomicU64,
    misses: AtomicU64,
}

/// What keeping answers has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResultCacheUse {
    /// Bytes of kept answers.
    pub bytes: u64,
    /// Questions answered without evaluating anything.
    pub hits: u64,
    /// Questions of which some steps were kept.
    pub partial: u64,
    /// Questions that could be kept and of which nothing was.
    pub misses: u64,
}

/// Stretches by whose they are.
#[derive(Debug, Default)]
struct Kept {
    scopes: HashMap<Box<[TenantId]>, Lru<u64, Arc<Stretch>>>,
    bytes: u64,
    /// Numbers of stretches by what they answer.
    numbers: HashMap<Arc<Key>, u64>,
    next: u64,
}

/// What a stretch answers.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    tenants: Box<[TenantId]>,
    /// Whether answers name the tenants.
    is_labelled: bool,
    /// What of each may be read, and the names, if answers have them.
    scope: String,
    expr: String,
    step_ms: i64,
    /// Where in a step the instants lie.
    phase_ms: i64,
    lookback_ms: i64,
}

/// A stretch of steps, all of which were evaluated.
#[derive(Debug)]
struct Stretch {
    key: Arc<Key>,
    /// The first and the last step.
    range: TimeRange,
    /// Changes up to this one are in it.
    generation: u64,
    series: Vec<MatrixSeries>,
}

/// A question that may be answered from what is kept, and what of it is.
#[derive(Debug)]
pub(crate) struct Asked {
    key: Arc<Key>,
    grid: Grid,
    generation: u64,
    /// The stretch and those of its steps that hold and are asked for.
    found: Option<(Arc<Stretch>, TimeRange)>,
    /// Whether more of the stretch holds than was asked for: then it stays.
    is_longer: bool,
}

impl Results {
    /// Nothing is kept yet; at most `bytes_max` will be.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let (kept, hits, partial, misses) = Default::default();
        Self { bytes_max, kept, hits, partial, misses }
    }

    /// Whether a question may be answered from what is kept, whatever its plan.
    pub(crate) fn may_keep(&self, evaluation: &Evaluation) -> bool {
        self.bytes_max > 0
            && !evaluation.is_instant()
            && !evaluation.fresh
            && !evaluation.per_step_stats
            && is_of_steps(&evaluation.expr)
    }

    /// Looks for what is kept of a question. To be asked before anything is evaluated for it.
    pub(crate) fn find(
        &self,
        storage: &Storage,
        scope: &ReadScope,
        evaluation: &Evaluation,
        plan: &Plan,
    ) -> Option<Asked> {
        let reach = Reach::of(plan)?;
        let key = Arc::new(Key::new(scope, evaluation)?);
        let grid = plan.root.grid;
        // Before it is asked what changed: a change after it is of what is evaluated only.
        let generation = storage.generation();
        let stretch = self.kept.lock().get(&key);
        let holding = stretch.and_then(|stretch| {
            let changed_ms = storage.changed_since(scope, stretch.generation);
            let range = reach.holding(stretch.range, changed_ms, storage.kept_from_ms(scope));
            Some((cut_to_steps(range, stretch.range, key.step_ms)?, stretch))
        });
        let asked = TimeRange { start_ms: grid.start_ms, end_ms: grid.at(grid.len - 1) };
        let length = |range: TimeRange| range.end_ms - range.start_ms;
        let is_longer = holding.as_ref().is_some_and(|(held, _)| length(*held) > length(asked));
        let found = holding.and_then(|(held, stretch)| {
            let start_ms = held.start_ms.max(asked.start_ms);
            let end_ms = held.end_ms.min(asked.end_ms);
            (start_ms <= end_ms).then_some((stretch, TimeRange { start_ms, end_ms }))
        });
        let counted = match &found {
            Some((_, range)) if *range == asked => &self.hits,
            Some(_) => &self.partial,
            None => &self.misses,
        };
        counted.fetch_add(1, Ordering::Relaxed);
        let is_longer = is_longer && found.is_some();
        Some(Asked { key, grid, generation, found, is_longer })
    }

    /// Keeps an answer to a whole question.
    pub(crate) fn keep(&self, asked: Asked, answer: &Answer) {
        let Value::Matrix(series) = &answer.value else { return };
        let has_notes = !answer.warnings.is_empty() || !answer.infos.is_empty();
        if asked.is_longer || has_notes || !is_in_order(series) {
            return;
        }
        let bytes = bytes_of(series) + asked.key.bytes();
        if bytes > self.bytes_max / PART_OF_SCOPE {
            return;
        }
        let Asked { key, grid, generation, .. } = asked;
        let range = TimeRange { start_ms: grid.start_ms, end_ms: grid.at(grid.len - 1) };
        let stretch = Stretch { key, range, generation, series: series.clone() };
        let gone = self.kept.lock().put(Arc::new(stretch), bytes as u64, self.bytes_max as u64);
        // Freed outside the lock.
        drop(gone);
    }

    /// What it has come to.
    pub(crate) fn usage(&self) -> ResultCacheUse {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ResultCacheUse {
            bytes: self.kept.lock().bytes,
            hits: count(&self.hits),
            partial: count(&self.partial),
            misses: count(&self.misses),
        }
    }
}

impl Asked {
    /// What is kept, cut to what was asked for, and where it begins.
    pub(crate) fn kept(&self) -> Option<(i64, Vec<MatrixSeries>)> {
        let (stretch, range) = self.found.as_ref()?;
        Some((range.start_ms, cut(&stretch.series, *range)))
    }

    /// Whether some of its steps are kept.
    pub(crate) fn has_kept(&self) -> bool {
        self.found.is_some()
    }

    /// The steps that have to be evaluated, first and last, of a question of which some are kept.
    pub(crate) fn missing(&self) -> Vec<TimeRange> {
        let Some((_, kept)) = &self.found else { return Vec::new() };
        let (grid, step_ms) = (self.grid, self.key.step_ms);
        let before = TimeRange { start_ms: grid.start_ms, end_ms: kept.start_ms - step_ms };
        let after = TimeRange { start_ms: kept.end_ms + step_ms, end_ms: grid.at(grid.len - 1) };
        [before, after].into_iter().filter(|range| range.start_ms <= range.end_ms).collect()
    }
}

impl Key {
    /// `None` where steps lie so far out that arithmetic on them would overflow.
    fn new(scope: &ReadScope, evaluation: &Evaluation) -> Option<Self> {
        let Evaluation { expr, start_ms, end_ms, step_ms, lookback_ms, .. } = evaluation;
        let far = |ms: i64| ms.checked_abs().is_none_or(|ms| ms > FAR_MS);
        if far(*start_ms) || far(*end_ms) || far(*step_ms) || far(*lookback_ms) {
            return None;
        }
        let mut shown = String::new();
        for tenant in scope.tenants() {
            let name = if scope.is_labelled() { tenant.name.as_str() } else { "" };
            let _ = write!(shown, "{name} {:?};", tenant.alternatives);
        }
        Some(Self {
            tenants: scope.tenants().iter().map(|tenant| tenant.id).collect(),
            is_labelled: scope.is_labelled(),
            scope: shown,
            expr: expr.to_string(),
            step_ms: *step_ms,
            phase_ms: start_ms.rem_euclid(*step_ms),
            lookback_ms: *lookback_ms,
        })
    }

    fn bytes(&self) -> usize {
        let tenants = self.tenants.len() * size_of::<TenantId>();
        2 * (tenants + size_of::<Self>()) + self.scope.len() + self.expr.len()
    }
}

/// Instants farther from the epoch are not kept: thirty thousand years. Milliseconds.
const FAR_MS: i64 = 1 << 50;

impl Kept {
    fn get(&mut self, key: &Key) -> Option<Arc<Stretch>> {
        let number = self.numbers.get(key)?;
        self.scopes.get_mut(&key.tenants)?.get(number).cloned()
    }

    /// Puts a stretch in, and gives what had to go for it.
    fn put(&mut self, stretch: Arc<Stretch>, bytes: u64, bytes_max: u64) -> Vec<Arc<Stretch>> {
        let key = &stretch.key;
        let number = *self.numbers.entry(Arc::clone(key)).or_insert_with(|| {
            self.next += 1;
            self.next
        });
        let of_scope = self.scopes.entry(key.tenants.clone());
        let of_scope = of_scope.or_insert_with(|| Lru::new(bytes_max / PART_OF_SCOPE as u64));
        self.bytes -= of_scope.bytes();
        let replaced = of_scope.remove(&number);
        let gone = of_scope.put(number, stretch, bytes);
        self.bytes += of_scope.bytes();
        let mut gone: Vec<Arc<Stretch>> = gone.into_iter().map(|(_, stretch)| stretch).collect();
        // Those who have most give.
        while self.bytes > bytes_max {
            let most = self.scopes.values_mut().max_by_key(|scope| scope.bytes());
            let Some(most) = most else { break };
            self.bytes -= most.bytes();
            let oldest = most.pop_oldest();
            self.bytes += most.bytes();
            let Some((_, oldest)) = oldest else { break };
            gone.push(oldest);
        }
        for stretch in &gone {
            self.numbers.remove(&stretch.key);
        }
        self.scopes.retain(|_, scope| scope.bytes() > 0);
        gone.extend(replaced);
        gone
    }
}

/// Whether each step of an expression is the same whatever range it is asked in.
fn is_of_steps(expr: &Expr) -> bool {
    let text = expr.to_string();
    if OF_THE_RANGE.iter().any(|word| text.contains(word)) {
        return false;
    }
    // Series of several names may get the same labels by losing them, which is an error even if they
    // have no step in common.
    let mut one_name = true;
    expr.selectors(|selector, _| {
        one_name &= selector.matchers.iter().any(|matcher| {
            let is_name = matcher.name() == model::METRIC_NAME && !matcher.value().is_empty();
            is_name && matcher.op() == model::MatchOp::Equal
        });
    });
    let mut relabels = false;
    expr.walk(&mut |part| {
        if let ExprKind::Call(call) = &part.kind {
            relabels |= RELABELLING.contains(&call.func.name);
        }
    });
    one_name && !relabels
}

/// The steps of a stretch that lie in a range, if there are any.
fn cut_to_steps(range: TimeRange, stretch: TimeRange, step_ms: i64) -> Option<TimeRange> {
    let start_ms = range.start_ms.max(stretch.start_ms);
    let end_ms = range.end_ms.min(stretch.end_ms);
    if start_ms > end_ms {
        return None;
    }
    let steps_before = (start_ms - stretch.start_ms + step_ms - 1) / step_ms;
    let steps_to = (end_ms - stretch.start_ms) / step_ms;
    let at = |steps: i64| stretch.start_ms + steps * step_ms;
    (steps_before <= steps_to)
        .then(|| TimeRange { start_ms: at(steps_before), end_ms: at(steps_to) })
}

#[cfg(test)]
mod tests;
