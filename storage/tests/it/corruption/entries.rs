//! The same of entries: whatever happens to a file of a segment, of either form, to a manifest with
//! deletions or to the log, each answer is right or an error that names the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::model::{Cancel, Level, Matcher, Signal};
use storage::entries::{
    DeleteEntries, EntryFilter, FoundEntry, LineCondition, LineTest, SelectEntries, SelectStreams,
};
use storage::{Config, Error, Extent, Storage, verify};
use tenancy::{DeleteScope, Limits};
use testkit::{FaultyDisk, ManualClock, SeededRandom};

use super::{Case, DAY_SECONDS, MUTATIONS, Outcome, check_verdict, many, mutate, names};
use crate::entries::{Line, NOW_NS, SECOND_NS, equal, everything, line, scope, write};
use crate::facts::text_of;
use crate::store::{Ground, NOW_MS};

/// Words of which some are in few lines.
const WORDS: [&str; 5] = ["needle", "request", "done", "slow", "timeout"];

/// The directory, what it answers, and its files by kind.
struct Sound {
    disk: FaultyDisk,
    answers: Vec<Vec<String>>,
    /// Lines that only the last segment of the log has.
    in_last_segment: BTreeSet<String>,
    files: BTreeMap<&'static str, Vec<PathBuf>>,
}

fn config() -> Config {
    let mut config = crate::store::config();
    config.entries.partitions = 2;
    config
}

fn lines(round: i64) -> Vec<Line> {
    let one = |n: i64| {
        let word = WORDS[((n * n + round) % 23).min(4) as usize];
        let at_ns = NOW_NS + round * 30 * SECOND_NS + n;
        let text = format!("{word} user-{} round {round} line {n}", n % 7);
        let mut one = line(&format!("app-{}", n % 5), at_ns, &text);
        one.level = if n % 9 == 0 { Level::Error } else { Level::Info };
        one.has_own_time = n % 4 != 0;
        if n % 3 == 0 {
            one.signal = Signal::Events;
            one.fields = vec![("reason".to_owned(), format!("r{}", n % 6))];
        }
        one
    };
    (0..60).map(one).collect()
}

fn containing(text: &str) -> EntryFilter {
    let any = vec![LineTest::Contains(text.to_owned())];
    let lines = vec![LineCondition { any, ..LineCondition::default() }];
    EntryFilter { lines, ..EntryFilter::default() }
}

/// Questions that look at everything, go through blooms and terms, or want some time alone. The
/// first is for everything.
fn questions() -> Vec<SelectEntries> {
    let day_ns = NOW_NS + DAY_SECONDS / 2 * SECOND_NS;
    let fields = vec![Matcher::equal("reason", "r3")];
    let by_field = EntryFilter { fields, ..EntryFilter::default() };
    vec![
        everything(),
        SelectEntries { filter: containing("needle"), ..everything() },
        SelectEntries { filter: containing("nowhere"), ..everything() },
        SelectEntries { filter: by_field, ..everything() },
        SelectEntries { start_ns: day_ns, ..everything() },
        SelectEntries { end_ns: day_ns, limit: 10, ..everything() },
        SelectEntries { selectors: vec![equal("app", "app-2")], ..everything() },
    ]
}

fn shown(tenant: u32, found: &FoundEntry) -> String {
    let text = String::from_utf8_lossy(&found.line);
    format!("{tenant} {} {:?} {} {text}", found.stream.labels, found.level, found.at_ns)
}

/// The answer to every question of both tenants, then what their tables of streams say.
async fn ask(storage: &Storage) -> Vec<Result<Vec<String>, Error>> {
    let (mut answers, cancel) = (Vec::new(), Cancel::default());
    for tenant in [1, 2] {
        for question in questions() {
            let found = storage.select_entries(&scope(tenant), &question, &cancel).await;
            answers.push(found.map(|all| all.iter().map(|one| shown(tenant, one)).collect()));
        }
        let (signals, start_ns, end_ns) = (Signal::ALL.to_vec(), i64::MIN, i64::MAX);
        let all = SelectStreams { signals, start_ns, end_ns, ..SelectStreams::default() };
        let streams = storage.entry_streams(&scope(tenant), &all, &cancel).await;
        answers
            .push(streams.map(|all| all.iter().map(|one| format!("{tenant} {one:?}")).collect()));
    }
    answers
}

