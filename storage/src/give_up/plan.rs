//! What giving something up would change, and what would be lost by it.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

use super::{GivenUp, LostBlock, segments};
use crate::block::{BlockCache, BlockHandle, OBJECT_NAMES};
use crate::entries::{self, SegmentHandle};
use crate::manifest::{BlockMeta, ManifestStore, ManifestSurvey, PartitionState, SegmentMeta};
use crate::open::{list_stored, owner_of, restore_head, what_is_missing};
use crate::partition_map::{ENTRIES_FIRST, PartitionMap};
use crate::{Error, error_text};

/// Memory for what is read of blocks that are checked. Bytes.
const CACHE_BYTES: usize = 32 << 20;

/// What is asked for in one partition.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    partition: u16,
    kind: Kind,
    /// Names of blocks or snapshots.
    names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Manifest,
    Snapshot,
    Block,
    Segment,
}

/// What is to be changed.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) given_up: GivenUp,
    /// Objects that are set aside.
    pub(super) aside: Vec<Path>,
    /// Blocks that the manifest names no longer.
    pub(super) remove_blocks: Vec<String>,
    /// The same of segments.
    pub(super) remove_segments: Vec<String>,
    /// The state to begin anew with, where the manifest's is not known.
    pub(super) anew: Option<Box<PartitionState>>,
    /// Whether what the log builds on is given up: series that snapshots name, or where the log is
    /// needed from.
    pub(super) forgets_series: bool,
}

/// Sorts names by what they are of:
/// `[objects/]blocks|segments|snapshots|manifest/<partition>/<number>…`.
pub(super) fn plans(names: &[String], map: &PartitionMap) -> Result<Vec<Asked>, Error> {
    let mut by_kind: BTreeMap<(u16, Kind), Vec<String>> = BTreeMap::new();
    for name in names {
        let wrong = |why: &str| {
            Error::Limit(format!(
                "{name:?} is not the name of an object to give up: {why}; names are like \
                 blocks/0003/000000000012, segments/16384/000000000012, snapshots/0003/000000000013 or manifest/0003/00000000000000000012.json"
            ))
        };
        let object = name.strip_prefix("objects/").unwrap_or(name).trim_end_matches('/');
        let parts: Vec<&str> = object.split('/').collect();
        let kind = match parts.first() {
            Some(&"blocks") => Kind::Block,
            Some(&"segments") => Kind::Segment,
            Some(&"snapshots") => Kind::Snapshot,
            Some(&"manifest") => Kind::Manifest,
            _ => {
                return Err(wrong(
                    "it begins with none of blocks/, segments/, snapshots/, manifest/",
                ));
            }
        };
        let is_named = |number: &u16| parts.get(1) == Some(&format!("{number:04}").as_str());
        let partition = map
            .numbers()
            .find(is_named)
            .filter(|number| kind.is_in(*number))
            .ok_or_else(|| wrong("its partition does not exist"))?;
        if parts.len() < 3 && kind != Kind::Manifest {
            return Err(wrong("it has no number"));
        }
        let all = by_kind.entry((partition, kind)).or_default();
        let own = parts[..parts.len().min(3)].join("/");
        if !all.contains(&own) {
            all.push(own);
        }
    }
    let asked = |((partition, kind), names)| Asked { partition, kind, names };
    Ok(by_kind.into_iter().map(asked).collect())
}

impl Kind {
    /// Whether partitions of this number have such objects.
    fn is_in(self, partition: u16) -> bool {
        match self {
            Self::Manifest => true,
            Self::Snapshot | Self::Block => partition < ENTRIES_FIRST,
            Self::Segment => partition >= ENTRIES_FIRST,
        }
    }
}

