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

mod chain;
mod envelope;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use model::Position;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::objects::Fresh;
use crate::{Error, checked_json};
pub use state::{BlockMeta, Edit, PartitionState, SegmentMeta, SnapshotMeta};

use chain::{Chain, Ends};
use envelope::Stored;

/// Every so many edits the whole state is written, so that loading reads few objects.
const CHECKPOINT_EVERY: u64 = 32;

/// Edits of an earlier start that may come between a look and a claim.
const CLAIM_TRIES: usize = 16;

/// Names of objects that a claim leaves to the start before it: many more than that one can use
/// until it finds out.
const CLAIM_STRIDE: u64 = 1 << 20;

/// Below this prefix goes what was found damaged and is in the way.
const QUARANTINE: &str = "quarantine";

/// Reads a manifest's JSON, applies it and writes it again; for fuzzing.
pub(crate) fn decode_any(json: &[u8]) {
    let Some(stored) = Stored::decode_json(json) else { return };
    let _ = stored.encode();
    for edit in stored.edit.iter().chain(&stored.before) {
        let _ = PartitionState::default().after(edit);
    }
}

/// What one manifest object says, for tools.
#[derive(Debug)]
pub(crate) struct ManifestFacts {
    pub(crate) version: u32,
    pub(crate) features: u64,
    pub(crate) partition: u16,
    pub(crate) number: u64,
    pub(crate) before: Option<Edit>,
    pub(crate) edit: Option<Edit>,
    pub(crate) checkpoint: Option<PartitionState>,
}

/// All manifests of a partition, read and not mended, for tools. Files are named as objects.
#[derive(Debug, Default)]
pub(crate) struct ManifestSurvey {
    /// The newest state that is known.
    pub(crate) state: PartitionState,
    /// How many were read.
    pub(crate) read: u64,
    /// Damaged ones that no start reads any more.
    pub(crate) unneeded: Vec<(String, Error)>,
    /// Damaged ones whose successors make up for them.
    pub(crate) mended: Vec<(String, Error)>,
    /// The first one that cannot be followed, if there is one.
    pub(crate) lost: Option<(String, Error)>,
    /// Whether that is the newest.
    pub(crate) is_newest_lost: bool,
}

impl ManifestFacts {
    /// Reads and checks an object, `name` being its own.
    pub(crate) fn read(bytes: &[u8], name: &str) -> Result<Self, Error> {
        let stored = Stored::decode(bytes, name)?;
        let Stored { partition, number, before, edit, checkpoint, .. } = stored;
        let (version, features) = checked_json::version_and_features(bytes);
        Ok(Self { version, features, partition, number, before, edit, checkpoint })
    }
}

/// Writes the manifest of one partition.
#[derive(Debug)]
pub struct ManifestStore {
    objects: Arc<dyn ObjectStore>,
    partition: u16,
    state: PartitionState,
    /// What the newest manifest changed.
    last: Option<Edit>,
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

/// How whole the manifests of a partition are.
#[derive(Debug)]
pub enum Found {
    /// Nothing is lost. Of some manifests only their successors know what they said: these
    /// errors name them.
    Whole(Vec<Error>),
    /// The newest one is damaged and was set aside. The state is that before it; the log has what
    /// it said.
    WithoutNewest(Error),
    /// Manifests are lost, and with them what they named: the state is the one before them.
    Lost(Error),
}

impl ManifestStore {
    /// Reads the newest state of a partition; an empty one if it has none yet. Fails if it is not
    /// known.
    pub async fn load(
        objects: Arc<dyn ObjectStore>,
        partition: u16,
    ) -> Result<(Self, PartitionState), Error> {
        let mut chain = Chain::read(objects.as_ref(), partition).await?;
        match chain.lost.take() {
            Some(error) => Err(error),
            None => Ok(Self::at(objects, partition, chain.ends(), None)),
        }
    }

    /// Like [`ManifestStore::load`], but goes as far as it can, and makes room for the next
    /// manifest where a damaged one is in the way. If manifests are lost, the store commits
    /// nothing.
    pub async fn load_intact(
        objects: Arc<dyn ObjectStore>,
        partition: u16,
    ) -> Result<(Self, PartitionState, Found), Error> {
        let mut chain = match Chain::read(objects.as_ref(), partition).await {
            Ok(chain) => chain,
            Err(later @ Error::Unsupported { .. }) => return Err(later),
            Err(error) => Chain { lost: Some(error), ..Chain::default() },
        };
        let is_newest = chain.is_newest_lost();
        let Some(error) = chain.lost.take() else {
            let mended = std::mem::take(&mut chain.mended);
            for one in mended.iter().filter(|one| matches!(one.error, Error::Corrupt { .. })) {
                if let Err(error) = mend(objects.as_ref(), &one.whole).await {
                    let number = one.whole.number;
                    tracing::warn!(partition, number, %error, "damaged manifest could not be replaced");
                }
            }
            let (store, state) = Self::at(objects, partition, chain.ends(), None);
            let errors = mended.into_iter().map(|one| one.error).collect();
            return Ok((store, state, Found::Whole(errors)));
        };
        // What the store did not give may well be right, and is left where it is.
        if is_newest && matches!(error, Error::Corrupt { .. }) {
            let set_aside = set_aside(objects.as_ref(), partition, chain.newest).await;
            let (mut store, state) = Self::at(Arc::clone(&objects), partition, chain.ends(), None);
            // One in its place that changes nothing: what is now the newest was not so before, and
            // what it let go of may be gone. From here on it is known from two again.
            let nothing = Edit { next_object: state.next_object, ..Edit::default() };
            if set_aside.is_ok()
                && let Ok(state) = store.commit(nothing).await
            {
                return Ok((store, state, Found::WithoutNewest(error)));
            }
        }
        let broken = Some(error.to_string());
        let (store, state) = Self::at(objects, partition, chain.ends(), broken);
        Ok((store, state, Found::Lost(error)))
    }

