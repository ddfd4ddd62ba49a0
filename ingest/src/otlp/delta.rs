//! From delta to cumulative: what points that tell only what is new add up to.
//!
//! Semantics of the Collector's `deltatocumulative`, which Prometheus builds in: a stream begins
//! with its first point; a point that lies before the last one is dropped; a stream without points
//! for a while is forgotten. State is in memory: after a restart sums begin anew, which every
//! counter function takes for the reset it is. A point that comes again, because its write failed,
//! adds nothing and gives the sum that it had.
//!
//! Memory is bounded for each tenant, counted in cells: one for a stream, one for eight buckets.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use model::SeriesId;
use parking_lot::Mutex;
use tenancy::TenantId;

use super::point::{Number, Side};
use crate::native::coarser;

/// Buckets of one stream on one side; above, its scale shrinks.
const BUCKETS_MAX: usize = 320;

/// How often streams without points are looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// The streams of all tenants.
#[derive(Debug)]
pub(crate) struct Deltas {
    tenants: Mutex<HashMap<TenantId, Arc<Mutex<Streams>>>>,
    total: Arc<AtomicU64>,
}

/// The streams of one tenant.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    by_id: HashMap<SeriesId, Stream>,
    cells: usize,
    swept: Duration,
    /// Streams of all tenants, for the metrics.
    total: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Stream {
    /// Since when it adds up, as its first point says.
    start_ns: u64,
    last_ns: u64,
    /// Monotonic time of the last point.
    touched: Duration,
    cells: usize,
    sum: Sum,
}

/// What a stream adds up to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sum {
    Number(Number),
    Explicit(Explicit),
    Exponential(Exponential),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Explicit {
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) counts: Vec<u64>,
    pub(super) bounds: Vec<f64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Exponential {
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    pub(super) zero_threshold: f64,
    pub(super) positive: Side,
    pub(super) negative: Side,
}

/// Limits of one tenant's streams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) cells_max: usize,
    pub(crate) forget_after: Duration,
}

/// Why a point was not added.
#[derive(Debug, PartialEq)]
pub(super) enum NotAdded {
    /// It lies before the last one of its stream.
    Before,
    /// There is no room for one more stream.
    Full,
}

impl Deltas {
    /// No streams yet; `total` shows how many there are.
    pub(crate) fn new(total: Arc<AtomicU64>) -> Self {
        Self { tenants: Mutex::default(), total }
    }

    /// The streams of a tenant.
    pub(crate) fn of(&self, tenant: TenantId) -> Arc<Mutex<Streams>> {
        let new = || {
            Arc::new(Mutex::new(Streams { total: Arc::clone(&self.total), ..Streams::default() }))
        };
        Arc::clone(self.tenants.lock().entry(tenant).or_insert_with(new))
    }
}

impl Streams {
    /// Adds a point to its stream and gives what that adds up to, and since when.
    pub(super) fn add(
        &mut self,
        id: SeriesId,
        (start_ns, time_ns): (u64, u64),
        point: Sum,
        now: Duration,
        bounds: Bounds,
    ) -> Result<(&Sum, u64), NotAdded> {
        self.sweep(now, bounds.forget_after);
        let cells = point.cells();
        if let Some(known) = self.by_id.get_mut(&id) {
            if time_ns < known.last_ns {
                return Err(NotAdded::Before);
            }
            if time_ns > known.last_ns {
                if !known.sum.add(point) {
                    known.start_ns = start_ns;
                }
                known.last_ns = time_ns;
                let cells = known.sum.cells();
                self.cells = self.cells + cells - known.cells;
                known.cells = cells;
            }
            known.touched = now;
        } else {
            if self.cells + cells > bounds.cells_max {
                return Err(NotAdded::Full);
            }
            self.cells += cells;
            self.total.fetch_add(1, Relaxed);
            let stream = Stream { start_ns, last_ns: time_ns, touched: now, cells, sum: point };
            self.by_id.insert(id, stream);
        }
        let stream = self.by_id.get(&id).ok_or(NotAdded::Full)?;
        Ok((&stream.sum, stream.start_ns))
    }

    /// Forgets a stream: its series ended.
    pub(super) fn end(&mut self, id: SeriesId) {
        if let Some(ended) = self.by_id.remove(&id) {
            self.cells -= ended.cells;
            self.total.fetch_sub(1, Relaxed);
        }
    }

    fn sweep(&mut self, now: Duration, forget_after: Duration) {
        if now.saturating_sub(self.swept) < SWEEP.min(forget_after) {
            return;
        }
        self.swept = now;
        let (mut freed, before) = (0, self.by_id.len());
        self.by_id.retain(|_, stream| {
            let stays = now.saturating_sub(stream.touched) < forget_after;
            freed += if stays { 0 } else { stream.cells };
            stays
        });
        self.cells -= freed;
        self.total.fetch_sub((before - self.by_id.len()) as u64, Relaxed);
    }
}

impl Sum {
    fn cells(&self) -> usize {
        let buckets = match self {
            Self::Number(_) => 0,
            Self::Explicit(h) => h.counts.len() + h.bounds.len(),
            Self::Exponential(h) => h.positive.counts.len() + h.negative.counts.len(),
        };
        1 + buckets.div_ceil(8)
    }

