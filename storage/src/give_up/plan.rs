//! What giving something up would change, and what would be lost by it.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

use super::{GivenUp, LostBlock};
use crate::block::{BlockCache, BlockHandle, OBJECT_NAMES};
use crate::manifest::{BlockMeta, ManifestStore, ManifestSurvey, PartitionState};
use crate::open::{list_stored, owner_of, restore_head, what_is_missing};
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
}

/// What is to be changed.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) given_up: GivenUp,
    /// Objects that are set aside.
    pub(super) aside: Vec<Path>,
    /// Blocks that the manifest names no longer.
    pub(super) remove_blocks: Vec<String>,
    /// The state to begin anew with, where the manifest's is not known.
    pub(super) anew: Option<Box<PartitionState>>,
    /// Whether the series that snapshots name are given up.
    pub(super) forgets_series: bool,
}

/// Sorts names by what they are of: `[objects/]blocks|snapshots|manifest/<partition>/<number>…`.
pub(super) fn plans(names: &[String], partitions: u16) -> Result<Vec<Asked>, Error> {
    let mut by_kind: BTreeMap<(u16, Kind), Vec<String>> = BTreeMap::new();
    for name in names {
        let wrong = |why: &str| {
            Error::Limit(format!(
                "{name:?} is not the name of an object to give up: {why}; names are like \
                 blocks/0003/000000000012, snapshots/0003/000000000013 or manifest/0003/00000000000000000012.json"
            ))
        };
        let object = name.strip_prefix("objects/").unwrap_or(name).trim_end_matches('/');
        let parts: Vec<&str> = object.split('/').collect();
        let kind = match parts.first() {
            Some(&"blocks") => Kind::Block,
            Some(&"snapshots") => Kind::Snapshot,
            Some(&"manifest") => Kind::Manifest,
            _ => return Err(wrong("it begins with none of blocks/, snapshots/, manifest/")),
        };
        let partition = parts.get(1).filter(|digits| digits.len() == 4);
        let partition: u16 = partition
            .and_then(|digits| digits.parse().ok())
            .filter(|number| *number < partitions)
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
        }
    }

    fn given_up(&self, kind: &'static str, reason: String) -> GivenUp {
        let (objects, partition) = (self.names.clone(), self.partition);
        GivenUp { objects, partition, kind, reason, blocks: Vec::new(), also: Vec::new() }
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
            aside.extend(objects_of(name));
        }
        let given_up = GivenUp { blocks: lost, ..self.given_up("block", reasons.join("; ")) };
        let remove_blocks = self.names.clone();
        Ok(Plan { given_up, aside, remove_blocks, anew: None, forgets_series: false })
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
        Ok(Plan {
            given_up: GivenUp { also, ..self.given_up("snapshot", reason) },
            // Those before it are not needed either: the next one is complete.
            aside: state.snapshots.iter().map(|s| Path::from(s.name.as_str())).collect(),
            remove_blocks: Vec::new(),
            anew: None,
            forgets_series: true,
        })
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
        };
        let mut aside: Vec<Path> =
            stored.iter().map(|(path, _)| path).filter(|path| !named(path)).cloned().collect();
        let orphans = aside.iter().filter(|p| p.as_ref().starts_with("blocks/")).map(owner_of);
        let mut orphans: Vec<String> = orphans.collect();
        orphans.dedup();
        for name in orphans {
            given_up.blocks.push(orphan(store, &name).await);
        }
        let (gone, left): (Vec<BlockMeta>, _) =
            state.blocks.into_iter().partition(|b| what_is_missing(b, stored).is_some());
        aside.extend(gone.iter().flat_map(|b| objects_of(&b.name)));
        given_up.blocks.extend(gone.iter().map(lost_block));
        aside.extend(state.snapshots.iter().map(|s| Path::from(s.name.as_str())));
        (state.blocks, state.snapshots) = (left, Vec::new());
        // Names that lost manifests gave away are not given again.
        let numbers =
            stored.iter().filter_map(|(path, _)| owner_of(path).rsplit('/').next()?.parse().ok());
        state.next_object = numbers.map(|n: u64| n + 1).max().unwrap_or(0).max(state.next_object);
        given_up.also = vec![
            "deletions that only the lost manifests knew: their rows may be seen again in blocks that stay; delete them again"
                .to_owned(),
            "rows that only the log has, of series that the snapshots name".to_owned(),
        ];
        let anew = Some(Box::new(state));
        Ok(Plan { given_up, aside, remove_blocks: Vec::new(), anew, forgets_series: true })
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

fn objects_of(block: &str) -> impl Iterator<Item = Path> {
    let prefix = Path::from(block);
    OBJECT_NAMES.into_iter().map(move |object| prefix.clone().join(object))
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

    /// Partition, kind and names.
    type Sorted = &'static [(u16, Kind, &'static [&'static str])];

    #[track_caller]
    fn check(names: &[&str], expected: Result<Sorted, &str>) {
        let owned: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        match (plans(&owned, 8), expected) {
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
        check(&["blocks/0003"], Err("it has no number"));
        check(&["blocks/0008/000000000001"], Err("its partition does not exist"));
        check(&["blocks/3/000000000001"], Err("its partition does not exist"));
        check(&["log/00000000000000000000.log"], Err("it begins with none of"));
    }
}
