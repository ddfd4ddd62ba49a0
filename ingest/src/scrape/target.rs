//! From what was found to a target: labels before and after relabelling, address, times
//! (`scrape/target.go`, `PopulateLabels`).

use std::hash::{BuildHasher, Hash};

use model::{Labels, LabelsBuilder};

use super::config::Job;
use crate::discovery::{ADDRESS, Group, Pairs};
use crate::exposition::Forms;
use crate::http_client::escaped;
use crate::relabel;
use crate::yaml::{duration_ms, shown_duration};

const JOB: &str = "job";
const INSTANCE: &str = "instance";
const SCHEME: &str = "__scheme__";
const METRICS_PATH: &str = "__metrics_path__";
const INTERVAL: &str = "__scrape_interval__";
const TIMEOUT: &str = "__scrape_timeout__";
const NATIVE: &str = "__scrape_native_histograms__";
const CLASSIC_TOO: &str = "__always_scrape_classic_histograms__";
const CONVERT_CLASSIC: &str = "__convert_classic_histograms_to_nhcb__";
const PARAM: &str = "__param_";
const META: &str = "__meta_";
/// Labels that begin so do not reach series.
const RESERVED: &str = "__";

/// A target, ready to be scraped.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Prepared {
    /// Labels as they were found, with the job's defaults.
    pub(super) discovered: Labels,
    /// Labels of its series.
    pub(super) labels: Labels,
    pub(super) url: String,
    pub(super) interval_ms: i64,
    pub(super) timeout_ms: i64,
    /// In which forms its histograms are stored.
    pub(super) forms: Forms,
}

/// What becomes of what was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    Target(Box<Prepared>),
    /// Relabelling dropped it.
    Dropped(Labels),
    /// It cannot be scraped.
    Wrong(String),
}

/// All targets of a group.
pub(super) fn of_group<'g>(job: &'g Job, group: &'g Group) -> impl Iterator<Item = Outcome> + 'g {
    group.targets.iter().map(|target| prepare(job, target, &group.labels))
}

fn prepare(job: &Job, target: &Pairs, of_group: &Pairs) -> Outcome {
    let mut labels = discovered(job, target, of_group);
    let discovered = labels.build();
    if !relabel::apply(&job.relabel, &mut labels) {
        return Outcome::Dropped(discovered);
    }
    match finish(job, discovered, labels) {
        Ok(prepared) => Outcome::Target(Box::new(prepared)),
        Err(what) => Outcome::Wrong(what),
    }
}

