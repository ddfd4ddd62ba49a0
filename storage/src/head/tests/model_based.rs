//! Any sequence of appends, deletions, cuts, thaws, renumberings and restarts reads like a sorted
//! map.

use std::collections::BTreeMap;

use model::{Matcher, Position, TimeRange};
use proptest::prelude::*;

use super::*;
use crate::SeriesSamples;
use crate::head::FrozenSeries;
use crate::tombstone::Tombstone;

/// Series of the test: names with how many labels, of two tenants.
const SERIES: usize = 8;

#[derive(Debug, Clone)]
enum Step {
    /// (series, time step, which value, whether labels are sent unsorted).
    Append(Vec<(usize, i64, usize, bool)>),
    Cut {
        idle_ms: i64,
    },
    /// The flush succeeded; the snapshot was taken now or at the cut, whole or not.
    Thaw {
        is_delta: bool,
    },
    /// Seconds of the range, and series with this label or all.
    Delete {
        tenant: u32,
        from: i64,
        to: i64,
        label: Option<&'static str>,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let row = (0..SERIES, 0i64..60, 0usize..9, any::<bool>());
    prop_oneof![
        8 => prop::collection::vec(row, 1..12).prop_map(Step::Append),
        2 => prop_oneof![Just(1i64), Just(100_000)].prop_map(|idle_ms| Step::Cut { idle_ms }),
        2 => any::<bool>().prop_map(|is_delta| Step::Thaw { is_delta }),
        2 => (1u32..3, 0i64..60, 0i64..40, 0usize..5).prop_map(|(tenant, from, length, label)| Step::Delete {
            tenant,
            from,
            to: from + length,
            label: ["a", "b", "c", "d"].get(label).copied(),
        }),
        1 => Just(Step::Restart),
    ]
}

fn value(which: usize, ms: i64) -> f64 {
    match which {
        0 => model::stale_nan(),
        1 => -0.0,
        2 => 0.1,
        3 => f64::from_bits(0x7ff8_0000_0000_0abc),
        4 => 1e300,
        _ => (ms / 1_000) as f64 * which as f64,
    }
}

/// Since when a sample counts: half of the series tell none, some samples of the others neither.
fn start_ms(series: usize, which: usize, ms: i64) -> i64 {
    match series % 4 {
        0 | 1 => 0,
        _ if which == 8 => 0,
        2 => ms / 20_000 * 20_000,
        _ => ms - 500,
    }
}

/// Bits of a value, and since when it counts.
type Told = (u64, i64);

/// What one series should be.
#[derive(Debug, Default, Clone)]
struct Expected {
    open: BTreeMap<i64, Told>,
    frozen: BTreeMap<i64, Told>,
    /// What was frozen, deleted or not: it goes into a block as it is.
    flushing: BTreeMap<i64, Told>,
}

/// The newest sample the head remembers, which may be flushed already.
#[derive(Debug, Clone, Copy)]
struct Last {
    ms: i64,
    bits: Option<u64>,
}

impl Last {
    fn of(head: &Head, series: usize) -> Self {
        let number = World::number(head, series);
        let ms = number.and_then(|n| head.last_ms(n)).unwrap_or(i64::MIN);
        Self { ms, bits: number.and_then(|n| head.last(n)).map(|(_, v)| v.to_bits()) }
    }
}

impl Expected {
    /// Whether the sample is accepted.
    fn append(&mut self, last: &mut Last, ms: i64, (bits, start_ms): Told) -> bool {
        let remembered = last.bits.filter(|_| last.ms == ms);
        let known = self.open.get(&ms).or_else(|| self.frozen.get(&ms));
        if let Some(known) = known.map(|(bits, _)| *bits).or(remembered) {
            return known == bits;
        }
        self.open.insert(ms, (bits, start_ms));
        if ms > last.ms {
            *last = Last { ms, bits: Some(bits) };
        }
        true
    }