impl Asked {
    /// Finds out what goes. Fails if something named can be read.
    pub(super) async fn work_out(self, store: &Arc<dyn ObjectStore>) -> Result<Plan, Error> {
        let survey = ManifestStore::survey(store.as_ref(), self.partition).await?;
        let stored = list_stored(self.partition, store).await;
        let doing = format!("list the objects of partition {}", self.partition);
        let stored = stored.map_err(|source| Error::Objects { doing, source })?;
        match self.kind {
            Kind::Manifest => self.manifest(store, survey, &stored).await,
            _ if survey.lost.is_some() => Err(Error::Limit(format!(
                "manifests of partition {} are lost; put them back or give them up first",
                self.partition
            ))),
            Kind::Snapshot => self.snapshots(store, &survey.state).await,
            Kind::Block => self.blocks(store, &survey.state, &stored).await,
            Kind::Segment => self.segments(store, &survey.state, &stored).await,
        }
    }

    fn given_up(&self, kind: &'static str, reason: String) -> GivenUp {
        let (objects, partition) = (self.names.clone(), self.partition);
        let (blocks, segments, also) = (Vec::new(), Vec::new(), Vec::new());
        GivenUp { objects, partition, kind, reason, blocks, segments, also }
    }

    async fn segments(
        &self,
        store: &Arc<dyn ObjectStore>,
        state: &PartitionState,
        stored: &[(Path, u64)],
    ) -> Result<Plan, Error> {
        let cache = BlockCache::new(CACHE_BYTES);
        let (mut reasons, mut lost, mut aside) = (Vec::new(), Vec::new(), Vec::new());
        for name in &self.names {
            let meta = state.segments.iter().find(|s| s.name == *name).ok_or_else(|| {
                Error::Limit(format!("no manifest names {name}: there is nothing to give up"))
            })?;
            let read = match entries::what_is_missing(meta, stored) {
                Some(reason) => Err(Error::Corrupt { what: format!("segment {name}"), reason }),
                None => SegmentHandle::new(meta.clone(), store, &cache).verify(&mut |_| {}).await,
            };
            reasons.push(unreadable(name, read)?);
            lost.push(segments::known(store, meta).await);
            aside.extend(objects_of(name, &entries::OBJECT_NAMES));
        }
        let given_up = GivenUp { segments: lost, ..self.given_up("segment", reasons.join("; ")) };
        Ok(Plan { remove_segments: self.names.clone(), aside, ..Plan::of(given_up) })
    }

    async fn blocks(
        &self,
        store: &Arc<dyn ObjectStore>,
        state: &PartitionState,
        stored: &[(Path, u64)],
    ) -> Result<Plan, Error> {
        let cache = BlockCache::new(CACHE_BYTES);
        let (mut reasons, mut lost, mut aside) = (Vec::new(), Vec::new(), Vec::new());
        for name in &self.names {
            let meta = state.blocks.iter().find(|b| b.name == *name).ok_or_else(|| {
                Error::Limit(format!("no manifest names {name}: there is nothing to give up"))
            })?;
            let handle = BlockHandle::named(Arc::clone(store), meta, Arc::clone(&cache));
            let read = match what_is_missing(meta, stored) {
                Some(reason) => Err(Error::Corrupt { what: format!("block {name}"), reason }),
                None => match handle.open().await {
                    Ok(block) => block.verify(meta, &mut |_| {}).await,
                    Err(error) => Err(error),
                },
            };
            reasons.push(unreadable(name, read)?);
            let tenants = handle.tenants().await.ok();
            let tenants = tenants.map(|all| all.iter().map(|rows| rows.tenant.0).collect());
            lost.push(LostBlock { tenants, ..lost_block(meta) });
            aside.extend(objects_of(name, &OBJECT_NAMES));
        }
        let given_up = GivenUp { blocks: lost, ..self.given_up("block", reasons.join("; ")) };
        Ok(Plan { remove_blocks: self.names.clone(), aside, ..Plan::of(given_up) })
    }

