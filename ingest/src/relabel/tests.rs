//! Rules and what they make of label sets; the expected outcomes are Prometheus' own behaviour.

use model::Labels;

use super::rule::Written;
use super::{Action, NameScheme, Pattern, Rule, apply, steps};

/// A rule from `field=value` words; `|` separates source labels.
fn rule(text: &str) -> Result<Rule, String> {
    let mut written = Written::default();
    for word in text.split_whitespace() {
        let (field, value) = word.split_once('=').expect("field=value");
        let value = value.replace('·', " ");
        match field {
            "source" => written.source_labels = Some(value.split('|').map(str::to_owned).collect()),
            "separator" => written.separator = Some(value),
            "regex" => written.regex = Some(value),
            "modulus" => written.modulus = Some(value.parse().expect("a number")),
            "target" => written.target_label = Some(value),
            "replacement" => written.replacement = Some(value),
            "action" => written.action = Some(value),
            other => panic!("{other}"),
        }
    }
    Rule::new(written, NameScheme::Utf8).map_err(|e| e.to_string())
}

fn labels(text: &str) -> Labels {
    let words = text.split(' ').filter(|word| !word.is_empty());
    Labels::from_pairs(words.map(|word| word.split_once('=').expect("name=value")))
}

#[track_caller]
fn check(from: &str, rules: &[&str], to: &str) {
    let rules: Vec<Rule> = rules.iter().map(|r| rule(r).expect("a rule")).collect();
    let mut builder = labels(from).to_builder();
    let kept = apply(&rules, &mut builder);
    let found = if kept { builder.build().to_string() } else { "dropped".to_owned() };
    let expected = if to == "dropped" { to.to_owned() } else { labels(to).to_string() };
    assert_eq!(found, expected);
}

#[track_caller]
fn check_wrong(text: &str, error: &str) {
    let found = rule(text).expect_err("refused");
    assert!(found.contains(error), "{found}");
}

#[test]
fn replace() {
    check(
        "a=foo b=bar",
        &["source=a regex=f(.*) target=d replacement=ch${1}-ch${1}"],
        "a=foo b=bar d=choo-choo",
    );
    check(
        "a=foo b=bar",
        &["source=a|b regex=f(.*);(.*)r target=a replacement=b${1}${2}m"],
        "a=boobam b=bar",
    );
    check("a=boo", &["source=a regex=f(.*) target=b replacement=x"], "a=boo");
    check("a=foo b=bar", &["source=a regex=no target=b"], "a=foo b=bar");
    check("a=foo", &["target=a replacement="], "");
    check("a=foo", &["source=a target=b"], "a=foo b=foo");
    check("a=foo", &["target=b replacement=x"], "a=foo b=x");
    check("a=foo", &["source=missing target=a"], "");
    check("a=foo", &["source=a regex=(f) target=b"], "a=foo");
    check("a=some-7", &["source=a regex=some-([^-]+) target=${1}x replacement=v"], "7x=v a=some-7");
    check("a=foo", &["source=a regex=(x?).* target=${1} replacement=v"], "a=foo");
    check(
        "a=foo",
        &["source=a regex=(?P<n>.)(.*) target=b replacement=${n}-$2-$n"],
        "a=foo b=f-oo-f",
    );
    check("a=foo", &["source=a target=b replacement=$$1-$x-${1}-$1y-$"], "a=foo b=$1--foo--$");
    check("a=foo", &["source=a target=b replacement=${1-$-${}"], "a=foo b=${1-$-${}");
    check("a=x;y", &["source=a|b separator=; regex=x;y; target=c replacement=v"], "a=x;y c=v");
    check("a=1 b=2", &["source=a|b separator= regex=12 target=c replacement=v"], "a=1 b=2 c=v");
}

#[test]
fn keep_and_drop() {
    check("a=foo", &["source=a regex=.*o.* action=drop"], "dropped");
    check("a=foo", &["source=a regex=.*o.* action=keep"], "a=foo");
    check("a=foo", &["source=a regex=no-match action=keep"], "dropped");
    check("a=foo", &["source=a regex=o action=drop"], "a=foo");
    check("a=foo", &["source=b regex= action=drop"], "dropped");
    check("a=foo", &["source=a regex=f|boo action=drop"], "a=foo");
    check("a=x b=x", &["source=a target=b action=keepequal"], "a=x b=x");
    check("a=x b=y", &["source=a target=b action=keepequal"], "dropped");
    check("a=x b=x", &["source=a target=b action=DropEqual"], "dropped");
    check("a=x;y b=x c=y", &["source=b|c target=a action=dropequal"], "dropped");
    check("a=foo", &["source=a regex=f action=drop", "source=a regex=foo action=DROP"], "dropped");
}

