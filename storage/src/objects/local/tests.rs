//! Tests of the local object store: what every object store does, and what only files could get wrong.

mod crash;

use std::path::Path as DiskPath;
use std::sync::Arc;

use futures::TryStreamExt;
use model::{Disk, OpenMode};
use object_store::path::Path;
use object_store::{Error, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::*;
use crate::OsDisk;

struct Fixture {
    _dir: tempfile::TempDir,
    disk: Arc<dyn Disk>,
    objects: LocalObjects,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::open(dir.path()).unwrap());
    let objects = LocalObjects::open(Arc::clone(&disk), DiskPath::new("objects")).unwrap();
    Fixture { _dir: dir, disk, objects }
}

impl Fixture {
    async fn put(&self, path: &str, bytes: &'static [u8]) {
        self.objects.put(&Path::from(path), PutPayload::from_static(bytes)).await.unwrap();
    }

    async fn names(&self, prefix: Option<&str>) -> Vec<String> {
        let prefix = prefix.map(Path::from);
        let found: Vec<_> = self.objects.list(prefix.as_ref()).try_collect().await.unwrap();
        found.into_iter().map(|object| format!("{}:{}", object.location, object.size)).collect()
    }

    fn temporary_files(&self) -> usize {
        self.disk.list(DiskPath::new("objects.tmp")).unwrap().len()
    }
}

fn create() -> PutOptions {
    PutOptions { mode: PutMode::Create, ..PutOptions::default() }
}

#[tokio::test]
async fn an_object_reads_as_put() {
    let store = fixture();
    let path = Path::from("a/b c/x%.json");
    let payload: PutPayload = ["one ", "two ", "three"].into_iter().map(Bytes::from).collect();
    store.objects.put(&path, payload).await.unwrap();
    assert_eq!(store.objects.get(&path).await.unwrap().bytes().await.unwrap(), "one two three");
    assert_eq!(store.objects.head(&path).await.unwrap().size, 13);
    store.objects.put(&path, PutPayload::new()).await.unwrap();
    assert_eq!(store.objects.get(&path).await.unwrap().bytes().await.unwrap(), "");
    assert_eq!(store.temporary_files(), 0);
}

#[tokio::test]
async fn ranges_are_cut_at_the_end() {
    let store = fixture();
    store.put("x", b"0123456789").await;
    let path = Path::from("x");
    for (range, expected) in [
        (GetRange::Bounded(2..4), Some("23")),
        (GetRange::Bounded(8..20), Some("89")),
        (GetRange::Offset(7), Some("789")),
        (GetRange::Suffix(3), Some("789")),
        (GetRange::Bounded(10..11), None),
    ] {
        let options = GetOptions::new().with_range(Some(range.clone()));
        let read = async { store.objects.get_opts(&path, options).await?.bytes().await };
        assert_eq!(read.await.ok(), expected.map(Bytes::from), "{range:?}");
    }
    let ranges = store.objects.get_ranges(&path, &[1..2, 5..7, 9..30]).await.unwrap();
    assert_eq!(ranges, ["1", "56", "9"]);
}

#[tokio::test]
async fn a_large_object_streams_in_pieces() {
    let store = fixture();
    let bytes: Vec<u8> = (0..CHUNK_BYTES * 2 + 77).map(|at| (at % 251) as u8).collect();
    store.objects.put(&Path::from("big"), bytes.clone().into()).await.unwrap();
    let pieces: Vec<Bytes> = store
        .objects
        .get(&Path::from("big"))
        .await
        .unwrap()
        .into_stream()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [4 << 20, 4 << 20, 77]);
    assert!(pieces.concat() == bytes);
}

#[tokio::test]
async fn lists_name_objects_and_nothing_else() {
    let store = fixture();
    for path in ["a", "d/x", "d/e/y", "dd/z"] {
        store.put(path, b"1").await;
    }
    store.put("gone/g", b"1").await;
    store.objects.delete(&Path::from("gone/g")).await.unwrap();
    assert_eq!(store.names(None).await, ["a:1", "d/e/y:1", "d/x:1", "dd/z:1"]);
    assert_eq!(store.names(Some("d")).await, ["d/e/y:1", "d/x:1"]);
    assert!(store.names(Some("a")).await.is_empty(), "an object is not below itself");
    assert!(store.names(Some("none")).await.is_empty());
    let level = store.objects.list_with_delimiter(None).await.unwrap();
    assert_eq!(level.common_prefixes, [Path::from("d"), Path::from("dd")]);
    assert_eq!(level.objects.iter().map(|o| o.location.as_ref()).collect::<Vec<_>>(), ["a"]);
}