    fn all(&self) -> Vec<(i64, Told)> {
        let mut all = self.frozen.clone();
        all.extend(self.open.iter());
        all.into_iter().collect()
    }
}

/// A head with what its owner keeps on disk.
struct World {
    rig: Rig,
    expected: Vec<Expected>,
    snapshots: Vec<Vec<u8>>,
    deleted: Vec<Tombstone>,
    /// Where the next restart's replay starts.
    covered: usize,
    /// Where it will start once the flush is done.
    cut_at: usize,
    /// Series in the snapshots; `None` once they were renumbered.
    in_snapshots: Option<u32>,
}

fn pairs(series: usize) -> Vec<(&'static str, &'static str)> {
    let all = [("__name__", "m"), ("a", "1"), ("b", "22"), ("c", "333"), ("d", "4")];
    all[..1 + series / 2].to_vec()
}

fn tenant(series: usize) -> u32 {
    1 + (series % 2) as u32
}

impl World {
    fn new() -> Self {
        let (rig, expected) = (Rig::new(), vec![Expected::default(); SERIES]);
        let (snapshots, deleted) = (Vec::new(), Vec::new());
        Self { rig, expected, snapshots, deleted, covered: 0, cut_at: 0, in_snapshots: Some(0) }
    }

    fn number(head: &Head, series: usize) -> Option<u32> {
        let id = Labels::from_pairs(pairs(series)).series_id();
        head.find(TenantId(tenant(series)), id)
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Append(rows) => self.append(rows),
            Step::Cut { idle_ms } => self.cut(*idle_ms),
            Step::Thaw { is_delta } => self.thaw(*is_delta),
            Step::Delete { tenant, from, to, label } => self.delete(*tenant, (*from, *to), *label),
            Step::Restart => self.restart(),
        }
        check_reads(&self.rig.head, &self.expected);
    }

    fn append(&mut self, rows: &[(usize, i64, usize, bool)]) {
        let mut last: Vec<Last> =
            (0..SERIES).map(|series| Last::of(&self.rig.head, series)).collect();
        for of_tenant in [1, 2] {
            let (mut request, mut accepted, mut refused) = (Vec::new(), 0, 0);
            for &(series, at, which, unsorted) in rows.iter().filter(|r| tenant(r.0) == of_tenant) {
                let (ms, mut pairs) = (OLDEST_MS + at * 1_000 + at % 3, pairs(series));
                let value = value(which, ms);
                if unsorted {
                    pairs.reverse();
                }
                request.push(Sent {
                    wire: as_given(&pairs),
                    samples: vec![(ms, value)],
                    starts: vec![start_ms(series, which, ms)],
                    ..Sent::default()
                });
                let told = (value.to_bits(), start_ms(series, which, ms));
                match self.expected[series].append(&mut last[series], ms, told) {
                    true => accepted += 1,
                    false => refused += 1,
                }
            }
            let outcome = self.rig.send(of_tenant, &request);
            let told: u64 = outcome.rejected.iter().map(|r| r.count).sum();
            assert_eq!((outcome.samples, told), (accepted, refused));
        }
    }

    fn delete(&mut self, of_tenant: u32, seconds: (i64, i64), label: Option<&str>) {
        let deleted = Tombstone {
            only: None,
            id: self.rig.log.len() as u64,
            tenant: TenantId(of_tenant),
            matchers: label.into_iter().map(|l| matcher(model::MatchOp::NotEqual, l, "")).collect(),
            range: TimeRange {
                start_ms: OLDEST_MS + seconds.0 * 1_000,
                end_ms: OLDEST_MS + seconds.1 * 1_000,
            },
            position: Position(0),
            created_ms: 0,
        };
        let payload = self.rig.head.tombstone_payload(&deleted);
        self.rig.log.push((RecordKind::Tombstone, deleted.tenant, payload));
        let before: usize = self.expected.iter().map(|e| e.all().len()).sum();
        for (series, expected) in self.expected.iter_mut().enumerate() {
            let has_label =
                label.is_none_or(|label| pairs(series).iter().any(|(name, _)| *name == label));
            if tenant(series) == of_tenant && has_label {
                expected.open.retain(|ms, _| !deleted.range.contains(*ms));
                expected.frozen.retain(|ms, _| !deleted.range.contains(*ms));
            }
        }
        let after: usize = self.expected.iter().map(|e| e.all().len()).sum();
        let removed = self.rig.head.delete(deleted.tenant, &deleted.matchers, deleted.range);
        assert_eq!(removed.samples as usize, before - after);
        self.deleted.push(deleted);
    }

