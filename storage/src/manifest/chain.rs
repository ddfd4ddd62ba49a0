//! Reading the manifests of a partition back, and getting over a damaged one.
//!
//! Every manifest also says what the one before it changed, so that one that cannot be read is
//! known from its successor. Only the newest has none; what it said is in the log still, which is
//! kept from the position before it. Two lost in a row are more than this makes good.

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::envelope::Stored;
use super::{CHECKPOINT_EVERY, Edit, PartitionState, dir_of, number_of, path_of};
use crate::Error;
use crate::objects::Fresh;

/// Objects read at a time while loading.
const LOADS_AT_ONCE: usize = 16;

/// What the stored manifests of one partition say.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// The state after the last manifest that could be followed.
    pub(super) state: PartitionState,
    /// What the last of them changed.
    pub(super) last: Option<Edit>,
    /// Lowest number that is stored.
    pub(super) oldest: u64,
    /// Highest number that is stored.
    pub(super) newest: u64,
    /// Lowest number that was needed.
    pub(super) first_read: u64,
    /// Manifests that are damaged and that their successors made up for.
    pub(super) mended: Vec<Mended>,
    /// Why nothing behind `state` could be followed, if so.
    pub(super) lost: Option<Error>,
}

/// Both ends of a chain: what the next manifest builds on, and which is the first.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) state: PartitionState,
    pub(super) last: Option<Edit>,
    pub(super) oldest: u64,
}

/// A manifest that is damaged and known nevertheless.
#[derive(Debug)]
pub(super) struct Mended {
    /// What is wrong with it.
    pub(super) error: Error,
    /// What it should be.
    pub(super) whole: Stored,
}

impl Chain {
    /// Reads all that is needed. Fails if manifests cannot be listed or are of a later version.
    pub(super) async fn read(objects: &dyn ObjectStore, partition: u16) -> Result<Self, Error> {
        let numbers = stored_numbers(objects, partition).await?;
        let newest = numbers.last().copied().unwrap_or(0);
        let oldest = numbers.first().copied().unwrap_or(1);
        let checkpoint = newest - newest % CHECKPOINT_EVERY;
        let mut chain = Self::follow(objects, partition, checkpoint, newest).await?;
        if checkpoint > 0 && chain.state.number == 0 {
            // The checkpoint itself cannot be read: the one before it is still stored.
            let before = checkpoint - CHECKPOINT_EVERY;
            chain = Self::follow(objects, partition, before, newest).await?;
        }
        Ok(Self { oldest, newest, ..chain })
    }

    /// Follows the manifests from a checkpoint (0: from the beginning) as far as they go.
    async fn follow(
        objects: &dyn ObjectStore,
        partition: u16,
        checkpoint: u64,
        newest: u64,
    ) -> Result<Self, Error> {
        let first = checkpoint.max(1);
        let read: Vec<Result<Stored, Error>> = stream::iter(first..=newest)
            .map(|number| read(objects, partition, number))
            .buffered(LOADS_AT_ONCE)
            .collect()
            .await;
        let mut read: Vec<Option<Result<Stored, Error>>> = read.into_iter().map(Some).collect();
        let mut chain = Self { first_read: first, ..Self::default() };
        for (at, number) in (first..=newest).enumerate() {
            let Some(stored) = read[at].take() else { break };
            let own = stored.and_then(|stored| after_one(&chain.state, stored, partition));
            let error = match own {
                Ok((state, last)) => {
                    (chain.state, chain.last) = (state, last);
                    continue;
                }
                Err(later @ Error::Unsupported { .. }) => return Err(later),
                Err(error) => error,
            };
            let told = read.get(at + 1).and_then(|next| match next {
                Some(Ok(stored)) => stored.before.clone(),
                _ => None,
            });
            let fits = |edit: &Edit| chain.state.clone().after(edit).ok();
            match told.as_ref().filter(|_| chain.state.number + 1 == number).and_then(fits) {
                Some(state) => {
                    let is_checkpoint = number.is_multiple_of(CHECKPOINT_EVERY);
                    let whole = Stored {
                        partition,
                        number,
                        writer: None,
                        before: chain.last.take(),
                        edit: told.clone(),
                        checkpoint: is_checkpoint.then(|| state.clone()),
                    };
                    (chain.state, chain.last) = (state, told);
                    chain.mended.push(Mended { error, whole });
                }
                None => {
                    chain.lost = Some(error);
                    break;
                }
            }
        }
        Ok(chain)
    }

    /// What a writer goes on from.
    pub(super) fn ends(&self) -> Ends {
        Ends { state: self.state.clone(), last: self.last.clone(), oldest: self.oldest }
    }

    /// Whether only the newest manifest is lost.
    pub(super) fn is_newest_lost(&self) -> bool {
        self.lost.is_some() && self.state.number + 1 == self.newest
    }
}

/// The state after one stored manifest, and what that one changed.
fn after_one(
    state: &PartitionState,
    stored: Stored,
    partition: u16,
) -> Result<(PartitionState, Option<Edit>), Error> {
    let corrupt = |reason| Error::Corrupt {
        what: format!("manifest {}", path_of(partition, stored.number)),
        reason,
    };
    match (stored.checkpoint, stored.edit) {
        (Some(checkpoint), edit) if checkpoint.number == stored.number => Ok((checkpoint, edit)),
        (Some(checkpoint), _) => {
            Err(corrupt(format!("its state is that of {}", checkpoint.number)))
        }
        (None, Some(edit)) if stored.number == state.number + 1 => {
            let after = state.clone().after(&edit).map_err(corrupt)?;
            Ok((after, Some(edit)))
        }
        (None, Some(_)) => Err(corrupt(format!("it follows manifest {}", state.number))),
        (None, None) => Err(corrupt("it holds neither an edit nor a checkpoint".to_owned())),
    }
}

/// Reads one manifest and checks that it is the one its name says.
pub(super) async fn read(
    objects: &dyn ObjectStore,
    partition: u16,
    number: u64,
) -> Result<Stored, Error> {
    let path = path_of(partition, number);
    let read = async { objects.get(&path).await?.bytes().await };
    let bytes = read.await.map_err(|source| match source {
        object_store::Error::NotFound { .. } => Error::Corrupt {
            what: format!("manifest {path}"),
            reason: "it is missing, though later ones exist".to_owned(),
        },
        source => Error::Objects { doing: format!("read manifest {path}"), source },
    })?;
    let stored = match Stored::decode(&bytes, path.as_ref()) {
        // It may have been damaged on its way, or on this machine's disk.
        Err(damaged @ Error::Corrupt { .. }) => {
            let fresh =
                async { objects.get_opts(&path, Fresh::options(None)).await?.bytes().await };
            let fresh = fresh.await.map_err(|_| damaged)?;
            Stored::decode(&fresh, path.as_ref())?
        }
        decoded => decoded?,
    };
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

/// Numbers of the manifests that are stored, ascending. Other names are nobody's.
pub(super) async fn stored_numbers(
    objects: &dyn ObjectStore,
    partition: u16,
) -> Result<Vec<u64>, Error> {
    let dir: Path = dir_of(partition);
    let doing = |source| Error::Objects { doing: format!("list manifests {dir}"), source };
    let found: Vec<_> = objects.list(Some(&dir)).try_collect().await.map_err(doing)?;
    let number = |o: &object_store::ObjectMeta| o.location.filename().and_then(number_of);
    let mut numbers: Vec<u64> = found.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}
