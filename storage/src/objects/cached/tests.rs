//! Tests of the cache: few requests, right bytes, whatever happens to its files.

#![expect(clippy::single_range_in_vec_init, reason = "lists of ranges, of which some have one")]

use std::path::Path as DiskPath;
use std::time::Duration;

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use testkit::{FaultyDisk, FaultyObjects, ObjectFault, Request};

use super::*;

const MIB: u64 = PART_BYTES;

/// Bytes that tell where they are from.
fn content(length: u64) -> Bytes {
    (0..length).map(|i| ((i * 2_654_435_761) >> 13) as u8).collect::<Vec<u8>>().into()
}

struct Ground {
    store: FaultyObjects,
    disk: FaultyDisk,
    whole: Bytes,
}

fn object() -> Path {
    Path::from("blocks/0001/7/chunks.parquet")
}

impl Ground {
    /// A store that has one object.
    async fn new(length: u64) -> Self {
        let store = FaultyObjects::new(Arc::new(InMemory::new()));
        let whole = content(length);
        store.put(&object(), whole.clone().into()).await.unwrap();
        Self { store, disk: FaultyDisk::default(), whole }
    }

    fn cached(&self, bytes_max: u64) -> CachedObjects {
        self.cached_as(7, bytes_max)
    }

    fn cached_as(&self, store: u128, bytes_max: u64) -> CachedObjects {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        CachedObjects::open(Arc::new(self.store.clone()), disk, store, bytes_max, 0)
    }

    fn gets(&self) -> u64 {
        self.store.requests_of(Request::Get)
    }

    /// Reads ranges and checks them; gives how many requests that took.
    async fn read(&self, cached: &CachedObjects, ranges: &[Range<u64>]) -> u64 {
        let before = self.gets();
        let read = cached.get_ranges(&object(), ranges).await.unwrap();
        for (range, bytes) in ranges.iter().zip(read) {
            assert!(bytes == self.whole[range.start as usize..range.end as usize], "{range:?}");
        }
        settled(cached).await;
        self.gets() - before
    }
}

