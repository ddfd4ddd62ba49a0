//! Every kind of credential against every kind of header and access, as one golden table; then
//! what a table cannot show.

use std::fmt::Write;

use axum::http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use sha2::{Digest, Sha256};
use testkit::{Fault, FaultyDisk, ManualClock, golden};

use super::*;
use crate::{AuthenticationMode, CertificateNames, Peer, Suspension, selection};

/// Tokens of the table: each is `token-NAME`.
const TOKENS: &str = r#"
    [[tokens]]
    name = "reader-a"
    grants = [{ tenant = "a", access = "read" }]
    [[tokens]]
    name = "writer-a"
    grants = [{ tenant = "a", access = "write" }]
    [[tokens]]
    name = "both-a"
    grants = [{ tenant = "a", access = "read_write" }]
    [[tokens]]
    name = "admin-a"
    grants = [{ tenant = "a", access = "admin" }]
    [[tokens]]
    name = "both-a-and-b"
    grants = [{ tenant = "a", access = "read_write" }, { tenant = "b", access = "read_write" }]
    [[tokens]]
    name = "reads-a-writes-b"
    grants = [{ tenant = "a", access = "read" }, { tenant = "b", access = "write" }]
    [[tokens]]
    name = "part-of-a"
    grants = [{ tenant = "a", access = "read", alternatives = [["ns='1'", "env='x'"], ["ns='2'"]] }, { tenant = "b", access = "read" }]
    [[tokens]]
    name = "both-suspended-and-absent"
    grants = [{ tenant = "suspended", access = "read_write" }, { tenant = "absent", access = "read_write" }]
    [[tokens]]
    name = "part-of-all"
    grants = [{ tenant = "*", access = "read", alternatives = [["ns='9'"]] }, { tenant = "a", access = "read" }]
    [[tokens]]
    name = "collector"
    grants = [{ tenant = "*", access = "write" }]
    [[tokens]]
    name = "platform"
    grants = [{ tenant = "*", access = "admin" }]
"#;

/// A token file written with the tokens themselves is easier to read than one with hashes.
fn tokens() -> TokenFile {
    let hashed = TOKENS.lines().map(|line| match line.trim().strip_prefix("name = ") {
        None => line.to_owned(),
        Some(name) => {
            let hash = Sha256::digest(format!("token-{}", name.trim_matches('"')));
            let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{line}\nsha256 = \"{hex}\"")
        }
    });
    toml::from_str(&hashed.collect::<Vec<_>>().join("\n")).unwrap()
}

/// Tenants a, b and suspended; one is suspended.
fn authenticator(mode: AuthenticationMode) -> Arc<Authenticator> {
    let directory = Directory::for_test();
    for text in ["a", "b", "suspended"] {
        let tenant = directory.find_or_create(&name(text), 9).unwrap();
        if text == "suspended" {
            let suspension =
                TenantStatus::Suspended(Suspension { reason: String::new(), reads: true });
            directory.set_status(tenant.id, suspension).unwrap();
        }
    }
    let clock = Arc::new(ManualClock::new(0));
    let config = Config { mode, ..Config::default() };
    Arc::new(Authenticator::new(&config, &tokens(), Arc::new(directory), clock).unwrap())
}

fn name(text: &str) -> TenantName {
    TenantName::new(text).unwrap()
}

fn headers(token: Option<&str>, tenant: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let value = |text: &str| HeaderValue::from_str(text).unwrap();
    if let Some(token) = token {
        headers.insert(AUTHORIZATION, value(&format!("Bearer token-{token}")));
    }
    if let Some(tenant) = tenant {
        headers.insert(selection::TENANT_HEADER, value(tenant));
    }
    headers
}

fn read(scope: &ReadScope) -> String {
    let one = |t: &TenantRead| match t.alternatives.len() {
        0 => t.name.to_string(),
        _ => format!("{} where {:?}", t.name, t.alternatives),
    };
    let tenants: Vec<String> = scope.tenants().iter().map(one).collect();
    let labelled = if scope.is_labelled() { " (labelled)" } else { "" };
    format!("ok: [{}]{labelled}", tenants.join(", "))
}

fn refused(refusal: Refusal) -> String {
    format!("{}: {refusal}", refusal.status().as_u16())
}

