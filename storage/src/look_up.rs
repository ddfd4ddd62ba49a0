//! Questions about series: every head, then every block that may hold some.
//!
//! ```text
//! begin ─► go_on (CPU, a stretch at a time): heads, and the blocks whose index is in memory
//! open_next (I/O): the indexes of the next few other blocks ─► go_on ─► again
//! finish (CPU)
//! ```
//!
//! A stretch takes some milliseconds, and a head is locked for less: neither other questions nor
//! writes wait long for one that finds much. An index is held only while its block is looked at: what a question keeps in memory does not
//! grow with the number of blocks. Heads are looked at before the list of blocks is taken: rows
//! that are flushed meanwhile are seen in both places rather than in none.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use model::{Cancel, Pace, Resolution, TimeRange};
use object_store::path::Path;
use roaring::RoaringBitmap;
use tenancy::{ReadScope, TenantRead};

use crate::block::{Block, BlockHandle};
use crate::compact::day_of;
use crate::head::{Head, HeadCounts, Verdicts};
use crate::hidden::Hidden;
use crate::manifest::BlockMeta;
use crate::objects::CachedObjects;
use crate::partition::{Partition, StoredBlock};
use crate::place::{Selectors, visible_in_block, visible_in_head};
use crate::tombstone::{BlockTombstones, Tombstones};
use crate::{Error, Storage};

/// Indexes read at a time: some ten megabytes each where blocks are large.
const OPEN_AT_ONCE: usize = 4;

/// What is asked. Answered place by place, and the same in any order of blocks.
pub trait Question: Send + 'static {
    /// The answer.
    type Answer: Send + 'static;

    /// Blocks that end before or begin after it are passed over.
    fn range(&self) -> TimeRange;

    /// Which series it is about.
    fn selectors(&self) -> Selectors<'_>;

    /// Whether a head may have something to say that has these samples and histograms. If not, its
    /// series are not looked for.
    fn concerns(&self, counts: &HeadCounts) -> bool;

    /// How many series it takes in at a time. One whose work does not grow with their number takes
    /// all of a place at once.
    fn series_at_once(&self) -> u64;

    /// Told how many series of one tenant a place has that the question is about and may see,
    /// before it takes them in.
    fn found(&self, scope: &ReadScope, series: u64) -> Result<(), Error>;

    /// Takes in what the head of one partition has of some of these series, from `oldest_ms` on:
    /// what is older is not kept. Those of a head that is numbered anew meanwhile come again.
    fn head(
        &mut self,
        scope: &ReadScope,
        tenant: &TenantRead,
        in_head: InHead<'_>,
        oldest_ms: i64,
        pace: &mut Pace,
    ) -> Result<(), Error>;

    /// Takes in what a block has of some of these series, but for what is hidden. Of one partition, a
    /// block with a lower number comes from lower log positions.
    fn block(
        &mut self,
        scope: &ReadScope,
        tenant: &TenantRead,
        in_block: InBlock<'_>,
        pace: &mut Pace,
    ) -> Result<(), Error>;

    /// Everything was seen.
    fn finish(self, scope: &ReadScope, pace: &mut Pace) -> Result<Self::Answer, Error>;
}

/// Series of a head.
#[derive(Debug)]
pub struct InHead<'a> {
    /// The head, which does not change meanwhile.
    pub head: &'a Head,
    /// Their numbers.
    pub series: RoaringBitmap,
}

/// Series of a block.
#[derive(Debug)]
pub struct InBlock<'a> {
    /// The block's number within the question.
    pub number: u32,
    /// The block.
    pub block: &'a Block,
    /// What of the tenant's rows in it nobody sees.
    pub hidden: &'a Hidden,
    /// Rows of the series.
    pub series: RoaringBitmap,
}

/// How long a stretch of work is: then others have their turn.
const STRETCH: Duration = Duration::from_millis(2);

/// Where a question looks.
#[derive(Debug, Clone)]
pub(crate) enum Places {
    /// Heads, and blocks of rows as they came.
    Rows,
    /// Blocks of windows, of the days that begin at these instants.
    Windows(Resolution, Arc<BTreeSet<i64>>),
}

