//! Conditions made at random: what the store looks for itself changes no answer. The same condition
//! above a limit is looked at row by row.

use model::Level;
use testkit::SeededRandom;

use super::super::ground::{Ground, scope_of};
use super::{EVERYWHERE, Said, ground, line};

/// Texts that lines are made of, and are looked for.
const TEXTS: [&str; 18] = [
    "timeout", "Timeout", "TIME", "out", "a", "é", "É", "\u{212a}", "k", "K", "日本", "\n", "%",
    "_", "\\", "\u{fffd}", " ", "x.y",
];

/// What is no text.
const BROKEN: [&[u8]; 5] = [b"\xff", b"\xe6\x97", b"\xc3", b"\xf0\x9f\x98", b"\xed\xa0\x80"];

fn picked<T: Copy>(random: &SeededRandom, all: &[T]) -> T {
    all[random.below(all.len() as u64) as usize]
}

fn lines(random: &SeededRandom) -> Vec<Said> {
    let one = |ago_s: i64| {
        let mut text = Vec::new();
        for _ in 0..random.below(5) {
            match random.chance(15) {
                true => text.extend_from_slice(picked(random, &BROKEN)),
                false => text.extend_from_slice(picked(random, &TEXTS).as_bytes()),
            }
        }
        let mut fields = Vec::new();
        for name in ["verb", "user"] {
            if random.chance(60) {
                fields.push((name, picked(random, &["get", "list", "Get", "", "é"])));
            }
        }
        let mut labels = vec![("app", picked(random, &["web", "db"]))];
        if random.chance(30) {
            labels.push(("pod", picked(random, &["p-1", "p-2"])));
        }
        // Leaked: an entry of a test borrows what it has.
        let line_of = Vec::leak(text);
        let level = picked(random, &Level::ALL);
        Said { labels, fields, level, line: line_of, ..line("", ago_s, "") }
    };
    (0..120).map(|i| one(i * 61)).collect()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn atom(random: &SeededRandom) -> String {
    let text = picked(random, &TEXTS);
    let of =
        picked(random, &["line", "line", "line", "fields['verb']", "fields['user']", "app", "pod"]);
    let value = picked(random, &["get", "list", "GET", "", "web", "p-1", "é"]);
    let (like, not) = (picked(random, &["LIKE", "ILIKE"]), picked(random, &["", "NOT "]));
    let regex = picked(random, &["~", "~*", "!~", "!~*"]);
    let pattern = picked(
        random,
        &[
            "time.*out",
            "^time",
            "out$",
            "a|out",
            "(time)+out",
            ".",
            "t.m",
            "[0-9]",
            "\\bout",
            "日.?",
            "kk?",
            "time[a-z]?ut",
        ],
    );
    let hour = picked(random, &["07:00:00Z", "07:30:00.5Z", "06:15:00.000000001Z"]);
    match random.below(15) {
        0 | 1 => format!("{of} {not}{like} {}", quoted(&format!("%{text}%"))),
        2 => format!("{of} {not}{like} {}", quoted(&format!("{text}%{}", picked(random, &TEXTS)))),
        3 => format!("{of} {not}{like} {}", quoted(&format!("%_{text}_%"))),
        4 | 5 => format!("{of} {regex} {}", quoted(pattern)),
        6 => format!(
            "strpos(line, {}) {} {}",
            quoted(text),
            picked(random, &[">", "=", "<>", ">="]),
            random.below(3)
        ),
        7 => format!("{not}contains(line, {})", quoted(text)),
        8 => format!("{not}starts_with(line, {})", quoted(text)),
        9 => format!("{not}regexp_like(line, {})", quoted(pattern)),
        10 => format!(
            "{of} {} {}",
            picked(random, &["=", "<>"]),
            quoted(picked(random, &[value, text]))
        ),
        11 => format!("{of} {not}IN ('get', {}, 'x')", quoted(value)),
        12 => format!(
            "level {not}IN ('error', {})",
            quoted(picked(random, &["warn", "none", "fatal"]))
        ),
        13 => format!("time {} '2027-01-15T{hour}'", picked(random, &["<", ">=", "<=", ">"])),
        _ => format!("{of} IS {not}NULL"),
    }
}

fn condition(random: &SeededRandom, depth: u32) -> String {
    if depth == 0 || random.chance(35) {
        return atom(random);
    }
    let (left, right) = (condition(random, depth - 1), condition(random, depth - 1));
    match random.below(5) {
        0 | 1 => format!("({left} AND {right})"),
        2 | 3 => format!("({left} OR {right})"),
        _ => format!("NOT ({left})"),
    }
}

async fn check(ground: &Ground, condition: &str) -> usize {
    let wanted = "SELECT time, level, app, pod, line, fields FROM";
    let pushed = format!("{wanted} logs WHERE {condition} ORDER BY time DESC");
    let naive =
        format!("{wanted} (SELECT * FROM logs LIMIT 100000) WHERE {condition} ORDER BY time DESC");
    let scope = scope_of(&[1]);
    let expected = ground.rows(&scope, &naive).await;
    assert_eq!(ground.rows(&scope, &pushed).await, expected, "{condition}");
    let first = ground.rows(&scope, &format!("{naive} LIMIT 3")).await;
    assert_eq!(ground.rows(&scope, &format!("{pushed} LIMIT 3")).await, first, "{condition}, cut");
    let count = format!("SELECT count(*) AS n FROM logs WHERE {condition}");
    let counted = ground.rows(&scope, &count).await;
    let below =
        format!("SELECT count(*) AS n FROM (SELECT * FROM logs LIMIT 100000) WHERE {condition}");
    assert_eq!(counted, ground.rows(&scope, &below).await, "{condition}, counted");
    counted.trim_start_matches("n\n").parse().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pushed_down_changes_no_answer() {
    let (mut none, mut some, mut all) = (0, 0, 0);
    for (seed, lie) in (11..).zip(EVERYWHERE) {
        let random = SeededRandom::new(seed);
        let ground = ground(&lines(&random), lie).await;
        for _ in 0..50 {
            match check(&ground, &condition(&random, 2)).await {
                0 => none += 1,
                120 => all += 1,
                _ => some += 1,
            }
        }
    }
    // Conditions that pick nothing or everything prove little.
    assert!(some > 2 * (none + all), "{none} pick nothing, {some} something, {all} everything");
}
