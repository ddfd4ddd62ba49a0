//! The walk: takes `ExportMetricsServiceRequest` apart where it lies.
//!
//! ```text
//! ExportMetricsServiceRequest { resource_metrics = 1 { resource = 1 { attributes = 1 }
//!   scope_metrics = 2 { scope = 1 { name = 1, version = 2, attributes = 3 }, schema_url = 3
//!     metrics = 2 { name = 1, description = 2, unit = 3
//!                   gauge = 5, sum = 7, histogram = 9, exponential_histogram = 10, summary = 11 } } } }
//! ```
//!
//! Fields may come in any order and what is needed first may come last, so each message is gone
//! over twice: once for what says how its parts are to be read, once for the parts.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use model::{METRIC_NAME, Metadata, MetricKind};
use parking_lot::Mutex;
use storage::{AppendOutcome, MetricRows, Reason};
use tenancy::Limits;

use super::delta::Streams;
use super::labels::{Attribute, Base, LabelList, Name, NameCache, Wins, attribute, text};
use super::names::{self, LabelNames, Named};
use super::point::{ExplicitPoint, ExponentialPoint, NumberPoint, SummaryPoint};
use super::shape::Shapes;
use super::{OtlpConfig, rows};
use crate::build::put_label;
use crate::caps::{Caps, WalkError};
use crate::label_fields::LabelFields;
use crate::remote_write::{News, bytes_max};
use crate::wire::{Reader, WireError};

/// Half of the time for which a sample stands in for missing ones: so often `target_info` is told.
const TARGET_INFO_MS: i64 = 150_000;

/// Samples of `target_info` that one resource of a request can make: three and a half days.
const TARGET_INFO_MAX: i64 = 2_016;

/// Attributes that become `job` and `instance`.
const IDENTIFYING: [&str; 3] = ["service.namespace", "service.name", "service.instance.id"];

/// What a walk needs besides the body.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) config: Arc<OtlpConfig>,
    pub(super) limits: Arc<Limits>,
    pub(super) caps: Caps,
    pub(super) streams: Arc<Mutex<Streams>>,
    /// Monotonic time.
    pub(super) now: Duration,
}

/// What became of a request's points before they were stored.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Data points in the request.
    pub(super) points: u64,
    /// Of those, refused by the walk.
    pub(super) refused_points: u64,
    /// Why.
    pub(super) outcome: AppendOutcome,
}

/// Takes a decompressed body apart into `rows`, which must be empty.
pub(super) fn walk(
    body: &[u8],
    context: &Context,
    news: Option<&News>,
    out: &mut MetricRows<'_>,
) -> Result<Walked, WalkError> {
    let names = LabelNames {
        strategy: context.config.translation_strategy,
        guards_underscore: context.config.label_name_underscore_sanitization,
        keeps_underscores: context.config.label_name_preserve_multiple_underscores,
    };
    let mut walk = Walk {
        context,
        news,
        rows: out,
        walked: Walked::default(),
        cache: NameCache::new(names),
        labels: Vec::new(),
        attributes: Vec::new(),
        shapes: Shapes::new(body),
        fields: LabelFields::new(bytes_max(&context.limits)),
        times_ms: None,
        label_bytes_max: bytes_max(&context.limits),
        buckets: 0,
    };
    let mut request = Reader::new(body);
    while !request.is_at_end() {
        match request.varint()? {
            0x0a => walk.resource_metrics(request.message()?)?,
            tag => request.skip(tag, &[1])?,
        }
    }
    Ok(walk.walked)
}

pub(super) struct Walk<'w, 'a, 'r> {
    pub(super) context: &'w Context,
    pub(super) news: Option<&'w News>,
    pub(super) rows: &'w mut MetricRows<'r>,
    pub(super) walked: Walked,
    pub(super) cache: NameCache<'a>,
    /// Labels of the point being read.
    pub(super) labels: LabelList<'a>,
    attributes: Vec<Attribute<'a>>,
    /// What is known of points like it.
    pub(super) shapes: Shapes<'a>,
    /// Room for the labels of one series.
    pub(super) fields: LabelFields,
    /// First and last time of the resource's points.
    times_ms: Option<(i64, i64)>,
    pub(super) label_bytes_max: usize,
    /// Buckets of native histograms so far.
    pub(super) buckets: usize,
}