/// Whether an answer is one to a question for streams.
fn is_of_streams(at: usize) -> bool {
    at % (questions().len() + 1) == questions().len()
}

async fn ask_sound(storage: &Storage) -> Vec<Vec<String>> {
    ask(storage).await.into_iter().map(|answer| answer.expect("a sound disk")).collect()
}

/// Every line that was found.
fn all_of(answers: &[Vec<String>]) -> BTreeSet<String> {
    let of_lines = answers.iter().enumerate().filter(|(at, _)| !is_of_streams(*at));
    of_lines.flat_map(|(_, all)| all.iter().cloned()).collect()
}

async fn round(storage: &Storage, number: i64) {
    for tenant in [1, 2] {
        write(storage, tenant, &lines(number)).await;
    }
}

async fn sound() -> Sound {
    let ground = Ground::default();
    let storage = ground.open_with(config()).await.expect("a sound disk");
    let flush = async || storage.flush_all().await.expect("a sound disk");
    for number in 0..3 {
        round(&storage, number).await;
        flush().await;
    }
    ground.clock.advance(Duration::from_secs(DAY_SECONDS as u64));
    storage.compact(Extent::Due).await.expect("merged");
    let day = DAY_SECONDS / 30;
    for number in 0..2 {
        round(&storage, day + number).await;
        flush().await;
    }
    let delete = DeleteEntries {
        text: "lines of app-1".to_owned(),
        signals: vec![Signal::Logs],
        selectors: vec![equal("app", "app-1")],
        filter: containing("user-1"),
        start_ns: i64::MIN,
        end_ns: i64::MAX,
    };
    let whose = DeleteScope::for_test(1, "team-1", Limits::default());
    storage.delete_entries(&whose, delete).await.expect("a deletion");
    flush().await;
    let before = all_of(&ask_sound(&storage).await);
    // Beyond what one segment of the log holds.
    for number in 2..10 {
        round(&storage, day + number).await;
    }
    let answers = ask_sound(&storage).await;
    assert!(answers.iter().enumerate().all(|(at, a)| a.is_empty() == (at % 8 == 2)), "{answers:?}");
    let in_last_segment = all_of(&answers).difference(&before).cloned().collect();
    let is_merged = |name: &str| {
        let segments = storage.segments();
        segments.iter().any(|(_, s)| s.level == 3 && name.contains(s.name.as_str()))
    };
    let mut files: BTreeMap<&'static str, Vec<PathBuf>> = BTreeMap::new();
    for path in ground.disk.after_kill().files() {
        if let Some(kind) = kind_of(&path, is_merged) {
            files.entry(kind).or_default().push(path);
        }
    }
    assert_eq!(files.len(), 8, "a file of every kind: {:?}", files.keys());
    drop(storage);
    Sound { disk: ground.disk.after_kill(), answers, in_last_segment, files }
}

fn kind_of(path: &Path, is_merged: impl Fn(&str) -> bool) -> Option<&'static str> {
    let text = path.to_string_lossy();
    let kinds = [
        ("log/", "", false, "log"),
        ("objects/manifest/1638", "", false, "manifest"),
        ("objects/segments/", "/entries.parquet", false, "quick entries.parquet"),
        ("objects/segments/", "/entries.parquet", true, "packed entries.parquet"),
        ("objects/segments/", "/streams.bin", false, "streams.bin with blooms"),
        ("objects/segments/", "/streams.bin", true, "streams.bin with terms"),
        ("objects/segments/", "/bloom.bin", false, "bloom.bin"),
        ("objects/segments/", "/terms.bin", true, "terms.bin"),
    ];
    let is = |(start, end, merged, _): &&(&str, &str, bool, &str)| {
        text.starts_with(start) && text.ends_with(end) && is_merged(&text) == *merged
    };
    kinds.iter().find(is).map(|(.., kind)| *kind)
}

