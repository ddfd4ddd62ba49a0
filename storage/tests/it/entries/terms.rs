//! The index over terms: who asks through it finds what a look at every line finds.

use ::model::{Cancel, Level, Matcher, Signal};
use storage::entries::{EntryFilter, LineCondition, LineTest, SelectEntries};
use storage::{Extent, Storage};
use testkit::SeededRandom;

use super::{Line, NOW_NS, everything, line, scope, select, texts, write};
use crate::store::{Ground, config};

const WORDS: [&str; 12] = [
    "error",
    "Error",
    "errors",
    "terror",
    "GET",
    "get",
    "time",
    "timeout",
    "größe",
    "Größe",
    "\u{212a}ilo",
    "kilo",
];
const GLUE: [&str; 7] = [" ", "", "-", "\n", ": ", "=", "\u{20ac}"];

fn text(random: &SeededRandom, words: u64) -> String {
    let mut text = String::new();
    for _ in 0..random.below(words + 1) {
        match random.below(4) {
            0 => text.push_str(&format!("{:x}", random.below(1 << 40))),
            1 => text.push_str(&random.below(3_000).to_string()),
            _ => text.push_str(WORDS[random.below(WORDS.len() as u64) as usize]),
        }
        text.push_str(GLUE[random.below(GLUE.len() as u64) as usize]);
    }
    text
}

/// Lines of three signals, some long, some of any bytes.
fn lines(random: &SeededRandom, count: i64) -> Vec<Line> {
    let one = |n: i64| {
        let mut one = line(&format!("app-{}", n % 3), NOW_NS + n, &text(random, 8));
        one.signal = Signal::ALL[random.below(3) as usize];
        match random.below(30) {
            0 => one.line.extend_from_slice(&[b'x'; 300]),
            1 => one.line.push(0xff),
            2 => one.line.extend_from_slice(&[b"y".repeat(400), b"needle tail".to_vec()].concat()),
            _ => {}
        }
        if random.below(3) == 0 {
            one.fields = vec![
                ("user".to_owned(), text(random, 2)),
                ("verb".to_owned(), ["get", "delete"][random.below(2) as usize].to_owned()),
            ];
        }
        one
    };
    (0..count).map(one).collect()
}

/// A piece of some line, or something of its own.
fn needle(random: &SeededRandom, lines: &[Line]) -> String {
    if random.below(4) == 0 {
        return text(random, 2);
    }
    let line = &lines[random.below(lines.len() as u64) as usize].line;
    let from = random.below(line.len() as u64 + 1) as usize;
    let length = random.below(14) as usize;
    let piece = String::from_utf8_lossy(&line[from..(from + length).min(line.len())]);
    let piece = piece.replace('\u{fffd}', "");
    if random.below(3) == 0 { piece.to_uppercase() } else { piece }
}

fn request(random: &SeededRandom, lines: &[Line]) -> SelectEntries {
    let test = || match random.below(4) {
        0 => LineTest::Words(needle(random, lines)),
        1 => LineTest::Regex(format!("{}[a-z]?", regex_syntax::escape(&needle(random, lines)))),
        _ => LineTest::Contains(needle(random, lines)),
    };
    let condition = |_| LineCondition {
        any: (0..1 + random.below(2)).map(|_| test()).collect(),
        is_negative: random.below(8) == 0,
        ignores_case: random.below(2) == 0,
    };
    let fields = match random.below(6) {
        0 => vec![Matcher::equal("verb", "delete")],
        1 => vec![Matcher::equal("user", text(random, 1).as_str())],
        _ => Vec::new(),
    };
    let filter = EntryFilter {
        lines: (0..1 + random.below(2)).map(condition).collect(),
        fields,
        level_min: (random.below(9) == 0).then_some(Level::Unknown),
        ..EntryFilter::default()
    };
    let limit = [1, 5, usize::MAX][random.below(3) as usize];
    SelectEntries { filter, limit, ..everything() }
}

