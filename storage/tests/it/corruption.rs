//! Bits flip, sectors become zeros, files shrink, go, or change places: whatever happens to one
//! file, it is told or it costs nothing; the rest is read; no answer is wrong, nothing panics.
//!
//! `TAFFRAIL_CASES` says how many mutations are made, `TAFFRAIL_SEED` which one is first. All:
//! `TAFFRAIL_CASES=10000 cargo test -p server -p storage --test it corruption`.

mod copies;
mod entries;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::model::{Disk, Matcher, OpenMode, Resolution, TimeRange};
use storage::{
    Config, Delete, DownsamplingConfig, Error, Extent, Severity, Storage, Verified, verify,
};
use tenancy::{DeleteScope, Limits, ReadScope};
use testkit::{FaultyDisk, ManualClock, SeededRandom};

use crate::downsampling::stored_in;
use crate::facts::{self, Journal, Request, Step, number_from_env, samples, text_of, tight};
use crate::store::{Ground, NOW_MS};

/// Longest this may take where the number of cases is not given.
const TIME_MAX: Duration = Duration::from_secs(25);

/// Mutations that are made however long they take.
const CASES_MIN: u64 = 100;

/// Bytes of a sector.
const SECTOR: usize = 512;

/// What happens to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mutation {
    Flip,
    ZeroSector,
    Truncate,
    Append,
    Remove,
    /// It gets the content of another file of its kind, and that one its own.
    Swap,
    /// It gets the content of another file of its kind.
    Replace,
}

/// Seconds from the first day of the test to the second.
const DAY_SECONDS: i64 = 24 * 3600;

const MUTATIONS: [Mutation; 7] = [
    Mutation::Flip,
    Mutation::ZeroSector,
    Mutation::Truncate,
    Mutation::Append,
    Mutation::Remove,
    Mutation::Swap,
    Mutation::Replace,
];

/// A directory with a file of every kind, and what can be read of it.
struct Sound {
    disk: FaultyDisk,
    facts: BTreeSet<String>,
    /// Facts of which only the last segment of the log knows.
    in_last_segment: BTreeSet<String>,
    /// Files by kind.
    files: BTreeMap<&'static str, Vec<PathBuf>>,
}

/// `windows` are the names of blocks of windows.
fn kind_of(path: &Path, windows: &[String]) -> Option<&'static str> {
    let text = path.to_string_lossy();
    if windows.iter().any(|name| text.starts_with(&format!("objects/{name}/"))) {
        let objects = [
            ("index.bin", "index.bin of windows"),
            ("chunks.parquet", "chunks.parquet of windows"),
            ("ts.parquet", "ts.parquet of windows"),
            ("series.parquet", "series.parquet of windows"),
        ];
        return objects.into_iter().find(|(name, _)| text.ends_with(name)).map(|(_, kind)| kind);
    }
    let kinds = [
        ("log/", "log"),
        ("objects/manifest/", "manifest"),
        ("objects/snapshots/", "snapshot"),
        ("objects/partitions.json", "partition map"),
    ];
    let by_place = kinds.iter().find(|(start, _)| text.starts_with(start)).map(|(_, kind)| *kind);
    by_place.or_else(|| {
        let objects =
            ["index.bin", "chunks.parquet", "ts.parquet", "series.parquet", "exemplars.parquet"];
        objects.into_iter().find(|name| text.starts_with("objects/blocks/") && text.ends_with(name))
    })
}

/// Rows of all kinds for so many series at a second.
fn scrape(tenant: u32, second: i64) -> Step {
    let at = NOW_MS + second * 1000;
    let value = |n: u32| match n % 5 {
        0 => f64::from(n) + second as f64,
        1 => -0.0,
        2 => ::model::stale_nan(),
        3 => f64::from_bits(0x7ff8_0000_0000_0000 | second as u64),
        _ => second as f64 / 7.0,
    };
    Step::Write(Request {
        tenant,
        rows: (0..25).map(|n| (n, at, value(n))).collect(),
        histograms: vec![(40, at), (41, at)],
        exemplars: vec![(1, at)],
        metadata: vec![format!("family_{tenant}")],
    })
}

fn config() -> Config {
    Config { downsampling: DownsamplingConfig { enabled: true }, ..tight() }
}

