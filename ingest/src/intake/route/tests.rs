//! Tests of sharing out: by time, by label, with metadata.

use model::{Exemplar, Labels, Metadata, MetricKind};
use testkit::remote_write::{Series, body};

use super::*;
use crate::Caps;
use crate::testing::routed_scope;

fn series(name: &str, namespace: &str, samples: &[(i64, f64)]) -> Series {
    let pairs = [("__name__", name), ("cluster", "c"), ("namespace", namespace)];
    let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    Series::new(&Labels::from_pairs(pairs), samples)
}

/// What each tenant gets: instants of samples by series, `e` before those of exemplars, and
/// families of metadata.
async fn shared(series: &[Series], metadata: &[(&str, Metadata)]) -> (Vec<String>, Shared) {
    let (scope, body) = (routed_scope().await, body(series, metadata));
    let mut rows = MetricRows::default();
    let limits = tenancy::Limits::default();
    crate::remote_write::walk(&body, &limits, &Caps::default(), &mut rows).expect("valid");
    let metadata = std::mem::take(&mut rows.metadata);
    let routes = scope.routes().expect("a routed scope");
    let (shares, counts) = share_out(routes, &RoutingConfig::default(), &mut rows, &metadata);
    let one = |share: &Share| {
        let name = share.scope.as_ref().expect("open").name().to_string();
        let mut parts = vec![format!("{name}:")];
        for series in &share.series {
            let samples = &rows.samples[series.samples.start as usize..series.samples.end as usize];
            let samples = samples.iter().map(|s| s.timestamp_ms.to_string());
            let exemplars =
                &rows.exemplars[series.exemplars.start as usize..series.exemplars.end as usize];
            let exemplars = exemplars.iter().map(|e| format!("e{}", e.timestamp_ms));
            parts.push(samples.chain(exemplars).collect::<Vec<_>>().join(","));
        }
        let families = share.families.iter().map(|place| metadata[*place as usize].0.clone());
        parts.extend(families);
        parts.join(" ")
    };
    let mut shown: Vec<String> = shares.iter().map(one).collect();
    shown.sort();
    (shown, counts)
}

#[tokio::test]
async fn a_series_is_parted_by_the_time_of_its_rows() {
    let mut parted =
        series("x", "shop", &[(50, 1.0), (99, 2.0), (100, 3.0), (200, 4.0), (201, 5.0)]);
    let exemplar = |timestamp_ms| Exemplar { labels: Labels::empty(), value: 0.0, timestamp_ms };
    parted.exemplars = vec![exemplar(60), exemplar(260)];
    let mut whole = series("x", "shop", &[(98, 1.0), (99, 2.0)]);
    whole.exemplars = vec![exemplar(97)];
    let always = series("x", "till", &[(1, 1.0), (500, 1.0)]);
    let (shown, counts) = shared(&[parted, whole, always, series("x", "", &[(7, 1.0)])], &[]).await;
    assert_eq!(
        shown,
        ["a: 50,99 e60 98,99,e97 1,500", "b: 200,201 e260", "system: 7", "unassigned: 100"]
    );
    let unassigned = [0, 0, 1, 0];
    assert_eq!(counts, Shared { workspaces: 11, system: 1, unassigned });
}

#[tokio::test]
async fn metadata_goes_where_its_series_go() {
    let told = |kind| Metadata { kind, help: String::new(), unit: String::new() };
    let metadata = [("x", told(MetricKind::Counter)), ("h", told(MetricKind::Histogram))];
    let rows = [
        series("h_bucket", "till", &[(1, 1.0)]),
        series("x", "shop", &[(1, 1.0)]),
        series("x", "", &[(1, 1.0)]),
        series("y", "other", &[(1, 1.0)]),
    ];
    let (shown, _) = shared(&rows, &metadata).await;
    assert_eq!(shown, ["a: 1 1 h x", "system: 1 x", "unassigned: 1"]);
    let (shown, _) = shared(&[], &metadata).await;
    assert_eq!(shown, ["system: x h"], "nobody knows whose it is");
}

#[test]
fn limits_of_one_tenant_stop_no_others() {
    let outcome = |samples, reason| {
        let mut outcome = AppendOutcome { samples, ..AppendOutcome::default() };
        outcome.reject(reason, 3, || "text".to_owned());
        keep_going(&mut outcome);
        outcome.rejected[0].reason
    };
    assert_eq!(outcome(1, Reason::SamplesRate), Reason::TenantLimit);
    assert_eq!(outcome(1, Reason::NewSeriesRate), Reason::TenantLimit);
    assert_eq!(outcome(1, Reason::TooOld), Reason::TooOld);
    assert_eq!(outcome(0, Reason::SamplesRate), Reason::SamplesRate, "it may fit later");
}
