//! Classic histograms in text, read as native ones with custom buckets.

use super::super::{Exposition, Format, Forms};
use super::entries;

fn read(text: &str, classic_too: bool) -> Result<Vec<String>, String> {
    let forms = Forms { native: false, classic_too, convert_classic: true };
    entries(Exposition::in_forms(Format::Text, text.as_bytes(), forms))
}

#[track_caller]
fn check(text: &str, lines: &[&str]) {
    assert_eq!(read(text, false).expect("valid"), lines, "{text}");
}

const H: &str = "# TYPE h histogram\nh_bucket{a=\"1\",le=\"1\"} 2\nh_bucket{a=\"1\",le=\"+Inf\"} 3\nh_sum{a=\"1\"} 4\nh_count{a=\"1\"} 3\n";
const NATIVE: &str =
    r#"__name__="h",a="1" schema -53 [1.0] zero 0 sum 4 count 3, 0 in 0, [0:2] [2, -1] [] []"#;
const TOLD: &str = r#"type "h" histogram"#;

#[test]
fn series_of_a_histogram_become_one() {
    check(H, &[TOLD, NATIVE]);
    check(&format!("{H}g 1\n"), &[TOLD, NATIVE, r#"__name__="g" 1"#]);
    check(&format!("{H}# HELP g x\n"), &[TOLD, NATIVE, r#"help "g" "x""#]);
    let classic = [
        r#"__name__="h_bucket",a="1",le="1.0" 2"#,
        r#"__name__="h_bucket",a="1",le="+Inf" 3"#,
        r#"__name__="h_sum",a="1" 4"#,
        r#"__name__="h_count",a="1" 3"#,
    ];
    let all = [&[TOLD, NATIVE][..], &classic].concat();
    assert_eq!(read(H, true).expect("valid"), all);
    // The labels, not their order, tell histograms apart; so do times.
    check(
        "# TYPE h histogram\nh_bucket{b=\"2\",a=\"1\",le=\"+Inf\"} 3\nh_count{a=\"1\",b=\"2\"} 3\nh_count{a=\"2\"} 5\nh_count{a=\"2\"} 6 7\n",
        &[
            TOLD,
            r#"__name__="h",a="1",b="2" schema -53 [] zero 0 sum 0 count 3, 0 in 0, [0:1] [3] [] []"#,
            r#"__name__="h",a="2" schema -53 [] zero 0 sum 0 count 5, 0 in 0, [0:1] [5] [] []"#,
            r#"__name__="h",a="2" schema -53 [] zero 0 sum 0 count 6, 0 in 0, [0:1] [6] [] [] @7"#,
        ],
    );
}

#[test]
fn what_is_no_histogram_stays_what_it_is() {
    let series = r#"__name__="h_count" 3"#;
    check("h_count 3\n", &[series]);
    check("# TYPE h summary\nh_count 3\n", &[r#"type "h" summary"#, series]);
    check("# TYPE other histogram\nh_count 3\n", &[r#"type "other" histogram"#, series]);
    check("# TYPE h histogram\nh_created 3\n", &[TOLD, r#"__name__="h_created" 3"#]);
    check(
        "# TYPE h histogram\nh_bucket 1\nh_bucket{le=\"x\"} 1\nh_bucket{le=\"NaN\"} 1\n",
        &[
            TOLD,
            r#"__name__="h_bucket" 1"#,
            r#"__name__="h_bucket",le="x" 1"#,
            r#"__name__="h_bucket",le="NaN" 1"#,
        ],
    );
    check(
        "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_count 3\nh_count{a=\"1\"} 1\n",
        &[
            TOLD,
            r#"__name__="h_bucket",le="1.0" 2"#,
            r#"__name__="h_bucket",le="+Inf" 1"#,
            series,
            r#"__name__="h",a="1" schema -53 [] zero 0 sum 0 count 1, 0 in 0, [0:1] [1] [] []"#,
        ],
    );
    check("# TYPE h histogram\nh_sum 3\n", &[TOLD, r#"__name__="h_sum" 3"#]);
    assert!(read("# TYPE h histogram\nh_count x\n", false).is_err());
}

#[test]
fn exemplars_of_buckets_become_the_histograms() {
    let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 2 # {id=\"x\"} 0.5 1\nh_bucket{le=\"+Inf\"} 3 # {id=\"y\"} 2 2\n# EOF\n";
    let of = |classic_too| {
        let forms = Forms { native: true, classic_too, convert_classic: true };
        entries(Exposition::in_forms(Format::OpenMetrics, text.as_bytes(), forms)).expect("valid")
    };
    let exemplars = r#" # id="x" 0.5 @1000 # id="y" 2 @2000"#;
    assert!(of(false)[1].ends_with(exemplars), "{:?}", of(false));
    assert!(of(true)[1].ends_with(exemplars), "{:?}", of(true));
    assert!(of(true)[2].ends_with(r#" # id="x" 0.5 @1000"#), "{:?}", of(true));
}

proptest::proptest! {
    #[test]
    fn noise_is_survived(lines in proptest::collection::vec("(# TYPE h (histogram|gauge)|h(_bucket|_sum|_count)?(\\{(le=\"(1|\\+Inf|NaN|x)\"|a=\"1\")?\\})? (-?[0-9.]{1,3}|NaN|\\+Inf|1e300)( [0-9])?)", 0..12)) {
        let text = lines.join("\n") + "\n";
        crate::fuzz::exposition_converting(text.as_bytes());
        crate::fuzz::exposition_converting(format!("{text}# EOF\n").as_bytes());
        // No series of text that reads is lost: each stays, or is part of a histogram.
        let forms = Forms { classic_too: true, convert_classic: true, ..Forms::default() };
        let of = |forms| entries(Exposition::in_forms(Format::Text, text.as_bytes(), forms));
        if let (Ok(plain), Ok(both)) = (of(Forms::NATIVE), of(forms)) {
            for line in plain {
                proptest::prop_assert!(both.contains(&line), "{line} is not in {both:?}");
            }
        }
    }
}