/// All facts that can be read, among them what windows of both lengths say of the first day, which
/// is downsampled.
async fn everything(storage: &Storage) -> Result<BTreeSet<String>, Error> {
    let mut all = facts::everything(storage).await?;
    let first_day = TimeRange { start_ms: NOW_MS - 3_600_000, end_ms: NOW_MS + 3_600_000 };
    for resolution in [Resolution::Minutes5, Resolution::Hour1] {
        for tenant in [1, 2] {
            let scope = ReadScope::for_test(&[(tenant, &format!("team-{tenant}"))]);
            let lines = stored_in(storage, &scope, resolution, first_day).await?;
            all.extend(lines.iter().map(|line| format!("{tenant} {resolution} {line}")));
        }
    }
    Ok(all)
}

async fn sound() -> Sound {
    let ground = Ground::default();
    let mut journal = Journal::default();
    let storage = ground.open_with(config()).await.expect("a sound disk");
    let live = async |journal: &mut Journal, steps: &[Step]| {
        journal.live(&ground, &storage, steps).await.expect("right answers");
    };
    for round in 0..4 {
        live(&mut journal, &[scrape(1, round * 30), scrape(2, round * 30), Step::Flush]).await;
    }
    // A day that is over, merged and downsampled; what follows is of the next one.
    ground.clock.advance(Duration::from_secs(DAY_SECONDS as u64));
    storage.compact(Extent::Due).await.expect("merged");
    let windows = storage.blocks().into_iter().map(|(_, meta)| meta);
    let windows = windows.filter(|meta| meta.resolution != Resolution::Raw);
    let windows: Vec<String> = windows.map(|meta| meta.name).collect();
    assert!(windows.len() >= 4, "{windows:?}");
    for round in 0..4 {
        let at = DAY_SECONDS + round * 30;
        live(&mut journal, &[scrape(1, at), scrape(2, at), Step::Flush]).await;
    }
    storage.compact(Extent::Everything).await.expect("merged");
    let scope = DeleteScope::for_test(1, "team-1", Limits::default());
    for (pod, from) in [("pod-3", 0), ("pod-6", 50)] {
        let day_ms = NOW_MS + DAY_SECONDS * 1000;
        let range = TimeRange { start_ms: day_ms + from * 1000, end_ms: day_ms + 75_000 };
        let delete = Delete { selectors: vec![vec![Matcher::equal("pod", pod)]], range };
        storage.delete(&scope, delete).await.expect("a deletion");
    }
    for round in 5..9 {
        let at = DAY_SECONDS + round * 30;
        live(&mut journal, &[scrape(1, at), scrape(2, at), Step::Flush]).await;
    }
    let before = everything(&storage).await.expect("readable");
    // Beyond what one segment holds, so that the log has more than one.
    for round in 10..14 {
        let at = DAY_SECONDS + round * 30;
        live(&mut journal, &[scrape(1, at), scrape(2, at)]).await;
    }
    let segments = || {
        let mut all: Vec<_> =
            ground.disk.files().into_iter().filter(|p| p.starts_with("log")).collect();
        all.sort();
        all
    };
    assert!(segments().len() > 1, "{:?}", segments());
    let facts = everything(&storage).await.expect("readable");
    let in_last_segment = facts.difference(&before).cloned().collect();
    drop(storage);
    let disk = ground.disk.after_kill();
    let mut files: BTreeMap<&'static str, Vec<PathBuf>> = BTreeMap::new();
    for path in disk.files() {
        if let Some(kind) = kind_of(&path, &windows) {
            files.entry(kind).or_default().push(path);
        }
    }
    assert_eq!(files.len(), 13, "a file of every kind: {:?}", files.keys());
    Sound { disk, facts, in_last_segment, files }
}

impl Sound {
    /// The same again, at the time at which it was left.
    fn again(&self) -> Ground {
        let clock = Arc::new(ManualClock::new(NOW_MS + DAY_SECONDS * 1000));
        Ground { disk: self.disk.after_kill(), clock }
    }
}

