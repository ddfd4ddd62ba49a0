//! One partition: its manifests, what they name, and whether that fits together.

use std::sync::Arc;

use futures::TryStreamExt;
use model::Position;
use object_store::ObjectStore;
use object_store::path::Path;

use super::log::{Heads, Replay};
use super::{OnProgress, Verified, VerifyProgress};
use crate::block::{BlockCache, BlockHandle, OBJECT_NAMES};
use crate::entries::{self, EntryHead, SegmentHandle};
use crate::head::Head;
use crate::manifest::{BlockMeta, ManifestStore, ManifestSurvey, PartitionState};
use crate::open::{list_stored, owner_of, restore_head, what_is_missing};
use crate::partition_map::ENTRIES_FIRST;
use crate::{Error, error_text};

/// Footers and pages in memory while blocks are read. Bytes.
const CACHE_BYTES: usize = 32 << 20;

/// What a partition is said to consist of.
pub(super) struct Survey {
    pub(super) number: u16,
    pub(super) state: PartitionState,
    /// Whether the newest manifest is known.
    pub(super) is_known: bool,
    /// Objects below `blocks/` and `snapshots/`, with their sizes.
    pub(super) stored: Vec<(Path, u64)>,
    head: Option<Head>,
}

impl Survey {
    /// Reads the manifests.
    pub(super) async fn take(
        objects: &Arc<dyn ObjectStore>,
        number: u16,
        verified: &mut Verified,
    ) -> Result<Self, Error> {
        let dir = format!("objects/manifest/{number:04}");
        let survey = ManifestStore::survey(objects.as_ref(), number).await;
        let ManifestSurvey { state, read, unneeded, mended, lost, is_newest_lost } = match survey {
            Ok(survey) => survey,
            Err(error) => {
                let advice = "put the manifests back from a backup";
                verified.damage(&dir, &error, advice);
                return Ok(Self::unknown(number));
            }
        };
        verified.manifests += read;
        for (file, error) in unneeded {
            verified.note(
                format!("objects/{file}"),
                error_text(&error),
                "none needed: a later checkpoint holds all it said, and it is removed in time",
            );
        }
        for (file, error) in mended {
            verified.damage(
                format!("objects/{file}"),
                &error,
                "nothing is lost: the next manifest says the same, and the server goes on; look after the disk",
            );
        }
        let is_known = lost.is_none();
        if let Some((file, error)) = lost {
            let advice = if is_newest_lost {
                "nothing is lost if the log is whole: the server sets it aside and takes what it said from the log"
            } else {
                "put it or the one after it back from a backup, or give up what they said with `taffrail tool quarantine`"
            };
            verified.damage(format!("objects/{file}"), &error, advice);
        }
        let doing = format!("list the objects of partition {number}");
        let stored = list_stored(number, objects)
            .await
            .map_err(|source| Error::Objects { doing, source })?;
        Ok(Self { number, state, is_known, stored, head: None })
    }

    fn unknown(number: u16) -> Self {
        let (state, stored, head) = (PartitionState::default(), Vec::new(), None);
        Self { number, state, is_known: false, stored, head }
    }

    /// Bytes of what it names.
    pub(super) fn bytes(&self) -> u64 {
        let snapshots = self.state.snapshots.iter().map(|s| s.bytes);
        let segments = self.state.segments.iter().map(|s| s.bytes);
        self.state.blocks.iter().map(|b| b.bytes).chain(snapshots).chain(segments).sum()
    }

    pub(super) fn covered(&self) -> Position {
        self.state.covered
    }

    /// Where the log has what is in no object, and what it is replayed on: series as the snapshots
    /// have them. `begun` is where a partition of entries begins that has no manifest yet.
    pub(super) fn take_replay(&mut self, begun: Option<Position>) -> Replay {
        let (partition, covered) = (self.number, self.state.covered);
        if partition < ENTRIES_FIRST {
            let heads = self.head.take().map_or(Heads::None, |head| Heads::Metrics(Box::new(head)));
            return Replay { partition, covered, heads };
        }
        let mut head = EntryHead::new(0);
        if !self.is_known {
            head.note_gap();
        }
        let covered = begun.filter(|_| self.state.number == 0).unwrap_or(covered);
        Replay { partition, covered, heads: Heads::Entries(Box::new(head)) }
    }

    /// Reads snapshots and blocks.
    pub(super) async fn read(
        &mut self,
        objects: &Arc<dyn ObjectStore>,
        verified: &mut Verified,
        progress: &mut VerifyProgress,
        on_progress: OnProgress<'_>,
    ) -> Result<(), Error> {
        if self.number >= ENTRIES_FIRST {
            return self.read_segments(objects, verified, progress, on_progress).await;
        }
        progress.at = format!("snapshots of partition {}", self.number);
        on_progress(progress);
        self.read_snapshots(objects, verified).await;
        progress.bytes += self.state.snapshots.iter().map(|s| s.bytes).sum::<u64>();
        self.check_order(verified);
        let cache = BlockCache::new(CACHE_BYTES);
        for meta in &self.state.blocks {
            progress.at = format!("block {}", meta.name);
            on_progress(progress);
            let before = progress.bytes;
            let read = match what_is_missing(meta, &self.stored) {
                Some(reason) => {
                    Err(Error::Corrupt { what: format!("block {}", meta.name), reason })
                }
                None => read_block(objects, meta, &cache, progress, on_progress).await,
            };
            progress.bytes = before + meta.bytes;
            verified.blocks += 1;
            verified.block_samples += meta.samples + meta.histograms;
            if let Err(error) = read {
                verified.damage(
                    file_of(&meta.name, &OBJECT_NAMES, &error),
                    &error,
                    "put its objects back from a backup, or give its rows up with `taffrail tool quarantine`",
                );
            }
        }
        Ok(())
    }

