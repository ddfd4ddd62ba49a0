//! What is not PromQL, and what is said about it: Prometheus' words at Prometheus' places.

use crate::promql::{Features, parse, parse_with};

#[track_caller]
fn check(text: &str, message: &str) {
    match parse_with(text, Features::ALL) {
        Ok(expr) => panic!("{text} was read as {expr}"),
        Err(error) => assert_eq!(error.to_string(), message, "{text}"),
    }
}

/// A mistake in the first line, at a column.
#[track_caller]
fn at(column: usize, text: &str, message: &str) {
    check(text, &format!("1:{column}: parse error: {message}"));
}

#[test]
fn nothing_and_fragments() {
    check("", "unknown position: parse error: no expression found in input");
    check(" # only a comment", "1:1: parse error: no expression found in input");
    at(5, "up +", "unexpected end of input");
    at(1, "/ 2", "unexpected <op:/>");
    at(4, "up up", "unexpected identifier \"up\"");
    at(4, "up job:up", "unexpected metric identifier \"job:up\"");
    at(4, "up 5m", "unexpected duration \"5m\"");
    at(4, "up 12345678901", "unexpected number \"1234567890\"...");
    at(4, "up 'x'", "unexpected string \"'x'\"");
    at(4, "up bool", "unexpected <bool>");
    at(4, "up sum", "unexpected <aggr:sum>");
    at(4, "up = 1", "unexpected \"=\"");
    at(4, "up)", "unexpected right parenthesis ')'");
    check("1 +\n  ?", "2:3: parse error: unexpected character: '?'");
}

#[test]
fn characters() {
    at(4, "up !", "unexpected character after '!': '\u{fffd}'");
    at(4, "up ! up", "unexpected character after '!': ' '");
    at(4, "up =~ up", "unexpected character after '=': '~'");
    at(1, "é", "unexpected character: 'é'");
    at(1, ".", "unexpected character: '.'");
    at(4, "up ;", "unexpected character: ';'");
    at(3, "up]", "unexpected right bracket ']'");
    at(1, "'x", "unterminated quoted string");
    at(1, "\"x\n\"", "unterminated quoted string");
    at(1, "`x", "unterminated raw string");
    at(1, "'\\", "escape sequence not terminated");
    at(1, "'\\q'", "unknown escape sequence U+0071 'q'");
    at(1, "'\\xg0'", "illegal character U+0067 'g' in escape sequence");
    at(1, "'\\400'", "escape sequence is an invalid Unicode code point");
    at(1, "'\\ud800'", "escape sequence is an invalid Unicode code point");
    at(1, "'\\U00110000'", "escape sequence is an invalid Unicode code point");
    at(1, "\"\\'\"", "unknown escape sequence U+0027 '''");
}

#[test]
fn numbers() {
    at(1, "1x", "bad number or duration syntax: \"1\"");
    at(1, "1.2.3", "bad number or duration syntax: \"1.2.\"");
    at(1, "0dead", "bad number or duration syntax: \"0de\"");
    at(1, "3mm", "bad number or duration syntax: \"3mm\"");
    at(1, "1__0", "bad number or duration syntax: \"1_\"");
    at(1, "1e", "bad number or duration syntax: \"1e\"");
    at(
        1,
        "1e999",
        "error parsing number: strconv.ParseFloat: parsing \"1e999\": value out of range",
    );
    at(1, "1h2hs", "unknown unit \"hs\" in duration \"1h2hs\"");
    at(1, "1m1h", "not a valid duration string: \"1m1h\"");
    at(1, "300y", "duration out of range");
}

#[test]
fn parentheses() {
    at(4, "(up, x", "unexpected \",\"");
    at(4, "(up", "unclosed left parenthesis");
    at(6, "(up))", "unexpected right parenthesis ')'");
    at(2, "()", "unexpected \")\"");
    at(4, "(a b)", "unexpected identifier \"b\"");
}

#[test]
fn selectors() {
    at(1, "{}", "vector selector must contain at least one non-empty matcher");
    at(1, "{a=~\".*\", b!=\"x\"}", "vector selector must contain at least one non-empty matcher");
    at(5, "1 + {a=\"\"}", "vector selector must contain at least one non-empty matcher");
    at(1, "up{__name__=\"x\"}", "metric name must not be set twice: \"up\" or \"x\"");
    at(1, "up{\"x\"}", "metric name must not be set twice: \"up\" or \"x\"");
    at(4, "up{", "unexpected end of input inside braces");
    at(5, "up{a", "unexpected end of input inside braces");
    at(4, "up{=\"x\"}", "unexpected \"=\" in label matching, expected identifier or \"}\"");
    at(4, "up{,}", "unexpected \",\" in label matching, expected identifier or \"}\"");
    at(10, "up{a=\"x\",,}", "unexpected \",\" in label matching, expected identifier or \"}\"");
    at(
        6,
        "up{a b}",
        "unexpected identifier \"b\" in label matching, expected label matching operator",
    );
    at(6, "up{a=b}", "unexpected identifier \"b\" in label matching, expected string");
    at(
        10,
        "up{a='b' c='d'}",
        "unexpected identifier \"c\" in label matching, expected \",\" or \"}\"",
    );
    at(
        8,
        "up{\"a\" or b=\"c\"}",
        "unexpected identifier \"or\" in label matching, expected \",\" or \"}\"",
    );
    at(5, "up{a!b}", "unexpected character after '!' inside braces: 'b'");
    at(6, "up{a={", "unexpected left brace '{'");
    at(6, "up{a=1}", "unexpected character inside braces: '1'");
    at(4, "up{a=~\"(\"}", "error parsing regexp: unclosed group: `(`");
    at(4, "up{\"\\xff\"='a'}", "invalid label name \"\\xff\"");
    at(2, "{\"\\xff\"}", "invalid label name \"\\xff\"");
}

