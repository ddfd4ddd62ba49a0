//! Opening partitions of entries: manifests and segments, then the log from where they end.

use std::sync::Arc;

use model::{Position, Record, RecordKind};
use object_store::ObjectStore;
use object_store::path::Path;
use tenancy::TenantId;

use super::deletion::{Deletion, Deletions, EntryTombstone};
use super::head::EntryHead;
use super::partition::{EntryFlush, EntryLosses, EntryPartition};
use super::segment::{self, OBJECT_NAMES, SegmentHandle};
use super::usage::ActiveStreams;
use crate::Error;
use crate::block::BlockCache;
use crate::error::error_text;
use crate::ground::Claim;
use crate::manifest::{Edit, Found, ManifestStore, PartitionState, SegmentMeta};
use crate::open::{list_stored, number_of, owner_of};

/// A partition of entries before the log was replayed.
pub(crate) struct RestoredEntries {
    pub(crate) number: u16,
    pub(crate) head: EntryHead,
    manifest: ManifestStore,
    pub(crate) state: PartitionState,
    /// What of it is lost or cannot be read; it then takes no writes.
    pub(crate) broken: Option<String>,
    segments: Vec<Arc<SegmentHandle>>,
    deletions: Deletions,
    /// Segments that are not whole, and why.
    missing: Vec<(SegmentMeta, String)>,
    segments_unknown: Option<String>,
    mended: Vec<String>,
    /// Whether it is accepted that a part of the log is gone.
    pub(crate) is_accepted: bool,
    /// Objects that are stored and that the manifest does not name.
    unnamed: Vec<Path>,
}

/// Manifest and head of one partition, as of its last flush. `first_covered` is where the log has
/// the first of its records, if it has no manifest yet and others have.
pub(crate) async fn restore(
    number: u16,
    objects: &Arc<dyn ObjectStore>,
    cache: &Arc<BlockCache>,
    key: u64,
    claim: Option<&Claim>,
    first_covered: Option<Position>,
) -> Result<RestoredEntries, Error> {
    let loaded = ManifestStore::load_intact(Arc::clone(objects), number).await?;
    let (mut manifest, mut state, found) = loaded;
    let (mut mended, mut broken) = (Vec::new(), None);
    match found {
        Found::Whole(errors) => mended.extend(errors.iter().map(|e| told(number, e))),
        Found::WithoutNewest(error) => mended.push(told(number, &error)),
        Found::Lost(error @ Error::Unsupported { .. }) => return Err(error),
        Found::Lost(error) => {
            let text = told(number, &error);
            broken = Some(format!("{text}; stop, put it back from a backup, and start again"));
        }
    }
    if broken.is_none() {
        let covered = first_covered.filter(|_| state.number == 0);
        if let Some(claim) = claim {
            state = claim.partition(&mut manifest, covered).await?;
        } else if covered.is_some() {
            state = manifest.commit(Edit { covered, ..Edit::default() }).await?;
        }
    }
    let deletions = Deletions::of(&state.entry_tombstones).unwrap_or_else(|error| {
        // Whoever does not know what is deleted would show it.
        broken.get_or_insert(format!("a deletion cannot be used: {}", error_text(&error)));
        Deletions::default()
    });
    let mut head = EntryHead::new(key);
    if broken.is_some() {
        head.note_gap();
    }
    let segments_unknown = broken.clone();
    let stored = list_stored(number, objects).await;
    let (mut segments, mut missing) = (Vec::new(), Vec::new());
    for meta in &state.segments {
        match stored.as_ref().ok().and_then(|stored| what_is_missing(meta, stored)) {
            None => segments.push(SegmentHandle::new(meta.clone(), objects, cache)),
            Some(reason) => {
                let segment = &meta.name;
                tracing::error!(
                    partition = number,
                    segment,
                    reason,
                    "segment is not whole; questions about its time range fail"
                );
                missing.push((meta.clone(), reason));
            }
        }
    }
    let stored = stored.unwrap_or_default();
    // What lies there under a name that nothing gave is removed later: nobody else gets the name.
    let numbers = stored.iter().filter_map(|(path, _)| number_of(path));
    state.next_object = numbers.map(|n| n + 1).max().unwrap_or(0).max(state.next_object);
    let is_named = |path: &Path| {
        let owner = owner_of(path);
        state.segments.iter().any(|segment| segment.name == owner)
    };
    let unnamed = stored.into_iter().map(|(path, _)| path).filter(|p| !is_named(p)).collect();
    Ok(RestoredEntries {
        number,
        head,
        manifest,
        state,
        broken,
        segments,
        deletions,
        missing,
        segments_unknown,
        mended,
        is_accepted: false,
        unnamed,
    })
}

