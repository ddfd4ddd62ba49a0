//! Cutting off what is to be flushed, and dropping series that have gone quiet.

use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;
use model::varint;
use roaring::RoaringBitmap;

use super::Head;
use super::buffer::Buffer;
use super::frozen::Frozen;
use super::generation::Generation;
use super::payload::put_start;
use super::series::{Flags, GONE};

/// What a cut did.
#[derive(Debug)]
pub struct Cut {
    /// Payload of a `Renumbered` record, to be logged before anything else is.
    pub renumbered: Option<Vec<u8>>,
    /// What is to be flushed; `None` if nothing came in since the last cut.
    pub frozen: Option<Arc<Frozen>>,
}

/// Idle series are dropped once they are one in so many: renumbering costs a pass over all.
const IDLE_SHARE: u64 = 4;

impl Head {
    /// Freezes what came in since the last cut; it stays readable until [`Head::thaw`]. Before,
    /// if a quarter of all series has nothing to flush and no sample in the last `idle_ms`, drops
    /// those and numbers the others anew, in the same order.
    ///
    /// While something is frozen nothing is done and that is returned, to be flushed again.
    pub fn cut(&mut self, now_ms: i64, idle_ms: i64) -> Cut {
        if let Some(frozen) = &self.frozen {
            return Cut { renumbered: None, frozen: Some(Arc::clone(frozen)) };
        }
        let survivors = self.survivors(now_ms.saturating_sub(idle_ms));
        let all = u64::from(self.series.len());
        let renumbered = ((all - survivors.len()) * IDLE_SHARE > all).then(|| {
            let mut payload = Vec::new();
            put_start(&mut payload, self.epoch);
            let mark = self.mark();
            for count in [mark.symbols, mark.shapes, mark.series] {
                varint::put(&mut payload, u64::from(count));
            }
            survivors.serialize_into(&mut payload).expect("a Vec takes every write");
            self.renumber(&survivors);
            payload
        });
        if !self.open.is_empty() {
            self.freeze();
        }
        Cut { renumbered, frozen: self.frozen.clone() }
    }

    fn survivors(&self, idle_before_ms: i64) -> RoaringBitmap {
        let mut survivors = RoaringBitmap::new();
        let mut start = 0;
        // Runs of survivors are inserted whole: they are nearly all.
        for number in 0..self.series.len() {
            if self.is_idle(number, idle_before_ms) {
                survivors.insert_range(start..number);
                start = number + 1;
            }
        }
        survivors.insert_range(start..self.series.len());
        survivors
    }

    fn is_idle(&self, number: u32, before_ms: i64) -> bool {
        let series = &self.series.all[number as usize];
        series.buffer.is_empty()
            && series.last_ms < before_ms
            && self.last_ms(number).is_none_or(|ms| ms < before_ms)
            && !self.open.has(number)
    }

    fn freeze(&mut self) {
        let take = |series: &mut super::series::Series| {
            series.flags.clear(Flags::STARTS);
            std::mem::replace(&mut series.buffer, Buffer::EMPTY)
        };
        let buffers = self.series.all.iter_mut().map(take).collect();
        let generation = std::mem::take::<Generation>(&mut self.open);
        self.frozen = Some(Arc::new(Frozen { generation, buffers, order: OnceLock::new() }));
        for tenant in self.index.tenants.values_mut() {
            tenant.samples_frozen = std::mem::take(&mut tenant.samples_open);
        }
    }

    /// The frozen generation, if there is one.
    pub fn frozen(&self) -> Option<&Arc<Frozen>> {
        self.frozen.as_ref()
    }

    /// Forgets the frozen generation: it is in a block that readers see.
    pub fn thaw(&mut self) {
        let Some(frozen) = self.frozen.take() else { return };
        self.keep_newest_histograms(&frozen);
        self.frozen_deleted.clear();
        if let Some(order) = frozen.order.get() {
            self.flush_order.clone_from(order);
        }
        for tenant in self.index.tenants.values_mut() {
            tenant.samples_frozen = 0;
        }
    }

    /// Keeps the newest histogram of every flushed series, unless it was deleted meanwhile.
    fn keep_newest_histograms(&mut self, frozen: &Frozen) {
        for (&series, histograms) in &frozen.generation.histograms {
            let left = |(ms, _): &(&i64, _)| !self.is_frozen_deleted(series, **ms);
            let newest = histograms.iter().rfind(left).map(|(ms, h)| (*ms, h.clone()));
            let known = self.flushed_histograms.get(&series).map(|(ms, _)| *ms);
            if let Some(newest) = newest.filter(|(ms, _)| known.is_none_or(|known| *ms > known)) {
                self.flushed_histograms.insert(series, newest);
            }
        }
    }

    /// Keeps the series in `survivors` and numbers them by rank. Those dropped have nothing in
    /// the open generation, and nothing is frozen.
    pub(super) fn renumber(&mut self, survivors: &RoaringBitmap) {
        self.epoch += 1;
        let dropped = (0..self.series.len()).filter(|number| !survivors.contains(*number));
        let newest = dropped.filter_map(|number| self.last_ms(number)).max();
        self.note_unknown_to(newest);
        let mut new_number = vec![GONE; self.series.len() as usize];
        for (rank, number) in survivors.iter().enumerate() {
            new_number[number as usize] = rank as u32;
        }
        self.series.renumber(&new_number);
        self.labels.renumber(&new_number);
        self.index.rebuild(self.series.all.iter().map(|s| s.tenant), &self.labels);
        self.open.renumber(&new_number);
        let hidden = self.hidden.iter().map(|s| new_number[s as usize]);
        self.hidden = hidden.filter(|s| *s != GONE).collect();
        let order = std::mem::take(&mut self.flush_order);
        self.flush_order =
            order.into_iter().map(|s| new_number[s as usize]).filter(|s| *s != GONE).collect();
        let histograms = std::mem::take(&mut self.last_histogram_ms);
        let renumbered = histograms.into_iter().map(|(s, ms)| (new_number[s as usize], ms));
        self.last_histogram_ms = renumbered.filter(|(s, _)| *s != GONE).collect::<HashMap<_, _>>();
        let flushed = std::mem::take(&mut self.flushed_histograms).into_iter();
        let renumbered = flushed.map(|(s, newest)| (new_number[s as usize], newest));
        self.flushed_histograms = renumbered.filter(|(s, _)| *s != GONE).collect();
    }
}