#[tokio::test]
async fn an_answer_through_the_index_is_that_of_a_look_at_every_line() {
    let random = SeededRandom::new(12);
    let (plain, merged) = (Ground::default(), Ground::default());
    let (plain, merged) = (
        plain.open_with(config()).await.expect("a new store"),
        merged.open_with(config()).await.expect("a new store"),
    );
    let all = lines(&random, 4_000);
    for part in all.chunks(1_500) {
        // The rows of the plain store stay in its heads, where nothing is passed over.
        write(&plain, 1, part).await;
        write(&merged, 1, part).await;
        merged.flush_all().await.expect("a sound disk");
    }
    merged.compact(Extent::Everything).await.expect("a sound disk");
    assert!(merged.segments().iter().all(|(_, s)| s.level == 3));
    let (mut found, mut passed_over) = (0, 0);
    for question in 0..1_500 {
        if question == 1_000 {
            // Some merged, some fresh, some in heads.
            let more = lines(&random, 300);
            for storage in [&plain, &merged] {
                write(storage, 1, &more[..150]).await;
            }
            merged.flush_all().await.expect("a sound disk");
            for storage in [&plain, &merged] {
                write(storage, 1, &more[150..]).await;
            }
        }
        let request = request(&random, &all);
        let expected = select(&plain, &scope(1), &request).await;
        assert_eq!(select(&merged, &scope(1), &request).await, expected, "{request:?}");
        found += expected.len();
        passed_over += rows_passed_over(&merged, &request).await;
    }
    assert!(found > 10_000 && passed_over > 100_000, "{found} {passed_over}");
}

async fn rows_passed_over(storage: &Storage, request: &SelectEntries) -> u64 {
    let begun = storage.begin_entries(&scope(1), request, &Cancel::default()).await;
    let mut search = begun.expect("a search");
    while search.load().await.expect("a sound disk") {
        search.scan().expect("a sound disk");
    }
    search.rows_passed_over()
}

#[tokio::test]
async fn a_needle_is_looked_for_in_one_block() {
    let mut config = config();
    config.entries.partitions = 1;
    let storage = Ground::default().open_with(config).await.expect("a new store");
    let lines: Vec<Line> = (0..5_000)
        .map(|n| line("a", NOW_NS + n, &format!("request id{n:06} took {}ms", n % 100)))
        .collect();
    for part in lines.chunks(2_500) {
        write(&storage, 1, part).await;
    }
    storage.flush_all().await.expect("a sound disk");
    storage.compact(Extent::Everything).await.expect("a sound disk");
    let of = |test: LineTest, ignores_case: bool| {
        let lines = vec![LineCondition { any: vec![test], ignores_case, is_negative: false }];
        SelectEntries { filter: EntryFilter { lines, ..EntryFilter::default() }, ..everything() }
    };
    for (test, ignores_case, found, passed_over) in [
        (LineTest::Words("id000007".to_owned()), false, 1, 5_000 - 1_024),
        (LineTest::Contains("id00490".to_owned()), false, 10, 4_096),
        (LineTest::Contains("04901".to_owned()), false, 1, 4_096),
        (LineTest::Contains("ID004901".to_owned()), true, 1, 4_096),
        (LineTest::Regex(r"id00490[0-3] took \d+ms".to_owned()), false, 4, 4_096),
        (LineTest::Words("nowhere".to_owned()), false, 0, 5_000),
        (LineTest::Contains("request".to_owned()), false, 5_000, 0),
    ] {
        let request = of(test, ignores_case);
        assert_eq!(texts(&storage, &scope(1), &request).await.len(), found, "{request:?}");
        assert_eq!(rows_passed_over(&storage, &request).await, passed_over, "{request:?}");
    }
}

#[tokio::test]
async fn a_damaged_index_is_told_and_nothing_is_made_of_it() {
    let mut config = config();
    config.entries.partitions = 1;
    let ground = Ground::default();
    let storage = ground.open_with(config.clone()).await.expect("a new store");
    write(&storage, 1, &[line("a", NOW_NS, "one needle"), line("b", NOW_NS, "hay")]).await;
    storage.flush_all().await.expect("a sound disk");
    storage.compact(Extent::Everything).await.expect("a sound disk");
    let is_index = |file: &&std::path::PathBuf| file.ends_with("terms.bin");
    let files = ground.disk.files();
    let path = files.iter().find(is_index).expect("an index over terms");
    ground.disk.tamper(path, |bytes| bytes[3] ^= 1).expect("it is there");
    drop(storage);
    let storage = ground.open_with(config).await.expect("it opens again");
    let lines = vec![LineCondition {
        any: vec![LineTest::Words("needle".to_owned())],
        ..LineCondition::default()
    }];
    let filter = EntryFilter { lines, ..EntryFilter::default() };
    let request = SelectEntries { filter, ..everything() };
    let told = storage.select_entries(&scope(1), &request, &Cancel::default()).await;
    let told = told.expect_err("it is damaged").to_string();
    assert!(told.contains("terms.bin") && told.contains("checksum"), "{told}");
    // Without a condition nobody asks it.
    assert_eq!(texts(&storage, &scope(1), &everything()).await.len(), 2);
}
