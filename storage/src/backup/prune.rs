//! Letting backups go: their manifests, and then what no other manifest names.
//!
//! ```text
//! manifests that stay: all must be readable ─► what they name stays
//! manifests that go, oldest first ─► objects that only they named, and old leftovers
//! ```
//!
//! Invariants: the newest backup stays; whatever this is interrupted at, each manifest that is there
//! has all its objects. What was begun and not finished is gone on with by the next time.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use hashbrown::HashSet;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::format::{Backup, path_of};
use super::{Place, numbers};
use crate::{Carry, Error};

/// Objects that no manifest names stay for so long after they were put: a backup under way may be
/// about to name them. A directory is locked by who writes to it, and tells no times.
const LEFTOVER: Duration = Duration::from_secs(7 * 24 * 3600);

/// Objects removed at a time.
const REMOVED_AT_ONCE: usize = 8;

/// Which backups stay. The newest does in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The newest so many.
    pub newest: Option<u64>,
    /// Those that are not older.
    pub age: Option<Duration>,
}

/// What goes, or went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Backups that go, oldest first.
    pub going: Vec<u64>,
    /// Backups that stay, oldest first.
    pub kept: Vec<u64>,
    /// Objects and files that go with them.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Keep {
    /// Which of these, oldest first, go at `now_ms`.
    fn going(&self, numbers: &[u64], now_ms: u64) -> Vec<u64> {
        if self.newest.is_none() && self.age.is_none() {
            return Vec::new();
        }
        let newest = usize::try_from(self.newest.unwrap_or(1).max(1)).unwrap_or(usize::MAX);
        let beyond = numbers.len().saturating_sub(newest);
        let is_old = |number: &&u64| {
            let age_ms = u128::from(now_ms.saturating_sub(**number));
            self.age.is_none_or(|age| age_ms > age.as_millis())
        };
        numbers[..beyond].iter().filter(is_old).copied().collect()
    }
}

/// Lets backups go that are not to be kept at `now_ms`, milliseconds since the Unix epoch. Backups
/// in a place are taken and pruned one at a time. Fails, and removes nothing, if a manifest that
/// stays cannot be read: nobody would know what it names.
pub async fn prune(place: &Place, keep: Keep, now_ms: u64, carry: Carry) -> Result<Pruned, Error> {
    let store = place.objects.as_ref();
    let all = numbers(store).await?;
    let going = keep.going(&all, now_ms);
    let kept: Vec<u64> = all.into_iter().filter(|number| !going.contains(number)).collect();
    let mut named = HashSet::new();
    for number in &kept {
        named.extend(Backup::read(store, *number).await?.stored());
    }
    let mut lost = HashSet::new();
    for number in &going {
        match Backup::read(store, *number).await {
            Ok(backup) => lost.extend(backup.stored()),
            // What it names is found as left over.
            Err(Error::Corrupt { .. } | Error::Unsupported { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let garbage = unnamed(store, &named, &lost, now_ms).await?;
    let (objects, bytes) = (garbage.len() as u64, garbage.iter().map(|(_, bytes)| bytes).sum());
    let pruned = Pruned { going, kept, objects, bytes };
    if carry == Carry::Preview {
        return Ok(pruned);
    }
    for number in &pruned.going {
        remove(store, &path_of(*number)).await?;
    }
    let removals = stream::iter(&garbage).map(|(path, _)| remove(store, path));
    removals.buffer_unordered(REMOVED_AT_ONCE).try_collect::<()>().await?;
    Ok(pruned)
}

/// Objects that nobody names: those that did until now, and what has been there for long.
async fn unnamed(
    store: &dyn ObjectStore,
    named: &HashSet<String>,
    lost: &HashSet<String>,
    now_ms: u64,
) -> Result<Vec<(Path, u64)>, Error> {
    let leftover_ms = u64::try_from(LEFTOVER.as_millis()).unwrap_or(u64::MAX);
    let put_before_ms = i64::try_from(now_ms.saturating_sub(leftover_ms)).unwrap_or(i64::MAX);
    let mut found = Vec::new();
    for kind in ["blocks", "snapshots", "segments", "files"] {
        let failed = |source| Error::Objects { doing: format!("list {kind}/"), source };
        let mut listed = store.list(Some(&Path::from(kind)));
        while let Some(object) = listed.try_next().await.map_err(failed)? {
            let name = object.location.as_ref();
            let is_old = object.last_modified.timestamp_millis() < put_before_ms;
            if !named.contains(name) && (is_old || lost.contains(name)) {
                found.push((object.location, object.size));
            }
        }
    }
    Ok(found)
}

async fn remove(store: &dyn ObjectStore, path: &Path) -> Result<(), Error> {
    match store.delete(path).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(source) => Err(Error::Objects { doing: format!("remove {path}"), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 3_600_000;

    /// Ages of backups in days, oldest first; those that go.
    #[track_caller]
    fn check(newest: Option<u64>, days: Option<u64>, ages: &[u64], going: &[u64]) {
        let now_ms = 1_000 * DAY_MS;
        let age = days.map(|days| Duration::from_secs(days * 24 * 3600));
        let number = |age: &u64| now_ms - age * DAY_MS;
        let numbers: Vec<u64> = ages.iter().map(number).collect();
        let expected: Vec<u64> = going.iter().map(number).collect();
        assert_eq!(Keep { newest, age }.going(&numbers, now_ms), expected);
    }

    #[test]
    fn what_is_not_kept_goes() {
        check(None, None, &[9, 5, 1], &[]);
        check(Some(2), None, &[], &[]);
        check(Some(2), None, &[9], &[]);
        check(Some(2), None, &[9, 5, 1], &[9]);
        check(Some(0), None, &[9, 5, 1], &[9, 5]); // the newest stays
        check(None, Some(5), &[9, 5, 1], &[9]);
        check(None, Some(0), &[9, 5, 1], &[9, 5]);
        // Both: too many and too old.
        check(Some(2), Some(6), &[9, 7, 5, 1], &[9, 7]);
        check(Some(3), Some(6), &[9, 8, 7], &[]);
        check(Some(1), Some(6), &[9, 8, 7, 1], &[9, 8, 7]);
        check(Some(u64::MAX), Some(0), &[9, 5], &[]);
        // A clock that went back: nothing is old.
        let all = Keep { newest: Some(1), age: Some(Duration::ZERO) };
        assert!(all.going(&[5, 9], 1).is_empty());
        assert_eq!(Keep { age: None, ..all }.going(&[5, 9], 1), [5]);
    }
}