    fn cut(&mut self, idle_ms: i64) {
        let was_frozen = self.rig.head.frozen().is_some();
        let cut = self.rig.head.cut(OLDEST_MS + 60_000, idle_ms);
        if let Some(payload) = cut.renumbered {
            self.rig.log.push((RecordKind::Renumbered, TenantId(0), payload));
            self.in_snapshots = None;
        }
        if was_frozen {
            return;
        }
        self.cut_at = self.rig.log.len();
        for (series, expected) in self.expected.iter_mut().enumerate() {
            expected.frozen = std::mem::take(&mut expected.open);
            expected.flushing.clone_from(&expected.frozen);
            if Self::number(&self.rig.head, series).is_none() {
                assert!(expected.frozen.is_empty(), "a series with samples was dropped");
            }
        }
    }

    fn thaw(&mut self, is_delta: bool) {
        let Some(frozen) = self.rig.head.frozen().cloned() else { return };
        self.check_flush_list();
        for (series, expected) in self.expected.iter_mut().enumerate() {
            if let Some(number) = Self::number(&self.rig.head, series) {
                let read = frozen.read(number, TimeRange::ALL, &mut SharedTimestamps::default());
                assert_eq!(told(&read), expected.flushing.clone().into_iter().collect::<Vec<_>>());
            }
            expected.frozen.clear();
            expected.flushing.clear();
        }
        match self.in_snapshots {
            Some(from) if is_delta => self.snapshots.push(self.rig.head.snapshot_delta(from)),
            _ => self.snapshots = vec![self.rig.head.snapshot_full()],
        }
        self.in_snapshots = Some(self.rig.head.series_count());
        self.covered = self.cut_at;
        self.rig.head.thaw();
    }

    /// Every series with frozen samples once, in order.
    fn check_flush_list(&self) {
        let Some(view) = self.rig.head.flush_view() else { return };
        let (mut listed, mut next) = (Vec::new(), Some(0));
        while let Some(from) = next {
            let (some, then) = view.batch(from, 3);
            listed.extend(some);
            next = then;
        }
        assert!(listed.is_sorted_by(|a: &FrozenSeries, b| {
            a.tenant.cmp(&b.tenant).then_with(|| a.labels.stored_order(&b.labels)).is_lt()
        }));
        let has_samples = |e: &&Expected| !e.flushing.is_empty();
        assert_eq!(listed.len(), self.expected.iter().filter(has_samples).count());
        for one in listed {
            assert_eq!(self.rig.head.find(one.tenant, one.id), Some(one.series));
            assert_eq!(one.labels.series_id(), one.id);
        }
    }

    fn restarted(&self) -> Head {
        let mut head = Head::new(99);
        for snapshot in &self.snapshots {
            head.restore(snapshot).expect("a snapshot of ours");
        }
        // As the manifest names them.
        for deleted in self.deleted.iter().filter(|d| d.id < self.covered as u64) {
            head.delete(deleted.tenant, &deleted.matchers, deleted.range);
        }
        for (kind, tenant, payload) in &self.rig.log[self.covered..] {
            head.replay(*kind, *tenant, payload).expect("payloads of append and cut");
        }
        head
    }

    fn restart(&mut self) {
        self.rig.head = self.restarted();
        for expected in &mut self.expected {
            let frozen = std::mem::take(&mut expected.frozen);
            expected.open.extend(frozen);
            expected.flushing.clear();
        }
    }
}

