//! The series of one target between scrapes: known again by the bytes they are written with, so that
//! labels are taken apart, relabelled and encoded once.
//!
//! A target writes its series in the same order every time. So the one that comes next is guessed,
//! and a right guess costs one comparison of bytes: no hash, no look at labels.

use std::collections::HashSet;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Series that are remembered although they were not there lately: so many and twice as many as
/// there were. As Prometheus' cache after failed scrapes.
const FORGOTTEN_MIN: usize = 1_000;

/// One series.
#[derive(Debug)]
pub(super) struct Known {
    /// As it is written.
    written: Box<[u8]>,
    /// Labels as they are stored, in canonical encoding; none if relabelling drops it.
    pub(super) labels: Box<[u8]>,
    /// The scrape that saw it last.
    round: u64,
    /// The scrape that wrote a sample of it last that needs a stale marker when it vanishes.
    tracked: u64,
    /// The same before the scrape that goes on.
    tracked_before: u64,
    /// Where it stood in the order of the last scrape.
    place: u32,
    /// Whether it is a field of GPU telemetry, whose blank values are no samples.
    pub(super) is_field: bool,
    /// Hash of its last exemplar.
    pub(super) exemplar: u64,
}

/// A place in [`Series`].
pub(super) type Slot = u32;

/// All series of a target.
#[derive(Debug, Default)]
pub(super) struct Series {
    slots: Vec<Option<Known>>,
    free: Vec<Slot>,
    index: HashTable<Slot>,
    hasher: DefaultHashBuilder,
    /// In the order of the last whole scrape.
    order: Vec<Slot>,
    /// In the order of this scrape so far.
    next: Vec<Slot>,
    /// The guess: a place in `order`.
    guess: usize,
    round: u64,
    /// The last scrape that was stored; 0 if all series are ended.
    stored: u64,
    seen: usize,
    /// Labels of series that were stored under other rules; ended unless they come again.
    inherited: Vec<Box<[u8]>>,
}

impl Series {
    /// A scrape begins.
    pub(super) fn begin(&mut self) {
        self.round += 1;
        self.guess = 0;
        self.seen = 0;
        self.next.clear();
    }

    /// The series that probably comes next, as written; empty for none.
    pub(super) fn expected(&self) -> &[u8] {
        self.guessed().and_then(|slot| self.known(slot)).map_or(&[], |known| &known.written)
    }

    /// The slot of the series that is expected.
    pub(super) fn guessed(&self) -> Option<Slot> {
        self.order.get(self.guess).copied()
    }

    fn known(&self, slot: Slot) -> Option<&Known> {
        self.slots.get(slot as usize)?.as_ref()
    }

    /// A series by its slot.
    pub(super) fn get(&mut self, slot: Slot) -> Option<&mut Known> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// Finds a series by what is written.
    pub(super) fn find(&self, written: &[u8]) -> Option<Slot> {
        let hash = self.hasher.hash_one(written);
        let is = |slot: &Slot| self.known(*slot).is_some_and(|known| *known.written == *written);
        self.index.find(hash, is).copied()
    }

    /// Adds a series.
    pub(super) fn add(&mut self, written: &[u8], labels: Box<[u8]>, is_field: bool) -> Slot {
        let known = Known {
            written: written.into(),
            labels,
            round: 0,
            tracked: 0,
            tracked_before: 0,
            place: u32::MAX,
            is_field,
            exemplar: 0,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(known);
                slot
            }
            None => {
                self.slots.push(Some(known));
                (self.slots.len() - 1) as Slot
            }
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        let hash_of = |slot: &Slot| {
            let known = slots.get(*slot as usize).and_then(Option::as_ref);
            hasher.hash_one(known.map_or(&[][..], |known| &known.written))
        };
        self.index.insert_unique(hasher.hash_one(written), slot, hash_of);
        slot
    }

