//! What is merged when.

use super::*;

/// A day that is long over, 10:00 of it, and "now" for most cases.
const DAY_START: i64 = 20_000 * DAY_MS;
const HOUR: i64 = 3_600_000;
const MINUTE: i64 = 60_000;

/// A block by level, range in minutes of the day, and log positions; written at its end.
fn block(name: &str, level: u8, minutes: (i64, i64), positions: (u64, u64)) -> BlockMeta {
    let at = |minute: i64| DAY_START + minute * MINUTE;
    BlockMeta {
        name: name.to_owned(),
        level,
        range: TimeRange { start_ms: at(minutes.0), end_ms: at(minutes.1) - 1 },
        positions: (Position(positions.0), Position(positions.1)),
        series: 1,
        chunks: 1,
        samples: 1,
        bytes: 1000,
        created_ms: at(minutes.1),
        ..BlockMeta::default()
    }
}

/// Ten minutes each, from the start of the day.
fn fresh(count: i64) -> Vec<BlockMeta> {
    let one =
        |n: i64| block(&format!("f{n}"), FRESH, (n * 10, n * 10 + 10), (n as u64, n as u64 + 1));
    (0..count).map(one).collect()
}

fn shown(jobs: &[Job]) -> Vec<String> {
    let one = |j: &Job| {
        let (first, end) = (j.positions.0.0, j.positions.1.0);
        format!("{} → {} [{first},{end})", j.inputs.join(" "), j.level)
    };
    jobs.iter().map(one).collect()
}

/// The jobs at some minute of the day.
#[track_caller]
fn check(blocks: &[BlockMeta], minute: i64, expected: &[&str]) {
    let stock = Stock { blocks: blocks.to_vec(), ..Stock::default() };
    let jobs = plan(&stock, DAY_START + minute * MINUTE, Extent::Due, &Config::default());
    assert_eq!(shown(&jobs), expected);
}

#[test]
fn fresh_blocks_are_merged_when_many_or_when_their_window_is_over() {
    check(&[], 0, &[]);
    check(&fresh(1), 20, &[]);
    check(&fresh(7), 71, &[]);
    check(&fresh(8), 81, &["f0 f1 f2 f3 f4 f5 f6 f7 → 1 [0,8)"]);
    check(&fresh(2), 134, &[]);
    check(&fresh(2), 135, &["f0 f1 → 1 [0,2)"]);
    let mut shuffled = fresh(8);
    shuffled.reverse();
    check(&shuffled, 81, &["f0 f1 f2 f3 f4 f5 f6 f7 → 1 [0,8)"]);
    let mut large = fresh(9);
    large.iter_mut().for_each(|b| b.bytes = FRESH_BYTES_MAX / 2);
    check(&large[..2], 135, &["f0 f1 → 1 [0,2)"]);
    check(&large[..3], 135, &["f0 f1 → 1 [0,2)", "f2 → 1 [2,3)"]);
}

#[test]
fn nothing_is_merged_across_a_block_that_cannot_be_read() {
    let mut blocks = fresh(6);
    let lost = blocks.remove(3);
    let now = DAY_START + 140 * MINUTE;
    let with = |blocks: &[BlockMeta]| {
        let (blocks, unreadable) = (blocks.to_vec(), vec![lost.clone()]);
        Stock { blocks, unreadable, ..Stock::default() }
    };
    let jobs = plan(&with(&blocks), now, Extent::Due, &Config::default());
    assert_eq!(shown(&jobs), ["f0 f1 f2 → 1 [0,3)", "f4 f5 → 1 [4,6)"]);
    // What was merged on both sides of it stays apart for ever.
    let merged = [block("a", WINDOW, (0, 60), (0, 3)), block("b", WINDOW, (0, 60), (4, 6))];
    let jobs = plan(&with(&merged), now + 2 * DAY_MS, Extent::Due, &Config::default());
    assert_eq!(shown(&jobs), [""; 0]);
}

#[test]
fn a_window_with_many_blocks_is_made_one() {
    let part = |n: u64| block(&format!("w{n}"), WINDOW, (0, 120), (n * 10, n * 10 + 10));
    let blocks: Vec<_> = (0..4).map(part).collect();
    check(&blocks, 134, &[]);
    check(&blocks, 135, &["w0 w1 w2 w3 → 1 [0,40)"]);
    check(&blocks[..3], 300, &[]);
    // Another window's, and fresh ones, are left out.
    let mut more = blocks.clone();
    more.push(block("other", WINDOW, (120, 240), (30, 40)));
    more.push(block("new", FRESH, (100, 250), (40, 41)));
    check(&more, 252, &["w0 w1 w2 w3 → 1 [0,40)"]);
    // A block that reaches beyond the window with positions in between must not be passed over.
    more.push(block("wide", WINDOW, (60, 300), (15, 25)));
    check(&more, 252, &[]);
}

