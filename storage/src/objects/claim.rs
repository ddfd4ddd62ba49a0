//! Who writes below a prefix: one data directory, because the rows that are not in objects yet are
//! in its log. What is written where: `docs/formats/object-store.md`.
//!
//! ```text
//! far:   store.json, once ─► owners/<n>.json, one for each start, put only if absent
//! local: binding/store.json: which store, as whom, whether the log was begun
//! ```
//!
//! A start of the data directory that wrote last needs nobody's consent. Another one is refused; with
//! consent it shuts the last one out, whose data directory is never taken again.

use std::io;
use std::path::Path as DiskPath;
use std::sync::Arc;

use futures::TryStreamExt;
use model::{Disk, OpenMode};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::ground::on_disk;

const STORE: &str = "store.json";
const OWNERS: &str = "owners";
const DIR: &str = "binding";
const BINDING: &str = "binding/store.json";
const BINDING_NEW: &str = "binding/store.new";

/// There while a backup is restored: until it is gone, nothing here is whole.
pub(crate) const RESTORING_OBJECT: &str = "restoring";

/// Format version of all three.
const VERSION: u32 = 1;

/// Starts at one moment that may come between a look and a claim.
const TRIES_MAX: usize = 16;

/// Longest file read, in bytes.
const BINDING_BYTES_MAX: u64 = 4096;

/// The right to write below a prefix.
#[derive(Debug, Clone)]
pub(crate) struct Claimed {
    /// The store, told apart from any other there ever was.
    pub(crate) store: u128,
    /// This start.
    pub(crate) epoch: u64,
    /// Whether the data directory has no log of this store: what others left in theirs is not
    /// here, and everything before this start counts as covered.
    pub(crate) is_new: bool,
    binding: Binding,
}

#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    version: u32,
    #[serde(with = "hex")]
    store: u128,
}

#[derive(Debug, Serialize, Deserialize)]
struct Owner {
    version: u32,
    #[serde(with = "hex")]
    instance: u128,
    since_ms: i64,
}

/// What a data directory knows of the store it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Binding {
    version: u32,
    #[serde(with = "hex")]
    store: u128,
    #[serde(with = "hex")]
    instance: u128,
    /// Whether the log was begun: from then on it must be there.
    begun: bool,
}

/// Claims a prefix for a data directory. `ids` are numbers nobody else has, for a new store and a
/// new data directory.
pub(super) async fn claim(
    objects: &dyn ObjectStore,
    disk: &Arc<dyn Disk>,
    place: &str,
    take_over: bool,
    ids: (u128, u128),
    now_ms: i64,
) -> Result<Claimed, Error> {
    if objects.head(&Path::from(RESTORING_OBJECT)).await.is_ok() {
        return Err(Error::Refused(format!(
            "a restore into {place} did not end; remove all objects there, and restore again"
        )));
    }
    let known = on_disk(disk, Binding::read).await?;
    let store = identity(objects, ids.0).await?;
    if let Some(known) = &known
        && known.store != store
    {
        return Err(not_of(known, place, store));
    }
    let binding = match known {
        Some(known) => known,
        None => {
            let new = Binding { version: VERSION, store, instance: ids.1, begun: false };
            let written = new.clone();
            on_disk(disk, move |disk| written.write(disk)).await?;
            new
        }
    };
    let owner = Owner { version: VERSION, instance: binding.instance, since_ms: now_ms };
    let epoch = claim_epoch(objects, place, take_over, &owner, &binding).await?;
    remove_older(objects, epoch).await;
    Ok(Claimed { store, epoch, is_new: !binding.begun, binding })
}