/// How the points of a metric are to be read.
#[derive(Debug, Clone)]
pub(super) struct Metric<'a> {
    /// As it came, for messages.
    pub(super) name: &'a str,
    /// As it is stored.
    pub(super) family: String,
    /// The label field of its name as it is stored.
    pub(super) field: Vec<u8>,
    pub(super) is_delta: bool,
    pub(super) is_gauge: bool,
}

/// `AggregationTemporality`.
const DELTA: u64 = 1;
const CUMULATIVE: u64 = 2;

/// The kinds of metrics, by their fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gauge,
    Sum,
    Explicit,
    Exponential,
    Summary,
}

/// What a metric's data says about itself.
#[derive(Debug, Default)]
struct Data {
    temporality: u64,
    is_monotonic: bool,
    points: u64,
}

impl<'a> Walk<'_, 'a, '_> {
    fn resource_metrics(&mut self, message: Reader<'a>) -> Result<(), WalkError> {
        let mut attributes = Vec::new();
        each(message, &[1, 2, 3], |tag, message| {
            Ok(tag == 0x0a && {
                read_attributes(message.message()?, 1, &mut attributes)?;
                true
            })
        })?;
        let base = self.resource_labels(&attributes);
        let base = self.or_refused(base);
        self.times_ms = None;
        let mut parts = message;
        while !parts.is_at_end() {
            match parts.varint()? {
                0x12 => {
                    let scope = parts.message()?;
                    self.scope_metrics(scope, base.as_ref())?;
                }
                tag => step_over(&mut parts, tag, &[1, 2, 3])?,
            }
        }
        if let (Some((first_ms, last_ms)), Some(_)) = (self.times_ms, &base) {
            self.target_info(&attributes, first_ms, last_ms)?;
        }
        Ok(())
    }

