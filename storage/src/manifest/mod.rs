//! Manifests: what each partition consists of, as numbered edits that only ever get added.
//!
//! ```text
//! load:   newest checkpoint + edits after it ─► PartitionState
//! commit: edit ─► manifest/<partition>/<number>.json, put only if absent ─► PartitionState
//! ```
//!
//! Invariants: a block exists for readers once an edit that names it was put, and not before; two
//! writers can never both put the same number, so a second process notices before it does harm.
//! Byte layout: `docs/formats/manifest.md`.

mod envelope;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use model::Position;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::Error;
use crate::objects::Fresh;
pub use state::{BlockMeta, Edit, PartitionState, SnapshotMeta};

use envelope::{Content, Stored};

/// Every so many edits the whole state is written, so that loading reads few objects.
const CHECKPOINT_EVERY: u64 = 32;

/// Edits of an earlier start that may come between a look and a claim.
const CLAIM_TRIES: usize = 16;

/// Names of objects that a claim leaves to the start before it: many more than that one can use
/// until it finds out.
const CLAIM_STRIDE: u64 = 1 << 20;

/// Objects read at a time while loading.
const LOADS_AT_ONCE: usize = 16;

/// Reads a manifest's JSON, applies it and writes it again; for fuzzing.
pub(crate) fn decode_any(json: &[u8]) {
    let Some(stored) = Stored::decode_json(json) else { return };
    let _ = stored.encode();
    if let Content::Edit(edit) = &stored.content {
        let _ = PartitionState::default().after(edit);
    }
}

/// Writes the manifest of one partition.
#[derive(Debug)]
pub struct ManifestStore {
    objects: Arc<dyn ObjectStore>,
    partition: u16,
    state: PartitionState,
    /// Lowest number that may still be stored.
    oldest: u64,
    /// Why nothing can be committed any more: a failed put may or may not have happened.
    broken: Option<String>,
    /// This start, where a manifest that can be seen is also durable: then what became of a put
    /// can be found out, by this mark in what is stored.
    writer: Option<String>,
    /// An edit of which that was not found out yet.
    unsettled: Option<Unsettled>,
}

/// An edit that may or may not be stored, or may still come to be.
#[derive(Debug)]
struct Unsettled {
    stored: Stored,
    edit: Edit,
    state: PartitionState,
}

impl ManifestStore {
    /// Reads the newest state of a partition; an empty one if it has none yet.
    pub async fn load(
        objects: Arc<dyn ObjectStore>,
        partition: u16,
    ) -> Result<(Self, PartitionState), Error> {
        let numbers = stored_numbers(objects.as_ref(), partition).await?;
        let newest = numbers.last().copied().unwrap_or(0);
        let checkpoint = newest - newest % CHECKPOINT_EVERY;
        let first = checkpoint.max(1);
        let mut state = PartitionState::default();
        let mut files = stream::iter(first..=newest)
            .map(|number| read(objects.as_ref(), partition, number))
            .buffered(LOADS_AT_ONCE);
        while let Some(stored) = files.try_next().await? {
            state = follow(state, stored, partition)?;
        }
        drop(files);
        let oldest = numbers.first().copied().unwrap_or(1);
        let store = Self {
            objects,
            partition,
            state: state.clone(),
            oldest,
            broken: None,
            writer: None,
            unsettled: None,
        };
        Ok((store, state))
    }

    /// Like [`ManifestStore::load`], but goes as far as it can: beside the error come the newest
    /// state that is intact, and a store that commits nothing.
    pub async fn load_intact(
        objects: Arc<dyn ObjectStore>,
        partition: u16,
    ) -> (Self, PartitionState, Option<Error>) {
        match Self::load(Arc::clone(&objects), partition).await {
            Ok((store, state)) => (store, state, None),
            Err(error) => {
                let state = newest_intact(objects.as_ref(), partition).await;
                let broken = Some(error.to_string());
                let oldest = state.number;
                let (writer, unsettled) = (None, None);
                let state_now = state.clone();
                let store = Self {
                    objects,
                    partition,
                    state: state_now,
                    oldest,
                    broken,
                    writer,
                    unsettled,
                };
                (store, state, Some(error))
            }
        }
    }

    /// Why nothing can be committed any more, if so.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Whether it is not known yet what became of an edit.
    pub fn is_unsettled(&self) -> bool {
        self.unsettled.is_some()
    }

    /// Writes as this start from now on: the store is one where what can be seen is durable, and
    /// others may write to it as well.
    pub fn mark(&mut self, writer: String) {
        self.writer = Some(writer);
    }

