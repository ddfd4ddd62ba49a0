//! Snapshots: what survives, and what is refused.

use model::{Metadata, MetricKind};

use super::*;
use crate::Error;

fn filled(series: usize) -> Rig {
    let mut rig = Rig::new();
    grow(&mut rig, 0, series);
    let metadata =
        Metadata { kind: MetricKind::Gauge, help: "help".to_owned(), unit: "seconds".to_owned() };
    let mut payloads = Payloads::default();
    rig.head.append_metadata(
        TenantId(1),
        &[("m".to_owned(), metadata)],
        &mut payloads,
        &mut AppendOutcome::default(),
    );
    rig
}

fn grow(rig: &mut Rig, from: usize, to: usize) {
    for i in from..to {
        let (pod, node) = (format!("pod-{i}"), format!("node-{}", i % 7));
        let pairs = [("__name__", "m"), ("node", node.as_str()), ("pod", pod.as_str()), ("x", "y")];
        rig.send(1 + (i % 3) as u32, &[sent(&pairs[..3 + i % 2], &[(15_000 + i as i64, 1.0)])]);
    }
}

#[track_caller]
fn check_same(restored: &Head, original: &Head) {
    assert_eq!(restored.series_count(), original.series_count());
    for series in 0..original.series_count() {
        assert_eq!(restored.labels(series), original.labels(series));
        assert_eq!(
            (restored.tenant(series), restored.id(series)),
            (original.tenant(series), original.id(series))
        );
        assert_eq!(restored.last_ms(series), original.last_ms(series));
        assert_eq!(restored.find(original.tenant(series), original.id(series)), Some(series));
        assert_eq!(
            (restored.last(series), read_all(restored, series).len()),
            (None, 0),
            "samples are not in it"
        );
    }
    for tenant in 1..4 {
        let all = |head: &Head| {
            head.metadata(TenantId(tenant))
                .map(|(f, m)| (f.to_owned(), m.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(all(restored), all(original));
        assert_eq!(restored.all(TenantId(tenant)), original.all(TenantId(tenant)));
    }
}

#[test]
fn identities_survive() {
    for (first, then) in [(0, 0), (0, 5), (300, 300), (300, 310), (10, 900)] {
        let mut rig = filled(first);
        let full = rig.head.snapshot_full();
        let from = rig.head.series_count();
        grow(&mut rig, first, then);
        let mut restored = Head::new(1);
        restored.restore(&full).expect("a snapshot of ours");
        restored.restore(&rig.head.snapshot_delta(from)).expect("a delta of ours");
        check_same(&restored, &rig.head);
        // What was restored gives the same snapshot again.
        assert_eq!(restored.snapshot_full(), rig.head.snapshot_full());
    }
}

#[track_caller]
fn check_refused(snapshot: &[u8], told: &str) {
    let error = Head::new(1).restore(snapshot).expect_err("must be refused");
    assert!(error.to_string().starts_with(told), "{error}");
    assert!(matches!(error, Error::Corrupt { .. } | Error::Unsupported { .. }));
}

fn sealed(mut snapshot: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    snapshot.truncate(snapshot.len() - 4);
    change(&mut snapshot);
    let checksum = crc32c::crc32c(&snapshot);
    snapshot.extend(checksum.to_le_bytes());
    snapshot
}

#[test]
fn what_is_not_a_snapshot_is_refused() {
    let good = filled(20).head.snapshot_full();
    check_refused(b"", "head snapshot is damaged: is cut short");
    check_refused(&good[1..], "head snapshot is damaged: does not start with the magic bytes");
    check_refused(
        &sealed(good.clone(), |s| s[8] = 9),
        "head snapshot needs version 9, which this version does not know",
    );
    check_refused(&sealed(good.clone(), |s| s[12] = 4), "head snapshot needs features 0x4, which");
    check_refused(&sealed(good.clone(), |s| s.push(0)), "head snapshot is damaged: bytes follow");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert!(Head::new(1).restore(&bad).is_err(), "a flipped bit in byte {at}");
        assert!(Head::new(1).restore(&good[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn a_delta_needs_what_came_before() {
    let rig = filled(20);
    check_refused(&rig.head.snapshot_delta(10), "head snapshot is damaged: symbol");
    let mut head = Head::new(1);
    head.restore(&rig.head.snapshot_full()).expect("a snapshot of ours");
    assert!(head.restore(&rig.head.snapshot_full()).is_err(), "the same again");
}
