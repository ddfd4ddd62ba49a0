//! Composite values of OpenMetrics 2.0: what histograms and summaries have instead of a number.
//!
//! ```text
//! {count:2,sum:3.5,bucket:[0.5:1,+Inf:2]}               {gcount:…,gsum:…,bucket:[…]}
//! {count:2,sum:3.5,schema:0,zero_threshold:0.001,zero_count:0,positive_spans:[1:2],positive_buckets:[1,1]}
//! {count:2,sum:3.5,quantile:[0.5:1.5,0.99:2]}
//! ```
//!
//! There are no blanks in it. Fields may come in any order, each once.

use model::{Buckets, Histogram, MetricKind, ResetHint, Span};

use super::Exemplar;
use super::metric::{Bucket, Measured, Summary};
use super::text::{Cursor, What, number, utf8};
use crate::native::{self, SCHEMA_MAX, SCHEMA_MIN, deltas_of};

/// All fields there are.
const FIELDS: [&str; 13] = [
    "count",
    "sum",
    "gcount",
    "gsum",
    "schema",
    "zero_threshold",
    "zero_count",
    "negative_spans",
    "negative_buckets",
    "positive_spans",
    "positive_buckets",
    "bucket",
    "quantile",
];

/// Those of a histogram that are neither count nor sum.
const OF_HISTOGRAM: [&str; 8] = [
    "schema",
    "zero_threshold",
    "zero_count",
    "negative_spans",
    "negative_buckets",
    "positive_spans",
    "positive_buckets",
    "bucket",
];

/// A composite value whose fields were told apart.
#[derive(Debug)]
pub(super) struct Composite<'a> {
    /// In the order of [`FIELDS`].
    fields: [Option<&'a [u8]>; FIELDS.len()],
}

impl<'a> Composite<'a> {
    /// Reads up to the closing brace.
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<Self, What> {
        let mut fields = [None; FIELDS.len()];
        loop {
            let name = cursor.take_while(|b| b.is_ascii_lowercase() || b == b'_');
            let known = FIELDS.iter().position(|field| field.as_bytes() == name);
            let field = known.ok_or("unknown field in a composite value")?;
            if !cursor.eat(b':') {
                return Err("expected a colon after a field of a composite value");
            }
            let value = match cursor.rest.first() {
                Some(b'[') => {
                    let end = memchr::memchr2(b']', b'\n', cursor.rest);
                    let end = end.filter(|end| cursor.rest[*end] == b']');
                    let (list, rest) = cursor.rest.split_at(end.ok_or("list does not end")? + 1);
                    cursor.rest = rest;
                    list
                }
                _ => cursor.take_while(|b| !matches!(b, b',' | b'}' | b' ' | b'\n')),
            };
            if fields[field].replace(value).is_some() {
                return Err("field of a composite value is told twice");
            }
            if cursor.eat(b'}') {
                return Ok(Self { fields });
            }
            if !cursor.eat(b',') {
                return Err("expected a comma or the closing brace of a composite value");
            }
        }
    }

    /// What it is the value of, where the exposition does not say.
    pub(super) fn kind(&self) -> MetricKind {
        match (self.get("quantile"), self.get("gcount")) {
            (Some(_), _) => MetricKind::Summary,
            (None, Some(_)) => MetricKind::GaugeHistogram,
            (None, None) => MetricKind::Histogram,
        }
    }

    /// A summary.
    pub(super) fn summary(&self) -> Result<Summary, What> {
        self.allow(&["count", "sum", "quantile"])?;
        let (count, sum) = (self.number("count")?, self.number("sum")?);
        let quantiles = pairs(self.get("quantile").ok_or("summary without quantiles")?)?;
        if quantiles.iter().any(|(quantile, _)| !(0.0..=1.0).contains(quantile)) {
            return Err("quantile is not between 0 and 1");
        }
        match quantiles.is_sorted_by(|a, b| a.0 < b.0) {
            true => Ok(Summary { count, sum, quantiles }),
            false => Err("quantiles are not ascending"),
        }
    }