/// Fails unless a data directory belongs to the store at a place and has a log of its own there.
pub(super) async fn check_belongs(
    objects: &dyn ObjectStore,
    disk: &Arc<dyn Disk>,
    place: &str,
) -> Result<(), Error> {
    let known = on_disk(disk, Binding::read).await?.filter(|known| known.begun);
    let Some(known) = known else {
        return Err(Error::Refused(format!(
            "the data directory has no log of the store at {place}: its objects are its own"
        )));
    };
    match read::<Identity>(objects, &Path::from(STORE)).await? {
        Some(found) if found.store == known.store => Ok(()),
        Some(found) => Err(not_of(&known, place, found.store)),
        None => Err(Error::Refused(format!("there is no store at {place}: {STORE} is absent"))),
    }
}

fn not_of(known: &Binding, place: &str, store: u128) -> Error {
    Error::Refused(format!(
        "the data directory belongs to store {:032x}, but {place} holds store {store:032x}; use \
         the data directory that goes with it, or an empty one",
        known.store
    ))
}

impl Claimed {
    /// Notes that the log was begun.
    pub(crate) async fn note_begun(&self, disk: &Arc<dyn Disk>) -> Result<(), Error> {
        let binding = Binding { begun: true, ..self.binding.clone() };
        on_disk(disk, move |disk| binding.write(disk)).await
    }
}

async fn identity(objects: &dyn ObjectStore, new: u128) -> Result<u128, Error> {
    let path = Path::from(STORE);
    if let Some(found) = read::<Identity>(objects, &path).await? {
        return Ok(found.store);
    }
    let identity = Identity { version: VERSION, store: new };
    match put_new(objects, &path, &identity).await {
        Ok(()) => Ok(new),
        // Another start at this very moment, or a try of our own whose answer was lost.
        Err(StoreError::AlreadyExists { .. }) => {
            let found = read::<Identity>(objects, &path).await?;
            found.map(|found| found.store).ok_or_else(|| corrupt(&path, "it comes and goes"))
        }
        Err(source) => Err(Error::Objects { doing: format!("put object {path}"), source }),
    }
}

/// Puts the record of this start behind the newest one.
async fn claim_epoch(
    objects: &dyn ObjectStore,
    place: &str,
    take_over: bool,
    owner: &Owner,
    binding: &Binding,
) -> Result<u64, Error> {
    for _ in 0..TRIES_MAX {
        let newest = epochs(objects).await?.into_iter().max();
        if let Some(newest) = newest {
            let path = path_of(newest);
            // Gone: somebody else has just claimed it.
            let Some(last) = read::<Owner>(objects, &path).await? else { continue };
            if last.instance != owner.instance {
                check_turn(&last, place, take_over, binding)?;
                tracing::warn!(
                    place,
                    instance = format!("{:032x}", last.instance),
                    since_ms = last.since_ms,
                    "object store taken over: rows that are in that instance's log alone are not served"
                );
            }
        }
        let epoch = newest.unwrap_or(0) + 1;
        let path = path_of(epoch);
        match put_new(objects, &path, owner).await {
            Ok(()) => return Ok(epoch),
            Err(StoreError::AlreadyExists { .. }) => {}
            Err(source) => {
                return Err(Error::Objects { doing: format!("put object {path}"), source });
            }
        }
    }
    Err(Error::Refused(format!(
        "others keep claiming {place}: too many processes are started on it"
    )))
}

/// Whether a data directory may follow on another one's.
fn check_turn(last: &Owner, place: &str, take_over: bool, own: &Binding) -> Result<(), Error> {
    let who = format!("{place} is written by instance {:032x}", last.instance);
    if own.begun {
        return Err(Error::Refused(format!(
            "{who}, which shut this data directory ({:032x}) out; its log cannot go on there: start \
             that instance, or begin with an empty data directory",
            own.instance
        )));
    }
    if !take_over {
        return Err(Error::Refused(format!(
            "{who} from another data directory, whose log may hold rows that are not in objects yet; \
             start it there, or, if that directory is lost, start here with --take-over"
        )));
    }
    Ok(())
}

