//! Counts from tables of streams, and rows where these do not tell: together what the list has.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::model::{Cancel, Clock};
use storage::entries::{
    Direction, EntryFilter, EntryStream, SelectEntries, SelectStreams, TallyEntries,
};

use super::{HOUR_NS, World};

/// By stream and bucket.
type Counts = BTreeMap<(String, u64), u64>;

fn told(stream: &EntryStream) -> String {
    format!("{} {} {}", stream.tenant, stream.signal, stream.labels)
}

impl World {
    pub(super) async fn count(&mut self) {
        let whole_hours = self.below(2) == 0;
        let mut request = self.request();
        request.filter = EntryFilter::default();
        (request.direction, request.limit) = (Direction::Forward, usize::MAX);
        if whole_hours || request.start_ns == i64::MIN {
            let now = self.ground.clock.now_ms() * 1_000_000;
            let hour = HOUR_NS as i64;
            request.start_ns = now / hour * hour - self.below(70) as i64 * hour;
            request.end_ns = request.end_ns.min(now / hour * hour + hour);
        }
        let width_ns = match self.below(4) {
            0 => 1 + self.below(HOUR_NS) as i64,
            1 => i64::MAX,
            _ => HOUR_NS as i64 * (1 + self.below(5) as i64),
        };
        let names = if self.below(3) == 0 { vec!["zone".to_owned()] } else { Vec::new() };
        let (scope, tenants, zone) = self.reader();
        let SelectEntries { signals, selectors, start_ns, end_ns, .. } = request.clone();
        let streams = SelectStreams { signals, selectors, start_ns, end_ns };
        let tallying = TallyEntries { streams, width_ns, names: names.clone() };
        let cancel = Cancel::default();
        let tally = self.storage.tally_entries(&scope, &tallying, &cancel).await;
        let tally = tally.expect("an answer").expect("few streams");
        let mut counts = Counts::new();
        for one in &tally.counts {
            assert!(names.iter().all(|name| one.stream.labels.get(name).is_some()));
            for (bucket, entries) in &one.buckets {
                *counts.entry((told(&one.stream), *bucket)).or_default() += entries;
                self.seen.told += entries;
            }
        }
        let bucket = |at_ns: i64| ((at_ns - start_ns) / width_ns) as u64;
        if !tally.rest.is_empty() {
            let only = Some(Arc::new(tally.rest));
            let rest = SelectEntries { only, ..request.clone() };
            let rows = self.storage.select_entries(&scope, &rest, &cancel).await;
            for row in rows.expect("an answer") {
                *counts.entry((told(&row.stream), bucket(row.at_ns))).or_default() += 1;
                self.seen.counted += 1;
            }
        }
        let mut expected = Counts::new();
        for (at_ns, stream, _) in self.expected(&request, &tenants, zone) {
            *expected.entry((stream, bucket(at_ns))).or_default() += 1;
        }
        assert_eq!(counts, expected, "{tallying:?}");
    }
}