    async fn read_segments(
        &mut self,
        objects: &Arc<dyn ObjectStore>,
        verified: &mut Verified,
        progress: &mut VerifyProgress,
        on_progress: OnProgress<'_>,
    ) -> Result<(), Error> {
        let cache = BlockCache::new(CACHE_BYTES);
        for meta in &self.state.segments {
            progress.at = format!("segment {}", meta.name);
            on_progress(progress);
            let before = progress.bytes;
            let read = match entries::what_is_missing(meta, &self.stored) {
                Some(reason) => {
                    Err(Error::Corrupt { what: format!("segment {}", meta.name), reason })
                }
                None => {
                    let mut done = |bytes: u64| {
                        progress.bytes += bytes;
                        on_progress(progress);
                    };
                    SegmentHandle::new(meta.clone(), objects, &cache).verify(&mut done).await
                }
            };
            progress.bytes = before + meta.bytes;
            verified.segments += 1;
            verified.segment_entries += meta.rows;
            if let Err(error) = read {
                let file = file_of(&meta.name, &entries::OBJECT_NAMES, &error);
                verified.damage(
                    file,
                    &error,
                    "put its objects back from a backup, or give its entries up with `taffrail tool quarantine`",
                );
            }
        }
        Ok(())
    }

    async fn read_snapshots(&mut self, objects: &Arc<dyn ObjectStore>, verified: &mut Verified) {
        let (mut head, error) = restore_head(objects, &self.state, 0).await;
        verified.snapshots += self.state.snapshots.len() as u64;
        let series: u64 = self.state.snapshots.last().map_or(0, |s| s.series);
        let advice = "put it back from a backup, or give up what only it knew with `taffrail tool quarantine`";
        if let Some(error) = error {
            let file = self.state.snapshots.iter().map(|s| &s.name);
            let named = file.clone().find(|name| error_text(&error).contains(name.as_str()));
            let file = named.map_or_else(
                || format!("objects/snapshots/{:04}", self.number),
                |name| format!("objects/{name}"),
            );
            verified.damage(file, &error, advice);
            head.note_gap();
        } else if u64::from(head.series_count()) != series {
            let what = format!("snapshots of partition {}", self.number);
            let reason =
                format!("they hold {} series, the manifest says {series}", head.series_count());
            let error = Error::Corrupt { what, reason };
            verified.damage(format!("objects/snapshots/{:04}", self.number), &error, advice);
        }
        if !self.is_known {
            head.note_gap();
        }
        self.head = Some(head);
    }

    /// Whether names and log positions of the blocks fit together.
    fn check_order(&self, verified: &mut Verified) {
        let own = format!("blocks/{:04}/", self.number);
        let advice = "keep a copy of the directory and report this: it is a fault of taffrail, not of the disk";
        for (at, block) in self.state.blocks.iter().enumerate() {
            let number = block.name.strip_prefix(&own).and_then(|n| n.parse::<u64>().ok());
            let mut wrong = Vec::new();
            if number.is_none_or(|number| number >= self.state.next_object) {
                wrong.push("its name is not one that this partition has given".to_owned());
            }
            if block.positions.0 > block.positions.1 || block.positions.1 > self.state.covered {
                wrong.push("its log positions are beyond what is covered".to_owned());
            }
            for other in &self.state.blocks[..at] {
                let meets = other.positions.0 < block.positions.1
                    && block.positions.0 < other.positions.1
                    && other.range.overlaps(block.range);
                // Blocks of one merge share positions, and have other tenants or other times.
                if meets && other.positions != block.positions {
                    wrong.push(format!("log positions and time overlap those of {}", other.name));
                }
            }
            for reason in wrong {
                let error = Error::Corrupt { what: format!("block {}", block.name), reason };
                verified.damage(format!("objects/{}", block.name), &error, advice);
            }
        }
    }

    /// Whether the manifest names an object.
    pub(super) fn names(&self, object: &Path) -> bool {
        let owner = owner_of(object);
        self.state.blocks.iter().any(|b| b.name == owner)
            || self.state.snapshots.iter().any(|s| s.name == owner)
            || self.state.segments.iter().any(|s| s.name == owner)
    }
}

async fn read_block(
    objects: &Arc<dyn ObjectStore>,
    meta: &BlockMeta,
    cache: &Arc<BlockCache>,
    progress: &mut VerifyProgress,
    on_progress: OnProgress<'_>,
) -> Result<(), Error> {
    let handle = BlockHandle::named(Arc::clone(objects), meta, Arc::clone(cache));
    let block = handle.open().await?;
    let mut done = |bytes: u64| {
        progress.bytes += bytes;
        on_progress(progress);
    };
    block.verify(meta, &mut done).await
}

/// The object an error is about, as far as it says.
fn file_of(owner: &str, objects: &[&str], error: &Error) -> String {
    let text = error_text(error);
    let mut paths = objects.iter().map(|name| format!("{owner}/{name}"));
    let object = paths.find(|path| text.contains(path.as_str()));
    format!("objects/{}", object.unwrap_or_else(|| owner.to_owned()))
}

/// All objects of a store, for what belongs to nothing.
pub(super) async fn all_objects(objects: &Arc<dyn ObjectStore>) -> Result<Vec<(Path, u64)>, Error> {
    let listed = objects.list(None).map_ok(|object| (object.location, object.size));
    listed
        .try_collect()
        .await
        .map_err(|source| Error::Objects { doing: "list all objects".to_owned(), source })
}