    /// Reads all manifests of a partition.
    pub(crate) async fn survey(
        objects: &dyn ObjectStore,
        partition: u16,
    ) -> Result<ManifestSurvey, Error> {
        let numbers = chain::stored_numbers(objects, partition).await?;
        let chain = Chain::read(objects, partition).await?;
        let mut survey = ManifestSurvey {
            read: numbers.len() as u64,
            is_newest_lost: chain.is_newest_lost(),
            state: chain.state.clone(),
            ..ManifestSurvey::default()
        };
        let first = chain.first_read;
        for number in numbers.into_iter().filter(|number| *number < first) {
            if let Err(error) = chain::read(objects, partition, number).await {
                survey.unneeded.push((path_of(partition, number).to_string(), error));
            }
        }
        let named = |(number, error): (u64, Error)| (path_of(partition, number).to_string(), error);
        survey.mended =
            chain.mended.into_iter().map(|one| named((one.whole.number, one.error))).collect();
        survey.lost = chain.lost.map(|error| named((chain.state.number + 1, error)));
        Ok(survey)
    }

    fn at(
        objects: Arc<dyn ObjectStore>,
        partition: u16,
        chain: Ends,
        broken: Option<String>,
    ) -> (Self, PartitionState) {
        let Ends { state, last, oldest } = chain;
        let store = Self {
            objects,
            partition,
            state: state.clone(),
            last,
            oldest,
            broken,
            writer: None,
            unsettled: None,
        };
        (store, state)
    }

    /// Begins anew behind everything that is stored, with a state that is known to be right as far
    /// as it goes: what the manifests before said is given up.
    pub async fn begin_anew(
        objects: Arc<dyn ObjectStore>,
        partition: u16,
        state: PartitionState,
    ) -> Result<(Self, PartitionState), Error> {
        let numbers = chain::stored_numbers(objects.as_ref(), partition).await?;
        let newest = numbers.last().copied().unwrap_or(0);
        let oldest = numbers.first().copied().unwrap_or(1);
        let number = (newest / CHECKPOINT_EVERY + 1) * CHECKPOINT_EVERY;
        let state = PartitionState { number, ..state };
        let ends = Ends { state: state.clone(), last: None, oldest };
        let (mut store, _) = Self::at(objects, partition, ends, None);
        let checkpoint = Some(state.clone());
        store.put(&Stored { partition, number, checkpoint, ..Stored::default() }).await?;
        Ok((store, state))
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
        let checkpoint = number.is_multiple_of(CHECKPOINT_EVERY).then(|| state.clone());
        let (writer, before) = (self.writer.clone(), self.last.clone());
        let partition = self.partition;
        let stored =
            Stored { partition, number, writer, before, edit: Some(edit.clone()), checkpoint };
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
        let is_checkpoint = stored.checkpoint.is_some();
        if let Err(error) = self.put(&stored).await {
            if matches!(error, Error::Unsettled { .. }) {
                self.unsettled = Some(Unsettled { stored, edit, state });
            }
            return Err(error);
        }
        (self.state, self.last) = (state, Some(edit.clone()));
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
    let checkpoint = Some(PartitionState { number, ..state });
    let bytes = Stored { partition, number, checkpoint, ..Stored::default() }.encode()?;
    let path = path_of(partition, number);
    let put = objects.put_opts(&path, bytes.into(), PutMode::Create.into()).await;
    put.map(drop).map_err(|source| Error::Objects { doing: format!("put manifest {path}"), source })
}

/// Puts a manifest that is known in the place of its damaged object: the next one to be damaged is
/// the only one again.
async fn mend(objects: &dyn ObjectStore, whole: &Stored) -> Result<(), Error> {
    let path = path_of(whole.partition, whole.number);
    let doing =
        |source| Error::Objects { doing: format!("replace damaged manifest {path}"), source };
    set_aside(objects, whole.partition, whole.number).await.map_err(doing)?;
    let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    objects.put_opts(&path, whole.encode()?.into(), create).await.map(drop).map_err(doing)
}

/// Moves a damaged manifest out of the way: its number is given again.
async fn set_aside(
    objects: &dyn ObjectStore,
    partition: u16,
    number: u64,
) -> Result<(), object_store::Error> {
    let path = path_of(partition, number);
    let aside = Path::from(format!("{QUARANTINE}/{path}"));
    match objects.copy(&path, &aside).await {
        // There is nothing in the way.
        Err(object_store::Error::NotFound { .. }) => return Ok(()),
        copied => copied?,
    }
    objects.delete(&path).await
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