impl Places {
    fn resolution(&self) -> Resolution {
        match self {
            Self::Rows => Resolution::Raw,
            Self::Windows(resolution, _) => *resolution,
        }
    }

    fn blocks(&self, partition: &Partition) -> Arc<[StoredBlock]> {
        match self {
            Self::Rows => partition.blocks(),
            Self::Windows(..) => partition.windows(),
        }
    }

    fn has(&self, block: &BlockMeta) -> bool {
        match self {
            Self::Rows => true,
            Self::Windows(resolution, days) => {
                let day = day_of(block.range.start_ms).start_ms;
                block.resolution == *resolution && days.contains(&day)
            }
        }
    }
}

/// A question on its way through heads and blocks.
#[derive(Debug)]
pub struct LookUp<Q> {
    scope: ReadScope,
    question: Q,
    places: Places,
    pace: Pace,
    /// The partition it is at; those before it are done but for `opened` and `waiting`.
    partition: usize,
    at: At,
    /// What patterns say of the values in the head it is at: the same for all tenants.
    verdicts: Verdicts,
    /// The number of the next block.
    number: u32,
    waiting: VecDeque<Waiting>,
    opened: VecDeque<Reading>,
    now_ms: i64,
    /// Objects that are far away: then all indexes are brought near at once.
    far: Option<Arc<CachedObjects>>,
}

/// Where in a partition a question is.
#[derive(Debug)]
enum At {
    /// At the head, and at which of the scope's tenants.
    Head { tenant: usize, left: Option<Left> },
    /// At the blocks, as they were after the head was looked at.
    Blocks {
        blocks: Arc<[StoredBlock]>,
        tombstones: Arc<Tombstones>,
        next: usize,
        reading: Option<Reading>,
    },
}

impl At {
    const START: Self = Self::Head { tenant: 0, left: None };
}

/// Series of a head that were found and not looked at yet.
#[derive(Debug)]
struct Left {
    /// How often series had been numbered anew when they were found.
    epoch: u64,
    series: RoaringBitmap,
}

/// A block that has to be read before it can be looked at.
#[derive(Debug)]
struct Waiting {
    number: u32,
    handle: Arc<BlockHandle>,
    tombstones: BlockTombstones,
}

/// A block that is looked at.
#[derive(Debug)]
struct Reading {
    number: u32,
    block: Block,
    /// By tenant of the scope.
    hidden: Vec<Hidden>,
    /// The tenant whose turn it is, and rows of it that were found and not looked at yet.
    tenant: usize,
    left: Option<RoaringBitmap>,
}

impl Storage {
    /// Begins a question; the work comes with [`LookUp::go_on`], and stops soon after `cancel` says so.
    pub fn begin<Q: Question>(&self, scope: &ReadScope, question: Q, cancel: &Cancel) -> LookUp<Q> {
        self.begin_in(scope, question, Places::Rows, cancel)
    }

    fn begin_in<Q: Question>(
        &self,
        scope: &ReadScope,
        question: Q,
        places: Places,
        cancel: &Cancel,
    ) -> LookUp<Q> {
        let range = question.range();
        // A range that ends before it begins holds nothing.
        let partition = if range.start_ms > range.end_ms { self.partitions.len() } else { 0 };
        LookUp {
            scope: scope.clone(),
            question,
            places,
            pace: Pace::new(cancel),
            partition,
            at: At::START,
            verdicts: Verdicts::default(),
            number: 0,
            waiting: VecDeque::new(),
            opened: VecDeque::new(),
            now_ms: self.retention_now_ms(),
            far: self.far.clone(),
        }
    }

    /// Answers a question where it is asked, CPU work included; nothing stops it.
    pub(crate) async fn answer<Q: Question>(
        &self,
        scope: &ReadScope,
        question: Q,
    ) -> Result<Q::Answer, Error> {
        self.answer_from(scope, question, Places::Rows).await
    }