/// Why a segment cannot be whole, going by the objects that are stored. Reads none of them.
pub(crate) fn what_is_missing(meta: &SegmentMeta, stored: &[(Path, u64)]) -> Option<String> {
    let path = |name: &str| Path::from(meta.name.as_str()).join(name);
    let bytes_of = |name: &str| {
        let at = stored.binary_search_by(|(known, _)| known.cmp(&path(name))).ok()?;
        Some(stored[at].1)
    };
    if let Some(name) = segment::missing_object(|name| bytes_of(name).is_some()) {
        return Some(format!("object {} is missing", path(name)));
    }
    let bytes: u64 = OBJECT_NAMES.iter().filter_map(|name| bytes_of(name)).sum();
    (bytes != meta.bytes).then(|| {
        let name = &meta.name;
        format!(
            "the objects {name}/* have {bytes} bytes together, the manifest says {}",
            meta.bytes
        )
    })
}

fn told(number: u16, error: &Error) -> String {
    let error = error_text(error);
    tracing::error!(partition = number, error, "a manifest of entries is damaged");
    error
}

/// The partitions that may have had records in a part of the log that is lost and ends at `end`.
pub(crate) fn affected(
    restored: &mut [RestoredEntries],
    partition: Option<u16>,
    end: Position,
) -> impl Iterator<Item = &mut RestoredEntries> {
    let is_hit = move |r: &&mut RestoredEntries| {
        partition.is_none_or(|p| p == r.number) && end > r.state.covered
    };
    restored.iter_mut().filter(is_hit)
}

impl RestoredEntries {
    /// Goes on though a part of the log is gone.
    pub(crate) fn accept(&mut self) {
        self.is_accepted = true;
        self.head.note_gap();
    }

    /// Applies a record that segments do not hold.
    pub(crate) fn replay(&mut self, position: Position, record: Record<'_>) {
        if position < self.state.covered {
            return;
        }
        let tenant = TenantId(record.tenant);
        self.head.note_record(position);
        let replayed = match record.kind {
            RecordKind::Tombstone => self.replay_deletion(position, record.payload),
            kind => self.head.replay(kind, tenant, record.payload),
        };
        if let Err(reason) = replayed {
            self.broken.get_or_insert(format!("log record at {}: {reason}", position.0));
            // What follows builds on it.
            self.head.note_gap();
        }
    }

    fn replay_deletion(&mut self, position: Position, payload: &[u8]) -> Result<(), String> {
        let tombstone = EntryTombstone::decode(payload, position)?;
        let deletion = Deletion::new(tombstone).map_err(|e| error_text(&e))?;
        self.head.delete(&deletion).map_err(|e| error_text(&e))?;
        self.deletions = self.deletions.with(deletion);
        Ok(())
    }

    /// Objects that may be removed: nothing is lost that they could be needed for.
    pub(crate) fn take_unnamed(&mut self) -> Vec<Path> {
        let is_whole = self.broken.is_none() && self.missing.is_empty();
        let unnamed = std::mem::take(&mut self.unnamed);
        if is_whole { unnamed } else { Vec::new() }
    }

    /// The partition, at work; the log goes on at `end`.
    pub(crate) fn finish(
        mut self,
        end: Position,
        active: &ActiveStreams,
        (now_ms, now): (i64, f64),
    ) -> EntryPartition {
        self.head.begin(end);
        self.head.batches.forget_before(now_ms);
        for (tenant, streams) in self.head.tenant_streams() {
            for stream in streams {
                active.admit(tenant, stream.signal, stream.id, now_ms, u64::MAX);
            }
        }
        let records = self.head.left_out();
        if records > 0 {
            tracing::error!(
                partition = self.number,
                records,
                "log records could not be applied because one before them is lost"
            );
        }
        let (manifest, state) = (self.manifest, self.state);
        let flush = EntryFlush { manifest, state, freight: None, flushed_at: now };
        let losses = EntryLosses {
            segments: self.missing,
            segments_unknown: self.segments_unknown,
            incomplete: self.broken,
            mended: self.mended,
        };
        let Self { number, head, segments, deletions, .. } = self;
        EntryPartition::new(number, head, segments, deletions, flush, losses)
    }
}