fn content(disk: &FaultyDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).expect("an existing file");
    let mut bytes = vec![0; file.bytes().expect("a length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("its content");
    bytes
}

/// Does it; gives the files it was done to, none if it changed nothing.
fn mutate(
    disk: &FaultyDisk,
    random: &SeededRandom,
    mutation: Mutation,
    path: &Path,
    other: &Path,
) -> Vec<PathBuf> {
    let before = content(disk, path);
    let below = |n: usize| random.below(n.max(1) as u64) as usize;
    let mut after = before.clone();
    let mut touched = vec![path.to_owned()];
    match mutation {
        Mutation::Flip if !after.is_empty() => {
            let at = below(after.len());
            after[at] ^= 1 << below(8);
        }
        Mutation::ZeroSector => {
            let at = below(after.len()) / SECTOR * SECTOR;
            let end = (at + SECTOR).min(after.len());
            after[at..end].fill(0);
        }
        Mutation::Truncate => after.truncate(below(before.len())),
        Mutation::Append => after.extend((0..1 + below(64)).map(|_| below(256) as u8)),
        Mutation::Remove => {
            disk.remove(path).expect("an existing file");
            return touched;
        }
        Mutation::Swap | Mutation::Replace => {
            after = content(disk, other);
            if mutation == Mutation::Swap && after != before {
                disk.tamper(other, |bytes| bytes.clone_from(&before)).expect("an existing file");
                touched.push(other.to_owned());
            }
        }
        Mutation::Flip => {}
    }
    if after == before {
        return Vec::new();
    }
    disk.tamper(path, |bytes| *bytes = after).expect("an existing file");
    touched
}

/// How a mutated directory answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Everything was there.
    Harmless,
    /// Rows were missing, and the store said so.
    Told,
    /// A question failed and named the file.
    Refused,
    /// It did not start and named the file.
    Stopped,
    /// What stood at the end of the log was taken for a write that was never finished.
    Torn,
}

/// Whether a text is about one of the files.
fn names(text: &str, touched: &[PathBuf]) -> bool {
    touched.iter().any(|path| {
        let path = path.to_string_lossy();
        let object = path.strip_prefix("objects/").unwrap_or(&path);
        let dir = object.rsplit_once('/').map_or(object, |(dir, _)| dir);
        // A manifest is named by its partition where a file beside it is the one that is read.
        text.contains(object)
            || (dir.starts_with("blocks/") && text.contains(dir))
            || (dir.starts_with("segments/") && text.contains(dir))
            || (object.starts_with("log/") && text.contains("log"))
            || (object.starts_with("manifest/") && text.contains(dir))
    })
}

async fn check(sound: &Sound, seed: u64) -> Result<Option<Case>, String> {
    let random = SeededRandom::new(seed);
    let pick = |n: usize| random.below(n as u64) as usize;
    let kinds: Vec<&'static str> = sound.files.keys().copied().collect();
    let kind = kinds[pick(kinds.len())];
    let of_kind = &sound.files[kind];
    let (path, other) = (&of_kind[pick(of_kind.len())], &of_kind[pick(of_kind.len())]);
    let mutation = MUTATIONS[pick(MUTATIONS.len())];
    let ground = sound.again();
    let touched = mutate(&ground.disk, &random, mutation, path, other);
    if touched.is_empty() {
        return Ok(None);
    }
    let case = format!("{mutation:?} of {}", path.display());
    let pristine = Arc::new(ground.disk.after_kill());
    let verified = verify(pristine, None, &mut |_| {}).await;
    let verified = verified.map_err(|e| format!("{case}: verify: {}", text_of(&e)))?;
    let outcome = answer(sound, &ground, &touched).await.map_err(|e| format!("{case}: {e}"))?;
    check_verdict(&verified, outcome, &touched).map_err(|e| format!("{case}: {outcome:?}: {e}"))?;
    Ok(Some((kind, mutation, outcome)))
}

/// Opens and asks for everything.
async fn answer(sound: &Sound, ground: &Ground, touched: &[PathBuf]) -> Result<Outcome, String> {
    let storage = match ground.open_with(config()).await {
        Ok(storage) => storage,
        Err(error) if names(&text_of(&error), touched) => return Ok(Outcome::Stopped),
        Err(error) => {
            return Err(format!("a start failed for another reason: {}", text_of(&error)));
        }
    };
    let told: Vec<String> = storage
        .incomplete()
        .into_iter()
        .map(|(_, why)| why)
        .chain(storage.lost_blocks().into_iter().map(|(_, name, why)| format!("{name} {why}")))
        .collect();
    let outcome = match everything(&storage).await {
        Err(error) if names(&text_of(&error), touched) => Outcome::Refused,
        Err(error) => {
            return Err(format!("an answer failed for another reason: {}", text_of(&error)));
        }
        Ok(found) => {
            if let Some(phantom) = found.difference(&sound.facts).next() {
                return Err(format!("never written, or deleted: {phantom}"));
            }
            let lost: BTreeSet<String> = sound.facts.difference(&found).cloned().collect();
            let is_named = told.iter().any(|text| names(text, touched));
            match (lost.is_empty(), is_named) {
                (true, _) => Outcome::Harmless,
                (false, true) => Outcome::Told,
                (false, false) => {
                    let in_log = touched.iter().all(|p| p.starts_with("log"));
                    if !in_log || !lost.is_subset(&sound.in_last_segment) {
                        let some: Vec<_> = lost.iter().take(3).collect();
                        return Err(format!("{} facts are lost silently: {some:?}", lost.len()));
                    }
                    Outcome::Torn
                }
            }
        }
    };
    goes_on(sound, &storage).await?;
    Ok(outcome)
}