    async fn snapshots(
        &self,
        store: &Arc<dyn ObjectStore>,
        state: &PartitionState,
    ) -> Result<Plan, Error> {
        let is_named = |name: &String| state.snapshots.iter().any(|s| s.name == *name);
        if let Some(other) = self.names.iter().find(|name| !is_named(name)) {
            let text = format!("no manifest names {other}: there is nothing to give up");
            return Err(Error::Limit(text));
        }
        let (_, error) = restore_head(store, state, 0).await;
        let reason = unreadable(&self.names.join(", "), error.map_or(Ok(()), Err))?;
        let also = vec![
            "rows that only the log has, of series that the snapshots name: they come back only with the snapshot"
                .to_owned(),
        ];
        // Those before it are not needed either: the next one is complete.
        let aside = state.snapshots.iter().map(|s| Path::from(s.name.as_str())).collect();
        let given_up = GivenUp { also, ..self.given_up("snapshot", reason) };
        Ok(Plan { aside, forgets_series: true, ..Plan::of(given_up) })
    }

    async fn manifest(
        &self,
        store: &Arc<dyn ObjectStore>,
        survey: ManifestSurvey,
        stored: &[(Path, u64)],
    ) -> Result<Plan, Error> {
        let ManifestSurvey { mut state, lost, is_newest_lost, .. } = survey;
        let Some((_, error)) = lost.filter(|_| !is_newest_lost) else {
            return Err(Error::Limit(format!(
                "what the manifests of partition {} say is known: there is nothing to give up",
                self.partition
            )));
        };
        let mut given_up = self.given_up("manifest", unreadable("", Err(error))?);
        let named = |path: &Path| {
            let owner = owner_of(path);
            state.blocks.iter().any(|b| b.name == owner)
                || state.snapshots.iter().any(|s| s.name == owner)
                || state.segments.iter().any(|s| s.name == owner)
        };
        let mut aside: Vec<Path> =
            stored.iter().map(|(path, _)| path).filter(|path| !named(path)).cloned().collect();
        for name in owners(&aside, "blocks/") {
            given_up.blocks.push(orphan(store, &name).await);
        }
        for name in owners(&aside, "segments/") {
            given_up.segments.push(segments::orphan(store, &name).await);
        }
        let (lost, left): (Vec<SegmentMeta>, _) =
            state.segments.into_iter().partition(|s| entries::what_is_missing(s, stored).is_some());
        state.segments = left;
        for meta in &lost {
            aside.extend(objects_of(&meta.name, &entries::OBJECT_NAMES));
            given_up.segments.push(segments::known(store, meta).await);
        }
        let (gone, left): (Vec<BlockMeta>, _) =
            state.blocks.into_iter().partition(|b| what_is_missing(b, stored).is_some());
        aside.extend(gone.iter().flat_map(|b| objects_of(&b.name, &OBJECT_NAMES)));
        given_up.blocks.extend(gone.iter().map(lost_block));
        aside.extend(state.snapshots.iter().map(|s| Path::from(s.name.as_str())));
        (state.blocks, state.snapshots) = (left, Vec::new());
        // Names that lost manifests gave away are not given again.
        let numbers =
            stored.iter().filter_map(|(path, _)| owner_of(path).rsplit('/').next()?.parse().ok());
        state.next_object = numbers.map(|n: u64| n + 1).max().unwrap_or(0).max(state.next_object);
        given_up.also = vec![
            "deletions that only the lost manifests knew: their rows may be seen again in what stays; delete them again"
                .to_owned(),
            if self.partition < ENTRIES_FIRST {
                "rows that only the log has, of series that the snapshots name".to_owned()
            } else {
                "entries of the log between what stays and where the log begins".to_owned()
            },
        ];
        let anew = Some(Box::new(state));
        Ok(Plan { aside, anew, forgets_series: true, ..Plan::of(given_up) })
    }
}

/// Why something cannot be read; fails if it can, or if that is not known.
fn unreadable(name: &str, read: Result<(), Error>) -> Result<String, Error> {
    match read {
        Err(error @ Error::Corrupt { .. }) => Ok(error_text(&error)),
        // The bytes may be right, or a later version may read them.
        Err(error) => Err(error),
        Ok(()) => Err(Error::Limit(format!("{name} can be read: there is nothing to give up"))),
    }
}

impl Plan {
    /// Nothing but what it says.
    fn of(given_up: GivenUp) -> Self {
        let (aside, remove_blocks, remove_segments) = (Vec::new(), Vec::new(), Vec::new());
        let (anew, forgets_series) = (None, false);
        Self { given_up, aside, remove_blocks, remove_segments, anew, forgets_series }
    }
}

