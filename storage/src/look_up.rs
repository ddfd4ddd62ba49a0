//! Questions about series: every head, then every block that may hold some.
//!
//! ```text
//! begin (CPU): heads, and the blocks whose index is in memory
//! open_next (I/O): the indexes of the next few other blocks ─► read_opened (CPU) ─► again
//! finish (CPU)
//! ```
//!
//! An index is held only while its block is looked at: what a question keeps in memory does not
//! grow with the number of blocks. Heads are looked at before the list of blocks is taken: rows
//! that are flushed meanwhile are seen in both places rather than in none.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use model::{Cancel, Pace, Resolution, TimeRange};
use object_store::path::Path;
use roaring::RoaringBitmap;
use tenancy::{ReadScope, TenantRead};

use crate::block::{Block, BlockHandle};
use crate::compact::day_of;
use crate::head::Head;
use crate::hidden::Hidden;
use crate::manifest::BlockMeta;
use crate::objects::CachedObjects;
use crate::partition::{Partition, StoredBlock};
use crate::place::{Selectors, visible_in_head};
use crate::tombstone::BlockTombstones;
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

    /// Takes in what the head of one partition has of one tenant's series that the question is
    /// about and may see, from `oldest_ms` on: what is older is not kept.
    fn head(
        &mut self,
        scope: &ReadScope,
        tenant: &TenantRead,
        in_head: InHead<'_>,
        oldest_ms: i64,
        pace: &mut Pace,
    ) -> Result<(), Error>;

    /// Takes in what a block has of one tenant, but for what is hidden. Of one partition, a block
    /// with a lower number comes from lower log positions.
    fn block(
        &mut self,
        scope: &ReadScope,
        tenant: &TenantRead,
        number: u32,
        block: &Block,
        hidden: &Hidden,
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

/// Where a question looks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Places<'a> {
    /// Heads, and blocks of rows as they came.
    Rows,
    /// Blocks of windows, of the days that begin at these instants.
    Windows(Resolution, &'a BTreeSet<i64>),
}

impl Places<'_> {
    fn resolution(self) -> Resolution {
        match self {
            Self::Rows => Resolution::Raw,
            Self::Windows(resolution, _) => resolution,
        }
    }

    fn blocks(self, partition: &Partition) -> Arc<[StoredBlock]> {
        match self {
            Self::Rows => partition.blocks(),
            Self::Windows(..) => partition.windows(),
        }
    }

    fn has(self, block: &BlockMeta) -> bool {
        match self {
            Self::Rows => true,
            Self::Windows(resolution, days) => {
                let day = day_of(block.range.start_ms).start_ms;
                block.resolution == resolution && days.contains(&day)
            }
        }
    }
}

/// A question on its way through the blocks.
#[derive(Debug)]
pub struct LookUp<Q> {
    scope: ReadScope,
    question: Q,
    pace: Pace,
    waiting: VecDeque<Waiting>,
    opened: Vec<Opened>,
    resolution: Resolution,
    now_ms: i64,
    /// Objects that are far away: then all indexes are brought near at once.
    far: Option<Arc<CachedObjects>>,
}

/// A block that has to be read before it can be looked at.
#[derive(Debug)]
struct Waiting {
    number: u32,
    handle: Arc<BlockHandle>,
    tombstones: BlockTombstones,
}

/// A block with what is hidden in it, by tenant of the scope.
#[derive(Debug)]
struct Opened {
    number: u32,
    block: Block,
    hidden: Vec<Hidden>,
}

impl Storage {
    /// Begins a question. CPU work in proportion to what is found: belongs on the CPU pool. It and
    /// all that follows stops soon after `cancel` says so.
    pub fn begin<Q: Question>(
        &self,
        scope: &ReadScope,
        question: Q,
        cancel: &Cancel,
    ) -> Result<LookUp<Q>, Error> {
        self.begin_in(scope, question, Places::Rows, cancel)
    }

