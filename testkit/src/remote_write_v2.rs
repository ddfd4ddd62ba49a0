//! Bodies of remote-write 2.0 requests (`io.prometheus.write.v2.Request`), right and wrong ones,
//! written field by field. Compression is left to the caller.

use std::collections::HashMap;

use model::{Histogram, Metadata, varint};

use crate::remote_write::{self, put_bytes, put_double, put_number};

/// A request whose every reference is up to the test.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Texts; a good request begins with the empty one.
    pub symbols: Vec<String>,
    /// Series in order.
    pub series: Vec<Series>,
}

/// One time series of a request.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Places in the symbols, name and value in turn.
    pub labels_refs: Vec<u32>,
    /// Samples.
    pub samples: Vec<Sample>,
    /// Native histograms with their timestamps and start timestamps in milliseconds.
    pub histograms: Vec<(i64, i64, Histogram)>,
    /// Exemplars: references, value, timestamp in milliseconds.
    pub exemplars: Vec<(Vec<u32>, f64, i64)>,
    /// Type, and places of help and unit.
    pub metadata: Option<(u32, u32, u32)>,
    /// Milliseconds; 0 is unset. Only early drafts have it.
    pub created_timestamp_ms: i64,
}

/// One sample.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// The value.
    pub value: f64,
    /// Milliseconds.
    pub timestamp_ms: i64,
    /// Milliseconds; 0 is unset.
    pub start_timestamp_ms: i64,
}

impl Request {
    /// The place of a text, which is added if it is new.
    pub fn symbol(&mut self, text: &str) -> u32 {
        if self.symbols.is_empty() {
            self.symbols.push(String::new());
        }
        let known = self.symbols.iter().position(|s| s == text);
        known.unwrap_or_else(|| {
            self.symbols.push(text.to_owned());
            self.symbols.len() - 1
        }) as u32
    }

    /// The uncompressed body.
    pub fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for symbol in &self.symbols {
            put_bytes(&mut out, 4, symbol.as_bytes());
        }
        for series in &self.series {
            put_bytes(&mut out, 5, &series.field());
        }
        out
    }
}

impl Series {
    /// The message without its tag and length.
    pub fn field(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_refs(&mut out, &self.labels_refs);
        for sample in &self.samples {
            let mut field = Vec::new();
            put_double(&mut field, 1, sample.value);
            put_number(&mut field, 2, sample.timestamp_ms as u64);
            put_number(&mut field, 3, sample.start_timestamp_ms as u64);
            put_bytes(&mut out, 2, &field);
        }
        for (timestamp_ms, start_ms, histogram) in &self.histograms {
            let mut field = remote_write::histogram_field(*timestamp_ms, histogram);
            put_number(&mut field, 17, *start_ms as u64);
            put_bytes(&mut out, 3, &field);
        }
        for (refs, value, timestamp_ms) in &self.exemplars {
            let mut field = Vec::new();
            put_refs(&mut field, refs);
            put_double(&mut field, 2, *value);
            put_number(&mut field, 3, *timestamp_ms as u64);
            put_bytes(&mut out, 4, &field);
        }
        if let Some((kind, help, unit)) = self.metadata {
            let mut field = Vec::new();
            put_number(&mut field, 1, u64::from(kind));
            put_number(&mut field, 3, u64::from(help));
            put_number(&mut field, 4, u64::from(unit));
            put_bytes(&mut out, 5, &field);
        }
        if self.created_timestamp_ms != 0 {
            put_number(&mut out, 6, self.created_timestamp_ms as u64);
        }
        out
    }
}

/// The same content as a body of 1.0. Metadata goes to every series whose name begins with the
/// family's.
pub fn body(series: &[remote_write::Series], metadata: &[(&str, Metadata)]) -> Vec<u8> {
    let (mut symbols, mut places) = (vec![String::new()], HashMap::from([(String::new(), 0)]));
    let mut symbol = |text: &str| {
        *places.entry(text.to_owned()).or_insert_with(|| {
            symbols.push(text.to_owned());
            symbols.len() as u32 - 1
        })
    };
    let mut converted = Vec::with_capacity(series.len());
    for one in series {
        let refs = one.labels.iter().flat_map(|(n, v)| [symbol(n), symbol(v)]).collect();
        let name = one.labels.iter().find(|(n, _)| n == "__name__").map_or("", |(_, v)| v);
        let told = metadata.iter().find(|(family, _)| name.starts_with(family));
        let sample = |&(timestamp_ms, value)| Sample { value, timestamp_ms, start_timestamp_ms: 0 };
        converted.push(Series {
            labels_refs: refs,
            samples: one.samples.iter().map(sample).collect(),
            histograms: one.histograms.iter().map(|(at, h)| (*at, 0, h.clone())).collect(),
            exemplars: one
                .exemplars
                .iter()
                .map(|e| {
                    let refs = e.labels.iter().flat_map(|(n, v)| [symbol(n), symbol(v)]).collect();
                    (refs, e.value, e.timestamp_ms)
                })
                .collect(),
            metadata: told.map(|(_, m)| (m.kind as u32, symbol(&m.help), symbol(&m.unit))),
            created_timestamp_ms: 0,
        });
    }
    Request { symbols, series: converted }.body()
}

fn put_refs(out: &mut Vec<u8>, refs: &[u32]) {
    let mut packed = Vec::new();
    refs.iter().for_each(|place| varint::put(&mut packed, u64::from(*place)));
    if !packed.is_empty() {
        put_bytes(out, 1, &packed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_protobuf_writes_them() {
        let mut request = Request::default();
        let refs = vec![request.symbol("a"), request.symbol("b")];
        let sample = Sample { value: 1.0, timestamp_ms: 5, start_timestamp_ms: 3 };
        let metadata = Some((2, 1, 0));
        let exemplars = vec![(vec![1, 2], 0.0, 7)];
        let series = Series {
            labels_refs: refs,
            samples: vec![sample],
            exemplars,
            metadata,
            ..Series::default()
        };
        request.series.push(series);
        let hex: String = request.body().iter().map(|b| format!("{b:02x}")).collect();
        let expected = "2200 220161 220162 2a21 0a020102 120d09000000000000f03f10051803 22060a0201021807 2a0408021801";
        assert_eq!(hex, expected.replace(' ', ""));
    }
}