    /// A histogram, with the exemplars of its line.
    pub(super) fn histogram(
        &self,
        kind: MetricKind,
        exemplars: Vec<Exemplar<'a>>,
    ) -> Result<Measured<'a>, What> {
        let is_gauge = kind == MetricKind::GaugeHistogram;
        let (of_count, of_sum) = if is_gauge { ("gcount", "gsum") } else { ("count", "sum") };
        self.allow(&[&OF_HISTOGRAM[..], &[of_count, of_sum]].concat())?;
        let (count, sum) = (self.number(of_count)?, self.number(of_sum)?);
        let native = match self.get("schema") {
            Some(_) => Some(self.native(is_gauge, (of_count, sum))?),
            None => None,
        };
        let buckets = match self.get("bucket") {
            Some(list) => classic(list, is_gauge, &exemplars)?,
            None if native.is_none() => return Err("histogram without schema and buckets"),
            None => Vec::new(),
        };
        Ok(Measured { native, count, sum, buckets, exemplars })
    }

    fn native(&self, is_gauge: bool, (of_count, sum): (&str, f64)) -> Result<Histogram, What> {
        let schema = utf8(self.need("schema")?)?.parse().map_err(|_| "schema is not an integer")?;
        if !(SCHEMA_MIN..=SCHEMA_MAX).contains(&schema) {
            return Err("schema is not between -4 and 8");
        }
        let zero_threshold = self.number("zero_threshold")?;
        if !zero_threshold.is_finite() || zero_threshold < 0.0 {
            return Err("zero threshold is negative or not finite");
        }
        let (count, zero_count) = (self.number(of_count)?, self.number("zero_count")?);
        if count < 0.0 || zero_count < 0.0 {
            return Err("count of a native histogram is negative");
        }
        let (positive, negative) = (self.list("positive_buckets")?, self.list("negative_buckets")?);
        let whole = (
            whole(self.need(of_count)?),
            whole(self.need("zero_count")?),
            integers(&positive),
            integers(&negative),
        );
        let buckets = match whole {
            (Some(count), Some(zero_count), Some(positive), Some(negative)) => Buckets::Integer {
                count,
                zero_count,
                positive_deltas: deltas_of(&positive),
                negative_deltas: deltas_of(&negative),
            },
            _ => Buckets::Float {
                count,
                zero_count,
                positive: floats(&positive)?,
                negative: floats(&negative)?,
            },
        };
        let histogram = Histogram {
            reset_hint: if is_gauge { ResetHint::Gauge } else { ResetHint::Unknown },
            schema,
            zero_threshold,
            sum,
            positive_spans: spans(&self.list("positive_spans")?)?,
            negative_spans: spans(&self.list("negative_spans")?)?,
            buckets,
            custom_values: vec![],
        };
        match native::spans_fit(&histogram) {
            true => Ok(histogram),
            false => Err("spans and buckets of a native histogram do not fit"),
        }
    }

    fn get(&self, name: &str) -> Option<&'a [u8]> {
        let at = FIELDS.iter().position(|field| *field == name)?;
        self.fields[at]
    }

    fn need(&self, name: &str) -> Result<&'a [u8], What> {
        self.get(name).ok_or(match name {
            "count" => "composite value has no count",
            "sum" => "composite value has no sum",
            "gcount" => "composite value has no gcount",
            "gsum" => "composite value has no gsum",
            "zero_threshold" => "native histogram has no zero_threshold",
            "zero_count" => "native histogram has no zero_count",
            _ => "composite value lacks a field",
        })
    }

    fn number(&self, name: &str) -> Result<f64, What> {
        number(self.need(name)?)
    }

    /// Elements of a list; none if it is not there.
    fn list(&self, name: &str) -> Result<Vec<&'a [u8]>, What> {
        self.get(name).map_or_else(|| Ok(Vec::new()), elements)
    }

    fn allow(&self, names: &[&str]) -> Result<(), What> {
        let told = FIELDS.iter().zip(&self.fields).filter(|(_, value)| value.is_some());
        match told.into_iter().all(|(name, _)| names.contains(name)) {
            true => Ok(()),
            false => Err("field of a composite value that its type does not have"),
        }
    }
}

/// What stands between brackets, split at commas.
fn elements(list: &[u8]) -> Result<Vec<&[u8]>, What> {
    let inner = list.strip_prefix(b"[").and_then(|list| list.strip_suffix(b"]"));
    let inner = inner.ok_or("expected a list in brackets")?;
    Ok(if inner.is_empty() { Vec::new() } else { inner.split(|b| *b == b',').collect() })
}

/// Elements of two, with a colon between them.
fn split(element: &[u8]) -> Result<(&[u8], &[u8]), What> {
    let colon = memchr::memchr(b':', element).ok_or("element of a list has no colon")?;
    Ok((&element[..colon], &element[colon + 1..]))
}

fn pairs(list: &[u8]) -> Result<Vec<(f64, f64)>, What> {
    let pair = |element: &[u8]| {
        let (first, second) = split(element)?;
        Ok((number(first)?, number(second)?))
    };
    elements(list)?.into_iter().map(pair).collect()
}

/// Cumulative buckets, the last one of everything. An exemplar belongs to the bucket it falls into.
fn classic<'a>(
    list: &[u8],
    is_gauge: bool,
    exemplars: &[Exemplar<'a>],
) -> Result<Vec<Bucket<'a>>, What> {
    let read = pairs(list)?;
    if read.iter().any(|(bound, _)| bound.is_nan()) {
        return Err("bound of a bucket is not a number");
    }
    if !read.is_sorted_by(|a, b| a.0 < b.0) {
        return Err("buckets are not ascending");
    }
    if read.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
        return Err("buckets without the one up to +Inf");
    }
    if !is_gauge && read.iter().any(|(_, count)| *count < 0.0) {
        return Err("count of a bucket is negative");
    }
    let mut buckets: Vec<Bucket<'a>> =
        read.into_iter().map(|(bound, count)| Bucket { bound, count, exemplars: vec![] }).collect();
    for exemplar in exemplars {
        // What is not a number falls into the last one.
        let of = buckets.iter_mut().find(|b| exemplar.value <= b.bound || b.bound == f64::INFINITY);
        if let Some(bucket) = of {
            bucket.exemplars.push(exemplar.clone());
        }
    }
    Ok(buckets)
}

fn spans(elements: &[&[u8]]) -> Result<Vec<Span>, What> {
    let span = |element: &&[u8]| {
        let (offset, length) = split(element)?;
        let (offset, length) = (utf8(offset)?.parse().ok(), utf8(length)?.parse().ok());
        match (offset, length) {
            (Some(offset), Some(length)) => Ok(Span { offset, length }),
            _ => Err("span is not an offset and a length"),
        }
    };
    elements.iter().map(span).collect()
}

/// A count without a fraction, exactly.
fn whole(text: &[u8]) -> Option<u64> {
    let exact = utf8(text).ok()?.parse().ok();
    let float = || number(text).ok().filter(|n| n.fract() == 0.0 && *n < u64::MAX as f64);
    exact.or_else(|| float().map(|n| n as u64))
}

/// Counts of buckets if all are written as integers.
fn integers(elements: &[&[u8]]) -> Option<Vec<i64>> {
    elements.iter().map(|element| utf8(element).ok()?.parse().ok()).collect()
}

fn floats(elements: &[&[u8]]) -> Result<Vec<f64>, What> {
    elements.iter().map(|element| number(element)).collect()
}
