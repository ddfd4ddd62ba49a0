//! The store on a real S3 service: whole when the service fails, lags or lies, written by one data
//! directory at a time, and read with few requests.

use std::sync::Arc;

use storage::objects::{Bucket, Config, CredentialSource, connect};
use storage::{Error, FarObjects, Storage, verify};
use tenancy::ReadScope;
use testkit::{S3Fault, S3Plan, S3Server};

use crate::facts::text_of;
use crate::store::{Ground, NOW_MS, Row, config, read, write};
use model::TimeRange;

/// How the service is reached: with patience, for machines that do much else.
fn far_config(server: &S3Server) -> Config {
    Config {
        kind: storage::objects::Kind::S3,
        bucket: S3Server::BUCKET.to_owned(),
        endpoint: server.endpoint(),
        allow_http: true,
        credentials: CredentialSource::Keys,
        access_key_id: "test".to_owned(),
        secret_access_key: "test".into(),
        request_seconds: 30.0,
        retries_max: 2,
        retry_seconds: 90.0,
        ..Config::default()
    }
}

/// Objects below a prefix of the service, behind a cache.
pub(crate) fn far(server: &S3Server, prefix: &str) -> FarObjects {
    far_as(&far_config(server), prefix)
}

/// The same for tests in which requests are never answered.
fn impatient(server: &S3Server, prefix: &str) -> FarObjects {
    far_as(&Config { request_seconds: 3.0, ..far_config(server) }, prefix)
}

fn far_as(config: &Config, prefix: &str) -> FarObjects {
    let counts = Arc::default();
    let bucket = Bucket::new(&config.bucket, prefix).expect("a bucket");
    let keys = config.credentials(|_| None, |_| Err(String::new())).expect("keys");
    let objects = connect(config, &bucket, &keys, &counts).expect("a client");
    let (place, cache_bytes) = (bucket.to_string(), 64 << 20);
    FarObjects { objects, place, counts, cache_bytes, take_over: false }
}

const SERIES: u32 = 12;

/// Minute 0.
const FIRST_MS: i64 = NOW_MS - 3_600_000;

fn rows(minute: i64) -> Vec<Row> {
    (0..SERIES).map(|n| (n, FIRST_MS + minute * 60_000, f64::from(n) + minute as f64)).collect()
}

async fn put(storage: &Storage, minute: i64) {
    let appended = write(storage, 1, &rows(minute)).await.expect("a good write");
    assert_eq!(appended.outcome.samples, u64::from(SERIES));
}

/// How many samples there are of a stretch of minutes.
async fn samples(storage: &Storage, minutes: std::ops::Range<i64>) -> Result<usize, Error> {
    let scope = ReadScope::for_test(&[(1, "team-1")]);
    let range = TimeRange {
        start_ms: FIRST_MS + minutes.start * 60_000,
        end_ms: FIRST_MS + minutes.end * 60_000 - 1,
    };
    let found = read(storage, &scope, &[], range).await?;
    Ok(found.iter().map(|(_, points)| points.len()).sum())
}

const ALL: std::ops::Range<i64> = 0..1_000;

async fn open(ground: &Ground, far: &FarObjects) -> Result<Arc<Storage>, Error> {
    ground.open_on(config(), Some(far.clone()), 7).await
}

fn fault(method: &'static str, part: &'static str, status: u16, times: u32) -> S3Fault {
    S3Fault { method, part, status, times, late: false }
}