fn objects_of(owner: &str, objects: &[&str]) -> Vec<Path> {
    objects.iter().map(|object| Path::from(owner).join(*object)).collect()
}

/// What objects of a kind belong to, each once.
fn owners(objects: &[Path], kind: &str) -> Vec<String> {
    let of_kind = objects.iter().filter(|path| path.as_ref().starts_with(kind));
    let mut owners: Vec<String> = of_kind.map(owner_of).collect();
    owners.dedup();
    owners
}

fn lost_block(meta: &BlockMeta) -> LostBlock {
    LostBlock {
        name: meta.name.clone(),
        series: Some(meta.series),
        samples: Some(meta.samples + meta.histograms),
        range_ms: Some((meta.range.start_ms, meta.range.end_ms)),
        tenants: None,
    }
}

/// A block that no known manifest names, as far as it tells about itself.
async fn orphan(store: &Arc<dyn ObjectStore>, name: &str) -> LostBlock {
    let handle =
        BlockHandle::new(Arc::clone(store), Path::from(name), BlockCache::new(CACHE_BYTES));
    let block = handle.open().await.ok();
    LostBlock {
        name: name.to_owned(),
        series: block.as_ref().map(|b| u64::from(b.series_count())),
        samples: block.as_ref().map(|b| b.sample_count()),
        range_ms: block.as_ref().and_then(|b| b.range()).map(|r| (r.start_ms, r.end_ms)),
        tenants: block.map(|b| b.tenants().iter().map(|rows| rows.tenant.0).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition_map::Counts;

    /// Partition, kind and names.
    type Sorted = &'static [(u16, Kind, &'static [&'static str])];

    #[track_caller]
    fn check(names: &[&str], expected: Result<Sorted, &str>) {
        let map = PartitionMap::of(Counts { metrics: 8, entries: 2 });
        let owned: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        match (plans(&owned, &map), expected) {
            (Ok(plans), Ok(expected)) => {
                let found: Vec<_> =
                    plans.into_iter().map(|p| (p.partition, p.kind, p.names)).collect();
                let expected: Vec<_> = expected
                    .iter()
                    .map(|(p, k, n)| {
                        (*p, *k, n.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
                    })
                    .collect();
                assert_eq!(found, expected, "{names:?}");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, _) => panic!("{names:?}: {found:?}"),
        }
    }

    #[test]
    fn names_are_sorted_by_what_they_are_of() {
        check(
            &["objects/blocks/0003/000000000012/index.bin", "blocks/0003/000000000012/"],
            Ok(&[(3, Kind::Block, &["blocks/0003/000000000012"])]),
        );
        check(
            &["snapshots/0001/000000000004", "manifest/0001/00000000000000000012.json"],
            Ok(&[
                (1, Kind::Manifest, &["manifest/0001/00000000000000000012.json"]),
                (1, Kind::Snapshot, &["snapshots/0001/000000000004"]),
            ]),
        );
        check(&["manifest/0000"], Ok(&[(0, Kind::Manifest, &["manifest/0000"])]));
        check(
            &["segments/16384/000000000007/terms.bin", "manifest/16385"],
            Ok(&[
                (16_384, Kind::Segment, &["segments/16384/000000000007"]),
                (16_385, Kind::Manifest, &["manifest/16385"]),
            ]),
        );
        check(&["segments/0003/000000000001"], Err("its partition does not exist"));
        check(&["blocks/16384/000000000001"], Err("its partition does not exist"));
        check(&["segments/016384/000000000001"], Err("its partition does not exist"));
        check(&["segments/16386/000000000001"], Err("its partition does not exist"));
        check(&["blocks/0003"], Err("it has no number"));
        check(&["blocks/0008/000000000001"], Err("its partition does not exist"));
        check(&["blocks/3/000000000001"], Err("its partition does not exist"));
        check(&["log/00000000000000000000.log"], Err("it begins with none of"));
    }
}