    /// Makes one edit durable and gives the state after it.
    ///
    /// After [`Error::Unsettled`] nothing else can be committed until [`ManifestStore::settle`]
    /// has found out; after other errors that leave open whether the edit was stored, until the
    /// partition is loaded again.
    pub async fn commit(&mut self, edit: Edit) -> Result<PartitionState, Error> {
        let refused = self.broken.clone().or_else(|| {
            let number = self.unsettled.as_ref()?.stored.number;
            Some(format!("whether manifest {number} was stored is not known yet"))
        });
        if let Some(reason) = refused {
            return Err(Error::PartitionReadOnly { partition: self.partition, reason });
        }
        let number = self.state.number + 1;
        let state = self.state.clone().after(&edit).map_err(|reason| Error::Corrupt {
            what: format!("edit {number} of partition {}", self.partition),
            reason,
        })?;
        let content = if number.is_multiple_of(CHECKPOINT_EVERY) {
            Content::Checkpoint(state.clone())
        } else {
            Content::Edit(edit.clone())
        };
        let writer = self.writer.clone();
        let stored = Stored { partition: self.partition, number, writer, content };
        self.unsettled = Some(Unsettled { stored, edit, state });
        self.settle().await?;
        Ok(self.state.clone())
    }

    /// Finds out what became of an edit of which that is not known, and makes it durable if it is
    /// not. Gives the edit and the state after it; `None` if there is none.
    pub async fn settle(&mut self) -> Result<Option<(Edit, PartitionState)>, Error> {
        let Some(Unsettled { stored, edit, state }) = self.unsettled.take() else {
            return Ok(None);
        };
        let is_checkpoint = matches!(stored.content, Content::Checkpoint(_));
        if let Err(error) = self.put(&stored).await {
            if matches!(error, Error::Unsettled { .. }) {
                self.unsettled = Some(Unsettled { stored, edit, state });
            }
            return Err(error);
        }
        self.state = state;
        if is_checkpoint {
            self.remove_old().await;
        }
        Ok(Some((edit, self.state.clone())))
    }

    /// Takes the partition over for this start: whoever wrote before and does not know yet cannot
    /// put the next manifest any more, and uses other names of objects. Everything before `covered`
    /// counts as covered.
    pub async fn claim(&mut self, covered: Option<Position>) -> Result<PartitionState, Error> {
        for _ in 0..CLAIM_TRIES {
            let edit = Edit {
                covered: covered.map(|covered| covered.max(self.state.covered)),
                next_object: self.state.next_object.saturating_add(CLAIM_STRIDE),
                ..Edit::default()
            };
            match self.commit(edit).await {
                // One that came from before the claim: it counts.
                Err(Error::OwnedElsewhere { .. }) => {
                    let (mut newer, _) =
                        Self::load(Arc::clone(&self.objects), self.partition).await?;
                    newer.writer = self.writer.take();
                    *self = newer;
                }
                other => return other,
            }
        }
        Err(Error::OwnedElsewhere { partition: self.partition, number: self.state.number + 1 })
    }

    async fn put(&mut self, stored: &Stored) -> Result<(), Error> {
        let (number, path) = (stored.number, path_of(self.partition, stored.number));
        let bytes = Bytes::from(stored.encode()?);
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let source = match self.objects.put_opts(&path, bytes.clone().into(), options).await {
            Ok(_) => return Ok(()),
            Err(source) => source,
        };
        let taken = matches!(source, object_store::Error::AlreadyExists { .. });
        if self.writer.is_some() {
            return self.find_out(path, number, bytes, source).await;
        }
        if taken {
            return Err(self.owned_elsewhere(number));
        }
        // Nothing there: the put failed before it could have an effect, and may be tried again.
        let absent =
            matches!(self.objects.head(&path).await, Err(object_store::Error::NotFound { .. }));
        if !absent {
            self.broken = Some(format!("putting manifest {number} failed: {source}"));
        }
        Err(Error::Objects { doing: format!("put manifest {path}"), source })
    }

    /// What became of a put that failed: a try before the last one may have been carried out, or
    /// be carried out later. The same bytes can only be ours.
    async fn find_out(
        &mut self,
        path: Path,
        number: u64,
        bytes: Bytes,
        source: object_store::Error,
    ) -> Result<(), Error> {
        use object_store::Error::{NotFound, PermissionDenied, Unauthenticated};
        // Past any cache.
        let read =
            async { self.objects.get_opts(&path, Fresh::options(None)).await?.bytes().await };
        match read.await {
            Ok(found) if found == bytes => Ok(()),
            Ok(_) => Err(self.owned_elsewhere(number)),
            Err(NotFound { .. })
                if matches!(source, PermissionDenied { .. } | Unauthenticated { .. }) =>
            {
                Err(Error::Objects { doing: format!("put manifest {path}"), source })
            }
            Err(_) => Err(Error::Unsettled { partition: self.partition, number, source }),
        }
    }

    fn owned_elsewhere(&mut self, number: u64) -> Error {
        self.broken = Some("another process writes its manifest".to_owned());
        Error::OwnedElsewhere { partition: self.partition, number }
    }

    /// Removes what lies before the checkpoint before this one. What could not be removed is
    /// tried again at the next checkpoint: old numbers harm nobody.
    async fn remove_old(&mut self) {
        let keep_from = self.state.number.saturating_sub(CHECKPOINT_EVERY).max(1);
        while self.oldest < keep_from {
            let path = path_of(self.partition, self.oldest);
            match self.objects.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => self.oldest += 1,
                Err(error) => {
                    tracing::warn!(%path, %error, "old manifest could not be removed");
                    return;
                }
            }
        }
    }
}

