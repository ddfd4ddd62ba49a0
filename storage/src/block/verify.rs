//! All of a block read and checked, and compared with what its manifest says.
//!
//! Bytes: every stripe of every object against its checksum. Content: labels, postings, every
//! chunk and exemplar decoded, counts and times against those of index and manifest.

use model::{Matcher, Pace, Resolution, TimeRange};
use roaring::RoaringBitmap;

use super::object::PART_BYTES;
use super::read::Block;
use super::whole::WholeTable;
use crate::downsample::Windows;
use crate::manifest::BlockMeta;
use crate::{Error, SeriesSamples};

/// Series decoded in one go.
const ROWS_AT_ONCE: usize = 64;

impl Block {
    /// Reads everything. `done` is told the bytes of each piece that was read.
    pub(crate) async fn verify(
        &self,
        meta: &BlockMeta,
        done: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), Error> {
        self.check_counts(meta)?;
        for table in self.tables() {
            read_all(&table, done).await?;
        }
        self.check_labels()?;
        self.check_samples(meta).await?;
        self.check_exemplars().await
    }

    fn damaged(&self, reason: String) -> Error {
        Error::Corrupt { what: format!("block {}", self.prefix()), reason }
    }

    /// What manifest and index both say.
    fn check_counts(&self, meta: &BlockMeta) -> Result<(), Error> {
        let own = &self.index.meta;
        for (what, named, found) in [
            ("series", meta.series, own.series),
            ("chunks", meta.chunks, own.chunks),
            ("samples", meta.samples, own.samples),
            ("histograms", meta.histograms, own.histograms),
        ] {
            if named != found {
                return Err(self.damaged(format!(
                    "the manifest says it has {named} {what}, its index says {found}"
                )));
            }
        }
        match own.range {
            Some(range) if range != meta.range => Err(self.damaged(format!(
                "the manifest says its rows lie within {} to {}, its index says {} to {}",
                meta.range.start_ms, meta.range.end_ms, range.start_ms, range.end_ms
            ))),
            _ => Ok(()),
        }
    }

    /// Labels of all rows, their order, and the postings of all tenants.
    fn check_labels(&self) -> Result<(), Error> {
        let pace = &mut Pace::endless();
        for tenant in self.tenants() {
            let mut before: Option<model::Labels> = None;
            let mut wrong = None;
            self.for_each_series(tenant.series.clone(), pace, |row, _, labels| {
                let is_behind = |before: &model::Labels| before.stored_order(&labels).is_ge();
                if labels.is_empty() || before.as_ref().is_some_and(is_behind) {
                    wrong = wrong.or(Some(row));
                }
                before = Some(labels);
            })?;
            if let Some(row) = wrong {
                return Err(self.damaged(format!("series row {row} is not in order of labels")));
            }
            let any = Matcher::new(model::MatchOp::NotEqual, model::METRIC_NAME, "")
                .map_err(|e| self.damaged(e.to_string()))?;
            let named = self.select(tenant.tenant, &[any], pace)?;
            let rows: RoaringBitmap = tenant.series.clone().collect();
            for name in self.label_names(tenant.tenant, None, pace)? {
                let values = self.label_values(tenant.tenant, &name, None, pace)?;
                for value in values {
                    let equal = Matcher::equal(&name, &value);
                    let found = self.select(tenant.tenant, &[equal], pace)?;
                    if found.is_empty() || !found.is_subset(&rows) {
                        return Err(self.damaged(format!(
                            "the postings of {name}={value:?} of tenant {} are wrong",
                            tenant.tenant
                        )));
                    }
                }
            }
            if !named.is_subset(&rows) {
                return Err(self.damaged(format!("postings of tenant {} are wrong", tenant.tenant)));
            }
        }
        Ok(())
    }

    async fn check_samples(&self, meta: &BlockMeta) -> Result<(), Error> {
        let (mut samples, mut histograms) = (0u64, 0u64);
        for tenant in self.tenants() {
            let rows: Vec<u32> = tenant.series.clone().collect();
            for rows in rows.chunks(ROWS_AT_ONCE) {
                let fetched = self.fetch(rows, TimeRange::ALL).await?;
                let resolution = self.resolution();
                let decoded = tokio::task::spawn_blocking(move || match resolution {
                    Resolution::Raw => fetched.decode(),
                    _ => Ok(fetched.decode_windows()?.into_iter().map(as_samples).collect()),
                });
                let decoded =
                    decoded.await.map_err(|e| Error::Internal(format!("decode: {e}")))??;
                for (row, one) in rows.iter().zip(decoded) {
                    samples += one.values.len() as u64;
                    histograms += one.histograms.len() as u64;
                    let instants = one.timestamps.iter().copied();
                    let all = || instants.clone().chain(one.histograms.iter().map(|(ms, _)| *ms));
                    let outside = all().find(|ms| !tenant.range.contains(*ms));
                    if let Some(ms) = outside {
                        return Err(self.damaged(format!(
                            "series row {row} has a sample at {ms}, outside its tenant's range"
                        )));
                    }
                    if !one.timestamps.is_sorted_by(|a, b| a < b) {
                        return Err(
                            self.damaged(format!("series row {row} is not in order of time"))
                        );
                    }
                }
            }
        }
        if (samples, histograms) != (meta.samples, meta.histograms) {
            return Err(self.damaged(format!(
                "{samples} samples and {histograms} histograms were found, its manifest says {} and {}",
                meta.samples, meta.histograms
            )));
        }
        Ok(())
    }

    async fn check_exemplars(&self) -> Result<(), Error> {
        let rows: RoaringBitmap = (0..self.series_count()).collect();
        let found = self.exemplars(&rows, TimeRange::ALL, &mut Pace::endless()).await?.len() as u64;
        let named = self.index.meta.exemplars;
        if found == named {
            return Ok(());
        }
        Err(self.damaged(format!("{found} exemplars were found, its index says {named}")))
    }
}

/// Windows as far as they are looked at here: when they begin, and how many there are.
fn as_samples(windows: Windows) -> SeriesSamples {
    let Windows { starts: timestamps, count: values, histograms, .. } = windows;
    let histograms = histograms.into_iter().map(|h| (h.start_ms, h.last)).collect();
    SeriesSamples { timestamps, values, histograms, ..SeriesSamples::default() }
}

/// Reads all of a table, a part at a time, against its checksums.
async fn read_all(table: &WholeTable, done: &mut (dyn FnMut(u64) + Send)) -> Result<(), Error> {
    let mut at = 0;
    while at < table.bytes() {
        let end = (at + PART_BYTES as u64).min(table.bytes());
        table.read(at..end).await?;
        done(end - at);
        at = end;
    }
    Ok(())
}