/// Instant, bits and start of each sample.
fn told(read: &SeriesSamples) -> Vec<(i64, Told)> {
    let starts = read.starts.each(read.timestamps.iter().copied());
    let bits = read.values.iter().map(|v| v.to_bits());
    read.timestamps.iter().copied().zip(bits.zip(starts)).collect()
}

fn matcher(op: model::MatchOp, name: &str, value: &str) -> Matcher {
    Matcher::new(op, name, value).expect("a matcher of the test")
}

fn check_reads(head: &Head, expected: &[Expected]) {
    for (series, expected) in expected.iter().enumerate() {
        let all = expected.all();
        let Some(number) = World::number(head, series) else {
            assert_eq!(all, [], "series {series} is missing");
            continue;
        };
        let read = head.read(number, TimeRange::ALL, &mut SharedTimestamps::default());
        assert_eq!(told(&read), all, "series {series}");
        let is_there = head.all(TenantId(tenant(series))).contains(number);
        assert!(is_there || all.is_empty(), "series {series} is hidden");
        let range = TimeRange { start_ms: OLDEST_MS + 10_000, end_ms: OLDEST_MS + 30_000 };
        let within = head.read(number, range, &mut SharedTimestamps::default());
        let inside: Vec<_> = all.into_iter().filter(|(ms, _)| range.contains(*ms)).collect();
        assert_eq!(told(&within), inside, "series {series}");
        assert_eq!(head.labels(number), Labels::from_pairs(pairs(series)));
    }
    for tenant_id in [1, 2] {
        let of_tenant = expected.iter().enumerate().filter(|(s, _)| tenant(*s) == tenant_id);
        let samples: usize = of_tenant.map(|(_, e)| e.all().len()).sum();
        assert_eq!(head.tenant_samples(TenantId(tenant_id)), samples as u64);
    }
    let counts = head.counts();
    assert_eq!(counts.open.samples, expected.iter().map(|e| e.open.len() as u64).sum::<u64>());
    let oldest = expected.iter().filter_map(|e| e.open.keys().next()).min();
    let told = counts.open.time_range().map(|r| r.start_ms);
    assert_eq!(told.is_some(), oldest.is_some());
    assert!(told <= oldest.copied(), "what was deleted may still count");
}

fn check_steps(steps: &[Step]) {
    let mut world = World::new();
    for step in steps {
        world.step(step);
    }
    // What a restart at the end would give, without what was flushed.
    let head = world.restarted();
    let mut expected = world.expected.clone();
    for e in &mut expected {
        let frozen = std::mem::take(&mut e.frozen);
        e.open.extend(frozen);
    }
    check_reads(&head, &expected);
}

/// Late and deleted rows beside frozen ones.
#[test]
fn cases_that_once_failed() {
    let one = |series, at| Step::Append(vec![(series, at, 5, false)]);
    let cut = |idle_ms| Step::Cut { idle_ms };
    let delete = |from, to, label| Step::Delete { tenant: 2, from, to, label };
    let thaw = Step::Thaw { is_delta: false };
    // What is left of a stream is older than what is frozen, and newer: both are found again.
    let rows = vec![(7, 26, 5, false), (7, 10, 5, false)];
    let steps = [one(7, 9), cut(1), one(7, 0), Step::Append(rows), delete(11, 27, Some("a"))];
    check_steps(&[&steps[..], &[one(7, 9)]].concat());
    // What made a row late is in a block when the deletion is replayed.
    let rows = vec![(1, 20, 5, false), (1, 55, 5, false)];
    let steps = [one(1, 50), cut(100_000), Step::Append(rows), delete(54, 56, None), one(1, 30)];
    check_steps(&[&steps[..], &[thaw, Step::Restart, one(1, 30), one(1, 60)]].concat());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn a_head_reads_like_a_map(steps in prop::collection::vec(step(), 1..30)) {
        check_steps(&steps);
    }
}
