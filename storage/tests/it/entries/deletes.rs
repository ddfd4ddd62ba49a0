//! Deleted entries: gone for readers at once, wherever they lie, and for good.

use std::sync::Arc;
use std::time::Duration;

use ::model::{Matcher, Signal};
use storage::entries::{
    DeleteEntries, EntriesDeleted, EntryFilter, LineCondition, LineTest, SelectStreams,
};
use storage::{Error, Extent, Storage};
use tenancy::{DeleteScope, Limits};
use testkit::FaultyDisk;

use super::{NOW_NS, SECOND_NS, equal, everything, line, reopened, scope, texts, write};
use crate::backup;
use crate::store::Ground;

fn containing(text: &str) -> EntryFilter {
    let any = vec![LineTest::Contains(text.to_owned())];
    let lines = vec![LineCondition { any, ..LineCondition::default() }];
    EntryFilter { lines, ..EntryFilter::default() }
}

fn of_app(app: &str, filter: EntryFilter) -> DeleteEntries {
    DeleteEntries {
        text: format!("entries of {app}"),
        signals: vec![Signal::Logs],
        selectors: vec![equal("app", app)],
        filter,
        start_ns: i64::MIN,
        end_ns: i64::MAX,
    }
}

fn limited(tenant: u32, limits: Limits) -> DeleteScope {
    DeleteScope::for_test(tenant, &format!("team-{tenant}"), limits)
}

async fn delete(storage: &Arc<Storage>, tenant: u32, delete: DeleteEntries) -> EntriesDeleted {
    let deleted = storage.delete_entries(&limited(tenant, Limits::default()), delete).await;
    deleted.expect("a sound disk")
}

async fn left(storage: &Storage, tenant: u32) -> Vec<String> {
    texts(storage, &scope(tenant), &everything()).await
}

/// Two tenants with the same entries, some of them in a segment and some in the head.
async fn written(ground: &Ground) -> Arc<Storage> {
    let storage = ground.open().await.expect("a new store");
    for (seconds, text) in [(40, "old secret"), (30, "old"), (20, "new secret"), (10, "new")] {
        for tenant in [1, 2] {
            let at_ns = NOW_NS - seconds * SECOND_NS;
            write(&storage, tenant, &[line("a", at_ns, text), line("b", at_ns + 1, text)]).await;
        }
        if seconds == 30 {
            storage.flush_all().await.expect("a sound disk");
        }
    }
    storage
}

#[tokio::test]
async fn what_matches_is_gone_and_nothing_else() {
    let ground = Ground::default();
    let storage = written(&ground).await;
    let all = ["old secret", "old secret", "old", "old", "new secret", "new secret", "new", "new"];
    assert_eq!(left(&storage, 1).await, all);
    let deleted = delete(&storage, 1, of_app("a", containing("secret"))).await;
    assert_eq!((deleted.ids.len(), deleted.head_entries), (1, 1));
    let kept = ["old secret", "old", "old", "new secret", "new", "new"];
    let mut storage = storage;
    for step in ["at once", "after a crash", "after a flush", "after a crash behind it"] {
        match step {
            "at once" => {}
            "after a flush" => storage.flush_all().await.expect("a sound disk"),
            _ => storage = reopened(&ground, storage).await,
        }
        assert_eq!(left(&storage, 1).await, kept, "{step}");
        assert_eq!(left(&storage, 2).await, all, "{step}");
        let pending = storage.entry_deletions(::tenancy::TenantId(1));
        assert_eq!(pending.iter().map(|t| t.id).collect::<Vec<_>>(), deleted.ids, "{step}");
    }
    // The same once more is written later, so it stays.
    write(&storage, 1, &[line("a", NOW_NS - 40 * SECOND_NS, "old secret")]).await;
    for _ in 0..2 {
        assert_eq!(left(&storage, 1).await.len(), kept.len() + 1);
        storage.flush_all().await.expect("a sound disk");
    }
}

/// A backup has manifests and segments, and nothing of the log.
#[tokio::test]
async fn a_restored_backup_does_not_bring_back_what_was_deleted() {
    let ground = Ground::default();
    let storage = written(&ground).await;
    storage.flush_all().await.expect("a sound disk");
    delete(&storage, 1, of_app("a", containing("secret"))).await;
    let shelf = FaultyDisk::default();
    backup::take(&ground, &storage, &backup::to(&shelf)).await.expect("a backup");
    let (_ground, restored) =
        backup::restored(&backup::from(&shelf), None, None).await.expect("whole");
    assert_eq!(left(&restored, 1).await, left(&storage, 1).await);
    assert_eq!((left(&restored, 1).await.len(), left(&restored, 2).await.len()), (6, 8));
}

/// Entries that segments have, hidden ones as well.
fn stored(storage: &Storage) -> u64 {
    storage.segments().iter().map(|(_, segment)| segment.rows).sum()
}