#[test]
fn hashmod_lowercase_uppercase() {
    // As Prometheus shards: the sums can be had from `md5sum`.
    check(
        "a=foo b=bar c=baz",
        &["source=c target=d action=hashmod modulus=1000"],
        "a=foo b=bar c=baz d=976",
    );
    check("a=foo\nbar", &["source=a target=b action=hashmod modulus=1000"], "a=foo\nbar b=734");
    check("a=AbÇİß", &["source=a target=b action=lowercase"], "a=AbÇİß b=abçiß");
    check("a=abçß", &["source=a target=b action=uppercase"], "a=abçß b=ABÇß");
}

#[test]
fn labelmap_labeldrop_labelkeep() {
    check(
        "a=foo b1=bar b2=baz",
        &["regex=(b.*) replacement=bar_${1} action=labelmap"],
        "a=foo b1=bar b2=baz bar_b1=bar bar_b2=baz",
    );
    check(
        "__meta_my_bar=aaa __meta_my_baz=bbb",
        &["regex=__meta_(my.*) action=labelmap"],
        "__meta_my_bar=aaa __meta_my_baz=bbb my_bar=aaa my_baz=bbb",
    );
    check("a=1 ab=2", &["regex=(a) replacement=ab action=labelmap"], "a=1 ab=1");
    check("a=foo b1=bar b2=baz", &["regex=b.* action=labeldrop"], "a=foo");
    check("a=foo b1=bar b2=baz", &["regex=b.* action=labelkeep"], "b1=bar b2=baz");
}

#[test]
fn rules_that_make_no_sense() {
    check_wrong(
        "action=replace",
        "relabel configuration for replace action requires 'target_label' value",
    );
    check_wrong(
        "action=lowercase source=a",
        "relabel configuration for lowercase action requires 'target_label' value",
    );
    check_wrong(
        "action=hashmod source=a target=b",
        "relabel configuration for hashmod requires non-zero modulus",
    );
    check_wrong(
        "action=labelmap replacement=",
        "\"\" is invalid 'replacement' for labelmap action",
    );
    check_wrong(
        "action=uppercase source=a target=b replacement=x",
        "'replacement' can not be set for uppercase action",
    );
    check_wrong(
        "action=labeldrop source=a",
        "labeldrop action requires only 'regex', and no other fields",
    );
    check_wrong(
        "action=labelkeep separator=x",
        "labelkeep action requires only 'regex', and no other fields",
    );
    check_wrong(
        "action=keepequal source=a target=b regex=x",
        "keepequal action requires only 'source_labels' and `target_label`, and no other fields",
    );
    check_wrong("action=flip", "unknown relabel action \"flip\"");
    check_wrong("target=a regex=(", "missing closing )");
    let legacy = |target: &str| {
        let target_label = Some(target.to_owned());
        Rule::new(Written { target_label, ..Written::default() }, NameScheme::Legacy)
    };
    for target in ["a", "_", "a_${1}", "${1}", "$x_y", "a${1}b"] {
        assert!(legacy(target).is_ok(), "{target}");
    }
    for target in ["a-b", "1", "a.$1", "$", "a-${1}", "ü"] {
        assert!(legacy(target).is_err(), "{target}");
    }
    assert_eq!(Action::of("LabelMap").map(Action::as_str), Some("labelmap"));
}

