//! Administrative changes: what they do, what is on record, and what outlives a restart.

use axum::http::{HeaderMap, HeaderValue};
use model::Disk;
use testkit::{Fault, FaultyDisk, ManualClock};

use super::*;
use crate::{AuditLog, Config, Directory, Refusal};

fn open(disk: &FaultyDisk) -> Arc<Authenticator> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let clock = Arc::new(ManualClock::new(1_000));
    let directory = Directory::open(&disk, Arc::<ManualClock>::clone(&clock)).unwrap();
    let audit = AuditLog::open(&disk, Arc::<ManualClock>::clone(&clock)).unwrap();
    let config: Config = toml::from_str("limits.tenants.a.labels_max = 9").unwrap();
    let authenticator =
        Authenticator::new(&config, &crate::TokenFile::default(), Arc::new(directory), clock)
            .unwrap();
    Arc::new(authenticator.with_audit(audit))
}

fn name(text: &str) -> TenantName {
    TenantName::new(text).unwrap()
}

fn headers(tenant: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(crate::selection::TENANT_HEADER, HeaderValue::from_str(tenant).unwrap());
    headers
}

fn who() -> Principal {
    Principal::unrestricted("root")
}

async fn written(all: &Arc<Authenticator>, tenant: &str) -> Result<u32, String> {
    let scope = all.write_scope(&headers(tenant)).await;
    scope.map(|s| s.tenant().0).map_err(|r: Refusal| format!("{} {r}", r.status().as_u16()))
}

/// Actions on record, oldest first, with what was there before and after.
fn recorded(all: &Authenticator) -> Vec<String> {
    let page = all.audit().unwrap().read(100, None, i64::MAX).unwrap();
    let one = |e: &AuditEntry| {
        let failed = e.failed.as_ref().map_or_else(String::new, |f| format!(" failed: {f}"));
        format!(
            "{} {} {}#{}: {} -> {}{failed}",
            e.principal, e.action, e.tenant, e.tenant_id, e.old, e.new
        )
    };
    page.entries.iter().rev().map(one).collect()
}

#[tokio::test]
async fn changes_hold_are_on_record_and_outlive_a_restart() {
    let disk = FaultyDisk::new();
    let all = open(&disk);
    let a = all.create_tenant(&who(), name("a")).await.unwrap();
    assert_eq!(written(&all, "a").await, Ok(a.id.0));
    let suspension = Suspension { reason: "unpaid".to_owned(), reads: true };
    let change = |change| all.change_tenant(&WHO, name("a"), change);
    static WHO: std::sync::LazyLock<Principal> = std::sync::LazyLock::new(who);
    change(Change::Suspend(suspension)).await.unwrap();
    let refused =
        Err("403 tenant a is suspended (unpaid): it can be read, but takes no rows".to_owned());
    assert_eq!(written(&all, "a").await, refused);
    assert_eq!(written(&open(&disk.after_crash(1)), "a").await, refused);
    change(Change::Resume).await.unwrap();
    change(Change::Limits(
        serde_json::from_str(r#"{"labels_max": 5, "samples_burst": 7}"#).unwrap(),
    ))
    .await
    .unwrap();
    let limits = || all.limits_of(a.id);
    assert_eq!((limits().labels_max, limits().samples_burst), (5, 7.0));
    change(Change::Limits(serde_json::from_str(r#"{"labels_max": null}"#).unwrap())).await.unwrap();
    assert_eq!((limits().labels_max, limits().samples_burst), (9, 7.0), "as configured again");
    change(Change::Rename(name("b"))).await.unwrap();
    assert_eq!(written(&all, "a").await, Ok(a.id.0), "an alias");
    all.change_tenant(&who(), name("b"), Change::Delete).await.unwrap();
    let all = open(&disk.after_crash(2));
    assert_eq!(all.directory().deleted()[0].id, a.id);
    assert!(
        all.directory().find(&name("a")).is_none() && all.directory().find(&name("b")).is_none()
    );
    let again = written(&all, "a").await.unwrap();
    assert!(again > a.id.0, "the name is that of a new tenant");
    assert_eq!(all.limits_of(TenantId(again)).samples_burst, 5_000_000.0);
    assert_eq!(
        recorded(&all),
        [
            r#"root tenant.create a#0: null -> {"name":"a"}"#,
            r#"root tenant.suspend a#1: {"status":"active"} -> {"reads":true,"reason":"unpaid","status":"suspended"}"#,
            r#"root tenant.resume a#1: {"reads":true,"reason":"unpaid","status":"suspended"} -> {"status":"active"}"#,
            r#"root tenant.limits a#1: {} -> {"labels_max":5,"samples_burst":7}"#,
            r#"root tenant.limits a#1: {"labels_max":5,"samples_burst":7} -> {"samples_burst":7}"#,
            r#"root tenant.rename a#1: {"name":"a"} -> {"name":"b"}"#,
            r#"root tenant.delete b#1: {"name":"b"} -> null"#,
        ]
    );
}

#[tokio::test]
async fn changes_that_make_no_sense_are_refused_and_told() {
    let all = open(&FaultyDisk::new());
    for tenant in ["a", "b"] {
        all.create_tenant(&who(), name(tenant)).await.unwrap();
    }
    let check = async |tenant: &str, change, expected: &str| {
        let refused = all.change_tenant(&who(), name(tenant), change).await.unwrap_err();
        let source = std::error::Error::source(&refused).map(|s| format!(": {s}"));
        assert_eq!(format!("{refused}{}", source.unwrap_or_default()), expected);
    };
    let limits = |json| Change::Limits(serde_json::from_str(json).unwrap());
    check("c", Change::Resume, "there is no tenant c").await;
    check("a", Change::Rename(name("b")), "the name b is or was that of another tenant").await;
    let unknown = limits(r#"{"label_max": 3}"#);
    let refused = all.change_tenant(&who(), name("a"), unknown).await.unwrap_err();
    let source = std::error::Error::source(&refused).unwrap().to_string();
    assert!(source.starts_with("unknown field `label_max`"), "{source}");
    check(
        "a",
        limits(r#"{"samples_burst": 0}"#),
        "limits of tenant \"a\": samples_burst must be greater than 0 and at most 1e15",
    )
    .await;
    let long = Suspension { reason: "x".repeat(501), reads: true };
    check(
        "a",
        Change::Suspend(long),
        "the reason of the suspension has 501 bytes, the limit is 500",
    )
    .await;
    let taken = all.create_tenant(&who(), name("a")).await.unwrap_err().to_string();
    assert_eq!(taken, "the name a is or was that of another tenant");
    let failed = recorded(&all).into_iter().filter(|e| e.contains("failed")).count();
    assert_eq!(failed, 2, "{:#?}", recorded(&all));
}

#[tokio::test]
async fn nothing_is_changed_that_is_not_on_record() {
    let disk = FaultyDisk::new();
    let all = open(&disk);
    disk.fail_from(disk.operations() + 1, Fault::Eio);
    let refused = all.create_tenant(&who(), name("a")).await.unwrap_err().to_string();
    assert_eq!(refused, "the change was not made because it could not be put on record");
    assert!(all.directory().is_empty());
}

#[tokio::test]
async fn who_may_not_read_does_not() {
    let all = open(&FaultyDisk::new());
    all.create_tenant(&who(), name("a")).await.unwrap();
    let how = Suspension { reason: String::new(), reads: false };
    all.change_tenant(&who(), name("a"), Change::Suspend(how)).await.unwrap();
    // Everybody is an administrator here, and those see everything.
    assert_eq!(all.read_scope(&headers("a")).unwrap().tenants().len(), 1);
}