#[test]
fn ranges() {
    at(
        4,
        "up[]",
        "unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()",
    );
    at(4, "up[", "unexpected end of input in duration expression");
    at(6, "up[5m", "unclosed left bracket");
    at(4, "up['5m']", "unexpected character in duration expression: '\\''");
    at(4, "up[foo]", "unexpected character in duration expression: 'f'");
    at(4, "up[5mx]", "bad number or duration syntax: \"5mx\"");
    at(7, "up[5m x]", "unexpected character: 'x', expected ':'");
    at(7, "up[5m 5m]", "unexpected duration \"5m\" in subquery or range, expected \":\" or \"]\"");
    at(
        8,
        "up[5m +]",
        "unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()",
    );
    at(7, "up[5m:x]", "unexpected character: 'x', expected ':'");
    at(
        7,
        "up[5m:,]",
        "unexpected \",\" in subquery selector, expected number, duration, step(), range(), or \"]\"",
    );
    at(10, "up[5m:1m 1m]", "unexpected duration \"1m\" in subquery selector, expected \"]\"");
    at(9, "up[5m:1m:1m]", "unexpected colon ':'");
    at(5, "up[:1m]", "unexpected colon before duration in duration expression");
    at(7, "up[5m [", "unexpected left bracket '['");
    at(4, "up[0s]", "duration must be greater than 0");
    at(4, "up[-1h:]", "duration must be greater than 0");
    at(7, "up[1h:0]", "duration must be greater than 0");
    at(6, "up[5m/0]", "division by zero");
    at(6, "up[5m%0s]", "modulo by zero");
    at(4, "up[9223372037]", "duration out of range");
    at(5, "(up)[5m]", "ranges only allowed for vector selectors");
    at(7, "up[1m][1m]", "ranges only allowed for vector selectors");
    at(14, "up offset 5m [1m]", "no offset modifiers allowed before range");
    at(8, "up @ 1 [1m]", "no @ modifiers allowed before range");
    at(13, "up @ start()[1m]", "no @ modifiers allowed before range");
    at(1, "up[5m][5m:]", "subquery is only allowed on instant vector, got matrix instead");
    at(1, "1[5m:]", "subquery is only allowed on instant vector, got scalar instead");
}

#[test]
fn modifiers() {
    at(
        10,
        "up offset",
        "unexpected end of input in offset, expected number, duration, step(), or range()",
    );
    at(
        11,
        "up offset up",
        "unexpected identifier \"up\" in offset, expected number, duration, step(), or range()",
    );
    at(
        21,
        "up offset (5m + 1m +)",
        "unexpected \")\" in offset, expected number, duration, step(), or range()",
    );
    at(1, "up offset 1m offset 2m", "offset may not be set multiple times");
    let selectors = "an instant vector selector or range vector selector or a subquery";
    at(1, "1 offset 5m", &format!("offset modifier must be preceded by {selectors}"));
    at(1, "rate(up[5m]) @ 1", &format!("@ modifier must be preceded by {selectors}"));
    at(5, "up @", "unexpected end of input in @, expected timestamp");
    at(6, "up @ up", "unexpected identifier \"up\" in @, expected timestamp");
    at(11, "up @ start", "unexpected end of input in @, expected timestamp");
    at(12, "up @ start(1)", "unexpected number \"1\" in @, expected timestamp");
    at(1, "up @ 1 @ end()", "@ <timestamp> may not be set multiple times");
    at(1, "up @ -Inf", "timestamp out of bounds for @ modifier: -Inf");
    at(1, "up @ 1e19", "timestamp out of bounds for @ modifier: 10000000000000000000.000000");
    at(1, "up[5m:] smoothed", "smoothed modifier is not supported for subqueries");
    at(1, "(up) anchored", "anchored modifier not implemented");
    at(1, "up smoothed anchored", "anchored and smoothed modifiers cannot be used together");
}

