//! What is kept no longer goes, segment by segment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use storage::retention::Rule;
use tenancy::Retention;

use super::{NOW_NS, everything, line, reopened, scope, texts, write};
use crate::store::{Ground, Rules};

#[tokio::test]
async fn segments_go_when_all_their_entries_are_over() {
    let ground = Ground::default();
    let storage = ground.open().await.expect("a new store");
    for (tenant, hours) in [(1, 0), (1, 5), (2, 5)] {
        let at_ns = NOW_NS - hours * 3_600_000_000_000;
        write(&storage, tenant, &[line("a", at_ns, &format!("{hours} hours"))]).await;
    }
    storage.flush_all().await.expect("a sound disk");
    let segments = storage.entry_totals().segments;
    let keep =
        |hours: u64| Rule::Keep(Retention { logs_seconds: hours * 3_600, ..Retention::default() });
    let retain = async |storage: &Arc<storage::Storage>, of_1: Rule, of_2: Rule| {
        storage.set_tenant_rules(Arc::new(Rules(BTreeMap::from([(1, of_1), (2, of_2)]))));
        storage.retain().await.expect("a sound disk");
        storage.entry_totals()
    };
    assert_eq!(retain(&storage, keep(6), keep(6)).await.segments, segments);
    // Old entries of one tenant may share a segment with those of the other, which stay.
    let left = retain(&storage, keep(4), keep(6)).await;
    assert_eq!(texts(&storage, &scope(2), &everything()).await, ["5 hours"]);
    let left = (left.segment_entries, retain(&storage, keep(4), keep(4)).await.segment_entries);
    assert_eq!(left.1, 1, "{left:?}");
    let storage = reopened(&ground, storage).await;
    assert_eq!(texts(&storage, &scope(1), &everything()).await, ["0 hours"]);
    ground.clock.advance(Duration::from_secs(60));
    assert_eq!(retain(&storage, Rule::Gone, keep(4)).await.segments, 0);
}