/// Labels before relabelling.
fn discovered(job: &Job, target: &Pairs, of_group: &Pairs) -> LabelsBuilder {
    let mut labels = LabelsBuilder::default();
    labels.set_all(target.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    for (name, value) in of_group {
        if !target.iter().any(|(own, _)| own == name) {
            labels.set(name, value);
        }
    }
    let Forms { native, classic_too, convert_classic } = job.histograms;
    let defaults = [
        (NATIVE, native.to_string()),
        (CLASSIC_TOO, classic_too.to_string()),
        (CONVERT_CLASSIC, convert_classic.to_string()),
        (JOB, job.name.clone()),
        (INTERVAL, shown_duration(job.interval_ms)),
        (TIMEOUT, shown_duration(job.timeout_ms)),
        (METRICS_PATH, job.metrics_path.clone()),
        (SCHEME, job.scheme.clone()),
    ];
    for (name, value) in defaults {
        if labels.get(name).is_none() {
            labels.set(name, &value);
        }
    }
    for (name, values) in &job.params {
        if let Some(first) = values.first() {
            labels.set(&format!("{PARAM}{name}"), first);
        }
    }
    labels
}

/// Labels after relabelling become a target.
fn finish(job: &Job, discovered: Labels, mut labels: LabelsBuilder) -> Result<Prepared, String> {
    let address = labels.get(ADDRESS).unwrap_or("").to_owned();
    if address.is_empty() {
        return Err("no address".to_owned());
    }
    if address.contains('/') {
        return Err(format!("{address:?} is not a valid hostname"));
    }
    let time = |name: &str, word: &str| {
        let text = labels.get(name).unwrap_or("");
        match duration_ms(text) {
            Err(why) => Err(format!("error parsing scrape {word}: {why}")),
            Ok(0) => Err(format!("scrape {word} cannot be 0")),
            Ok(ms) => Ok(ms),
        }
    };
    let (interval_ms, timeout_ms) = (time(INTERVAL, "interval")?, time(TIMEOUT, "timeout")?);
    if timeout_ms > interval_ms {
        return Err(format!(
            "scrape timeout cannot be greater than scrape interval ({:?} > {:?})",
            labels.get(TIMEOUT).unwrap_or(""),
            labels.get(INTERVAL).unwrap_or("")
        ));
    }
    let forms = forms(job, &labels)?;
    if labels.get(INSTANCE).is_none() {
        labels.set(INSTANCE, &address);
    }
    let url = url(job, &labels, &address)?;
    labels.retain(|name| !name.starts_with(META) && !name.starts_with(RESERVED));
    if labels.iter().any(|(name, _)| !job.names.allows(name)) {
        return Err(format!("invalid label names: {}", labels.build()));
    }
    Ok(Prepared { discovered, labels: labels.build(), url, interval_ms, timeout_ms, forms })
}

/// What labels say of histograms; a label that relabelling removed says what the job says.
fn forms(job: &Job, labels: &LabelsBuilder) -> Result<Forms, String> {
    let switch = |name: &str, of_job: bool| match labels.get(name) {
        None => Ok(of_job),
        // The words that Go reads.
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(format!("label {name} is {other:?}, expected true or false")),
    };
    let Forms { native, classic_too, convert_classic } = job.histograms;
    Ok(Forms {
        native: switch(NATIVE, native)?,
        classic_too: switch(CLASSIC_TOO, classic_too)?,
        convert_classic: switch(CONVERT_CLASSIC, convert_classic)?,
    })
}

/// Where a target is scraped. Parameters are in order of their names.
fn url(job: &Job, labels: &LabelsBuilder, address: &str) -> Result<String, String> {
    let scheme = labels.get(SCHEME).unwrap_or("http");
    if !matches!(scheme, "http" | "https") {
        return Err(format!("unsupported scheme {scheme:?}, expected http or https"));
    }
    let path = labels.get(METRICS_PATH).unwrap_or("");
    let slash = if path.starts_with('/') || path.is_empty() { "" } else { "/" };
    let mut params = job.params.clone();
    for (name, value) in labels.iter() {
        let Some(name) = name.strip_prefix(PARAM) else { continue };
        match params.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) if !values.is_empty() => value.clone_into(&mut values[0]),
            Some((_, values)) => values.push(value.to_owned()),
            None => params.push((name.to_owned(), vec![value.to_owned()])),
        }
    }
    params.sort();
    let pairs = params.iter().flat_map(|(name, values)| {
        values.iter().map(move |value| format!("{}={}", escaped(name), escaped(value)))
    });
    let query = pairs.collect::<Vec<_>>().join("&");
    let mark = if query.is_empty() { "" } else { "?" };
    let path = path.replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    let url = format!("{scheme}://{address}{slash}{path}{mark}{query}");
    match reqwest::Url::parse(&url) {
        Ok(parsed) if parsed.host().is_some() => Ok(url),
        _ => Err(format!("{address:?} is not a valid address")),
    }
}

impl Prepared {
    /// What tells targets of a job apart, and where in its interval each is scraped. The same in
    /// every process, so that a restart scrapes when it was scraped before.
    pub(super) fn hash(&self) -> u64 {
        let hasher = xxhash_rust::xxh3::Xxh3DefaultBuilder;
        let mut one = hasher.build_hasher();
        (&self.labels, &self.url, self.interval_ms, self.timeout_ms).hash(&mut one);
        std::hash::Hasher::finish(&one)
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::ScrapeFile;
    use super::*;

    /// What a job makes of one target, in one line.
    #[track_caller]
    fn check(job: &str, target: &[(&str, &str)], expected: &str) {
        let file = ScrapeFile::parse(&format!("scrape_configs:\n- {{job_name: j, {job}}}\n"));
        let job = &file.expect("a configuration").jobs[0];
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Pairs>()
        };
        let shown = match prepare(job, &pairs(target), &pairs(&[("g", "1")])) {
            Outcome::Target(t) => {
                let Forms { native, classic_too, convert_classic } = t.forms;
                let said =
                    [(native, " native"), (classic_too, " classic"), (convert_classic, " nhcb")];
                let words = said.iter().filter(|(said, _)| *said).map(|(_, word)| *word);
                let words = words.collect::<String>();
                format!("{} {} {}/{}{words}", t.labels, t.url, t.interval_ms, t.timeout_ms)
            }
            Outcome::Dropped(labels) => format!("dropped {labels}"),
            Outcome::Wrong(what) => what,
        };
        assert_eq!(shown, expected);
    }