    pub(crate) async fn answer_from<Q: Question>(
        &self,
        scope: &ReadScope,
        question: Q,
        places: Places,
    ) -> Result<Q::Answer, Error> {
        let mut look_up = self.begin_in(scope, question, places, &Cancel::default());
        loop {
            while !look_up.go_on(self)? {}
            if !look_up.open_next().await? {
                return look_up.finish();
            }
        }
    }
}

impl<Q: Question> LookUp<Q> {
    /// Whether all blocks were looked at. Asked once [`Self::go_on`] has nothing left to do.
    pub fn is_complete(&self) -> bool {
        self.waiting.is_empty() && self.opened.is_empty()
    }

    /// Reads the indexes of the next few blocks; says whether there were any.
    pub async fn open_next(&mut self) -> Result<bool, Error> {
        if let Some(far) = self.far.take() {
            let indexes: Vec<Path> =
                self.waiting.iter().map(|one| one.handle.index_object()).collect();
            far.warm(indexes).await;
        }
        let next: Vec<_> = self.waiting.drain(..OPEN_AT_ONCE.min(self.waiting.len())).collect();
        let (scope, resolution, now_ms) = (&self.scope, self.places.resolution(), self.now_ms);
        let opening = stream::iter(next)
            .map(|one| one.open(scope, resolution, now_ms))
            .buffered(OPEN_AT_ONCE);
        let opened: Vec<Reading> = opening.try_collect().await?;
        self.opened.extend(opened);
        Ok(!self.opened.is_empty())
    }

    /// Looks at what is in memory for a stretch of time, and says whether that was the rest: what is
    /// missing has to be read first. CPU work: belongs on the CPU pool.
    pub fn go_on(&mut self, storage: &Storage) -> Result<bool, Error> {
        let begun = Instant::now();
        loop {
            if let Some(mut reading) = self.opened.pop_front() {
                if !self.read(&mut reading)? {
                    self.opened.push_front(reading);
                }
            } else if let Some(partition) = storage.partitions.get(self.partition) {
                self.look_at(partition)?;
            } else {
                return Ok(true);
            }
            if begun.elapsed() >= STRETCH {
                return Ok(false);
            }
        }
    }

    /// Takes a step in a partition.
    fn look_at(&mut self, partition: &Partition) -> Result<(), Error> {
        match std::mem::replace(&mut self.at, At::START) {
            At::Head { tenant, left } => self.look_at_head(partition, tenant, left),
            At::Blocks { blocks, tombstones, mut next, mut reading } => {
                match reading.take() {
                    Some(mut one) => {
                        if !self.read(&mut one)? {
                            reading = Some(one);
                        }
                    }
                    None => {
                        let Some(stored) = blocks.get(next) else {
                            self.partition += 1;
                            return Ok(());
                        };
                        next += 1;
                        reading = self.reach(stored, &tombstones);
                    }
                }
                self.at = At::Blocks { blocks, tombstones, next, reading };
                Ok(())
            }
        }
    }

    fn look_at_head(
        &mut self,
        partition: &Partition,
        at: usize,
        left: Option<Left>,
    ) -> Result<(), Error> {
        let (range, resolution) = (self.question.range(), self.places.resolution());
        if at == 0 && left.is_none() {
            partition.check_blocks(range, resolution)?;
        }
        let is_asked = resolution == Resolution::Raw
            && (at > 0 || left.is_some() || self.question.concerns(&partition.counts()));
        let tenants = if is_asked { self.scope.tenants() } else { &[] };
        let Some(tenant) = tenants.get(at) else {
            // Before the blocks: one is dropped only after the blocks it concerns.
            let tombstones = partition.tombstones();
            let blocks = self.places.blocks(partition);
            self.at = At::Blocks { blocks, tombstones, next: 0, reading: None };
            self.verdicts = Verdicts::default();
            return Ok(());
        };
        let known = left.map(|left| (partition.head.read(), left));
        let (head, mut series) = match known.filter(|(head, left)| head.epoch() == left.epoch) {
            Some((head, left)) => (head, left.series),
            None => {
                let of = self.question.selectors();
                let by = (&mut self.verdicts, &mut self.pace);
                let (head, series) = visible_in_head(&partition.head, &self.scope, tenant, of, by)?;
                self.question.found(&self.scope, series.len())?;
                (head, series)
            }
        };
        let some = take(&mut series, self.question.series_at_once());
        let in_head = InHead { head: &head, series: some };
        let oldest_ms = tenant.oldest_ms(resolution, self.now_ms);
        self.question.head(&self.scope, tenant, in_head, oldest_ms, &mut self.pace)?;
        self.at = match series.is_empty() {
            true => At::Head { tenant: at + 1, left: None },
            false => At::Head { tenant: at, left: Some(Left { epoch: head.epoch(), series }) },
        };
        Ok(())
    }