#[test]
fn aggregations() {
    at(5, "sum up by (job)", "unexpected identifier \"up\"");
    at(14, "sum by (job) up", "unexpected identifier \"up\" in aggregation");
    at(8, "sum(up up)", "unexpected identifier \"up\" in aggregation");
    at(15, "sum(rate(up) +)", "unexpected \")\" in aggregation");
    at(11, "sum(up) by", "unexpected end of input in grouping opts, expected \"(\"");
    at(8, "sum by job (up)", "unexpected identifier \"job\" in grouping opts, expected \"(\"");
    at(9, "sum by (1) (up)", "unexpected number \"1\" in grouping opts, expected label");
    at(
        11,
        "sum by (a b) (up)",
        "unexpected identifier \"b\" in grouping opts, expected \",\" or \")\"",
    );
    at(9, "sum by ('') (up)", "invalid label name for grouping: \"\"");
    at(9, "sum by ('\\xff') (up)", "invalid label name for grouping: \"\\xff\"");
    at(1, "sum()", "no arguments for aggregate expression provided");
    at(
        1,
        "topk(up)",
        "wrong number of arguments for aggregate expression provided, expected 2, got 1",
    );
    at(
        1,
        "sum(1, up)",
        "wrong number of arguments for aggregate expression provided, expected 1, got 2",
    );
    at(5, "sum(1)", "expected type instant vector in aggregation expression, got scalar");
    at(6, "topk(up, up)", "expected type scalar in aggregation parameter, got instant vector");
    at(14, "count_values(1, up)", "expected type string in aggregation parameter, got scalar");
    at(17, "sum by (a) (up) by (b)", "unexpected <by>");
}

#[test]
fn functions() {
    at(1, "frobnicate(up)", "unknown function with name \"frobnicate\"");
    at(1, "holt_winters(up[5m], 1, 1)", "unknown function with name \"holt_winters\"");
    at(1, "RATE(up[5m])", "unknown function with name \"RATE\"");
    at(
        6,
        "rate(up)",
        "expected type range vector in call to function \"rate\", got instant vector",
    );
    at(5, "abs(1)", "expected type instant vector in call to function \"abs\", got scalar");
    at(1, "abs()", "expected 1 argument(s) in call to \"abs\", got 0");
    at(1, "round()", "expected at least 1 argument(s) in call to \"round\", got 0");
    at(1, "round(up, 1, 2)", "expected at most 2 argument(s) in call to \"round\", got 3");
    at(
        1,
        "label_join(up, 'a')",
        "expected at least 3 argument(s) in call to \"label_join\", got 2",
    );
    at(7, "abs(up,)", "trailing commas not allowed in function call args");
    at(5, "abs(,)", "unexpected \",\"");
    at(1, "info(up, 1)", "expected type instant vector in call to function \"info\", got scalar");
    at(10, "info(up, down)", "expected label selectors only, got vector selector instead");
    at(10, "info(up, {a=\"b\"} == 1)", "expected label selectors only");
    at(6, "info({}, {})", "vector selector must contain at least one non-empty matcher");
}

#[test]
fn operators() {
    at(3, "1 == 2", "comparisons between scalars must use BOOL modifier");
    at(4, "up + bool 2", "bool modifier can only be used on comparison operators");
    at(1, "1 and up", "set operator \"and\" not allowed in binary scalar expression");
    at(1, "up or on (a) group_left up", "no grouping allowed for \"or\" operation");
    at(
        4,
        "up / on (a) group_left (a) up",
        "label \"a\" must not occur in ON and GROUP clause at once",
    );
    at(1, "1 + on (a) up", "vector matching only allowed between instant vectors");
    at(6, "up + 'a'", "binary expression must contain only scalar and instant vector types");
    at(1, "up[5m] + 1", "binary expression must contain only scalar and instant vector types");
    at(
        1,
        "-'a'",
        "unary expression only allowed on expressions of type scalar or instant vector, got \"string\"",
    );
    let matrix = "unary expression only allowed on expressions of type scalar or instant vector, got \"range vector\"";
    at(5, "1 + -up[5m]", matrix);
    at(6, "up + group_left up", "unexpected <group_left>");
    at(1, "1 + fill(0) up", "filling in missing series only allowed between instant vectors");
    at(1, "up or fill(0) up", "filling in missing series not allowed for set operators");
    at(11, "up + fill('a') up", "unexpected string \"'a'\"");
}

#[test]
fn what_is_not_switched_on() {
    let off = Features { duration_expressions: false, ..Features::default() };
    for (text, message) in [
        ("mad_over_time(x[5m])", "1:1: parse error: function \"mad_over_time\" is not enabled"),
        ("1 + start()", "1:5: parse error: function \"start\" is not enabled"),
        (
            "limitk(1, x)",
            "1:1: parse error: limitk() is experimental and must be enabled with \
             --enable-feature=promql-experimental-functions",
        ),
        ("x[5m] smoothed", "1:1: parse error: smoothed modifier is experimental and not enabled"),
        (
            "a + fill(0) b",
            "1:1: parse error: binop fill modifiers are experimental and not enabled",
        ),
        ("x[5m * 2]", "1:3: parse error: experimental duration expression is not enabled"),
        ("x offset step()", "1:10: parse error: experimental duration expression is not enabled"),
    ] {
        let found = parse_with(text, off).expect_err(text).to_string();
        assert_eq!(found, message, "{text}");
        parse_with(text, Features::ALL).expect(text);
    }
    parse("x[5m * 2]").expect("duration expressions are on by default");
    parse("fill + anchored + range").expect("words stay names");
}
