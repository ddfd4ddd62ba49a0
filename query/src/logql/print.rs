//! Trees to text, on one line, as Loki's engine prints them.

use std::fmt::{self, Display, Formatter, Write};

use super::ast::{
    Aggregation, Binary, Comparison, Expr, Extraction, Grouping, LabelChoice, LabelFilter,
    LabelFormatValue, LineFilter, LogExpr, LogRange, MetricExpr, MetricKind, RangeAggregation,
    StageKind, Unwrap,
};
use super::units;
use crate::promql::literals;
use model::{MatchOp, Matcher};

/// Text in double quotes, as Go prints it.
pub(super) fn quote(text: &str) -> String {
    literals::quote(text.as_bytes())
}

/// Members with something between them.
pub(super) fn join<T>(
    f: &mut Formatter<'_>,
    members: &[T],
    between: &str,
    mut print: impl FnMut(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (at, member) in members.iter().enumerate() {
        if at > 0 {
            f.write_str(between)?;
        }
        print(f, member)?;
    }
    Ok(())
}

fn matcher(f: &mut Formatter<'_>, matcher: &Matcher) -> fmt::Result {
    write!(f, "{}{}{}", matcher.name(), matcher.op(), quote(matcher.value()))
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(lines) => lines.fmt(f),
            Self::Metric(expr) => expr.fmt(f),
        }
    }
}

/// The selector alone.
pub(super) struct Selector<'a>(pub(super) &'a [Matcher]);

impl Display for Selector<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('{')?;
        join(f, self.0, ", ", matcher)?;
        f.write_char('}')
    }
}

impl Display for LogExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Selector(&self.matchers).fmt(f)?;
        self.stages.iter().try_for_each(|stage| write!(f, " {}", stage.kind))
    }
}

impl Display for StageKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let one =
            |f: &mut Formatter<'_>, word: &str, text: &str| write!(f, "| {word} {}", quote(text));
        match self {
            Self::Line(filter) => filter.fmt(f),
            Self::Json(extractions) => {
                f.write_str("| json")?;
                print_extractions(f, extractions)
            }
            Self::Logfmt(logfmt) => {
                f.write_str("| logfmt")?;
                f.write_str(if logfmt.strict { " --strict" } else { "" })?;
                f.write_str(if logfmt.keep_empty { " --keep-empty" } else { "" })?;
                print_extractions(f, &logfmt.extractions)
            }
            Self::Regexp(regex) => one(f, "regexp", regex),
            Self::Pattern(pattern) => one(f, "pattern", pattern),
            Self::Unpack => f.write_str("| unpack"),
            Self::Label(filter) => write!(f, "| {filter}"),
            Self::LineFormat(template) => one(f, "line_format", template),
            Self::LabelFormat(formats) => {
                f.write_str("| label_format ")?;
                join(f, formats, ",", |f, format| match &format.value {
                    LabelFormatValue::Rename(from) => write!(f, "{}={from}", format.label),
                    LabelFormatValue::Template(template) => {
                        write!(f, "{}={}", format.label, quote(template))
                    }
                })
            }
            Self::Decolorize => f.write_str("| decolorize"),
            Self::Drop(choices) => print_choices(f, "drop", choices),
            Self::Keep(choices) => print_choices(f, "keep", choices),
        }
    }
}

fn print_extractions(f: &mut Formatter<'_>, extractions: &[Extraction]) -> fmt::Result {
    if !extractions.is_empty() {
        f.write_char(' ')?;
    }
    join(f, extractions, ",", |f, one| write!(f, "{}={}", one.label, quote(&one.expression)))
}

fn print_choices(f: &mut Formatter<'_>, word: &str, choices: &[LabelChoice]) -> fmt::Result {
    write!(f, "| {word} ")?;
    join(f, choices, ",", |f, choice| match choice {
        LabelChoice::Name(name) => f.write_str(name),
        LabelChoice::Matching(one) => matcher(f, one),
    })
}

impl Display for LineFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.op.as_str())?;
        join(f, &self.terms, " or ", |f, term| match term.is_ip {
            true => write!(f, "ip({})", quote(&term.text)),
            false => f.write_str(&quote(&term.text)),
        })
    }
}

impl Display for LabelFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            // Loki prints a pattern that it could not make something simpler of in back quotes.
            Self::Text(one)
                if one.op() == MatchOp::Regex && one.is_costly() && !one.value().contains('`') =>
            {
                write!(f, "{}=~`{}`", one.name(), one.value())
            }
            Self::Text(one) => matcher(f, one),
            Self::Ip { name, negated, addresses } => {
                let op = if *negated { "!=" } else { "=" };
                write!(f, "{name}{op}ip({})", quote(addresses))
            }
            Self::Number(one) => print_comparison(f, one, &one.value.to_string()),
            Self::Duration(one) => print_comparison(f, one, &units::go_duration_text(one.value)),
            Self::Bytes(one) => print_comparison(f, one, &units::bytes_text(one.value)),
            Self::And(left, right) => write!(f, "( {left} , {right} )"),
            Self::Or(left, right) => write!(f, "( {left} or {right} )"),
        }
    }
}