#[test]
fn steps_tell_what_each_rule_did() {
    let rules =
        ["target=b replacement=1", "source=b regex=1 action=drop", "target=c replacement=2"];
    let rules: Vec<Rule> = rules.iter().map(|r| rule(r).expect("a rule")).collect();
    let found: Vec<(String, bool)> =
        steps(&rules, &labels("a=0")).iter().map(|s| (s.output.to_string(), s.is_kept)).collect();
    let dropped = ("{}".to_owned(), false);
    assert_eq!(found, [(r#"{a="0", b="1"}"#.to_owned(), true), dropped.clone(), dropped]);
}

/// What a pattern does with values: those that match, with the first group.
#[track_caller]
fn check_pattern(pattern: &str, values: &[(&str, Option<&str>)]) {
    let compiled = Pattern::new(pattern).expect("a pattern");
    for (value, expected) in values {
        let found = compiled.captures(value).map(|f| f.expand("$1"));
        assert_eq!(found.as_deref(), *expected, "{pattern} on {value:?}");
    }
}

#[test]
fn patterns_are_those_of_go() {
    check_pattern("(.*)", &[("", Some("")), ("a\nb", Some("a\nb"))]);
    check_pattern("a|(b)c", &[("a", Some("")), ("bc", Some("b")), ("ac", None), ("xbc", None)]);
    check_pattern("(\\d+)\\w", &[("12x", Some("12")), ("٣x", None), ("1é", None)]);
    check_pattern("([\\w.-]+)", &[("a.b-c_1", Some("a.b-c_1")), ("é", None)]);
    check_pattern("([^\\s]+)", &[("a\u{a0}b", Some("a\u{a0}b")), ("a b", None)]);
    check_pattern("(\\Qa.b*\\E)c", &[("a.b*c", Some("a.b*")), ("axbc", None)]);
    check_pattern("(\\x41\\x{1F600}\\101\\0)", &[("A😀A\0", Some("A😀A\0"))]);
    check_pattern("([a&&b]+)", &[("a&b&", Some("a&b&"))]);
    check_pattern("([[a]+)", &[("[a", Some("[a"))]);
    check_pattern("([]a]+)", &[("]a", Some("]a"))]);
    check_pattern("([a-c~~-]+)", &[("b~-", Some("b~-")), ("d", None)]);
    check_pattern("([[:alpha:]]+)", &[("ab", Some("ab")), ("é", None)]);
    check_pattern("([[:^alpha:]\\D]+)", &[("1", Some("1")), ("a", Some("a"))]);
    check_pattern("a{,5}(x)?", &[("a{,5}", Some("")), ("aa", None)]);
    check_pattern("(a{2,3})", &[("aa", Some("aa")), ("a", None)]);
    check_pattern("(a{2}?)", &[("aa", Some("aa"))]);
    check_pattern("(?i)(ab)\\w", &[("ABc", Some("AB")), ("AB\u{212a}", None)]);
    check_pattern("(?:a|b)(?-s:.)(c)", &[("a\nc", None), ("bxc", Some("c"))]);
    check_pattern("(?U)(a+).*", &[("aaa", Some("a"))]);
    check_pattern("\\<(a)\\>\\_", &[("<a>_", Some("a"))]);
    check_pattern("(\\pL+)\\P{L}\\p{^L}", &[("é12", Some("é"))]);
    check_pattern("(a\\b).*", &[("a b", Some("a")), ("ab", None)]);
    check_pattern("^(a)$", &[("a", Some("a"))]);
    check_pattern("(a)\\z", &[("a", Some("a")), ("a\n", None)]);
    check_pattern("}(a)", &[("}a", Some("a"))]);
    for wrong in [
        "(",
        ")",
        "a**",
        "a*+",
        "a{2}{3}",
        "*",
        "a|*",
        "(?P<n>a)(?P<n>b)",
        "(?P<a-b>x)",
        "(?=a)",
        "(?<=a)",
        "(?x)a",
        "\\1",
        "\\8",
        "\\Z",
        "\\C",
        "\\y",
        "\\",
        "[a",
        "[b-a]",
        "[[:foo:]]",
        "\\x{110000}",
        "\\xg",
        "a{1001}",
        "a{3,2}",
        "(?i",
        "\\pQ",
        "[a-\\d]",
        "(?)",
    ] {
        assert!(Pattern::new(wrong).is_err(), "{wrong}");
    }
}

proptest::proptest! {
    #[test]
    fn noise_is_survived(pattern in "([a-c(){}\\[\\]\\\\*+?|^$.,:P<>=!dwsQEx0-9-]|\\PC){0,40}", value in "[a-c\\\\0-9]{0,12}") {
        if let Ok(pattern) = Pattern::new(&pattern)
            && let Some(found) = pattern.captures(&value)
        {
            found.expand("$1${2}$x");
        }
    }
}