/// Waits until everything that was read is on the disk.
async fn settled(cached: &CachedObjects) {
    let Some(files) = &cached.files else { return };
    while files.is_writing() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn near_ranges_come_with_one_request_and_once() {
    let ground = Ground::new(20 * MIB + 5).await;
    let cached = ground.cached(1 << 30);
    let far = 20 * MIB;
    for (ranges, requests) in [
        (vec![0..10, MIB - 1..MIB + 1, 2 * MIB - 5..2 * MIB], 1),
        (vec![5..MIB, 0..2 * MIB], 0),
        (vec![3 * MIB..3 * MIB + 1, 5 * MIB + 7..5 * MIB + 9], 2),
        // What is there already is not read again, so it parts the rest.
        (vec![2 * MIB..7 * MIB], 3),
        (vec![far..far + 5], 1),
        (vec![far - 1..far + 5], 1),
        // Long runs are read in several requests at a time.
        (vec![0..far + 5], 2),
        (vec![0..far + 5], 0),
        (vec![], 0),
    ] {
        assert_eq!(ground.read(&cached, &ranges).await, requests, "{ranges:?}");
    }
    let again = ground.cached(1 << 30);
    assert_eq!(ground.read(&again, &[0..far + 5]).await, 0, "files outlive the process");
    let whole = again.get(&object()).await.unwrap();
    assert_eq!(whole.meta.size, 20 * MIB + 5);
    assert_eq!(whole.bytes().await.unwrap(), ground.whole);
    assert_eq!(again.totals().damaged, 0);
}

#[tokio::test]
async fn whole_objects_of_unknown_length_are_read() {
    for (length, at_first) in [(1, 1), (100, 1), (MIB, 1), (MIB + 1, 2), (9 * MIB + 3, 3)] {
        let ground = Ground::new(length).await;
        let cached = ground.cached(1 << 30);
        for requests in [at_first, 0] {
            let before = ground.gets();
            let got = cached.get(&object()).await.unwrap();
            assert_eq!((got.meta.size, got.range.clone()), (length, 0..length));
            assert_eq!(got.bytes().await.unwrap(), ground.whole, "{length}");
            settled(&cached).await;
            assert_eq!(ground.gets() - before, requests, "{length}");
        }
        let options = GetOptions { range: Some((0..length + 1).into()), ..GetOptions::default() };
        let over = cached.get_opts(&object(), options).await.unwrap();
        assert_eq!(over.range, 0..length, "cut as S3 does");
        cached.get_ranges(&object(), &[0..length + 1]).await.expect_err("it ends before");
    }
}

#[tokio::test]
async fn what_is_being_read_is_waited_for() {
    let ground = Ground::new(4 * MIB).await;
    ground.store.set_latency(Duration::from_millis(30));
    for bytes_max in [0, 1 << 30] {
        let cached = ground.cached(bytes_max);
        let before = ground.gets();
        let (one, two) = ([0..10, MIB..MIB + 1], [MIB + 5..MIB + 9, 3 * MIB..4 * MIB]);
        let object = object();
        let read = futures::join!(
            cached.get_ranges(&object, &one),
            cached.get_ranges(&object, &two),
            cached.get_ranges(&object, &one),
        );
        assert_eq!(read.1.unwrap()[1], ground.whole[3 * MIB as usize..]);
        assert_eq!((read.0.unwrap(), ground.gets() - before), (read.2.unwrap(), 2));
        settled(&cached).await;
    }
}

#[tokio::test]
async fn a_reader_that_leaves_takes_nobody_with_it() {
    let ground = Ground::new(MIB).await;
    ground.store.set_latency(Duration::from_millis(50));
    let cached = Arc::new(ground.cached(0));
    let read = |cached: Arc<CachedObjects>| async move {
        cached.get_ranges(&object(), &[0..5]).await.map(|read| read[0].clone())
    };
    let first = tokio::spawn(read(Arc::clone(&cached)));
    tokio::time::sleep(Duration::from_millis(10)).await;
    let second = tokio::spawn(read(Arc::clone(&cached)));
    tokio::time::sleep(Duration::from_millis(10)).await;
    first.abort();
    assert_eq!(second.await.unwrap().unwrap(), ground.whole[..5]);
    assert_eq!(ground.gets(), 1);
    // Nobody waits any more: the next one begins anew.
    let third = tokio::spawn(read(Arc::clone(&cached)));
    tokio::time::sleep(Duration::from_millis(10)).await;
    third.abort();
    drop(third.await);
    assert_eq!(read(cached).await.unwrap(), ground.whole[..5]);
    assert_eq!(ground.gets(), 3);
}

#[tokio::test]
async fn errors_are_told_to_all_and_not_kept() {
    let ground = Ground::new(100).await;
    let cached = ground.cached(1 << 30);
    ground.store.set_latency(Duration::from_millis(10));
    ground.store.fail_at(ground.store.requests() + 1, ObjectFault::Refused);
    let object = object();
    let (one, two) = futures::join!(cached.get(&object), cached.get(&object));
    for failed in [one.map(drop).unwrap_err(), two.map(drop).unwrap_err()] {
        assert!(failed.to_string().contains("planned fault"), "{failed}");
    }
    assert_eq!(ground.read(&cached, &[0..100]).await, 1);
    let absent = cached.get(&Path::from("blocks/none")).await.map(drop);
    assert!(matches!(absent, Err(Error::NotFound { .. })), "{absent:?}");
}

#[tokio::test]
async fn no_file_is_trusted() {
    let ground = Ground::new(3 * MIB).await;
    let cached = ground.cached(1 << 30);
    ground.read(&cached, &[0..3 * MIB]).await;
    let files: Vec<_> =
        ground.disk.files().into_iter().filter(|f| f.starts_with("cache")).collect();
    assert_eq!(files.len(), 3);
    let mut damaged = 0;
    for place in [0, 8, 16, 32, 40, 44, 48, 52, 56, 90, 1_000_000] {
        for file in &files {
            ground.disk.tamper(file, |bytes| bytes[place] ^= 1).unwrap();
        }
        assert_eq!(ground.read(&cached, &[0..3 * MIB]).await, 1, "byte {place}");
        damaged += 3;
        assert_eq!(cached.totals().damaged, damaged);
    }
    for file in &files {
        ground.disk.tamper(file, |bytes| bytes.truncate(bytes.len() / 2)).unwrap();
    }
    assert_eq!(ground.read(&cached, &[0..3 * MIB]).await, 1, "cut short");
    // One file in the place of another: right in itself, but not what is looked for.
    let mut other = Vec::new();
    ground.disk.tamper(&files[0], |bytes| other = bytes.clone()).unwrap();
    ground.disk.tamper(&files[1], |bytes| *bytes = other).unwrap();
    assert_eq!(ground.read(&cached, &[0..3 * MIB]).await, 1, "swapped");
    ground.disk.remove(&files[2]).unwrap();
    assert_eq!(ground.read(&cached, &[0..3 * MIB]).await, 1, "removed");
    let another = ground.cached_as(8, 1 << 30);
    assert_eq!(ground.read(&another, &[0..3 * MIB]).await, 1, "of another store");
}

#[tokio::test]
async fn bytes_are_bounded_and_deleted_objects_go() {
    let ground = Ground::new(12 * MIB).await;
    let cached = ground.cached(5 * MIB);
    for part in [0, 1, 2, 3, 0, 4, 5, 0, 6] {
        ground.read(&cached, &[part * MIB..part * MIB + 1]).await;
        let on_disk: u64 =
            ground.disk.list(DiskPath::new("cache")).unwrap().iter().map(|f| f.bytes).sum();
        assert!(on_disk <= 5 * MIB && on_disk == cached.totals().bytes, "{on_disk}");
    }
    assert_eq!(ground.read(&cached, &[0..5]).await, 0, "used all the time");
    assert_eq!(ground.read(&cached, &[MIB..MIB + 5]).await, 1, "used long ago");
    let smaller = ground.cached(2 * MIB);
    assert!(smaller.totals().bytes <= 2 * MIB, "a smaller cache than before");
    let cached = ground.cached(5 * MIB);
    ground.read(&cached, &[0..5]).await;
    cached.delete(&object()).await.unwrap();
    while cached.files.as_ref().unwrap().has(&object(), 0) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cached.get_range(&object(), 0..5).await.expect_err("it is gone");
}

#[tokio::test]
async fn a_disk_that_is_full_or_broken_costs_only_requests() {
    let ground = Ground::new(2 * MIB).await;
    let cached = ground.cached(1 << 30);
    ground.disk.fail_from(ground.disk.operations() + 1, testkit::Fault::Enospc);
    for _ in 0..3 {
        assert_eq!(ground.read(&cached, &[0..2 * MIB]).await, 1);
    }
    assert!(cached.totals().failed_writes >= 3);
    ground.disk.heal();
    ground.read(&cached, &[0..2 * MIB]).await;
    assert_eq!(ground.read(&cached, &[0..2 * MIB]).await, 0);
}

#[tokio::test]
async fn what_is_put_in_the_place_of_another_is_read() {
    let ground = Ground::new(100).await;
    let cached = ground.cached(1 << 30);
    ground.read(&cached, &[0..100]).await;
    cached.put(&object(), "mended".into()).await.unwrap();
    assert_eq!(cached.get(&object()).await.unwrap().bytes().await.unwrap(), "mended");
}

#[tokio::test]
async fn names_that_may_change_pass_through() {
    let ground = Ground::new(1).await;
    let cached = ground.cached(1 << 30);
    let path = Path::from("owners/1.json");
    for text in ["one", "two"] {
        cached.put(&path, text.into()).await.unwrap();
        assert_eq!(cached.get(&path).await.unwrap().bytes().await.unwrap(), text);
    }
    let fresh = cached.get_opts(&object(), Fresh::options(Some(0..1))).await.unwrap();
    assert_eq!(fresh.bytes().await.unwrap(), ground.whole);
}