fn print_comparison<T>(f: &mut Formatter<'_>, one: &Comparison<T>, value: &str) -> fmt::Result {
    write!(f, "{}{}{value}", one.name, one.op.as_str())
}

impl Display for MetricExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            MetricKind::Range(aggregation) => aggregation.fmt(f),
            MetricKind::Aggregate(aggregation) => aggregation.fmt(f),
            MetricKind::Binary(binary) => binary.fmt(f),
            MetricKind::Literal(value) => f.write_str(&number(*value)),
            MetricKind::Vector(value) => write!(f, "vector({value:.6})"),
            MetricKind::LabelReplace(replace) => write!(
                f,
                "label_replace({},{},{},{},{})",
                replace.expr,
                quote(&replace.dst),
                quote(&replace.replacement),
                quote(&replace.src),
                quote(&replace.regex)
            ),
            MetricKind::Variants(variants) => {
                f.write_str("variants(")?;
                join(f, &variants.variants, ", ", |f, variant| variant.fmt(f))?;
                write!(f, ") of ({})", variants.of)
            }
        }
    }
}

/// A number as Go's `%v` prints it.
pub(super) fn number(value: f64) -> String {
    let exponent = if value == 0.0 { 0.0 } else { value.abs().log10().floor() };
    match value {
        f64::INFINITY => String::from("+Inf"),
        f64::NEG_INFINITY => String::from("-Inf"),
        _ if !value.is_nan() && !(-4.0..21.0).contains(&exponent) => {
            let text = format!("{value:e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        _ => value.to_string(),
    }
}

impl Display for LogRange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.lines.fmt(f)?;
        if let Some(unwrap) = &self.unwrap {
            write!(f, " {unwrap}")?;
        }
        write!(f, "[{}]", units::range_text(self.range_ns))?;
        match self.offset_ns {
            0 => Ok(()),
            offset_ns => write!(f, " offset {}", units::go_duration_text(offset_ns)),
        }
    }
}

impl Unwrap {
    /// Without the filters.
    pub(super) fn head(&self) -> String {
        match self.conversion {
            Some(conversion) => format!("| unwrap {}({})", conversion.as_str(), self.label),
            None => format!("| unwrap {}", self.label),
        }
    }
}

impl Display for Unwrap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head())?;
        self.filters.iter().try_for_each(|filter| write!(f, " | {filter}"))
    }
}

impl Display for RangeAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.op.as_str())?;
        if let Some(param) = self.param {
            write!(f, "{param},")?;
        }
        write!(f, "{})", self.range)?;
        self.grouping.as_ref().map_or(Ok(()), |grouping| grouping.fmt(f))
    }
}

impl Display for Grouping {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(","))
    }
}

impl Grouping {
    /// With that between the labels.
    pub(super) fn text(&self, between: &str) -> String {
        let word = if self.without { "without" } else { "by" };
        format!(" {word} ({})", self.labels.join(between))
    }

    /// Whether nothing needs to be said: `by ()`.
    pub fn is_by_nothing(&self) -> bool {
        !self.without && self.labels.is_empty()
    }
}

impl Aggregation {
    /// The name, and how it groups.
    pub(super) fn head(&self, between_labels: &str) -> String {
        let name = self.op.as_str();
        match self.grouping.is_by_nothing() {
            true => name.to_owned(),
            false => format!("{name}{}", self.grouping.text(between_labels)),
        }
    }
}

impl Display for Aggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.head(","))?;
        if let Some(param) = self.param {
            write!(f, "{param},")?;
        }
        write!(f, "{})", self.expr)
    }
}

impl Binary {
    /// The operator with what belongs to it. An empty `ignoring ()` says nothing and is left out,
    /// and so is what follows it: Loki prints it so. Its pretty form leaves out `on ()`, too.
    pub(super) fn operator(&self, with_empty_on: bool) -> String {
        let mut text = self.op.as_str().to_owned();
        if self.return_bool {
            text.push_str(" bool");
        }
        let Some(matching) = &self.matching else { return text };
        if matching.labels.is_empty() && !(matching.on && with_empty_on) {
            return text;
        }
        let word = if matching.on { "on" } else { "ignoring" };
        let _ = write!(text, " {word} ({}) ", matching.labels.join(","));
        if let Some(group) = &matching.group {
            text.push_str(if group.left { "group_left" } else { "group_right" });
            if !group.include.is_empty() {
                let _ = write!(text, " ({})", group.include.join(","));
            }
        }
        text
    }
}

impl Display for Binary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "({} {} {})", self.lhs, self.operator(true), self.rhs)
    }
}