#[tokio::test]
async fn deleted_entries_leave_the_disk() {
    let ground = Ground::default();
    let storage = written(&ground).await;
    storage.flush_all().await.expect("a sound disk");
    delete(&storage, 1, of_app("a", containing("secret"))).await;
    // It matches streams, and none of their lines.
    delete(&storage, 2, of_app("b", containing("nowhere"))).await;
    delete(&storage, 2, of_app("nobody", EntryFilter::default())).await;
    assert_eq!(stored(&storage), 16);
    let pending =
        |storage: &Storage, tenant| storage.entry_deletions(::tenancy::TenantId(tenant)).len();
    storage.clean_tombstones().await.expect("a sound disk");
    assert_eq!((stored(&storage), pending(&storage, 1), pending(&storage, 2)), (14, 0, 0));
    let kept = ["old secret", "old", "old", "new secret", "new", "new"];
    assert_eq!(left(&storage, 1).await, kept);
    let storage = reopened(&ground, storage).await;
    assert_eq!(left(&storage, 1).await, kept);
    assert_eq!((stored(&storage), pending(&storage, 1)), (14, 0));
}

#[tokio::test]
async fn compaction_carries_deletions_out_within_a_day() {
    let ground = Ground::default();
    let storage = written(&ground).await;
    storage.flush_all().await.expect("a sound disk");
    storage.compact(Extent::Everything).await.expect("a sound disk");
    let whole = storage.segments();
    delete(&storage, 1, of_app("a", containing("secret"))).await;
    for (hours, entries) in [(0, 16), (11, 16), (2, 14)] {
        ground.clock.advance(Duration::from_secs(hours * 3_600));
        storage.compact(Extent::Due).await.expect("a sound disk");
        assert_eq!(stored(&storage), entries, "{hours} hours later");
    }
    assert_eq!(storage.segments().len(), whole.len());
    assert_eq!(left(&storage, 1).await.len(), 6);
}

#[tokio::test]
async fn a_range_ends_before_its_end() {
    let ground = Ground::default();
    let storage = written(&ground).await;
    let (start_ns, end_ns) = (NOW_NS - 30 * SECOND_NS, NOW_NS - 10 * SECOND_NS);
    let range = DeleteEntries { start_ns, end_ns, ..of_app("a", EntryFilter::default()) };
    delete(&storage, 1, range).await;
    let kept = ["old secret", "old secret", "old", "new secret", "new", "new"];
    assert_eq!(left(&storage, 1).await, kept);
}

#[tokio::test]
async fn streams_that_are_deleted_whole_are_not_listed() {
    let ground = Ground::default();
    let storage = written(&ground).await;
    storage.flush_all().await.expect("a sound disk");
    delete(&storage, 1, of_app("a", EntryFilter::default())).await;
    let asked = SelectStreams {
        signals: Signal::ALL.to_vec(),
        start_ns: i64::MIN,
        end_ns: i64::MAX,
        ..SelectStreams::default()
    };
    let apps = async |tenant| {
        let values =
            storage.entry_label_values(&scope(tenant), "app", &asked, &Default::default()).await;
        values.expect("an answer")
    };
    assert_eq!(apps(1).await, ["b"]);
    assert_eq!(apps(2).await, ["a", "b"]);
}

#[tokio::test]
async fn deletions_are_refused_with_a_reason() {
    let ground = Ground::default();
    let storage = written(&ground).await;
    let refused = async |limits, delete| {
        let refused = storage.delete_entries(&limited(1, limits), delete).await;
        match refused.expect_err("refused") {
            Error::Limit(text) => text,
            other => panic!("{other}"),
        }
    };
    let none = Limits { deletes_pending_max: 0, ..Limits::default() };
    let text = refused(none, of_app("a", EntryFilter::default())).await;
    assert!(text.contains("deletes_pending_max"), "{text}");
    let any = vec![LineTest::Regex("(".to_owned())];
    let lines = vec![LineCondition { any, ..LineCondition::default() }];
    let filter = EntryFilter { lines, ..EntryFilter::default() };
    let text = refused(Limits::default(), of_app("a", filter)).await;
    assert!(text.contains("line filter \"(\""), "{text}");
    assert_eq!(left(&storage, 1).await.len(), 8);
    assert_eq!(storage.entry_deletions(::tenancy::TenantId(1)), []);
}

#[tokio::test]
async fn what_a_later_deletion_covers_is_forgotten() {
    let ground = Ground::default();
    let storage = written(&ground).await;
    for _ in 0..3 {
        delete(&storage, 1, of_app("a", containing("secret"))).await;
    }
    delete(&storage, 2, of_app("a", containing("secret"))).await;
    let pending = |storage: &Storage| storage.entry_deletions(::tenancy::TenantId(1)).len();
    assert_eq!(pending(&storage), 1);
    let all = DeleteEntries {
        selectors: vec![Vec::<Matcher>::new()],
        ..of_app("a", EntryFilter::default())
    };
    delete(&storage, 1, all).await;
    assert_eq!(pending(&storage), 1);
    storage.flush_all().await.expect("a sound disk");
    let storage = reopened(&ground, storage).await;
    assert_eq!((pending(&storage), left(&storage, 1).await.len()), (1, 0));
    assert_eq!(left(&storage, 2).await.len(), 6);
}