#[tokio::test]
async fn the_header_chooses_among_what_the_credential_allows() {
    let names: Vec<String> = tokens().tokens.into_iter().map(|t| t.name).collect();
    let mut credentials =
        vec![("mode none", None), ("no token", None), ("unknown token", Some("nonsense"))];
    credentials.extend(names.iter().map(|n| (n.as_str(), Some(n.as_str()))));
    let tenants = [
        None,
        Some("a"),
        Some("b"),
        Some("a|b"),
        Some("absent"),
        Some("suspended"),
        Some("*"),
        Some("a||b"),
    ];
    let mut table = String::new();
    for (shown, token) in credentials {
        let mode =
            if shown == "mode none" { AuthenticationMode::None } else { AuthenticationMode::Token };
        writeln!(table, "{shown}").unwrap();
        for tenant in tenants {
            let (authenticator, headers) = (authenticator(mode), headers(token, tenant));
            let reads =
                authenticator.read_scope(&headers).map_or_else(refused, |scope| read(&scope));
            let before = authenticator.directory().len();
            let writes = match authenticator.write_scope(&headers).await {
                Ok(scope) => format!("ok: {} is number {}", scope.name(), scope.tenant()),
                Err(refusal) => {
                    assert_eq!(
                        authenticator.directory().len(),
                        before,
                        "a refused write creates nothing"
                    );
                    refused(refusal)
                }
            };
            let admin = authenticator
                .administrator(&headers)
                .map_or_else(refused, |p| format!("ok: {}", p.name()));
            writeln!(table, "  X-Scope-OrgID {}", tenant.unwrap_or("not given")).unwrap();
            writeln!(table, "    read   {reads}\n    write  {writes}\n    admin  {admin}").unwrap();
        }
    }
    golden::check("tests/golden/access.txt", &table);
}

/// The golden table could be accepted by mistake; this cannot: no credential gets at what it was
/// not granted, whatever the header says.
#[tokio::test]
async fn no_header_widens_a_credential() {
    for token in tokens().tokens {
        for tenant in
            ["a", "b", "a|b", "b|a", "absent", "suspended", "*", "a|absent", "a|a", "b|suspended"]
        {
            let authenticator = authenticator(AuthenticationMode::Token);
            let headers = headers(Some(&token.name), Some(tenant));
            let granted = |tenant: &TenantName, fits: fn(Access) -> bool| {
                token
                    .grants
                    .iter()
                    .any(|g| fits(g.access) && (g.tenant == "*" || g.tenant == tenant.as_str()))
            };
            if let Ok(scope) = authenticator.read_scope(&headers) {
                for read in scope.tenants() {
                    assert!(
                        granted(&read.name, Access::reads),
                        "{} read {}",
                        token.name,
                        read.name
                    );
                    let whole = token.grants.iter().any(|g| {
                        g.access.reads()
                            && g.alternatives.is_none()
                            && (g.tenant == "*" || g.tenant == read.name.as_str())
                    });
                    assert_eq!(
                        read.alternatives.is_empty(),
                        whole,
                        "{} read {}",
                        token.name,
                        read.name
                    );
                }
            }
            if let Ok(scope) = authenticator.write_scope(&headers).await {
                assert!(
                    granted(scope.name(), Access::writes),
                    "{} wrote {}",
                    token.name,
                    scope.name()
                );
            }
        }
    }
}

#[test]
fn a_token_is_a_bearer_or_a_password_and_nothing_else() {
    let authenticator = authenticator(AuthenticationMode::Token);
    let try_with = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        authenticator.principal(&headers).map_or_else(refused, |p| p.name().to_owned())
    };
    assert_eq!(try_with("Bearer token-platform"), "platform");
    assert_eq!(try_with("Basic YW55Ym9keTp0b2tlbi1wbGF0Zm9ybQ=="), "platform");
    assert_eq!(try_with("Bearer token-platforms"), "401: unknown token");
    assert_eq!(try_with("Bearer token-platfor"), "401: unknown token");
    assert_eq!(try_with("Digest x"), "401: Authorization must be Bearer, Basic, Token or ApiKey");
    let hash = &tokens().tokens[0].sha256;
    assert_eq!(
        try_with(&format!("Bearer {hash}")),
        "401: unknown token",
        "the file's content is no token"
    );
    let shown = format!("{:?}", authenticator.principal(&headers(Some("platform"), None)));
    assert!(!shown.contains("token-"), "{shown}");
}

