//! Switches of the language reach the evaluator, and `status/flags` names them.

use model::{Clock, SystemClock};
use testkit::remote_write::Series;

use crate::process::taffrail;

/// What `rate` leaves of a name, as a later function sees it, and how many points a subquery has
/// that names no step.
fn seen_with(switches: &str) -> (String, String, String) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = format!("[ingest.self_scrape]\nenabled = false\n[query]\n{switches}\n");
    let server = taffrail(dir.path(), &config);
    let now_ms = SystemClock::default().now_ms();
    let series = Series {
        labels: vec![("__name__".to_owned(), "requests_total".to_owned())],
        samples: (0..40).map(|i| (now_ms - (40 - i) * 5_000, i as f64)).collect(),
        ..Series::default()
    };
    server.write(None, &[series]);

    let copied = r#"label_replace(rate(requests_total[2m]), "copy", "$1", "__name__", "(.*)")"#;
    let name = server.instant(copied, now_ms, None)["data"]["result"][0]["metric"].to_string();
    let points = server.instant("count_over_time(requests_total[2m:])", now_ms, None);
    let flags = server.json("/api/v1/status/flags", None);
    (
        name,
        points["data"]["result"][0]["value"][1].to_string(),
        flags["data"]["enable-feature"].to_string(),
    )
}

#[test]
fn switches_change_what_is_answered() {
    let check = |switches: &str, expected: (&str, &str, &str)| {
        let found = seen_with(switches);
        let found = (found.0.as_str(), found.1.as_str(), found.2.as_str());
        assert_eq!(found, expected, "{switches}");
    };
    check("", ("{}", "\"2\"", "\"\""));
    let late = "delayed_name_removal = true\nsubquery_step_seconds = 15.0\nstart_timestamps = true";
    let flag = "\"promql-delayed-name-removal,use-start-timestamps\"";
    check(late, (r#"{"copy":"requests_total"}"#, "\"8\"", flag));
}
