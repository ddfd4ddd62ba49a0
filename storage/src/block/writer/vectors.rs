//! Timestamp vectors on their way into `ts.parquet`: each distinct one once.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::GROUP_ROWS_MAX;
use crate::Error;
use crate::block::object::Sink;
use crate::block::tables::{TableWriter, TimestampRows, close_table, open_table, write_group};
use crate::codec::{Effort, timestamps};

/// Distinct timestamp vectors and their rows in `ts.parquet`.
pub(super) struct Vectors {
    rows_by_hash: HashMap<u128, u32>,
    /// Not known to senders, so that none can choose timestamps that stand for another's.
    seed: u64,
    rows: TimestampRows,
    table: TableWriter,
    effort: Effort,
    payload: Vec<u8>,
    bytes: Vec<u8>,
}

impl Vectors {
    pub(super) fn new(effort: Effort) -> Result<Self, Error> {
        Ok(Self {
            effort,
            rows_by_hash: HashMap::new(),
            seed: RandomState::new().build_hasher().finish(),
            rows: TimestampRows::default(),
            table: open_table(TimestampRows::schema(), TimestampRows::properties())?,
            payload: Vec::new(),
            bytes: Vec::new(),
        })
    }

    /// The row of a vector, a new one if it is not known yet.
    pub(super) fn row(&mut self, instants: &[i64]) -> Result<u32, Error> {
        self.bytes.clear();
        self.bytes.extend(instants.iter().flat_map(|at| at.to_le_bytes()));
        let hash = xxh3_128_with_seed(&self.bytes, self.seed);
        if let Some(row) = self.rows_by_hash.get(&hash) {
            return Ok(*row);
        }
        let row = self.rows_by_hash.len() as u32;
        self.payload.clear();
        self.payload.extend_from_slice(&[0; 4]);
        timestamps::encode(instants, self.effort, &mut self.payload);
        if let Some((room, body)) = self.payload.split_first_chunk_mut::<4>() {
            *room = crc32c::crc32c(body).to_le_bytes();
        }
        self.rows.push(instants, &self.payload);
        self.rows_by_hash.insert(hash, row);
        if self.rows.len() >= GROUP_ROWS_MAX {
            write_group(&mut self.table, &self.rows.take_batch()?)?;
        }
        Ok(row)
    }

    pub(super) fn close(mut self) -> Result<(Sink, u64), Error> {
        if self.rows.len() > 0 {
            write_group(&mut self.table, &self.rows.take_batch()?)?;
        }
        close_table(self.table)
    }
}