#[test]
fn a_certificate_counts_where_no_token_is_shown() {
    let mut file = tokens();
    let certificates: TokenFile = toml::from_str(
        r#"
        [[certificates]]
        name = "by-uri"
        uri = "spiffe://c/x"
        grants = [{ tenant = "a", access = "read" }]
        [[certificates]]
        name = "by-dns"
        dns = "X.example"
        grants = [{ tenant = "a", access = "read" }]
        [[certificates]]
        name = "by-common-name"
        common_name = "x"
        grants = [{ tenant = "a", access = "read" }]
        "#,
    )
    .unwrap();
    file.certificates = certificates.certificates;
    let config = Config { mode: AuthenticationMode::Token, ..Config::default() };
    let (directory, clock) = (Arc::new(Directory::for_test()), Arc::new(ManualClock::new(0)));
    let authenticator = Authenticator::new(&config, &file, directory, clock).unwrap();
    let who = |token: Option<&str>, certificate: Option<CertificateNames>| {
        let address = "192.0.2.1:9".parse().unwrap();
        let peer = Peer { address, certificate: certificate.map(Arc::new) };
        let asked = Asked { headers: &headers(token, None), peer: Some(&peer) };
        let who = authenticator.principal(asked).map_err(|refusal| refusal.to_string())?;
        Ok(format!("{} from {}", who.name(), who.actor().from.unwrap()))
    };
    let text = |text: &str| text.to_owned();
    let common = CertificateNames { common_name: Some(text("x")), ..CertificateNames::default() };
    let dns = CertificateNames { dns: vec![text("x.example")], ..common.clone() };
    let uri = CertificateNames { uris: vec![text("y"), text("spiffe://c/x")], ..dns.clone() };
    assert_eq!(who(None, Some(common.clone())), Ok(text("by-common-name from 192.0.2.1")));
    assert_eq!(who(None, Some(dns)), Ok(text("by-dns from 192.0.2.1")));
    assert_eq!(who(None, Some(uri.clone())), Ok(text("by-uri from 192.0.2.1")));
    assert_eq!(who(Some("reader-a"), Some(uri.clone())), Ok(text("reader-a from 192.0.2.1")));
    assert_eq!(who(Some("wrong"), Some(uri)), Err(text("unknown token")));
    let other =
        CertificateNames { subject: text("CN=z"), dns: vec![text("x")], ..Default::default() };
    assert!(who(None, Some(other)).unwrap_err().contains("certificate of CN=z stands for nobody"));
    assert!(who(None, None).unwrap_err().starts_with("no credentials"));
}

#[test]
fn several_names_of_one_tenant_are_one_tenant() {
    let authenticator = authenticator(AuthenticationMode::Token);
    let a = authenticator.directory().find(&name("a")).unwrap();
    authenticator.directory().rename(a.id, &name("new")).unwrap();
    let scope = |token, tenant| {
        authenticator
            .read_scope(&headers(Some(token), Some(tenant)))
            .map_or_else(refused, |s| read(&s))
    };
    assert_eq!(scope("platform", "a|new"), "ok: [new] (labelled)");
    assert_eq!(scope("reader-a", "a"), "ok: [new]", "grants by the old name go on");
    assert_eq!(scope("reader-a", "new"), "403: reader-a may not read tenant new");
    assert_eq!(scope("part-of-all", "new|a"), "ok: [new] (labelled)", "what either name allows");
    assert_eq!(
        scope("part-of-all", "*"),
        r#"ok: [new, b where [[ns="9"]], suspended where [[ns="9"]]] (labelled)"#
    );
}

#[tokio::test]
async fn names_made_up_by_clients_are_bounded() {
    let config = Config { tenants_max: 4, mode: AuthenticationMode::Token, ..Config::default() };
    let authenticator = authenticator(AuthenticationMode::None);
    authenticator.reload(&config, &tokens()).unwrap();
    let write = async |token: &str, tenant: &str| {
        let scope = authenticator.write_scope(&headers(Some(token), Some(tenant))).await;
        scope.map_or_else(refused, |s| format!("{}", s.tenant()))
    };
    assert_eq!(write("collector", "x").await, "4");
    let full = "403: tenant y was not created: there are 4 tenants already, the most that may come into being by writing; raise tenants_max";
    assert_eq!(write("collector", "y").await, full);
    assert_eq!(write("collector", "x").await, "4");
    assert_eq!(write("both-suspended-and-absent", "absent").await, "5", "named in a grant");
    let wrong = authenticator
        .reload(&Config { default_tenant: "a b".to_owned(), ..config }, &TokenFile::default());
    assert!(wrong.is_err());
    assert_eq!(write("collector", "x").await, "4", "the configuration before stays");
}

