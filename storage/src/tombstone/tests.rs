//! Tests of tombstones: what they hide, what they make superfluous, what is stored of them.

use model::MatchOp;

use super::*;
use crate::manifest::BlockMeta;

fn tombstone(id: u64, position: u64, name: &str, range: (i64, i64)) -> Arc<Tombstone> {
    let matchers = match name {
        "" => Vec::new(),
        name => vec![Matcher::new(MatchOp::Regex, "__name__", name).unwrap()],
    };
    Arc::new(Tombstone {
        only: None,
        id,
        tenant: TenantId(1),
        matchers,
        range: TimeRange { start_ms: range.0, end_ms: range.1 },
        position: Position(position),
        created_ms: 1_000 + id as i64,
    })
}

fn block(positions: (u64, u64), deleted_to: Option<u64>) -> BlockMeta {
    BlockMeta {
        range: TimeRange { start_ms: 100, end_ms: 200 },
        positions: (Position(positions.0), Position(positions.1)),
        deleted_to: deleted_to.map(Position),
        ..BlockMeta::default()
    }
}

#[track_caller]
fn check(block: &BlockMeta, range: (i64, i64), concerned: bool) {
    let set = Tombstones::new([tombstone(1, 50, "up", range)]);
    assert_eq!(!set.of_block(block).is_empty(), concerned, "{block:?}");
}

#[test]
fn a_tombstone_concerns_what_was_cut_before_it() {
    check(&block((0, 50), None), (100, 100), true);
    check(&block((0, 51), None), (100, 100), false); // cut after it: the head had removed its rows
    check(&block((60, 70), None), (100, 100), false);
    check(&block((0, 50), None), (0, 99), false);
    check(&block((0, 50), None), (200, 300), true);
    check(&block((0, 50), Some(50)), (100, 100), true);
    check(&block((0, 50), Some(51)), (100, 100), false); // compacted with it
}

#[test]
fn a_block_says_up_to_where_it_was_cleaned() {
    let set = Tombstones::new([tombstone(1, 50, "a", (0, 1)), tombstone(2, 70, "b", (0, 1))]);
    let inputs = [block((0, 10), None), block((10, 60), Some(90))];
    assert_eq!(set.deleted_to(inputs.iter()), Position(90));
    assert_eq!(set.deleted_to(inputs[..1].iter()), Position(71));
    assert_eq!(Tombstones::default().deleted_to(inputs[..1].iter()), Position(10));
}

#[test]
fn hidden_stretches_are_those_of_matching_tombstones() {
    let set = Tombstones::new([
        tombstone(1, 50, "up|down", (100, 120)),
        tombstone(2, 51, "up", (150, 160)),
        tombstone(3, 52, "other", (0, 999)),
    ]);
    let of_block = set.of_block(&block((0, 10), None));
    let hidden =
        |tenant, name| of_block.hidden(TenantId(tenant), &Labels::from_pairs([("__name__", name)]));
    let range = |start_ms, end_ms| TimeRange { start_ms, end_ms };
    assert_eq!(hidden(1, "up"), Ranges::of([range(100, 120), range(150, 160)]));
    assert_eq!(hidden(1, "down"), Ranges::of([range(100, 120)]));
    assert!(hidden(1, "down_").is_empty(), "patterns are anchored");
    assert!(hidden(2, "up").is_empty(), "another tenant's");
    assert_eq!(of_block.oldest_ms(), Some(1_001));
}

#[test]
fn superfluous_tombstones_go() {
    let ids = |set: &Tombstones| set.iter().map(|t| t.id).collect::<Vec<_>>();
    let mut set = Tombstones::new([
        tombstone(1, 10, "a", (0, 10)),
        tombstone(2, 20, "b", (0, 10)),
        tombstone(3, 30, "a", (0, 5)), // later, so what it hides is not hidden by the first
    ]);
    assert_eq!(ids(&set), [1, 2, 3]);
    set = set.with(tombstone(3, 99, "x", (0, 0)));
    assert_eq!(ids(&set), [1, 2, 3], "a known one");
    set = set.with(tombstone(4, 40, "a", (0, 10)));
    assert_eq!(ids(&set), [2, 4]);
    set = set.with(tombstone(5, 50, "", (0, 99)));
    assert_eq!(ids(&set), [5], "all series");
    assert!(set.without(&[5]).is_empty());
}

#[test]
fn what_is_stored_is_read_back() {
    let first = tombstone(7, 0, "a|b", (i64::MIN, i64::MAX));
    let read = Tombstone::decode(&first.encode(), Position(9)).unwrap();
    assert_eq!(read, Tombstone { position: Position(9), ..Tombstone::clone(&first) });
    for wrong in [
        &b""[..],
        b"{}",
        br#"{"id":1,"tenant":1,"matchers":[["~","a","b"]],"range":[0,1],"created_ms":0}"#,
        br#"{"id":1,"tenant":1,"matchers":[["=~","a","("]],"range":[0,1],"created_ms":0}"#,
    ] {
        assert!(Tombstone::decode(wrong, Position(1)).is_err(), "{}", wrong.escape_ascii());
    }
}