    /// `job`, `instance` and promoted attributes.
    fn resource_labels(&mut self, attributes: &[Attribute<'a>]) -> Result<Base<'a>, String> {
        let mut base = Base::default();
        let config = Arc::clone(&self.context.config);
        let mut promoted: Vec<_> = attributes.iter().filter(|a| config.promotes(a.key)).collect();
        promoted.sort_by(|a, b| a.key.cmp(b.key));
        for attribute in promoted {
            base.set(self.cache.of(attribute.key)?, attribute.value.clone(), Wins::Under);
        }
        for (name, value) in identity(attributes) {
            base.set(Name::Same(name), value, Wins::Over);
        }
        Ok(base)
    }

    fn scope_metrics(
        &mut self,
        message: Reader<'a>,
        resource: Option<&Base<'a>>,
    ) -> Result<(), WalkError> {
        let mut scope = Scope::default();
        each(message, &[1, 2, 3], |tag, message| {
            match tag {
                0x0a => scope.read(message.message()?)?,
                0x1a => scope.schema_url = text(message)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let base = match resource {
            Some(resource) if self.context.config.promote_scope_metadata => {
                let base = self.scope_labels(resource, &scope);
                self.or_refused(base)
            }
            Some(resource) => Some(resource.fork()),
            None => None,
        };
        if let Some(base) = &base {
            self.shapes.begin(base);
        }
        let mut parts = message;
        while !parts.is_at_end() {
            match parts.varint()? {
                0x12 => {
                    let metric = parts.message()?;
                    self.metric(metric, base.as_ref())?;
                }
                tag => step_over(&mut parts, tag, &[1, 2, 3])?,
            }
        }
        Ok(())
    }

    fn scope_labels(&mut self, resource: &Base<'a>, scope: &Scope<'a>) -> Result<Base<'a>, String> {
        let mut base = resource.fork();
        if scope.name.is_empty() {
            return Ok(base);
        }
        for (name, value) in [
            ("otel_scope_name", scope.name),
            ("otel_scope_version", scope.version),
            ("otel_scope_schema_url", scope.schema_url),
        ] {
            base.set(Name::Same(name), Cow::Borrowed(value), Wins::Over);
        }
        for attribute in &scope.attributes {
            let name = format!("otel_scope_{}", attribute.key);
            let built: Arc<str> = self.cache.build(&name)?.into();
            base.set(Name::Built(built), attribute.value.clone(), Wins::Over);
        }
        Ok(base)
    }

    fn metric(&mut self, message: Reader<'a>, base: Option<&Base<'a>>) -> Result<(), WalkError> {
        let (mut name, mut help, mut unit, mut data) = ("", "", "", None);
        each(message, &[1, 2, 3, 5, 7, 9, 10, 11, 12], |tag, message| {
            let kind = match tag {
                0x0a => return text(message).map(|t| name = t).map(|()| true),
                0x12 => return text(message).map(|t| help = t).map(|()| true),
                0x1a => return text(message).map(|t| unit = t).map(|()| true),
                0x2a => Kind::Gauge,
                0x3a => Kind::Sum,
                0x4a => Kind::Explicit,
                0x52 => Kind::Exponential,
                0x5a => Kind::Summary,
                _ => return Ok(false),
            };
            data = Some((kind, message.message()?));
            Ok(true)
        })?;
        let Some((kind, points)) = data else { return Ok(()) };
        let about = Data::read(points)?;
        self.walked.points += about.points;
        let Some(base) = base else {
            self.walked.refused_points += about.points;
            return Ok(());
        };
        let metric = match self.describe(name, help, unit, kind, &about) {
            Ok(metric) => metric,
            Err((reason, text)) => {
                self.refuse(reason, about.points, || text);
                return Ok(());
            }
        };
        self.points(kind, points, &metric, base)
    }

    /// Names a metric and notes its metadata.
    fn describe(
        &mut self,
        name: &'a str,
        help: &str,
        unit: &str,
        kind: Kind,
        data: &Data,
    ) -> Result<Metric<'a>, (Reason, String)> {
        let config = &self.context.config;
        let has_temporality = matches!(kind, Kind::Sum | Kind::Explicit | Kind::Exponential);
        let is_delta = has_temporality && data.temporality == DELTA;
        if has_temporality && !is_delta && data.temporality != CUMULATIVE {
            let text = format!("metric {name:?} does not say whether it is cumulative or delta");
            return Err((Reason::InvalidMetadata, text));
        }
        if is_delta && !config.delta_to_cumulative {
            let text = format!(
                "metric {name:?} has delta temporality, which is refused (otlp.delta_to_cumulative); \
                 send cumulative temporality"
            );
            return Err((Reason::InvalidMetadata, text));
        }
        let (named, told) = match kind {
            Kind::Gauge => (Named::Gauge, MetricKind::Gauge),
            Kind::Sum if data.is_monotonic => (Named::MonotonicSum, MetricKind::Counter),
            Kind::Sum => (Named::Other, MetricKind::Gauge),
            Kind::Explicit | Kind::Exponential => (Named::Other, MetricKind::Histogram),
            Kind::Summary => (Named::Other, MetricKind::Summary),
        };
        let strategy = config.translation_strategy;
        let family = names::metric(strategy, name, unit, named)
            .map_err(|text| (Reason::InvalidLabels, text))?;
        let unit = names::unit(strategy, unit);
        let is_news = |n: &News| n.known.is_news(n.tenant, &family, (told, help, &unit));
        if self.news.is_none_or(is_news)
            && self.rows.metadata.len() < self.context.caps.metadata_max
        {
            let metadata = Metadata { kind: told, help: help.to_owned(), unit };
            self.rows.metadata.push((family.clone(), metadata));
        }
        let mut field = Vec::new();
        put_label(&mut field, METRIC_NAME, [&family, ""]);
        Ok(Metric { name, family, field, is_delta, is_gauge: kind == Kind::Gauge })
    }

    fn points(
        &mut self,
        kind: Kind,
        mut data: Reader<'a>,
        metric: &Metric<'a>,
        base: &Base<'a>,
    ) -> Result<(), WalkError> {
        let (mut number, mut summary) = (NumberPoint::default(), SummaryPoint::default());
        let (mut explicit, mut exponential) =
            (ExplicitPoint::default(), ExponentialPoint::default());
        while !data.is_at_end() {
            let tag = data.varint()?;
            if tag != 0x0a {
                step_over(&mut data, tag, &[1, 2, 3])?;
                continue;
            }
            let message = data.message()?;
            let mark = self.mark();
            let (common, stored) = match kind {
                Kind::Gauge | Kind::Sum => {
                    number.read(message)?;
                    let labels = self.point_labels(&number.common.attributes, base);
                    let stored = labels.and_then(|()| rows::number(self, metric, &mut number));
                    (&number.common, stored)
                }
                Kind::Summary => {
                    summary.read(message)?;
                    let labels = self.point_labels(&summary.common.attributes, base);
                    let stored = labels.and_then(|()| rows::summary(self, metric, &summary));
                    (&summary.common, stored)
                }
                Kind::Explicit => {
                    explicit.read(message)?;
                    let labels = self.point_labels(&explicit.common.attributes, base);
                    let stored = labels.and_then(|()| rows::explicit(self, metric, &mut explicit));
                    (&explicit.common, stored)
                }
                Kind::Exponential => {
                    exponential.read(message)?;
                    let labels = self.point_labels(&exponential.common.attributes, base);
                    let stored =
                        labels.and_then(|()| rows::exponential(self, metric, &mut exponential));
                    (&exponential.common, stored)
                }
            };
            let at_ms = common.time_ms();
            match stored {
                Ok(()) => {
                    let (first_ms, last_ms) = self.times_ms.unwrap_or((at_ms, at_ms));
                    self.times_ms = Some((first_ms.min(at_ms), last_ms.max(at_ms)));
                }
                Err(rows::NotStored::Request(why)) => return Err(why),
                Err(rows::NotStored::Point(reason, text)) => {
                    self.back_to(&mark);
                    self.refuse(reason, 1, || text);
                }
            }
        }
        Ok(())
    }

    /// Labels of one point.
    fn point_labels(
        &mut self,
        messages: &[Reader<'a>],
        base: &Base<'a>,
    ) -> Result<(), rows::NotStored> {
        if self.shapes.read(messages) {
            return Ok(());
        }
        let mut attributes = std::mem::take(&mut self.attributes);
        attributes.clear();
        for message in messages {
            attributes.push(attribute(*message)?);
        }
        let built = self.put_together(&mut attributes, base);
        self.attributes = attributes;
        self.shapes.learn(messages, &mut self.cache);
        built
    }

    fn put_together(
        &mut self,
        attributes: &mut [Attribute<'a>],
        base: &Base<'a>,
    ) -> Result<(), rows::NotStored> {
        let mut labels = std::mem::take(&mut self.labels);
        let built = self.cache.labels(attributes, &mut labels);
        if built.is_ok() {
            base.merge(&mut labels);
        }
        self.labels = labels;
        built.map_err(|text| rows::NotStored::Point(Reason::InvalidLabels, text))
    }

    /// One sample of `target_info` at the last of the points, and more if they span a long time.
    fn target_info(
        &mut self,
        attributes: &[Attribute<'a>],
        first_ms: i64,
        last_ms: i64,
    ) -> Result<(), WalkError> {
        let describes = attributes.iter().any(|a| !IDENTIFYING.contains(&a.key));
        let identity = identity(attributes);
        if !describes || identity.is_empty() || !self.context.config.target_info {
            return Ok(());
        }
        let keeps = self.context.config.keep_identifying_resource_attributes;
        let mut told: Vec<_> =
            attributes.iter().filter(|a| keeps || !IDENTIFYING.contains(&a.key)).cloned().collect();
        let mut base = Base::default();
        for (name, value) in identity {
            base.set(Name::Same(name), value, Wins::Over);
        }
        self.shapes.forget();
        if let Err(rows::NotStored::Point(reason, text)) = self.put_together(&mut told, &base) {
            self.walked.outcome.reject(reason, 1, || text);
            return Ok(());
        }
        let first_ms = first_ms.max(last_ms.saturating_sub(TARGET_INFO_MAX * TARGET_INFO_MS));
        let mark = self.mark();
        match rows::target_info(self, first_ms, last_ms, TARGET_INFO_MS) {
            Err(rows::NotStored::Request(why)) => Err(why),
            Err(rows::NotStored::Point(reason, text)) => {
                self.back_to(&mark);
                self.walked.outcome.reject(reason, 1, || text);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Labels, or a refusal of all that would have had them: its points are counted as they come.
    fn or_refused(&mut self, built: Result<Base<'a>, String>) -> Option<Base<'a>> {
        built.map_err(|text| self.walked.outcome.reject(Reason::InvalidLabels, 1, || text)).ok()
    }

    pub(super) fn refuse(&mut self, reason: Reason, points: u64, text: impl FnOnce() -> String) {
        self.walked.refused_points += points;
        self.walked.outcome.reject(reason, points.max(1), text);
    }
}

/// `job` and `instance` of a resource, as far as it has them.
fn identity<'a>(attributes: &[Attribute<'a>]) -> Vec<(&'static str, Cow<'a, str>)> {
    let get = |key| attributes.iter().find(|a| a.key == key).map(|a| a.value.clone());
    let [namespace, name, instance] = IDENTIFYING.map(get);
    let job = name.map(|name| match namespace {
        Some(namespace) => Cow::Owned(format!("{namespace}/{name}")),
        None => name,
    });
    let both = [("job", job), ("instance", instance)];
    both.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

#[derive(Debug, Default)]
struct Scope<'a> {
    name: &'a str,
    version: &'a str,
    schema_url: &'a str,
    attributes: Vec<Attribute<'a>>,
}

impl<'a> Scope<'a> {
    fn read(&mut self, mut message: Reader<'a>) -> Result<(), WireError> {
        while !message.is_at_end() {
            match message.varint()? {
                0x0a => self.name = text(&mut message)?,
                0x12 => self.version = text(&mut message)?,
                0x1a => self.attributes.push(attribute(message.message()?)?),
                tag => message.skip(tag, &[1, 2, 3])?,
            }
        }
        Ok(())
    }
}

impl Data {
    /// Reads what is not points.
    fn read(mut message: Reader<'_>) -> Result<Self, WireError> {
        let mut data = Self::default();
        while !message.is_at_end() {
            match message.varint()? {
                0x0a => {
                    message.range()?;
                    data.points += 1;
                }
                0x10 => data.temporality = message.varint()?,
                0x18 => data.is_monotonic = message.varint()? != 0,
                tag => message.skip(tag, &[1, 2, 3])?,
            }
        }
        Ok(data)
    }
}

fn read_attributes<'a>(
    mut message: Reader<'a>,
    field: u64,
    out: &mut Vec<Attribute<'a>>,
) -> Result<(), WireError> {
    while !message.is_at_end() {
        match message.varint()? {
            tag if tag == field << 3 | 2 => out.push(attribute(message.message()?)?),
            tag => message.skip(tag, &[field])?,
        }
    }
    Ok(())
}

/// Goes over a message; `take` says whether it took the field.
fn each<'a>(
    mut message: Reader<'a>,
    known: &[u64],
    mut take: impl FnMut(u64, &mut Reader<'a>) -> Result<bool, WireError>,
) -> Result<(), WireError> {
    while !message.is_at_end() {
        let tag = message.varint()?;
        if !take(tag, &mut message)? {
            step_over(&mut message, tag, known)?;
        }
    }
    Ok(())
}

/// Moves past a field that another pass reads, or that nobody does.
fn step_over(message: &mut Reader<'_>, tag: u64, known: &[u64]) -> Result<(), WireError> {
    match (tag & 7, known.contains(&(tag >> 3))) {
        (2, true) => message.range().map(drop),
        (0, true) => message.varint().map(drop),
        _ => message.skip(tag, known),
    }
}