#[tokio::test]
async fn a_new_tenant_is_durable_before_its_first_row() {
    let disk = FaultyDisk::new();
    let part: Arc<dyn model::Disk> = Arc::new(disk.clone());
    let clock = Arc::new(ManualClock::new(0));
    let directory = Arc::new(Directory::open(&part, Arc::<ManualClock>::clone(&clock)).unwrap());
    let authenticator = Arc::new(
        Authenticator::new(&Config::default(), &TokenFile::default(), directory, clock).unwrap(),
    );
    let scope = authenticator.write_scope(&headers(None, Some("new"))).await.unwrap();
    for seed in 0..20 {
        let left: Arc<dyn model::Disk> = Arc::new(disk.after_crash(seed));
        let found =
            Directory::open(&left, Arc::new(ManualClock::new(0))).unwrap().find(&name("new"));
        assert_eq!(found.map(|t| t.id), Some(scope.tenant()));
    }
    disk.fail_from(disk.operations() + 1, Fault::Enospc);
    let refusal = authenticator.write_scope(&headers(None, Some("other"))).await.unwrap_err();
    assert_eq!(refused(refusal), "503: tenant other could not be created now");
    assert!(
        authenticator.write_scope(&headers(None, Some("new"))).await.is_ok(),
        "known tenants write on"
    );
    disk.heal();
    assert!(
        authenticator.write_scope(&headers(None, Some("other"))).await.is_ok(),
        "it goes on by itself"
    );
}

#[tokio::test]
async fn limits_and_rates_follow_the_tenant() {
    let text = r#"
        limits.default = { samples_per_second = 10, samples_burst = 10, query_series_max = 100 }
        limits.tenants.a = { query_series_max = 7 }
        limits.tenants.b = { samples_burst = 5 }
    "#;
    let authenticator = authenticator(AuthenticationMode::None);
    authenticator.reload(&toml::from_str(text).unwrap(), &TokenFile::default()).unwrap();
    let series = |tenant| {
        authenticator.read_scope(&headers(None, Some(tenant))).unwrap().limits().query_series_max
    };
    assert_eq!(["a", "b", "a|b", "absent", "*"].map(series), [7, 100, 7, 100, 100]);
    let write =
        async |tenant| authenticator.write_scope(&headers(None, Some(tenant))).await.unwrap();
    let now = std::time::Duration::ZERO;
    write("a").await.rates().samples.take(now, 10).unwrap();
    assert!(
        write("a").await.rates().samples.take(now, 1).is_err(),
        "all writers of a tenant share its rate"
    );
    assert!(write("b").await.rates().samples.take(now, 6).is_err());
    assert!(write("b").await.rates().samples.take(now, 5).is_ok());
    let own = authenticator.internal_write_scope(&name("a")).unwrap();
    assert!(own.rates().samples.take(now, 1).is_err());
    assert_eq!(authenticator.limits_of(own.tenant()).query_series_max, 7);
    assert_eq!(authenticator.limits_of(TenantId(999)).query_series_max, 100);
}

#[test]
fn all_tenants_are_listed_once_for_all() {
    let authenticator = authenticator(AuthenticationMode::None);
    let all = || authenticator.read_scope(&headers(None, Some("*"))).unwrap();
    let (first, second) = (all(), all());
    assert!(std::ptr::eq(first.tenants(), second.tenants()), "no list for each question");
    authenticator.directory().find_or_create(&name("c"), 99).unwrap();
    assert_eq!(all().tenants().len(), 4);
    let merged = all().unlabelled();
    assert!(!merged.is_labelled() && merged.tenants().len() == 4 && !merged.is_restricted());
}

#[tokio::test]
async fn refusals_are_counted_by_reason() {
    let authenticator = authenticator(AuthenticationMode::Token);
    let tries = [
        (None, "a"),
        (Some("x"), "a"),
        (Some("reader-a"), "b"),
        (Some("platform"), "a b"),
        (Some("platform"), "suspended"),
    ];
    for (token, tenant) in tries {
        let headers = headers(token, Some(tenant));
        let _refused =
            (authenticator.read_scope(&headers), authenticator.write_scope(&headers).await);
    }
    let mut text = String::new();
    authenticator.write_metrics(&mut text);
    let counted: Vec<&str> =
        text.lines().filter(|l| !l.starts_with('#') && !l.ends_with(" 0")).collect();
    let count = |reason: &str, n: u32| {
        format!("taffrail_tenancy_refused_requests_total{{reason=\"{reason}\"}} {n}")
    };
    let expected = [
        count("no_credentials", 2),
        count("unknown_token", 2),
        count("malformed_header", 2),
        count("read_not_granted", 1),
        count("write_not_granted", 1),
        count("suspended", 1),
        "taffrail_tenancy_tenants 3".to_owned(),
    ];
    assert_eq!(counted, expected);
}