    /// Comes to a block: it is looked at if its index is in memory, else it waits.
    fn reach(&mut self, stored: &StoredBlock, tombstones: &Tombstones) -> Option<Reading> {
        let is_asked = stored.meta.range.overlaps(self.question.range());
        if !is_asked || !self.places.has(&stored.meta) {
            return None;
        }
        let number = self.number;
        self.number += 1;
        let tombstones = tombstones.of_block_in(&stored.meta, &self.scope);
        let Some(block) = stored.block.opened().filter(|_| tombstones.is_empty()) else {
            let handle = Arc::clone(&stored.block);
            self.waiting.push_back(Waiting { number, handle, tombstones });
            return None;
        };
        let (resolution, now_ms) = (self.places.resolution(), self.now_ms);
        let expired = |tenant: &TenantRead| {
            Hidden::expired(&block, tenant.id, tenant.oldest_ms(resolution, now_ms))
        };
        let hidden = self.scope.tenants().iter().map(expired).collect();
        Some(Reading { number, block, hidden, tenant: 0, left: None })
    }

    /// Takes in some of a block; says whether that was the last of it.
    fn read(&mut self, reading: &mut Reading) -> Result<bool, Error> {
        let Self { scope, question, pace, .. } = self;
        let Reading { number, block, hidden, tenant: at, left } = reading;
        let (Some(tenant), Some(hidden)) = (scope.tenants().get(*at), hidden.get(*at)) else {
            return Ok(true);
        };
        let mut rows = match left.take() {
            Some(rows) => rows,
            None => {
                let found = visible_in_block(block, scope, tenant, question.selectors(), pace)?;
                let rows = hidden.left(found);
                question.found(scope, rows.len())?;
                rows
            }
        };
        if !rows.is_empty() {
            let series = take(&mut rows, question.series_at_once());
            let in_block = InBlock { number: *number, block, hidden, series };
            question.block(scope, tenant, in_block, pace)?;
        }
        match rows.is_empty() {
            true => *at += 1,
            false => *left = Some(rows),
        }
        Ok(*at == scope.tenants().len())
    }

    /// The answer, once the look-up is complete. CPU work.
    pub fn finish(mut self) -> Result<Q::Answer, Error> {
        debug_assert!(self.is_complete(), "not all was looked at");
        self.question.finish(&self.scope, &mut self.pace)
    }
}

/// Takes the first so many out of a set.
fn take(set: &mut RoaringBitmap, count: u64) -> RoaringBitmap {
    if set.len() <= count {
        return std::mem::take(set);
    }
    let first = set.iter().take(usize::try_from(count).unwrap_or(usize::MAX)).collect();
    set.remove_smallest(count);
    first
}

impl Waiting {
    async fn open(
        self,
        scope: &ReadScope,
        resolution: Resolution,
        now_ms: i64,
    ) -> Result<Reading, Error> {
        let block = self.handle.open().await?;
        let mut hidden = Vec::with_capacity(scope.tenants().len());
        for tenant in scope.tenants() {
            let oldest_ms = tenant.oldest_ms(resolution, now_ms);
            hidden.push(Hidden::of(&block, tenant.id, &self.tombstones, oldest_ms).await?);
        }
        Ok(Reading { number: self.number, block, hidden, tenant: 0, left: None })
    }
}