#[test]
fn a_day_is_made_one_when_it_is_over() {
    let window = |n: i64| {
        block(&format!("w{n}"), WINDOW, (n * 120, n * 120 + 120), (n as u64, n as u64 + 1))
    };
    let blocks: Vec<_> = (9..12).map(window).collect();
    let over = 24 * 60 + 60;
    check(&blocks, over - 1, &[]);
    check(&blocks, over, &["w9 w10 w11 → 2 [9,12)"]);
    check(&blocks[..1], over, &["w9 → 2 [9,10)"]);
    let day = BlockMeta { bytes: 100_000, ..block("d", DAY, (0, 24 * 60), (0, 12)) };
    check(std::slice::from_ref(&day), over + 10_000, &[]);
    // Late rows wait until there are enough of them, or a day.
    let late = |n: u64, created: i64| BlockMeta {
        created_ms: DAY_START + created * MINUTE,
        ..block(&format!("l{n}"), WINDOW, (5, 500), (20 + n, 21 + n))
    };
    let with = |late: &[BlockMeta]| [std::slice::from_ref(&day), late].concat();
    let created = over + 100;
    check(&with(&[late(0, created)]), created + 1439, &[]);
    check(&with(&[late(0, created)]), created + 1440, &["d l0 → 2 [0,21)"]);
    let four: Vec<_> = (0..4).map(|n| late(n, created)).collect();
    check(&with(&four[..3]), created + 1, &[]);
    check(&with(&four), created + 1, &["d l0 l1 l2 l3 → 2 [0,24)"]);
    let large = BlockMeta { bytes: 10_000, ..late(0, created) };
    check(&with(&[large]), created + 1, &["d l0 → 2 [0,21)"]);
}

#[test]
fn everything_is_merged_when_asked_for() {
    let now = DAY_START + 30 * MINUTE;
    let all = |blocks: &[BlockMeta]| {
        let stock = Stock { blocks: blocks.to_vec(), ..Stock::default() };
        shown(&plan(&stock, now, Extent::Everything, &Config::default()))
    };
    assert_eq!(all(&fresh(2)), ["f0 f1 → 1 [0,2)"]);
    assert_eq!(all(&[block("w", WINDOW, (0, 20), (0, 2))]), ["w → 2 [0,2)"]);
    assert_eq!(all(&[block("d", DAY, (0, 20), (0, 2))]), [""; 0]);
}

#[test]
fn blocks_with_deleted_rows_are_written_anew() {
    let blocks =
        vec![block("d", DAY, (0, 24 * 60), (0, 9)), block("w", WINDOW, (1500, 1600), (9, 11))];
    let stripped = vec!["d".to_owned(), "w".to_owned(), "gone".to_owned()];
    let stock = Stock { blocks, stripped, ..Stock::default() };
    let now = DAY_START + 27 * HOUR;
    let jobs = plan(&stock, now, Extent::Due, &Config::default());
    assert_eq!(shown(&jobs), ["d → 2 [0,9)", "w → 1 [9,11)"]);
}

#[test]
fn rows_are_dealt_out_by_two_hours_and_days_that_are_over_stay_whole() {
    let check = |grid: Grid, at: i64, start: i64, hours: i64| {
        let expected = TimeRange { start_ms: start, end_ms: start + hours * HOUR - 1 };
        assert_eq!(grid.window_of(at), expected, "{grid:?} {at}");
    };
    let today = Grid::Windows(DAY_START + 12 * HOUR);
    check(today, DAY_START, DAY_START, 2);
    check(today, DAY_START + 2 * HOUR - 1, DAY_START, 2);
    check(today, DAY_START + 2 * HOUR, DAY_START + 2 * HOUR, 2);
    check(today, DAY_START + 12 * HOUR + 5, DAY_START + 12 * HOUR, 2);
    check(today, DAY_START - 1, DAY_START - DAY_MS, 24);
    check(Grid::Windows(DAY_START + HOUR - 1), DAY_START - 1, DAY_START - 2 * HOUR, 2);
    check(Grid::Days, DAY_START + 5 * HOUR, DAY_START, 24);
    check(Grid::Days, -1, -DAY_MS, 24);
    for at in [i64::MIN, i64::MAX] {
        assert!(Grid::Days.window_of(at).contains(at));
        assert!(today.window_of(at).contains(at));
    }
}
