//! The table of series for other engines: a column for each frequent label.

use hashbrown::HashMap;
use model::Labels;

use super::{BlockWriter, GROUP_ROWS_MAX};
use crate::Error;
use crate::block::object::Sink;
use crate::block::tables::{SeriesRows, close_table, open_table, write_group};

impl BlockWriter {
    /// The table of series for other engines, from the labels that the index holds.
    pub(super) fn series_table(&mut self) -> Result<(Sink, u64), Error> {
        let mut frequent: Vec<(u32, u64)> =
            self.name_counts.iter().map(|(n, c)| (*n, *c)).collect();
        frequent.sort_unstable_by_key(|(name, count)| (u64::MAX - count, *name));
        frequent.truncate(self.options.label_columns_max);
        let symbols = &self.index.symbols;
        let names = frequent.iter().map(|(n, _)| symbols.get(*n).to_owned()).collect();
        let mut rows = SeriesRows::new(names);
        let mut table = open_table(rows.schema(), SeriesRows::properties())?;
        let columns: HashMap<u32, usize> =
            frequent.iter().enumerate().map(|(i, (n, _))| (*n, i)).collect();
        let mut labels = self.index.label_rows();
        let mut values = vec![None; frequent.len()];
        for row in &self.series {
            values.fill(None);
            let mut rest = Vec::new();
            for (name, value) in labels.next().unwrap_or_default() {
                match columns.get(name) {
                    Some(at) => values[*at] = Some(symbols.get(*value)),
                    None => rest.push((symbols.get(*name), symbols.get(*value))),
                }
            }
            let mut encoded = Vec::new();
            if !rest.is_empty() {
                Labels::from_pairs(rest).encode(&mut encoded);
            }
            rows.push(*row, &values, &encoded)?;
            if rows.len() >= GROUP_ROWS_MAX {
                write_group(&mut table, &rows.take_batch()?)?;
            }
        }
        if rows.len() > 0 {
            write_group(&mut table, &rows.take_batch()?)?;
        }
        close_table(table)
    }
}