    /// A series is there; says whether it was there before in this scrape.
    pub(super) fn see(&mut self, slot: Slot) -> bool {
        let (round, place) = (self.round, self.next.len() as u32);
        let Some(known) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else {
            return false;
        };
        if known.round == round {
            return true;
        }
        // Where it stood last time, its neighbours stood too.
        self.guess = (known.place as usize).saturating_add(1);
        (known.round, known.place) = (round, place);
        self.seen += 1;
        self.next.push(slot);
        false
    }

    /// A sample of the series needs a stale marker when the series vanishes.
    pub(super) fn track(&mut self, slot: Slot) {
        let round = self.round;
        if let Some(known) = self.get(slot).filter(|known| known.tracked != round) {
            known.tracked_before = std::mem::replace(&mut known.tracked, round);
        }
    }

    /// The scrape is whole: `end` is called for the labels of every series that was there before and
    /// is not now, unless the same labels are still written under another text.
    pub(super) fn finish(&mut self, end: impl FnMut(&[u8])) {
        let (round, stored) = (self.round, self.stored);
        std::mem::swap(&mut self.order, &mut self.next);
        self.stored = round;
        if self.seen == self.index.len() && self.inherited.is_empty() {
            return;
        }
        self.end_vanished(stored, end);
        self.forget(|_, known| known.round != round);
    }

    fn end_vanished(&mut self, stored: u64, mut end: impl FnMut(&[u8])) {
        let round = self.round;
        let all = || self.slots.iter().flatten();
        let shown: HashSet<&[u8]> =
            all().filter(|k| k.round == round).map(|known| &*known.labels).collect();
        let live = all().filter(|k| k.round != round && k.tracked == stored && stored != 0);
        let labels = live.map(|known| &*known.labels).chain(self.inherited.iter().map(|l| &**l));
        let ended: HashSet<&[u8]> = labels.filter(|labels| !shown.contains(labels)).collect();
        ended.into_iter().for_each(&mut end);
        self.inherited.clear();
    }

    /// The scrape failed, or there are no more: `end` is called for the labels of every series that
    /// was there before.
    pub(super) fn fail(&mut self, mut end: impl FnMut(&[u8])) {
        let (round, stored) = (self.round, self.stored);
        let was_live = |known: &&Known| {
            let tracked = if known.tracked == round { known.tracked_before } else { known.tracked };
            stored != 0 && (tracked == stored || known.tracked == stored)
        };
        let live = self.slots.iter().flatten().filter(was_live);
        let ended: HashSet<&[u8]> =
            live.map(|known| &*known.labels).chain(self.inherited.iter().map(|l| &**l)).collect();
        ended.into_iter().for_each(&mut end);
        self.inherited.clear();
        self.stored = 0;
        if self.index.len() > FORGOTTEN_MIN + 2 * self.order.len() {
            let in_order: HashSet<Slot> = self.order.iter().copied().collect();
            self.forget(|slot, _| !in_order.contains(&slot));
        }
    }

    /// What is stored so far was stored under other rules: everything is looked at anew, and what
    /// does not come again is ended.
    pub(super) fn inherit(&mut self) {
        let stored = self.stored;
        let live = self.slots.iter_mut().flatten();
        let live = live.filter(|known| stored != 0 && known.tracked == stored);
        let labels: Vec<_> = live.map(|known| std::mem::take(&mut known.labels)).collect();
        let mut inherited = std::mem::take(&mut self.inherited);
        inherited.extend(labels);
        *self = Self { inherited, round: self.round, ..Self::default() };
    }

    fn forget(&mut self, is_gone: impl Fn(Slot, &Known) -> bool) {
        for (slot, place) in self.slots.iter_mut().enumerate() {
            let slot = slot as Slot;
            if !place.as_ref().is_some_and(|known| is_gone(slot, known)) {
                continue;
            }
            if let Some(gone) = place.take() {
                let hash = self.hasher.hash_one(&*gone.written);
                if let Ok(entry) = self.index.find_entry(hash, |other| *other == slot) {
                    entry.remove();
                }
                self.free.push(slot);
            }
        }
    }
}