/// Writing, flushing, merging: errors are fine, panics and hangs are not.
async fn goes_on(sound: &Sound, storage: &Arc<Storage>) -> Result<(), String> {
    let mut known = sound.facts.clone();
    for n in 60..66 {
        let request = samples(1, &[(n, NOW_MS + DAY_SECONDS * 1000 + 500_000, 1.0)]);
        known.extend(request.facts());
        drop(request.send(storage).await);
    }
    drop(storage.flush_all().await);
    drop(storage.compact(Extent::Everything).await);
    // What was merged was read: nothing of it can be what was never written. (Of rows that were given
    // up and others that came windows may say something new.)
    let Ok(found) = facts::everything(storage).await else { return Ok(()) };
    match found.difference(&known).next() {
        Some(phantom) => {
            Err(format!("never written, or deleted, and there after a merge: {phantom}"))
        }
        None => Ok(()),
    }
}

/// Verification sees at least what answers do.
fn check_verdict(verified: &Verified, outcome: Outcome, touched: &[PathBuf]) -> Result<(), String> {
    let damaged: Vec<_> =
        verified.findings.iter().filter(|f| f.severity == Severity::Damage).collect();
    let named = damaged.iter().any(|f| names(&format!("{} {}", f.file, f.what), touched));
    match outcome {
        Outcome::Harmless | Outcome::Torn => Ok(()),
        _ if named => Ok(()),
        _ => Err(format!("verification does not name {touched:?}: {:?}", verified.findings)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_told_or_costs_nothing() {
    let sound = sound().await;
    let verified = verify(Arc::new(sound.disk.after_kill()), None, &mut |_| {}).await;
    let verified = verified.expect("a sound directory");
    assert!(verified.is_sound() && verified.blocks > 2, "{verified:#?}");
    many(async |seed| check(&sound, seed).await).await;
}

/// A mutation of a file of a kind, and what came of it.
type Case = (&'static str, Mutation, Outcome);

/// Makes mutations until there are enough, counts what came of them, and says so if asked to.
#[expect(clippy::print_stdout, reason = "figures somebody asked for")]
async fn many(check: impl AsyncFn(u64) -> Result<Option<Case>, String>) {
    let given = number_from_env("TAFFRAIL_CASES");
    let cases = given.unwrap_or(u64::MAX);
    let first = number_from_env("TAFFRAIL_SEED").unwrap_or(1);
    let started = Instant::now();
    let mut seen: BTreeMap<Case, u64> = BTreeMap::new();
    for seed in first..first.saturating_add(cases) {
        match check(seed).await {
            Ok(Some(case)) => *seen.entry(case).or_default() += 1,
            Ok(None) => {}
            Err(wrong) => panic!("{wrong}\nreplay with TAFFRAIL_SEED={seed} TAFFRAIL_CASES=1"),
        }
        let cases = seen.values().sum::<u64>();
        if given.is_none() && started.elapsed() > TIME_MAX && cases >= CASES_MIN {
            break;
        }
    }
    let total: u64 = seen.values().sum();
    let of =
        |outcome| seen.iter().filter(|((_, _, o), _)| *o == outcome).map(|(_, n)| n).sum::<u64>();
    if given.is_none_or(|given| given > 500) {
        let told = of(Outcome::Told) + of(Outcome::Refused) + of(Outcome::Stopped);
        assert!(total >= CASES_MIN && told > total / 10 && of(Outcome::Harmless) > 0, "{seen:#?}");
    }
    if given.is_some() {
        println!("{total} mutations in {:?}: {seen:#?}", started.elapsed());
    }
}
