//! Entropy-coded numbers: the `pco` codec over one page without deltas of its own. Smaller than
//! bit-packing where values are not spread evenly over their range, and slower to read.

use pco::data_types::Number;
use pco::metadata::{DeltaEncoding, Mode};
use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DeltaSpec, ModeSpec, PagingSpec};

use super::Damaged;

/// Level 8 of 12: 1 % smaller than 4 at the same speed of reading.
const LEVEL: usize = 8;

const DAMAGED: Damaged = Damaged("not what pco wrote");

/// Widths of the unsigned numbers that are stored.
const WIDTHS: [u8; 4] = [1, 2, 4, 8];

/// Appends width and numbers: the narrowest width that holds all of them keeps pco's own
/// dictionary of bins small. False if pco refuses, and then `out` is as it was.
pub(super) fn put_numbers(numbers: &[u64], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let all = numbers.iter().fold(0, |all, n| all | n);
    let width = WIDTHS.into_iter().find(|w| *w == 8 || all >> (8 * w) == 0).unwrap_or(8);
    out.push(width);
    let put = match width {
        1 => put_page(&narrowed::<u8>(numbers, |n| n as u8), out),
        2 => put_page(&narrowed::<u16>(numbers, |n| n as u16), out),
        4 => put_page(&narrowed::<u32>(numbers, |n| n as u32), out),
        _ => put_page(numbers, out),
    };
    if put.is_none() {
        out.truncate(start);
    }
    put.is_some()
}

fn narrowed<T>(numbers: &[u64], narrow: fn(u64) -> T) -> Vec<T> {
    numbers.iter().map(|n| narrow(*n)).collect()
}

fn put_page<T: Number>(numbers: &[T], out: &mut Vec<u8>) -> Option<()> {
    put_chunk(numbers, DeltaSpec::NoOp, ModeSpec::Classic, out)
}

/// Appends floats; whichever of differences and values is smaller. False if pco refuses.
pub(super) fn put_floats(values: &[f64], out: &mut Vec<u8>) -> bool {
    let (mut plain, mut differences) = (Vec::new(), Vec::new());
    let mode = || ModeSpec::Auto;
    let plain_put = put_chunk(values, DeltaSpec::NoOp, mode(), &mut plain);
    let put = put_chunk(values, DeltaSpec::TryConsecutive(1), mode(), &mut differences);
    let best = match (plain_put, put) {
        (Some(()), Some(())) if differences.len() < plain.len() => differences,
        (Some(()), _) => plain,
        (None, Some(())) => differences,
        (None, None) => return false,
    };
    out.extend(best);
    true
}

fn put_chunk<T: Number>(
    numbers: &[T],
    delta: DeltaSpec,
    mode: ModeSpec,
    out: &mut Vec<u8>,
) -> Option<()> {
    let config = ChunkConfig::default()
        .with_compression_level(LEVEL)
        .with_delta_spec(delta)
        .with_mode_spec(mode)
        .with_paging_spec(PagingSpec::Exact(vec![numbers.len()]))
        .with_enable_8_bit(true);
    let file = FileCompressor::default();
    file.write_header(&mut *out).ok()?;
    let mut chunk = file.chunk_compressor(numbers, &config).ok()?;
    chunk.write_meta(&mut *out).ok()?;
    chunk.write_page(0, &mut *out).ok()?;
    Some(())
}

/// Numbers as they were stored: each width keeps its own memory from chunk to chunk.
#[derive(Debug, Default)]
pub(super) struct Narrow {
    one: Vec<u8>,
    two: Vec<u16>,
    four: Vec<u32>,
    eight: Vec<u64>,
}

/// Takes numbers, whatever their width.
pub(super) trait TakeNumbers {
    /// Takes all of them.
    fn take<T: Copy + Into<u64>>(self, numbers: &[T]);
}

impl Narrow {
    /// Reads `count` numbers that [`put_numbers`] wrote, which are all of `bytes`.
    pub(super) fn read(
        &mut self,
        mut bytes: &[u8],
        count: usize,
        taker: impl TakeNumbers,
    ) -> Result<(), Damaged> {
        let width = super::take_byte(&mut bytes)?;
        match width {
            1 => taker.take(sized(&mut self.one, bytes, count)?),
            2 => taker.take(sized(&mut self.two, bytes, count)?),
            4 => taker.take(sized(&mut self.four, bytes, count)?),
            8 => taker.take(sized(&mut self.eight, bytes, count)?),
            _ => return Err(Damaged("unknown width of numbers")),
        }
        Ok(())
    }
}

fn sized<'n, T: Number + Default>(
    numbers: &'n mut Vec<T>,
    bytes: &[u8],
    count: usize,
) -> Result<&'n [T], Damaged> {
    // What is left from before is written over.
    numbers.resize(count, T::default());
    take_chunk(bytes, Kind::Numbers, numbers)?;
    Ok(numbers)
}

/// Reads what [`put_floats`] wrote; takes all of `bytes`.
pub(super) fn take_floats(bytes: &[u8], out: &mut [f64]) -> Result<(), Damaged> {
    take_chunk(bytes, Kind::Floats, out)
}

/// What a page may use: the rest of pco's features could ask for memory without need.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Numbers,
    Floats,
}

fn take_chunk<T: Number>(bytes: &[u8], kind: Kind, out: &mut [T]) -> Result<(), Damaged> {
    let (file, bytes) = FileDecompressor::new(bytes).map_err(|_| DAMAGED)?;
    // The first four bits name the mode. A dictionary is read before anybody can object to it.
    let mode = bytes.first().ok_or(DAMAGED)? & 0x0f;
    let allowed: &[u8] = if kind == Kind::Numbers { &[0] } else { &[0, 2, 3] };
    if !allowed.contains(&mode) {
        return Err(DAMAGED);
    }
    let (mut chunk, bytes) = file.chunk_decompressor::<T, _>(bytes).map_err(|_| DAMAGED)?;
    let meta = chunk.meta();
    let is_known = matches!(meta.mode, Mode::Classic | Mode::FloatMult(_) | Mode::FloatQuant(_))
        && match meta.delta_encoding {
            DeltaEncoding::NoOp => true,
            DeltaEncoding::Consecutive { .. } => kind == Kind::Floats,
            _ => false,
        };
    if !is_known {
        return Err(DAMAGED);
    }
    let mut page = chunk.page_decompressor(bytes, out.len()).map_err(|_| DAMAGED)?;
    let progress = page.read(out).map_err(|_| DAMAGED)?;
    if !progress.finished || progress.n_processed != out.len() {
        return Err(DAMAGED);
    }
    if page.into_src().is_empty() { Ok(()) } else { Err(Damaged("bytes after the last value")) }
}