#[tokio::test]
async fn what_is_missing_is_not_found() {
    let store = fixture();
    store.put("d/x", b"1").await;
    for path in ["none", "d", "d/x/y", "d/none"] {
        let path = Path::from(path);
        assert!(
            matches!(store.objects.head(&path).await, Err(Error::NotFound { .. })),
            "head {path}"
        );
        assert!(
            matches!(store.objects.get(&path).await, Err(Error::NotFound { .. })),
            "get {path}"
        );
        let copied = store.objects.copy(&path, &Path::from("to")).await;
        assert!(
            matches!(copied, Err(Error::NotFound { .. }) | Err(Error::Generic { .. })),
            "copy {path}"
        );
    }
    let deleted = store.objects.delete(&Path::from("none")).await;
    assert!(matches!(deleted, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn copies_are_objects_of_their_own() {
    let store = fixture();
    store.put("x", b"old").await;
    store.objects.copy(&Path::from("x"), &Path::from("d/y")).await.unwrap();
    store.objects.copy(&Path::from("x"), &Path::from("d/y")).await.unwrap();
    store.put("x", b"newer").await;
    assert_eq!(store.names(None).await, ["d/y:3", "x:5"]);
    let taken = store.objects.copy_if_not_exists(&Path::from("x"), &Path::from("d/y")).await;
    assert!(matches!(taken, Err(Error::AlreadyExists { .. })));
    store.objects.rename(&Path::from("x"), &Path::from("z")).await.unwrap();
    assert_eq!(store.names(None).await, ["d/y:3", "z:5"]);
    assert_eq!(store.temporary_files(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_creators_one_wins() {
    let store = Arc::new(fixture());
    for round in 0..20 {
        let path = Path::from(format!("manifest/{round}"));
        let puts = (0..8_u8).map(|who| {
            let (store, path) = (Arc::clone(&store), path.clone());
            tokio::spawn(async move {
                store.objects.put_opts(&path, vec![who; 100].into(), create()).await
            })
        });
        let mut winners = Vec::new();
        for (who, put) in futures::future::join_all(puts).await.into_iter().enumerate() {
            match put.unwrap() {
                Ok(_) => winners.push(who),
                Err(error) => assert!(matches!(error, Error::AlreadyExists { .. }), "{error}"),
            }
        }
        assert_eq!(winners.len(), 1);
        let bytes = store.objects.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(bytes, vec![u8::try_from(winners[0]).unwrap(); 100]);
    }
    assert_eq!(store.temporary_files(), 0);
}

#[tokio::test]
async fn parts_come_together_in_order() {
    let store = fixture();
    let path = Path::from("up");
    let mut upload = store.objects.put_multipart(&path).await.unwrap();
    let first = upload.put_part(PutPayload::from_static(b"first "));
    let second = upload.put_part(PutPayload::from_static(b"second"));
    second.await.unwrap();
    assert!(store.names(None).await.is_empty(), "not there before it is complete");
    first.await.unwrap();
    upload.complete().await.unwrap();
    assert!(upload.complete().await.is_err());
    assert_eq!(store.objects.get(&path).await.unwrap().bytes().await.unwrap(), "first second");

    let mut aborted = store.objects.put_multipart(&Path::from("no")).await.unwrap();
    aborted.put_part(PutPayload::from_static(b"x")).await.unwrap();
    aborted.abort().await.unwrap();
    let mut unfinished = store.objects.put_multipart(&Path::from("no")).await.unwrap();
    let part = unfinished.put_part(PutPayload::from_static(b"x"));
    drop(part);
    assert!(unfinished.complete().await.is_err(), "a part is missing");
    drop(store.objects.put_multipart(&Path::from("no")).await.unwrap());
    assert_eq!(store.names(None).await, ["up:12"]);
    assert_eq!(store.temporary_files(), 0);
}

#[tokio::test]
async fn what_a_crash_left_goes_at_open() {
    let store = fixture();
    store.put("x", b"1").await;
    store.disk.open(DiskPath::new("objects.tmp/0"), OpenMode::CreateNew).unwrap();
    let again = LocalObjects::open(Arc::clone(&store.disk), DiskPath::new("objects")).unwrap();
    assert_eq!(store.temporary_files(), 0);
    again.put(&Path::from("y"), PutPayload::from_static(b"1")).await.unwrap();
    assert_eq!(store.names(None).await, ["x:1", "y:1"]);
}
