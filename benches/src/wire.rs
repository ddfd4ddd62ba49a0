//! Remote write 1.0 as a sender writes it: one sample for each series of a request.

/// A request being filled.
#[derive(Debug, Default)]
pub(crate) struct Request {
    body: Vec<u8>,
    /// Samples in it so far.
    pub(crate) samples: u32,
}

impl Request {
    /// Adds one series with one sample.
    pub(crate) fn push(&mut self, labels: &[u8], timestamp_ms: i64, value: f64) {
        let timestamp = timestamp_ms as u64;
        let sample = 1 + 8 + 1 + varint_bytes(timestamp);
        let series = labels.len() + 2 + sample;
        self.body.push(0x0a);
        varint(&mut self.body, series as u64);
        self.body.extend_from_slice(labels);
        self.body.extend_from_slice(&[0x12, sample as u8, 0x09]);
        self.body.extend_from_slice(&value.to_bits().to_le_bytes());
        self.body.push(0x10);
        varint(&mut self.body, timestamp);
        self.samples += 1;
    }

    /// The compressed body; the request is empty again afterwards.
    pub(crate) fn take(&mut self) -> (Vec<u8>, u32) {
        let compressed = snap::raw::Encoder::new()
            .compress_vec(&self.body)
            .expect("a request is far below snappy's 4 GiB");
        self.body.clear();
        (compressed, std::mem::take(&mut self.samples))
    }
}

/// Label fields of one series, in order of their names.
pub(crate) fn labels(pairs: &mut [(&str, String)]) -> Vec<u8> {
    pairs.sort_by(|a, b| a.0.cmp(b.0));
    let mut out = Vec::new();
    for (name, value) in pairs.iter() {
        let inner = 2
            + varint_bytes(name.len() as u64)
            + name.len()
            + varint_bytes(value.len() as u64)
            + value.len();
        out.push(0x0a);
        varint(&mut out, inner as u64);
        out.push(0x0a);
        varint(&mut out, name.len() as u64);
        out.extend_from_slice(name.as_bytes());
        out.push(0x12);
        varint(&mut out, value.len() as u64);
        out.extend_from_slice(value.as_bytes());
    }
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}