fn failing(faults: Vec<S3Fault>) -> S3Plan {
    S3Plan { faults, ..S3Plan::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_overwrites_is_refused() {
    let Some(server) = S3Server::start() else { return };
    server.plan(&S3Plan { blind: true, ..S3Plan::default() });
    let refused = open(&Ground::default(), &far(&server, "blind")).await.map(drop);
    let text = text_of(&refused.expect_err("two writers could not be told apart"));
    assert!(text.contains("s3://rows/blind") && text.contains("If-None-Match"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let Some(server) = S3Server::start() else { return };
    let (mut ground, far) = (Ground::default(), far(&server, "kill"));
    for life in 0..4 {
        let storage = open(&ground, &far).await.expect("the same store");
        assert_eq!(storage.incomplete(), []);
        assert_eq!(
            samples(&storage, ALL).await.expect("readable"),
            (life * 3) as usize * SERIES as usize
        );
        put(&storage, life * 3).await;
        put(&storage, life * 3 + 1).await;
        storage.flush_all().await.expect("a good flush");
        put(&storage, life * 3 + 2).await;
        drop(storage);
        ground = Ground { disk: ground.disk.after_kill(), ..ground.clone() };
    }
    // The disk is gone with its log: what was flushed is there, and nobody starts by mistake.
    let elsewhere = Ground::default();
    let refused = elsewhere.open_on(config(), Some(far.clone()), 8).await.map(drop);
    assert!(text_of(&refused.expect_err("not its own")).contains("--take-over"));
    let consenting = FarObjects { take_over: true, ..far };
    let storage = elsewhere.open_on(config(), Some(consenting), 8).await.expect("taken over");
    assert_eq!(storage.incomplete(), []);
    let flushed = 11 * SERIES as usize;
    assert_eq!(samples(&storage, ALL).await.expect("readable"), flushed, "but for the last log");
    put(&storage, 50).await;
    storage.flush_all().await.expect("a good flush");
    drop(storage);
    let far = self::far(&server, "kill");
    let again = Ground { disk: elsewhere.disk.after_kill(), ..elsewhere.clone() };
    let storage = again.open_on(config(), Some(far), 8).await.expect("its own now");
    assert_eq!(samples(&storage, ALL).await.expect("readable"), flushed + SERIES as usize);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_instances_on_one_prefix_the_first_is_shut_out() {
    let Some(server) = S3Server::start() else { return };
    let far = far(&server, "two");
    let (first, second) = (Ground::default(), Ground::default());
    let one = open(&first, &far).await.expect("a new store");
    put(&one, 0).await;
    one.flush_all().await.expect("a good flush");
    put(&one, 1).await;
    let consenting = FarObjects { take_over: true, ..far.clone() };
    let two = second.open_on(config(), Some(consenting.clone()), 8).await.expect("taken over");
    assert_eq!(samples(&two, ALL).await.expect("readable"), SERIES as usize);
    put(&two, 2).await;
    two.flush_all().await.expect("a good flush");
    // The first one learns of it when it writes, and overwrites nothing.
    let refused = text_of(&one.flush_all().await.expect_err("shut out"));
    assert!(refused.contains("written by another process"), "{refused}");
    assert_eq!(one.read_only().len(), 3);
    assert_eq!(samples(&one, ALL).await.expect("reads go on"), 2 * SERIES as usize);
    put(&two, 3).await;
    two.flush_all().await.expect("a good flush");
    two.compact(storage::Extent::Everything).await.expect("a good merge");
    assert_eq!(samples(&two, ALL).await.expect("readable"), 3 * SERIES as usize);
    drop(one);
    let again = first.open_on(config(), Some(consenting), 7).await.map(drop);
    let text = text_of(&again.expect_err("its log does not follow"));
    assert!(text.contains("shut this data directory"), "{text}");
    drop(two);
    let two = second.open_on(config(), Some(far), 8).await.expect("its own");
    assert_eq!(samples(&two, ALL).await.expect("readable"), 3 * SERIES as usize);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_directories_and_stores_are_not_mixed_up() {
    let Some(server) = S3Server::start() else { return };
    let (ground, far) = (Ground::default(), far(&server, "one"));
    drop(open(&ground, &far).await.expect("a new store"));
    #[track_caller]
    fn refused(opened: Result<Arc<Storage>, Error>, part: &str) {
        let text = text_of(&opened.map(drop).expect_err("refused"));
        assert!(text.contains(part), "{text}");
    }
    refused(ground.open().await, "belongs to a store on S3");
    let disk: Arc<dyn model::Disk> = Arc::new(ground.disk.clone());
    let tool = async |far: Option<&FarObjects>| {
        let done = storage::quarantine(Arc::clone(&disk), far).await.map(drop);
        text_of(&done.expect_err("not its objects"))
    };
    let without = tool(None).await;
    assert!(without.contains("belongs to a store on S3"), "{without}");
    let other = self::far(&server, "other");
    let absent = tool(Some(&other)).await;
    assert!(absent.contains("there is no store at"), "{absent}");
    drop(Ground::default().open_on(config(), Some(other.clone()), 9).await.expect("a new store"));
    refused(open(&ground, &other).await, "holds store");
    let mixed = tool(Some(&other)).await;
    assert!(mixed.contains("holds store"), "{mixed}");
    let local = Ground::default();
    drop(local.open().await.expect("a new store"));
    let disk: Arc<dyn model::Disk> = Arc::new(local.disk.clone());
    let own = storage::quarantine(disk, Some(&other)).await.map(drop).expect_err("local objects");
    assert!(text_of(&own).contains("its objects are its own"), "{}", text_of(&own));
    refused(open(&local, &self::far(&server, "third")).await, "holds rows of its own");
    drop(open(&ground, &far).await.expect("nothing happened to it"));
}

/// Damage in the log of a store whose objects are far away: given up as it is at home.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_records_are_given_up_with_objects_on_s3() {
    let Some(server) = S3Server::start() else { return };
    let (ground, far) = (Ground::default(), far(&server, "damaged"));
    let storage = open(&ground, &far).await.expect("a new store");
    put(&storage, 0).await;
    storage.flush_all().await.expect("a good flush");
    let written = write(&storage, 1, &rows(1)).await.expect("a good write");
    let position = written.position.expect("it was logged").0;
    put(&storage, 2).await;
    put(&storage, 3).await;
    drop(storage);
    let disk: Arc<dyn model::Disk> = Arc::new(ground.disk.clone());
    let sound = verify(Arc::clone(&disk), Some(&far), &mut |_| {}).await.expect("verified");
    // All of the log: partitions of entries that have none let go of it a segment at a time.
    assert!(sound.is_sound() && sound.blocks == 3 && sound.log_records == 12, "{sound:?}");
    let segments = |ground: &Ground| -> Vec<std::path::PathBuf> {
        ground.disk.files().into_iter().filter(|path| path.starts_with("log")).collect()
    };
    let all = segments(&ground);
    let [segment] = all.as_slice() else { panic!("one segment: {all:?}") };
    // The header of a record behind what is covered: of which partition nobody knows.
    ground
        .disk
        .tamper(segment, |bytes| bytes[position as usize + 16] ^= 1)
        .expect("an existing file");
    let storage = open(&ground, &far).await.expect("damage does not stop it");
    assert_eq!((storage.damage().len(), storage.read_only().len()), (1, 3 + 4));
    let before = samples(&storage, ALL).await.expect("readable");
    drop(storage);
    let damaged = verify(Arc::clone(&disk), Some(&far), &mut |_| {}).await.expect("verified");
    assert!(!damaged.is_sound());
    let report = storage::quarantine(Arc::clone(&disk), Some(&far)).await.expect("a quarantine");
    assert_eq!((report.damaged.len(), report.copies.len()), (1, 1));
    let again = storage::quarantine(Arc::clone(&disk), Some(&far)).await;
    let again = again.expect("nothing left to do");
    let sound = verify(disk, Some(&far), &mut |_| {}).await.expect("verified");
    assert!(sound.is_sound(), "{sound:?}");
    assert_eq!(again.damaged, []);
    let storage = open(&ground, &far).await.expect("sound again");
    assert_eq!((storage.damage(), storage.read_only()), (&[][..], vec![]));
    assert_eq!(samples(&storage, ALL).await.expect("readable"), before);
    put(&storage, 4).await;
    storage.flush_all().await.expect("a good flush");
    assert_eq!(samples(&storage, ALL).await.expect("readable"), before + SERIES as usize);
}

/// While the service fails, flushes fail and nothing is lost; once it works again, all is in blocks.
async fn flush_under(server: &S3Server, case: usize, faults: Vec<S3Fault>, goes_through: bool) {
    let is_silent = faults.iter().any(|fault| fault.status == 0);
    let reach = if is_silent { impatient } else { far };
    let far = reach(server, &format!("flush-{case}"));
    let ground = Ground::default();
    let storage = open(&ground, &far).await.expect("a new store");
    put(&storage, 0).await;
    storage.flush_all().await.expect("a good flush");
    put(&storage, 1).await;
    server.plan(&failing(faults.clone()));
    let flushed = storage.flush_all().await;
    assert_eq!(flushed.is_ok(), goes_through, "{faults:?}: {flushed:?}");
    if let Err(error) = &flushed {
        let text = text_of(error);
        assert!(text.contains(faults[0].part.trim_end_matches('/')), "{text} names no object");
    }
    assert_eq!(samples(&storage, ALL).await.expect("readable"), 2 * SERIES as usize, "{faults:?}");
    put(&storage, 2).await;
    server.plan(&S3Plan::default());
    storage.flush_all().await.expect("a good flush");
    storage.flush_all().await.expect("what came after it as well");
    assert_eq!(storage.read_only(), [], "{faults:?}");
    assert_eq!(storage.totals().head_samples, 0, "{faults:?}");
    assert_eq!(storage.totals().block_samples, 3 * u64::from(SERIES), "{faults:?}: each row once");
    assert_eq!(samples(&storage, ALL).await.expect("readable"), 3 * SERIES as usize);
    drop(storage);
    let again = Ground { disk: ground.disk.after_kill(), ..ground.clone() };
    let storage = open(&again, &far).await.expect("the same store");
    assert_eq!((storage.incomplete(), storage.lost_blocks()), (vec![], vec![]));
    assert_eq!(samples(&storage, ALL).await.expect("readable"), 3 * SERIES as usize);
}

#[tokio::test(flavor = "multi_thread")]
async fn flushes_get_through_in_the_end() {
    let Some(server) = S3Server::start() else { return };
    let late =
        |method, part, status, times| S3Fault { late: true, ..fault(method, part, status, times) };
    for (case, (faults, goes_through)) in [
        (vec![fault("PUT", "blocks/", 503, 2)], true),
        (vec![fault("PUT", "blocks/", 429, 1), fault("PUT", "manifest/", 500, 1)], true),
        (vec![fault("PUT", "blocks/", 503, 1_000)], false),
        (vec![fault("PUT", "blocks/", 403, 1)], false),
        (vec![fault("PUT", "manifest/", 403, 1)], false),
        (vec![fault("PUT", "manifest/", 503, 1_000)], false),
        // Carried out, though the answer says otherwise: the next try finds the name taken.
        (vec![late("PUT", "manifest/", 500, 1)], true),
        (vec![late("PUT", "manifest/", 500, 1_000)], true),
        // Nobody can look either.
        (vec![late("PUT", "manifest/", 500, 1_000), fault("GET", "manifest/", 500, 1_000)], false),
        (vec![late("PUT", "manifest/", 0, 1)], true),
        (vec![fault("PUT", "manifest/", 0, 1), fault("GET", "manifest/", 403, 1)], false),
        (vec![late("PUT", "blocks/", 500, 2)], true),
    ]
    .into_iter()
    .enumerate()
    {
        flush_under(&server, case, faults, goes_through).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_question_that_needs_an_object_fails() {
    let Some(server) = S3Server::start() else { return };
    let far = impatient(&server, "reads");
    let ground = Ground::default();
    let storage = open(&ground, &far).await.expect("a new store");
    put(&storage, 0).await;
    storage.flush_all().await.expect("a good flush");
    put(&storage, 10).await;
    storage.flush_all().await.expect("a good flush");
    drop(storage);
    for (case, status) in [404, 403, 500, 503, 429, 0].into_iter().enumerate() {
        // Without anything in memory or on disk: a new cache.
        for file in ground.disk.files().into_iter().filter(|f| f.starts_with("cache")) {
            model::Disk::remove(&ground.disk, &file).expect("a file of the cache");
        }
        let storage = open(&ground, &far).await.expect("the same store");
        let first = SERIES as usize;
        let part = ["index.bin", "chunks.parquet", "ts.parquet"][case % 3];
        server.plan(&failing(vec![fault("GET", part, status, 1_000)]));
        let error = samples(&storage, 0..5).await.expect_err("it needs the object");
        let text = text_of(&error);
        assert!(text.contains(part) && text.contains("blocks/"), "{status}: {text}");
        assert_eq!(storage.read_only(), []);
        put(&storage, 20 + case as i64).await;
        let recent = samples(&storage, 20..30).await.expect("what is in memory");
        assert_eq!(recent, first * (case + 1));
        server.plan(&S3Plan::default());
        assert_eq!(samples(&storage, 0..5).await.expect("readable again"), first);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_and_a_question_take_few_requests() {
    let Some(server) = S3Server::start() else { return };
    let far = far(&server, "few");
    let ground = Ground::default();
    let storage = open(&ground, &far).await.expect("a new store");
    for minute in 0..6 {
        put(&storage, minute).await;
        storage.flush_all().await.expect("a good flush");
    }
    let blocks = storage.blocks().len();
    drop(storage);
    let ground = Ground { disk: testkit::FaultyDisk::default(), ..ground.clone() };
    let consenting = FarObjects { take_over: true, ..far };
    let storage = ground.open_on(config(), Some(consenting), 8).await.expect("taken over");
    drop(server.requests());
    assert_eq!(samples(&storage, ALL).await.expect("readable"), 6 * SERIES as usize);
    let requests = server.requests();
    assert_eq!(requests.len(), 3 * blocks, "index, chunks, timestamps of each: {requests:?}");
    assert_eq!(samples(&storage, 0..3).await.expect("readable"), 3 * SERIES as usize);
    assert_eq!(server.requests(), Vec::<String>::new());
    let (counted, cache) = storage.object_store().expect("objects are far");
    let gets: u64 =
        counted.requests.iter().filter(|r| r.0 == "get" && r.1 == "ok").map(|r| r.2).sum();
    assert!(gets >= 3 * blocks as u64 && counted.small_reads > 0 && cache.bytes > 0, "{counted:?}");
    drop(storage);
    // After a restart the cache is there, the memory is not.
    let storage =
        ground.open_on(config(), Some(self::far(&server, "few")), 8).await.expect("opens");
    drop(server.requests());
    assert_eq!(samples(&storage, ALL).await.expect("readable"), 6 * SERIES as usize);
    assert_eq!(server.requests(), Vec::<String>::new(), "all from the local disk");
}