/// Removes the records of earlier starts; what cannot be removed harms nobody.
async fn remove_older(objects: &dyn ObjectStore, epoch: u64) {
    let older = epochs(objects).await.unwrap_or_default().into_iter().filter(|n| *n < epoch);
    for number in older {
        let path = path_of(number);
        if let Err(error) = objects.delete(&path).await {
            tracing::warn!(%path, %error, "record of an earlier start could not be removed");
        }
    }
}

async fn epochs(objects: &dyn ObjectStore) -> Result<Vec<u64>, Error> {
    let listed: Result<Vec<_>, _> = objects.list(Some(&Path::from(OWNERS))).try_collect().await;
    let failed = |source| Error::Objects { doing: format!("list objects {OWNERS}/"), source };
    let names = listed.map_err(failed)?;
    let number = |name: &str| name.strip_suffix(".json")?.parse().ok();
    Ok(names.iter().filter_map(|found| number(found.location.filename()?)).collect())
}

fn path_of(epoch: u64) -> Path {
    Path::from(format!("{OWNERS}/{epoch:020}.json"))
}

async fn read<T: DeserializeOwned + Versioned>(
    objects: &dyn ObjectStore,
    path: &Path,
) -> Result<Option<T>, Error> {
    let read = async { objects.get(path).await?.bytes().await };
    match read.await {
        Ok(bytes) => decode(&bytes, &format!("object {path}")).map(Some),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(source) => Err(Error::Objects { doing: format!("read object {path}"), source }),
    }
}

async fn put_new(
    objects: &dyn ObjectStore,
    path: &Path,
    content: &impl Serialize,
) -> Result<(), StoreError> {
    let json = serde_json::to_vec(content).unwrap_or_default();
    objects.put_opts(path, PutPayload::from(json), PutMode::Create.into()).await.map(drop)
}

/// What says of itself in which version it is.
trait Versioned {
    fn version(&self) -> u32;
}

impl Versioned for Identity {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Versioned for Owner {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Versioned for Binding {
    fn version(&self) -> u32 {
        self.version
    }
}

fn decode<T: DeserializeOwned + Versioned>(bytes: &[u8], what: &str) -> Result<T, Error> {
    let read: Result<T, _> = serde_json::from_slice(bytes);
    let read =
        read.map_err(|error| Error::Corrupt { what: what.to_owned(), reason: error.to_string() })?;
    if read.version() == VERSION {
        return Ok(read);
    }
    let feature = format!("version {}", read.version());
    Err(Error::Unsupported { what: what.to_owned(), feature })
}

fn corrupt(path: &Path, reason: &str) -> Error {
    Error::Corrupt { what: format!("object {path}"), reason: reason.to_owned() }
}

impl Binding {
    /// What a data directory is bound to, if it is.
    pub(crate) fn read(disk: &dyn Disk) -> Result<Option<Self>, Error> {
        let failed = |source| Error::Disk { doing: format!("read {BINDING}"), source };
        let file = match disk.open(DiskPath::new(BINDING), OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed)?,
        };
        let mut bytes = vec![0; file.bytes().map_err(failed)?.min(BINDING_BYTES_MAX) as usize];
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        decode(&bytes, BINDING).map(Some)
    }

    fn write(&self, disk: &dyn Disk) -> Result<(), Error> {
        let json = serde_json::to_vec(self).unwrap_or_default();
        let (new, dir) = (DiskPath::new(BINDING_NEW), DiskPath::new(DIR));
        let write = || {
            disk.create_dir_all(dir)?;
            match disk.remove(new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = disk.open(new, OpenMode::CreateNew)?;
            file.write_all_at(&json, 0)?;
            file.sync()?;
            disk.rename(new, DiskPath::new(BINDING))?;
            disk.sync_dir(dir)
        };
        write().map_err(|source| Error::Disk { doing: format!("write {BINDING}"), source })
    }
}

/// 32 hexadecimal digits.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(id: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{id:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        let digits = <String>::deserialize(from)?;
        u128::from_str_radix(&digits, 16).map_err(de::Error::custom)
    }
}
