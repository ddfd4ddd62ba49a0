//! Terms of some blocks in order, packed in memory until all of them are merged.

use std::io::{self, BufRead, BufReader, Read, Write};

use zstd::stream::{Decoder, Encoder};

use crate::Error;

/// Level of zstd: runs are read once, and soon.
const ZSTD_LEVEL: i32 = 1;

/// Terms in order, with the blocks of each.
pub(super) struct Run(Vec<u8>);

/// A run being written.
pub(super) struct RunWriter(Encoder<'static, Vec<u8>>);

fn error(source: io::Error) -> Error {
    Error::Disk { doing: "sort terms in memory".to_owned(), source }
}

impl Run {
    pub(super) fn writer() -> Result<RunWriter, Error> {
        Encoder::new(Vec::new(), ZSTD_LEVEL).map(RunWriter).map_err(error)
    }
}

impl RunWriter {
    pub(super) fn add(&mut self, term: &[u8], blocks: &[u32]) -> Result<(), Error> {
        let mut head = [0; 6];
        head[..2].copy_from_slice(&(term.len() as u16).to_le_bytes());
        head[2..].copy_from_slice(&(blocks.len() as u32).to_le_bytes());
        let mut write = || {
            self.0.write_all(&head)?;
            self.0.write_all(term)?;
            blocks.iter().try_for_each(|block| self.0.write_all(&block.to_le_bytes()))
        };
        write().map_err(error)
    }

    pub(super) fn finish(self) -> Result<Run, Error> {
        self.0.finish().map(Run).map_err(error)
    }
}

/// Where reading of a run is.
struct Cursor<'a> {
    from: BufReader<Decoder<'static, &'a [u8]>>,
    term: Vec<u8>,
    blocks: Vec<u32>,
    is_end: bool,
}

impl<'a> Cursor<'a> {
    fn new(run: &'a Run) -> io::Result<Self> {
        let from = BufReader::new(Decoder::with_buffer(run.0.as_slice())?);
        let mut cursor = Self { from, term: Vec::new(), blocks: Vec::new(), is_end: false };
        cursor.next()?;
        Ok(cursor)
    }

    fn next(&mut self) -> io::Result<()> {
        if self.from.fill_buf()?.is_empty() {
            self.is_end = true;
            return Ok(());
        }
        let mut head = [0; 6];
        self.from.read_exact(&mut head)?;
        let [a, b, count @ ..] = head;
        self.term.resize(usize::from(u16::from_le_bytes([a, b])), 0);
        self.from.read_exact(&mut self.term)?;
        self.blocks.clear();
        for _ in 0..u32::from_le_bytes(count) {
            let mut block = [0; 4];
            self.from.read_exact(&mut block)?;
            self.blocks.push(u32::from_le_bytes(block));
        }
        Ok(())
    }
}

/// Gives each term once, in order, with its blocks of all runs, which are in order of blocks.
pub(super) fn merge(
    runs: &[Run],
    mut visit: impl FnMut(&[u8], &[u32]) -> Result<(), Error>,
) -> Result<(), Error> {
    let cursors: io::Result<Vec<Cursor<'_>>> = runs.iter().map(Cursor::new).collect();
    let mut cursors = cursors.map_err(error)?;
    let (mut term, mut blocks) = (Vec::new(), Vec::new());
    loop {
        cursors.retain(|cursor| !cursor.is_end);
        let Some(first) = cursors.iter().map(|c| c.term.as_slice()).min() else { return Ok(()) };
        term.clear();
        term.extend_from_slice(first);
        blocks.clear();
        for cursor in cursors.iter_mut().filter(|c| c.term == term) {
            blocks.extend_from_slice(&cursor.blocks);
            cursor.next().map_err(error)?;
        }
        visit(&term, &blocks)?;
    }
}