    fn begin_in<Q: Question>(
        &self,
        scope: &ReadScope,
        mut question: Q,
        places: Places<'_>,
        cancel: &Cancel,
    ) -> Result<LookUp<Q>, Error> {
        let mut pace = Pace::new(cancel);
        let (range, resolution) = (question.range(), places.resolution());
        let mut waiting = VecDeque::new();
        let mut number = 0;
        let now_ms = self.retention_now_ms();
        // A range that ends before it begins holds nothing.
        let partitions = if range.start_ms > range.end_ms { &[] } else { &self.partitions[..] };
        for partition in partitions {
            partition.check_blocks(range, resolution)?;
            let heads = if resolution == Resolution::Raw { scope.tenants() } else { &[] };
            for tenant in heads {
                let oldest_ms = tenant.oldest_ms(resolution, now_ms);
                let (of, head) = (question.selectors(), &partition.head);
                let (head, series) = visible_in_head(head, scope, tenant, of, &mut pace)?;
                let in_head = InHead { head: &head, series };
                question.head(scope, tenant, in_head, oldest_ms, &mut pace)?;
            }
            // Before the blocks: one is dropped only after the blocks it concerns.
            let tombstones = partition.tombstones();
            let is_asked = |b: &&StoredBlock| b.meta.range.overlaps(range) && places.has(&b.meta);
            for stored in places.blocks(partition).iter().filter(is_asked) {
                let tombstones = tombstones.of_block_in(&stored.meta, scope);
                match stored.block.opened().filter(|_| tombstones.is_empty()) {
                    Some(block) => {
                        for tenant in scope.tenants() {
                            let oldest_ms = tenant.oldest_ms(resolution, now_ms);
                            let hidden = Hidden::expired(&block, tenant.id, oldest_ms);
                            question.block(scope, tenant, number, &block, &hidden, &mut pace)?;
                        }
                    }
                    None => {
                        let handle = Arc::clone(&stored.block);
                        waiting.push_back(Waiting { number, handle, tombstones });
                    }
                }
                number += 1;
            }
        }
        let (scope, opened, far) = (scope.clone(), Vec::new(), self.far.clone());
        Ok(LookUp { scope, question, pace, waiting, opened, resolution, now_ms, far })
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
        places: Places<'_>,
    ) -> Result<Q::Answer, Error> {
        let mut look_up = self.begin_in(scope, question, places, &Cancel::default())?;
        while look_up.open_next().await? {
            look_up.read_opened()?;
        }
        look_up.finish()
    }
}

impl<Q: Question> LookUp<Q> {
    /// Whether all blocks were looked at.
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
        let (scope, resolution, now_ms) = (&self.scope, self.resolution, self.now_ms);
        let opening = stream::iter(next)
            .map(|one| one.open(scope, resolution, now_ms))
            .buffered(OPEN_AT_ONCE);
        self.opened = opening.try_collect().await?;
        Ok(!self.opened.is_empty())
    }

    /// Takes in the blocks that were opened, and lets their indexes go. CPU work.
    pub fn read_opened(&mut self) -> Result<(), Error> {
        let Self { scope, question, pace, .. } = self;
        for Opened { number, block, hidden } in std::mem::take(&mut self.opened) {
            for (tenant, hidden) in scope.tenants().iter().zip(&hidden) {
                question.block(scope, tenant, number, &block, hidden, pace)?;
            }
        }
        Ok(())
    }

    /// The answer, once the look-up is complete. CPU work.
    pub fn finish(mut self) -> Result<Q::Answer, Error> {
        debug_assert!(self.is_complete(), "not all was looked at");
        self.question.finish(&self.scope, &mut self.pace)
    }
}

impl Waiting {
    async fn open(
        self,
        scope: &ReadScope,
        resolution: Resolution,
        now_ms: i64,
    ) -> Result<Opened, Error> {
        let block = self.handle.open().await?;
        let mut hidden = Vec::with_capacity(scope.tenants().len());
        for tenant in scope.tenants() {
            let oldest_ms = tenant.oldest_ms(resolution, now_ms);
            hidden.push(Hidden::of(&block, tenant.id, &self.tombstones, oldest_ms).await?);
        }
        Ok(Opened { number: self.number, block, hidden })
    }
}