    const HERE: &[(&str, &str)] = &[(ADDRESS, "h:1")];

    #[test]
    fn targets_get_labels_and_an_address() {
        check(
            "metrics_path: /m",
            HERE,
            r#"{g="1", instance="h:1", job="j"} http://h:1/m 60000/10000"#,
        );
        check(
            "scheme: https, params: {b: [x y, z], a: ['1']}",
            &[
                (ADDRESS, "[::1]:9"),
                ("g", "own"),
                ("job", "k"),
                ("__param_b", "q"),
                ("instance", "i"),
            ],
            r#"{g="own", instance="i", job="k"} https://[::1]:9/metrics?a=1&b=x+y&b=z 60000/10000"#,
        );
        check(
            "relabel_configs: [{target_label: __param_target, replacement: 'a/b'}, {target_label: __scrape_interval__, replacement: 30s}, {target_label: __metrics_path__, replacement: probe}]",
            HERE,
            r#"{g="1", instance="h:1", job="j"} http://h:1/probe?target=a%2Fb 30000/10000"#,
        );
        check(
            "relabel_configs: [{source_labels: [__meta_x], target_label: x}]",
            &[(ADDRESS, "h"), ("__meta_x", "1"), ("__tmp", "2")],
            r#"{g="1", instance="h", job="j", x="1"} http://h/metrics 60000/10000"#,
        );
        check(
            "relabel_configs: [{action: drop, source_labels: [job], regex: j}]",
            HERE,
            r#"dropped {__address__="h:1", __always_scrape_classic_histograms__="false", __convert_classic_histograms_to_nhcb__="false", __metrics_path__="/metrics", __scheme__="http", __scrape_interval__="1m", __scrape_native_histograms__="false", __scrape_timeout__="10s", g="1", job="j"}"#,
        );
    }

    #[test]
    fn labels_choose_the_forms_of_histograms() {
        let plain = r#"{g="1", instance="h:1", job="j"} http://h:1/metrics 60000/10000"#;
        let job = "scrape_native_histograms: true, convert_classic_histograms_to_nhcb: true";
        check(job, HERE, &format!("{plain} native nhcb"));
        let own = [(ADDRESS, "h:1"), (NATIVE, "F"), (CLASSIC_TOO, "1")];
        check(job, &own, &format!("{plain} classic nhcb"));
        check(
            &format!(
                "{job}, relabel_configs: [{{target_label: {NATIVE}, replacement: ''}}, {{target_label: {CONVERT_CLASSIC}, replacement: 'no'}}]"
            ),
            HERE,
            "label __convert_classic_histograms_to_nhcb__ is \"no\", expected true or false",
        );
        let removed =
            format!("{job}, relabel_configs: [{{target_label: {NATIVE}, replacement: ''}}]");
        check(&removed, HERE, &format!("{plain} native nhcb"));
    }

    #[test]
    fn what_cannot_be_scraped_is_told() {
        check("scheme: http", &[("a", "b")], "no address");
        check("scheme: http", &[(ADDRESS, "h/x")], "\"h/x\" is not a valid hostname");
        check("scheme: http", &[(ADDRESS, "h:x")], "\"h:x\" is not a valid address");
        check("scheme: ftp", HERE, "unsupported scheme \"ftp\", expected http or https");
        let set = |label: &str, value: &str| {
            format!("relabel_configs: [{{target_label: {label}, replacement: {value}}}]")
        };
        check(
            &set(INTERVAL, "soon"),
            HERE,
            "error parsing scrape interval: not a valid duration string: \"soon\"",
        );
        check(&set(INTERVAL, "0s"), HERE, "scrape interval cannot be 0");
        check(&set(TIMEOUT, "0s"), HERE, "scrape timeout cannot be 0");
        check(
            &set(TIMEOUT, "2m"),
            HERE,
            "scrape timeout cannot be greater than scrape interval (\"2m\" > \"1m\")",
        );
        check(
            "metric_name_validation_scheme: legacy",
            &[(ADDRESS, "h"), ("a-b", "1")],
            "invalid label names: {a-b=\"1\", g=\"1\", instance=\"h\", job=\"j\"}",
        );
    }
}