    /// A point of another kind, or of other bounds, begins anew; says whether it did not.
    fn add(&mut self, point: Self) -> bool {
        match (self, point) {
            (Self::Number(sum), Self::Number(more)) => *sum = add_numbers(*sum, more),
            (Self::Explicit(sum), Self::Explicit(more))
                if sum.bounds == more.bounds && sum.counts.len() == more.counts.len() =>
            {
                sum.count = sum.count.wrapping_add(more.count);
                sum.sum = sum.sum.zip(more.sum).map(|(a, b)| a + b);
                sum.counts.iter_mut().zip(more.counts).for_each(|(a, b)| *a = a.wrapping_add(b));
            }
            (Self::Exponential(sum), Self::Exponential(more))
                if sum.zero_threshold.to_bits() == more.zero_threshold.to_bits() =>
            {
                sum.add(more);
            }
            (sum, point) => {
                *sum = point;
                return false;
            }
        }
        true
    }
}

fn add_numbers(a: Number, b: Number) -> Number {
    match (a, b) {
        (Number::Integer(a), Number::Integer(b)) => {
            a.checked_add(b).map_or(Number::Float(a as f64 + b as f64), Number::Integer)
        }
        (a, b) => Number::Float(a.float() + b.float()),
    }
}

impl Exponential {
    fn add(&mut self, mut more: Self) {
        let scale = self.scale.min(more.scale);
        self.shrink_to(scale);
        more.shrink_to(scale);
        self.count = self.count.wrapping_add(more.count);
        self.sum = self.sum.zip(more.sum).map(|(a, b)| a + b);
        self.zero_count = self.zero_count.wrapping_add(more.zero_count);
        loop {
            let (positive, negative) =
                (span(&self.positive, &more.positive), span(&self.negative, &more.negative));
            if positive.max(negative) <= BUCKETS_MAX as i64 {
                break;
            }
            let scale = self.scale - 1;
            self.shrink_to(scale);
            more.shrink_to(scale);
        }
        add_side(&mut self.positive, &more.positive);
        add_side(&mut self.negative, &more.negative);
    }

    fn shrink_to(&mut self, scale: i32) {
        let by = self.scale.saturating_sub(scale).unsigned_abs();
        if by > 0 {
            self.scale = scale;
            shrink(&mut self.positive, by);
            shrink(&mut self.negative, by);
        }
    }
}

/// How many buckets two sides take together.
fn span(a: &Side, b: &Side) -> i64 {
    let range = |side: &Side| {
        let start = i64::from(side.offset);
        (!side.counts.is_empty()).then(|| (start, start + side.counts.len() as i64))
    };
    match (range(a), range(b)) {
        (Some((a_start, a_end)), Some((b_start, b_end))) => a_end.max(b_end) - a_start.min(b_start),
        (Some((start, end)), None) | (None, Some((start, end))) => end - start,
        (None, None) => 0,
    }
}

/// Makes buckets `2^by` times as wide.
fn shrink(side: &mut Side, by: u32) {
    // Counted from one there, from zero here.
    let numbered = side.counts.iter().enumerate();
    let numbered = numbered.map(|(i, n)| (i64::from(side.offset) + 1 + i as i64, *n)).collect();
    let Some(wide) = coarser(numbered, by, |a: u64, b| Some(a.wrapping_add(b))) else { return };
    side.offset = wide.first().map_or(0, |(index, _)| (index - 1) as i32);
    side.counts = wide.into_iter().map(|(_, count)| count).collect();
}

