//! Which series are alive at an instant, told from their newest samples: no sample is decoded for
//! most of them, and no label set put together but for their groups.
//!
//! Invariant: of every series of the partition that has a sample from `newest_known_from_ms` on the
//! head knows the newest. Rows reach blocks through the head alone, so only what it forgets moves
//! that instant: series that are dropped, rows that are deleted, a restart.

use hashbrown::HashMap;
use model::{Labels, METRIC_NAME, Pace, Stopped, TimeRange, is_stale};
use roaring::RoaringBitmap;

use super::Head;
use super::histogram;
use super::read::SharedTimestamps;
use super::select::LabelColumn;
use super::series::Flags;

/// Which labels tell groups apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupBy {
    /// Names, in order, each once.
    pub labels: Vec<String>,
    /// All but these and the metric's name; otherwise these.
    pub without: bool,
}

/// How many series are alive, by group.
#[derive(Debug, Default)]
pub struct Groups {
    /// Label sets of groups, in no order, each once.
    pub groups: Vec<(Labels, u64)>,
    /// Series in all of them.
    pub series: u64,
}

impl Head {
    /// What is known of series before it is not: none of these is newer.
    pub(super) fn note_unknown_to(&mut self, newest_ms: Option<i64>) {
        let from_ms = newest_ms.map_or(i64::MIN, |ms| ms.saturating_add(1));
        self.newest_known_from_ms = self.newest_known_from_ms.max(from_ms);
    }

    /// The head was made from what was stored; blocks have rows up to `in_blocks_ms`.
    pub(crate) fn note_restored(&mut self, in_blocks_ms: Option<i64>) {
        let own = (0..self.series.len()).filter_map(|number| self.last_ms(number)).max();
        self.note_unknown_to(own.max(in_blocks_ms));
    }

    /// Counts those of some series by group whose newest sample in `window` says that they are
    /// alive at its end. `None` if the head alone cannot tell.
    pub(crate) fn count_live(
        &self,
        series: &RoaringBitmap,
        window: TimeRange,
        by: &GroupBy,
        pace: &mut Pace,
    ) -> Result<Option<Groups>, Stopped> {
        if window.start_ms < self.newest_known_from_ms {
            return Ok(None);
        }
        let mut counting = Counting::new(self, by);
        for number in series {
            pace.work(2)?;
            match self.is_live(number, window) {
                Some(true) => counting.add(number),
                Some(false) => {}
                None => return Ok(None),
            }
        }
        Ok(Some(counting.finish()))
    }

    /// Whether the newest sample in the window is there and no stale marker, if that is known.
    fn is_live(&self, number: u32, window: TimeRange) -> Option<bool> {
        let series = self.series.all.get(number as usize)?;
        let has_histograms = series.flags.has(Flags::HISTOGRAMS);
        if !has_histograms && series.last_ms <= window.end_ms {
            if series.last_ms < window.start_ms {
                return Some(false);
            }
            return series.last().map(|newest| !is_stale(f64::from_bits(newest.bits)));
        }
        let newest_ms = self.last_ms(number)?;
        if newest_ms < window.start_ms {
            return Some(false);
        }
        self.newest_in(number, window).or_else(|| self.newest_flushed(number, newest_ms, window))
    }

    /// The same by the samples that are still here. Those that came in order are newer than all
    /// that was flushed; late ones may not be.
    fn newest_in(&self, number: u32, window: TimeRange) -> Option<bool> {
        let frozen = self.frozen.as_deref().map(|frozen| &frozen.generation);
        let mut generations = frozen.into_iter().chain([&self.open]);
        if generations.any(|generation| generation.late.contains_key(&number)) {
            return None;
        }
        let samples = self.read(number, window, &mut SharedTimestamps::default());
        let float = samples.timestamps.last().zip(samples.values.last());
        let histogram = samples.histograms.last();
        match (float, histogram) {
            (None, None) => None,
            (Some((_, value)), None) => Some(!is_stale(*value)),
            (Some((at, value)), Some((h_at, _))) if at > h_at => Some(!is_stale(*value)),
            (_, Some((_, histogram))) => Some(!histogram.is_stale()),
        }
    }