impl Sound {
    fn again(&self) -> Ground {
        let clock = Arc::new(ManualClock::new(NOW_MS + DAY_SECONDS * 1000));
        Ground { disk: self.disk.after_kill(), clock }
    }
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
    let verified = verify(Arc::new(ground.disk.after_kill()), None, &mut |_| {}).await;
    let verified = verified.map_err(|e| format!("{case}: verify: {}", text_of(&e)))?;
    let outcome = answer(sound, &ground, &touched).await.map_err(|e| format!("{case}: {e}"))?;
    check_verdict(&verified, outcome, &touched).map_err(|e| format!("{case}: {outcome:?}: {e}"))?;
    Ok(Some((kind, mutation, outcome)))
}

/// Opens and asks everything, goes on with work, and asks again.
async fn answer(sound: &Sound, ground: &Ground, touched: &[PathBuf]) -> Result<Outcome, String> {
    let storage = match ground.open_with(config()).await {
        Ok(storage) => storage,
        Err(error) if names(&text_of(&error), touched) => return Ok(Outcome::Stopped),
        Err(error) => {
            return Err(format!("a start failed for another reason: {}", text_of(&error)));
        }
    };
    let outcome = judge(sound, &storage, touched, ask(&storage).await)?;
    // Errors of these are fine, panics, hangs and other answers are not.
    let others = line("later", NOW_NS + (DAY_SECONDS + 500) * SECOND_NS, "later");
    let appended =
        crate::entries::append_as(&storage, &crate::store::write_scope(3), &[others], None);
    if let Ok(Some(position)) = appended.map(|appended| appended.position) {
        drop(storage.durable(position).await);
    }
    drop(storage.flush_all().await);
    drop(storage.compact(Extent::Everything).await);
    let mut answers = ask(&storage).await;
    // Tables count what is deleted until it has left them.
    for (at, answer) in answers.iter_mut().enumerate().filter(|(at, _)| is_of_streams(*at)) {
        *answer = Ok(sound.answers[at].clone());
    }
    judge(sound, &storage, touched, answers).map_err(|e| format!("after a merge: {e}"))?;
    Ok(outcome)
}

fn judge(
    sound: &Sound,
    storage: &Storage,
    touched: &[PathBuf],
    answers: Vec<Result<Vec<String>, Error>>,
) -> Result<Outcome, String> {
    let mut outcome = Outcome::Harmless;
    let told = storage.incomplete().into_iter().any(|(_, why)| names(&why, touched));
    let in_log = touched.iter().all(|path| path.starts_with("log"));
    for (at, (answer, right)) in answers.into_iter().zip(&sound.answers).enumerate() {
        let found = match answer {
            Ok(found) if found == *right => continue,
            Ok(found) => found,
            Err(error) if names(&text_of(&error), touched) => {
                outcome = outcome.max(Outcome::Refused);
                continue;
            }
            Err(error) => {
                return Err(format!("question {at}: another reason: {}", text_of(&error)));
            }
        };
        // With a limit, others take the place of what the log lost.
        let right: BTreeSet<String> = match in_log {
            true if is_of_streams(at) => continue,
            true => all_of(&sound.answers),
            false => right.iter().cloned().collect(),
        };
        let found: BTreeSet<String> = found.into_iter().collect();
        if let Some(phantom) = found.difference(&right).next() {
            return Err(format!("question {at}: never written, or deleted: {phantom}"));
        }
        let all: BTreeSet<String> = sound.answers[at].iter().cloned().collect();
        let lost: Vec<&String> = all.difference(&found).collect();
        if told {
            outcome = outcome.max(Outcome::Told);
        } else if in_log && lost.iter().all(|line| sound.in_last_segment.contains(*line)) {
            outcome = outcome.max(Outcome::Torn);
        } else {
            return Err(format!("question {at}: {} lost silently: {:?}", lost.len(), lost.first()));
        }
    }
    Ok(outcome)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_of_entries_is_told_or_costs_nothing() {
    let sound = sound().await;
    let verified = verify(Arc::new(sound.disk.after_kill()), None, &mut |_| {}).await;
    let verified = verified.expect("a sound directory");
    assert!(verified.is_sound() && verified.segments > 5, "{verified:#?}");
    many(async |seed| check(&sound, seed).await).await;
}