/// Adds buckets of the same scale. Both together were found to take little room.
fn add_side(sum: &mut Side, more: &Side) {
    if more.counts.is_empty() {
        return;
    }
    if sum.counts.is_empty() {
        sum.clone_from(more);
        return;
    }
    let before = i64::from(sum.offset) - i64::from(more.offset);
    if before > 0 {
        sum.counts.splice(0..0, std::iter::repeat_n(0, before as usize));
        sum.offset = more.offset;
    }
    let start = (i64::from(more.offset) - i64::from(sum.offset)) as usize;
    let needed = start + more.counts.len();
    if sum.counts.len() < needed {
        sum.counts.resize(needed, 0);
    }
    for (a, b) in sum.counts[start..].iter_mut().zip(&more.counts) {
        *a = a.wrapping_add(*b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { cells_max: 10, forget_after: Duration::from_secs(300) };

    fn number(value: i64) -> Sum {
        Sum::Number(Number::Integer(value))
    }

    fn id(n: u128) -> SeriesId {
        SeriesId(n)
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn points_add_up_once() {
        let mut streams = Streams::default();
        let mut add = |n, time, value, now| {
            sum_of(streams.add(id(n), (3, time), number(value), at(now), BOUNDS))
        };
        assert_eq!(add(1, 10, 5, 0), Ok(number(5)));
        assert_eq!(add(1, 20, 7, 1), Ok(number(12)));
        assert_eq!(add(1, 20, 7, 2), Ok(number(12)), "the same point again");
        assert_eq!(add(1, 15, 7, 2), Err(NotAdded::Before));
        assert_eq!(add(2, 5, 1, 3), Ok(number(1)), "another stream");
        assert_eq!(add(1, 30, i64::MAX, 4), Ok(Sum::Number(Number::Float(i64::MAX as f64 + 12.0))));
        assert_eq!(add(1, 40, 1, 303), Ok(Sum::Number(Number::Float(i64::MAX as f64 + 13.0))));
        assert_eq!(add(2, 50, 1, 304), Ok(number(1)), "forgotten after five minutes");
    }

    fn sum_of(added: Result<(&Sum, u64), NotAdded>) -> Result<Sum, NotAdded> {
        added.map(|(sum, _)| sum.clone())
    }

    #[test]
    fn sums_count_since_their_stream_began() {
        let mut streams = Streams::default();
        let mut start = |start, time, point| {
            let added = streams.add(id(1), (start, time), point, at(0), BOUNDS);
            added.map(|(_, start_ns)| start_ns)
        };
        assert_eq!(start(5, 10, number(1)), Ok(5));
        assert_eq!(start(10, 20, number(1)), Ok(5));
        assert_eq!(start(10, 20, number(1)), Ok(5), "the same point again");
        assert_eq!(start(20, 30, explicit(&[1, 2], &[0.5])), Ok(20), "another kind");
        assert_eq!(start(30, 40, explicit(&[1, 2], &[0.5])), Ok(20));
        assert_eq!(start(40, 50, explicit(&[1, 2], &[0.7])), Ok(40), "other bounds");
    }

    #[test]
    fn streams_are_bounded() {
        let mut streams = Streams::default();
        for n in 0..10 {
            assert!(streams.add(id(n), (0, 1), number(1), at(0), BOUNDS).is_ok());
        }
        assert_eq!(streams.add(id(10), (0, 1), number(1), at(0), BOUNDS), Err(NotAdded::Full));
        assert!(streams.add(id(3), (0, 2), number(1), at(0), BOUNDS).is_ok(), "known ones go on");
        streams.end(id(3));
        assert!(streams.add(id(10), (0, 1), number(1), at(0), BOUNDS).is_ok());
        assert!(
            streams.add(id(11), (0, 1), number(1), at(400), BOUNDS).is_ok(),
            "the others are gone"
        );
        assert_eq!((streams.by_id.len(), streams.cells, streams.total.load(Relaxed)), (1, 1, 1));
    }

    fn explicit(counts: &[u64], bounds: &[f64]) -> Sum {
        let count = counts.iter().sum();
        Sum::Explicit(Explicit {
            count,
            sum: Some(1.5),
            counts: counts.to_vec(),
            bounds: bounds.to_vec(),
        })
    }

    fn exponential(scale: i32, offset: i32, counts: &[u64]) -> Exponential {
        Exponential {
            count: counts.iter().sum(),
            sum: None,
            scale,
            zero_count: 1,
            zero_threshold: 0.0,
            positive: Side { offset, counts: counts.to_vec() },
            negative: Side::default(),
        }
    }

    #[test]
    fn histograms_add_up_and_begin_anew_with_other_bounds() {
        let mut sum = explicit(&[1, 2], &[0.5]);
        sum.add(explicit(&[3, 4], &[0.5]));
        let Sum::Explicit(h) = &sum else { panic!("still a histogram") };
        assert_eq!((h.count, h.sum, &h.counts[..]), (10, Some(3.0), &[4, 6][..]));
        sum.add(explicit(&[1, 1, 1], &[0.5, 1.0]));
        assert_eq!(sum, explicit(&[1, 1, 1], &[0.5, 1.0]));
    }

    #[track_caller]
    fn check(mut a: Exponential, b: Exponential, scale: i32, offset: i32, counts: &[u64]) {
        a.add(b);
        assert_eq!((a.scale, a.positive), (scale, Side { offset, counts: counts.to_vec() }));
    }

    #[test]
    fn exponential_histograms_meet_at_the_coarser_scale() {
        check(exponential(0, 0, &[1, 2]), exponential(0, 1, &[3, 4]), 0, 0, &[1, 5, 4]);
        check(exponential(0, 3, &[1]), exponential(0, -1, &[2]), 0, -1, &[2, 0, 0, 0, 1]);
        // Buckets 0 and 1 become 0, 2 becomes 1; −1 becomes −1.
        check(exponential(1, 0, &[1, 2, 4]), exponential(0, 0, &[8]), 0, 0, &[11, 4]);
        check(exponential(1, -1, &[1, 2]), exponential(0, 0, &[0]), 0, -1, &[1, 2]);
        check(exponential(3, 0, &[]), exponential(2, 5, &[1]), 2, 5, &[1]);
        let mut far = exponential(8, -1_000_000, &[1]);
        far.add(exponential(8, 1_000_000, &[1]));
        assert!(far.positive.counts.len() <= BUCKETS_MAX, "{far:?}");
        assert_eq!(far.positive.counts.iter().sum::<u64>(), 2);
    }
}