/// Makes a partition begin with a state, where there is none yet.
pub(crate) async fn begin(
    objects: &dyn ObjectStore,
    partition: u16,
    state: PartitionState,
) -> Result<(), Error> {
    // Only such a number holds a state.
    let number = state.number.max(1).next_multiple_of(CHECKPOINT_EVERY);
    let content = Content::Checkpoint(PartitionState { number, ..state });
    let bytes = Stored { partition, number, writer: None, content }.encode()?;
    let path = path_of(partition, number);
    let put = objects.put_opts(&path, bytes.into(), PutMode::Create.into()).await;
    put.map(drop).map_err(|source| Error::Objects { doing: format!("put manifest {path}"), source })
}

/// The state after one stored manifest.
fn follow(state: PartitionState, stored: Stored, partition: u16) -> Result<PartitionState, Error> {
    let corrupt = |number, reason| Error::Corrupt {
        what: format!("manifest {}", path_of(partition, number)),
        reason,
    };
    match stored.content {
        Content::Checkpoint(checkpoint) if checkpoint.number == stored.number => Ok(checkpoint),
        Content::Checkpoint(checkpoint) => {
            Err(corrupt(stored.number, format!("its state is that of {}", checkpoint.number)))
        }
        Content::Edit(edit) if stored.number == state.number + 1 => {
            state.after(&edit).map_err(|reason| corrupt(stored.number, reason))
        }
        Content::Edit(_) => {
            Err(corrupt(stored.number, format!("it follows manifest {}", state.number)))
        }
    }
}

async fn read(objects: &dyn ObjectStore, partition: u16, number: u64) -> Result<Stored, Error> {
    let path = path_of(partition, number);
    let read = async { objects.get(&path).await?.bytes().await };
    let bytes: Bytes = read.await.map_err(|source| match source {
        object_store::Error::NotFound { .. } => Error::Corrupt {
            what: format!("manifest {path}"),
            reason: "it is missing, though later ones exist".to_owned(),
        },
        source => Error::Objects { doing: format!("read manifest {path}"), source },
    })?;
    let stored = Stored::decode(&bytes, path.as_ref())?;
    if (stored.partition, stored.number) == (partition, number) {
        return Ok(stored);
    }
    Err(Error::Corrupt {
        what: format!("manifest {path}"),
        reason: format!(
            "it says it is manifest {} of partition {}",
            stored.number, stored.partition
        ),
    })
}

/// The state after the last manifest that can be reached without passing a damaged one; that of a
/// new partition if there is none.
async fn newest_intact(objects: &dyn ObjectStore, partition: u16) -> PartitionState {
    let names = stored_names(objects, partition).await.unwrap_or_default();
    let newest = names.iter().filter_map(|name| number_of(name)).max().unwrap_or(0);
    let checkpoint = newest - newest % CHECKPOINT_EVERY;
    // If the newest checkpoint is what is damaged, the one before it is still stored.
    for start in [checkpoint, checkpoint.saturating_sub(CHECKPOINT_EVERY)] {
        let mut state = PartitionState::default();
        for number in start.max(1)..=newest {
            let Ok(stored) = read(objects, partition, number).await else { break };
            let Ok(next) = follow(state.clone(), stored, partition) else { break };
            state = next;
        }
        if state.number > 0 {
            return state;
        }
    }
    PartitionState::default()
}

/// Numbers of the manifests that are stored, ascending.
async fn stored_numbers(objects: &dyn ObjectStore, partition: u16) -> Result<Vec<u64>, Error> {
    let number = |name: String| {
        number_of(&name).ok_or_else(|| Error::Corrupt {
            what: format!("manifest directory {}", dir_of(partition)),
            reason: format!("{name:?} is not the name of a manifest"),
        })
    };
    let names = stored_names(objects, partition).await?;
    let mut numbers = names.into_iter().map(number).collect::<Result<Vec<_>, _>>()?;
    numbers.sort_unstable();
    Ok(numbers)
}

async fn stored_names(objects: &dyn ObjectStore, partition: u16) -> Result<Vec<String>, Error> {
    let dir = dir_of(partition);
    let doing = |source| Error::Objects { doing: format!("list manifests {dir}"), source };
    let found: Vec<_> = objects.list(Some(&dir)).try_collect().await.map_err(doing)?;
    let name = |object: &object_store::ObjectMeta| object.location.filename().map(str::to_owned);
    Ok(found.iter().filter_map(name).collect())
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".json").filter(|digits| digits.len() == 20)?.parse().ok()
}

fn dir_of(partition: u16) -> Path {
    Path::from(format!("manifest/{partition:04}"))
}

fn path_of(partition: u16, number: u64) -> Path {
    Path::from(format!("manifest/{partition:04}/{number:020}.json"))
}
