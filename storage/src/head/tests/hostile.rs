//! Payloads and snapshots of anybody's making: errors at worst.

use model::{Labels, Pace};
use proptest::prelude::*;

use super::*;

type Records = Vec<(RecordKind, TenantId, Vec<u8>)>;

/// One payload of each kind, and the snapshot, of a small head.
fn good() -> (Records, Vec<u8>) {
    let mut rig = Rig::new();
    let exemplar =
        Exemplar { labels: Labels::from_pairs([("id", "1")]), value: 1.0, timestamp_ms: 16_000 };
    let metadata = model::Metadata { help: "help".to_owned(), ..model::Metadata::default() };
    for round in 1..4 {
        let request: Vec<Sent> = (0..5)
            .map(|i| {
                let pod = format!("pod-{i}");
                let times = [(15_000 * round, 0.5 * i as f64), (15_000 * round - 7_000, 3.0)];
                sent(&[("__name__", "m"), ("pod", &pod)], &times)
            })
            .chain([Sent {
                exemplars: vec![exemplar.clone()],
                ..sent(&[("__name__", "m")], &[(15_000, 1.0)])
            }])
            .collect();
        rig.send(1, &request);
    }
    let mut payloads = Payloads::default();
    let families = [("m".to_owned(), metadata)];
    rig.head.append_metadata(TenantId(1), &families, &mut payloads, &mut AppendOutcome::default());
    rig.log.extend(payloads.records().map(|(kind, p)| (kind, TenantId(1), p.to_vec())));
    rig.head.cut(0, 0);
    rig.head.thaw();
    let renumbered = rig.head.cut(1_000_000, 0).renumbered.expect("all are idle");
    rig.log.push((RecordKind::Renumbered, TenantId(0), renumbered));
    let snapshot = filled_again(&rig).snapshot_full();
    (rig.log, snapshot)
}

fn filled_again(rig: &Rig) -> Head {
    let mut head = Head::new(1);
    for (kind, tenant, payload) in &rig.log[..1] {
        head.replay(*kind, *tenant, payload).expect("payloads of append");
    }
    head
}

/// Everything a reader may ask.
fn touch(head: &mut Head) {
    for series in 0..head.series_count() {
        read_all(head, series);
        head.labels(series);
        head.exemplars(series, TimeRange::ALL);
    }
    for tenant in 0..3 {
        let tenant = TenantId(tenant);
        let names: Vec<String> = head
            .label_names(tenant, None, &mut Pace::default())
            .expect("nobody stops it")
            .into_iter()
            .map(str::to_owned)
            .collect();
        names
            .iter()
            .for_each(|name| drop(head.label_values(tenant, name, None, &mut Pace::default())));
    }
    head.snapshot_full();
    head.cut(i64::MAX, 0);
}

fn replay_all(log: &[(RecordKind, TenantId, Vec<u8>)]) {
    let mut head = Head::new(5);
    for (kind, tenant, payload) in log {
        if head.replay(*kind, *tenant, payload).is_err() {
            return;
        }
    }
    touch(&mut head);
}

#[test]
fn any_flipped_bit_and_any_cut_is_survived() {
    let (log, snapshot) = good();
    for record in 0..log.len() {
        for at in 0..log[record].2.len() {
            for bit in 0..8 {
                let mut bad = log.clone();
                bad[record].2[at] ^= 1 << bit;
                replay_all(&bad);
            }
            let mut bad = log.clone();
            bad[record].2.truncate(at);
            replay_all(&bad);
        }
    }
    for at in 0..snapshot.len() - 4 {
        for bit in 0..8 {
            let mut bad = snapshot.clone();
            bad[at] ^= 1 << bit;
            let end = bad.len() - 4;
            let checksum = crc32c::crc32c(&bad[..end]).to_le_bytes();
            bad[end..].copy_from_slice(&checksum);
            let mut head = Head::new(5);
            if head.restore(&bad).is_ok() {
                touch(&mut head);
            }
        }
    }
}

#[test]
fn the_payloads_are_good_as_they_are() {
    let (log, snapshot) = good();
    let mut head = Head::new(5);
    for (kind, tenant, payload) in &log[..log.len() - 1] {
        head.replay(*kind, *tenant, payload).expect("payloads of append");
    }
    let (kind, tenant, renumbered) = &log[log.len() - 1];
    assert!(head.replay(*kind, *tenant, renumbered).is_err(), "samples would be lost");
    Head::new(5).restore(&snapshot).expect("a snapshot of ours");
    let kinds: std::collections::BTreeSet<u8> = log.iter().map(|(kind, ..)| *kind as u8).collect();
    assert_eq!(kinds.len(), 4, "samples, exemplars, metadata, renumbered");
}

proptest! {
    #[test]
    fn any_bytes_are_survived(kind in 1u8..6, payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let kind = RecordKind::from_stored(kind).expect("a stored kind");
        let mut versioned = vec![1];
        versioned.extend(&payload);
        let mut head = filled_again(&{
            let mut rig = Rig::new();
            rig.send(1, &[sent(&[("__name__", "m")], &[(15_000, 1.0)])]);
            rig
        });
        if head.replay(kind, TenantId(1), &versioned).is_ok() {
            touch(&mut head);
        }
    }
}

#[test]
fn a_count_does_not_make_memory() {
    // Epoch 0, six bytes of identities; symbols: from 0, four thousand million of them.
    let payload = [1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, 0x0f];
    assert!(Head::new(1).replay(RecordKind::Samples, TenantId(1), &payload).is_err());
}