    /// The same by the newest sample, where that was flushed and lies in the window.
    fn newest_flushed(&self, number: u32, newest_ms: i64, window: TimeRange) -> Option<bool> {
        if newest_ms > window.end_ms {
            return None;
        }
        let series = self.series.all.get(number as usize)?;
        if series.last_ms == newest_ms {
            return series.last().map(|newest| !is_stale(f64::from_bits(newest.bits)));
        }
        let (at_ms, encoded) = self.flushed_histograms.get(&number)?;
        let histogram = histogram::decode(encoded).filter(|_| *at_ms == newest_ms)?;
        Some(!histogram.is_stale())
    }
}

/// Series on their way into groups.
enum Counting<'h> {
    /// By one label: a count for each symbol, and one for series without the label.
    One { head: &'h Head, name: &'h str, column: LabelColumn<'h>, counts: Vec<u64>, absent: u64 },
    /// By the symbols of values, [`NONE`] where a label is absent; or of names and values.
    Many { head: &'h Head, labels: By<'h>, counts: HashMap<Box<[u32]>, u64>, key: Vec<u32> },
}

/// What a group's key is made of.
enum By<'h> {
    /// Values of these labels.
    These(Vec<(&'h str, LabelColumn<'h>)>),
    /// Names and values of all labels but these.
    AllBut(Vec<u32>),
}

/// In place of a symbol: the label is absent.
const NONE: u32 = u32::MAX;

impl<'h> Counting<'h> {
    fn new(head: &'h Head, by: &'h GroupBy) -> Self {
        if let ([name], false) = (by.labels.as_slice(), by.without) {
            let counts = vec![0; head.symbol_count() as usize];
            return Self::One { head, name, column: head.label_column(name), counts, absent: 0 };
        }
        let labels = if by.without {
            let removed = by.labels.iter().map(String::as_str).chain([METRIC_NAME]);
            By::AllBut(removed.filter_map(|name| head.labels.symbols.get(name)).collect())
        } else {
            let column = |name: &'h String| (name.as_str(), head.label_column(name));
            By::These(by.labels.iter().map(column).collect())
        };
        Self::Many { head, labels, counts: HashMap::new(), key: Vec::new() }
    }

    #[inline]
    fn add(&mut self, number: u32) {
        match self {
            Self::One { column, counts, absent, .. } => {
                match column.symbol(number).and_then(|symbol| counts.get_mut(symbol as usize)) {
                    Some(count) => *count += 1,
                    None => *absent += 1,
                }
            }
            Self::Many { head, labels, counts, key } => {
                key.clear();
                match labels {
                    By::These(columns) => {
                        let symbols = columns.iter().map(|(_, column)| column.symbol(number));
                        key.extend(symbols.map(|symbol| symbol.unwrap_or(NONE)));
                    }
                    By::AllBut(removed) => {
                        let kept = head.labels.pairs(number);
                        let kept = kept.filter(|(name, _)| !removed.contains(name));
                        key.extend(kept.flat_map(|(name, value)| [name, value]));
                    }
                }
                match counts.get_mut(key.as_slice()) {
                    Some(count) => *count += 1,
                    None => drop(counts.insert(key.as_slice().into(), 1)),
                }
            }
        }
    }

    fn finish(self) -> Groups {
        let groups: Vec<(Labels, u64)> = match self {
            Self::One { head, name, counts, absent, .. } => {
                let counts = (0..).zip(counts).filter(|(_, count)| *count > 0);
                let of_value = |(symbol, count)| {
                    (Labels::from_pairs([(name, head.symbol_text(symbol))]), count)
                };
                let without = (absent > 0).then(|| (Labels::empty(), absent));
                counts.map(of_value).chain(without).collect()
            }
            Self::Many { head, labels, counts, .. } => {
                let text = |symbol: u32| head.symbol_text(symbol);
                let of_key = |key: &[u32]| match &labels {
                    By::These(columns) => {
                        let some = columns.iter().zip(key).filter(|(_, symbol)| **symbol != NONE);
                        Labels::from_pairs(some.map(|((name, _), s)| (*name, text(*s))))
                    }
                    By::AllBut(_) => {
                        let pairs = key.chunks_exact(2);
                        Labels::from_pairs(pairs.map(|pair| (text(pair[0]), text(pair[1]))))
                    }
                };
                counts.iter().map(|(key, count)| (of_key(key), *count)).collect()
            }
        };
        let series = groups.iter().map(|(_, count)| count).sum();
        Groups { groups, series }
    }
}
