//! Prometheus' configuration file, as far as scraping goes: `global`, `scrape_configs` and
//! `scrape_config_files`. Read strictly: an unknown field is an error with its place.
//!
//! Sections about other things (`rule_files`, `alerting`, `remote_write` …) are passed over and named.

mod global;
mod job;
mod protocol;
mod rules;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use global::Global;
pub(crate) use job::Job;
pub(crate) use protocol::{Protocol, accept};
pub(crate) use rules::rule;

use crate::yaml::{Fields, Node, YamlError};
use crate::{bounded_file, discovery};

/// Jobs of a configuration. Beyond it somebody generates them without end.
const JOBS_MAX: usize = 10_000;

/// What is wrong with a file of scrape configurations.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeFileError {
    /// It cannot be read.
    #[error("read {}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It says something that is not understood or makes no sense.
    #[error("{}: {why}", file.display())]
    Wrong {
        /// Which.
        file: PathBuf,
        /// What, and where.
        why: YamlError,
    },
    /// What it says of a job cannot be used: certificates, for instance.
    #[error("job {job:?}: {why}")]
    Unusable {
        /// Which.
        job: String,
        /// Why.
        why: String,
    },
}

/// All jobs of a configuration, checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScrapeFile {
    pub(crate) jobs: Vec<Arc<Job>>,
    /// What is passed over, in words.
    pub notes: Vec<String>,
}

/// Sections of Prometheus' file that have nothing to do with scraping.
const OTHER_SECTIONS: [&str; 8] = [
    "alerting",
    "rule_files",
    "remote_write",
    "remote_read",
    "storage",
    "tracing",
    "otlp",
    "runtime",
];

impl ScrapeFile {
    /// Reads a file and the files it names.
    pub fn read(file: &Path) -> Result<Self, ScrapeFileError> {
        let mut found = Self::default();
        let dir = file.parent().unwrap_or(Path::new(""));
        let text = text_of(file)?;
        let wrong = |why| ScrapeFileError::Wrong { file: file.to_owned(), why };
        let (global, others) = found.read_main(&text, dir).map_err(wrong)?;
        for pattern in others {
            for other in discovery::matching(&dir.join(pattern)) {
                let wrong = |why| ScrapeFileError::Wrong { file: other.clone(), why };
                let dir = other.parent().unwrap_or(Path::new(""));
                let text = text_of(&other)?;
                found.read_other(&text, &global, dir).map_err(wrong)?;
            }
        }
        Ok(found)
    }

    /// The names of all jobs.
    pub fn job_names(&self) -> impl Iterator<Item = &str> {
        self.jobs.iter().map(|job| job.name.as_str())
    }

    fn read_main(&mut self, text: &str, dir: &Path) -> Result<(Global, Vec<String>), YamlError> {
        let node = Node::parse(text)?;
        let mut fields = Fields::of(&node, "the configuration")?;
        let global = match fields.take("global") {
            Some(node) => Global::read(node, &mut self.notes)?,
            None => Global::default(),
        };
        self.read_jobs(&mut fields, &global, dir)?;
        let files = fields.read("scrape_config_files", Node::texts)?.unwrap_or_default();
        for section in OTHER_SECTIONS {
            if fields.take(section).is_some() {
                self.notes.push(match section {
                    "remote_write" => "remote_write is not read here: ingest.forward.config_file \
                                       names the file whose destinations count"
                        .to_owned(),
                    _ => format!("{section} is passed over: it is not about scraping"),
                });
            }
        }
        fields.done()?;
        Ok((global, files))
    }

    /// A file of `scrape_config_files`.
    fn read_other(&mut self, text: &str, global: &Global, dir: &Path) -> Result<(), YamlError> {
        let node = Node::parse(text)?;
        let mut fields = Fields::of(&node, "a file of scrape_config_files")?;
        self.read_jobs(&mut fields, global, dir)?;
        fields.done()
    }

    fn read_jobs(
        &mut self,
        fields: &mut Fields<'_>,
        global: &Global,
        dir: &Path,
    ) -> Result<(), YamlError> {
        for node in fields.take("scrape_configs").map_or(Ok(&[][..]), Node::list)? {
            let job = Job::read(node, global, dir)?;
            if self.jobs.iter().any(|known| known.name == job.name) {
                let what = format!(
                    "found multiple scrape configs with job name {:?}; names must be unique",
                    job.name
                );
                return Err(YamlError::at(node.place, what));
            }
            if self.jobs.len() >= JOBS_MAX {
                return Err(YamlError::at(node.place, format!("more than {JOBS_MAX} jobs")));
            }
            self.jobs.push(Arc::new(job));
        }
        Ok(())
    }

    /// A text alone; files that it names are not read.
    pub(crate) fn parse(text: &str) -> Result<Self, YamlError> {
        let mut found = Self::default();
        found.read_main(text, Path::new(""))?;
        Ok(found)
    }
}

fn text_of(file: &Path) -> Result<String, ScrapeFileError> {
    let failed = |source| ScrapeFileError::Read { file: file.to_owned(), source };
    bounded_file::read_text(file).map_err(failed)
}
