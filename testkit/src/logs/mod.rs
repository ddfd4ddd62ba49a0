//! Lines of logs as a cluster writes them, any number of them, the same for the same seed: for
//! benchmarks and for tests of compression.
//!
//! ```text
//! samples (reference data, or our own programs) ─► templates with places for values
//!   ─► pods, each walking through one source ─► lines in order of time
//! ```
//!
//! A pod writes the next line of its source nine times in ten and else jumps; the clock of the set
//! stands in each timestamp in that one's own form; a value is mostly one that the pod used lately.

mod own;
mod source;
mod stamp;

use model::Random;

use crate::{SeededRandom, reference};
use own::own_sources;
use source::{Recent, Source};

/// Sources of the reference data: one writes what one file holds.
const REFERENCE: &[(&str, &str)] = &[
    ("apache", "loghub/Apache_2k.log"),
    ("hdfs", "loghub/HDFS_2k.log"),
    ("hpc", "loghub/HPC_2k.log"),
    ("hadoop", "loghub/Hadoop_2k.log"),
    ("syslog", "loghub/Linux_2k.log"),
    ("mac", "loghub/Mac_2k.log"),
    ("sshd", "loghub/OpenSSH_2k.log"),
    ("nova", "loghub/OpenStack_2k.log"),
    ("spark", "loghub/Spark_2k.log"),
    ("zookeeper", "loghub/Zookeeper_2k.log"),
    ("calico", "k8s-containers/calico.log"),
    ("distributor", "k8s-containers/distributor-logfmt.log"),
    ("drone", "k8s-containers/drone-json.log"),
    ("journald", "k8s-containers/journald.log"),
    ("kafka", "k8s-containers/kafka.log"),
    ("scheduler", "k8s-containers/kubernetes.log"),
];

/// A program, and lines that it wrote.
type Sample = (&'static str, Vec<Vec<u8>>);

/// Lines that a pod writes without another one between, at most.
const BURST_MAX: u64 = 9;

/// How far apart lines of one moment lie. Nanoseconds.
const JITTER_NS: u64 = 3_000_000;

/// How large a set is.
#[derive(Debug, Clone, Copy)]
pub struct LogScale {
    /// What all choices follow from.
    pub seed: u64,
    /// Bytes of lines, each with one for its end.
    pub bytes: u64,
    /// Pods, each with one stream.
    pub streams: usize,
    /// Namespaces they lie in.
    pub namespaces: usize,
    /// Nodes they run on.
    pub nodes: usize,
    /// The first instant. Nanoseconds since the Unix epoch.
    pub start_ns: i64,
    /// How long it goes on. Nanoseconds.
    pub span_ns: i64,
}

impl LogScale {
    /// The set of the published figures: 419 MB, 254 streams, 175 minutes.
    pub fn full(start_ns: i64) -> Self {
        let span_ns = 175 * 60 * 1_000_000_000;
        let (streams, namespaces, nodes) = (254, 20, 24);
        Self { seed: 42, bytes: 419_000_000, streams, namespaces, nodes, start_ns, span_ns }
    }
}

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLine<'a> {
    /// Its stream, a place in [`LogSet::streams`].
    pub stream: usize,
    /// Nanoseconds since the Unix epoch; grows within a stream.
    pub at_ns: i64,
    /// Its bytes, without an end.
    pub line: &'a [u8],
}

/// A set of lines, given one after the other.
#[derive(Debug)]
pub struct LogSet {
    scale: LogScale,
    random: SeededRandom,
    sources: Vec<Source>,
    pods: Vec<Pod>,
    /// Where the share of each pod ends, of all lines.
    shares: Vec<u64>,
    streams: Vec<Vec<(&'static str, String)>>,
    /// Bytes given so far.
    bytes: u64,
    /// The pod that writes, and how many lines are left to it.
    writing: (usize, u64),
    line: Vec<u8>,
}

#[derive(Debug)]
struct Pod {
    source: usize,
    /// The next line of its source.
    at: usize,
    last_ns: i64,
    recent: Recent,
}

impl LogSet {
    /// The set made of the reference data where that is there, else of our own programs.
    pub fn new(scale: LogScale) -> Self {
        Self::of(scale, reference_sources().unwrap_or_else(|| own_sources(scale.seed)))
    }

    /// The set made of our own programs: the same everywhere.
    pub fn own(scale: LogScale) -> Self {
        Self::of(scale, own_sources(scale.seed))
    }

    fn of(scale: LogScale, samples: Vec<Sample>) -> Self {
        let random = SeededRandom::new(scale.seed);
        let names: Vec<&str> = samples.iter().map(|(name, _)| *name).collect();
        let sources: Vec<Source> = samples.iter().map(|(_, lines)| Source::of(lines)).collect();
        let (mut pods, mut shares, mut streams, mut sum) = (vec![], vec![], vec![], 0);
        for i in 0..scale.streams {
            let source = i % sources.len();
            let at = random.below(sources[source].lines() as u64) as usize;
            pods.push(Pod { source, at, last_ns: i64::MIN, recent: Recent::default() });
            // A few pods write most.
            sum += 1 + random.below(6).pow(3);
            shares.push(sum);
            streams.push(labels(&scale, names[source], i, &random));
        }
        let (writing, line) = ((0, 0), Vec::new());
        Self { scale, random, sources, pods, shares, streams, bytes: 0, writing, line }
    }

    /// Labels of each stream.
    pub fn streams(&self) -> &[Vec<(&'static str, String)>] {
        &self.streams
    }

    /// The next line; `None` after the last.
    pub fn next_line(&mut self) -> Option<LogLine<'_>> {
        let LogScale { bytes, start_ns, span_ns, .. } = self.scale;
        if self.bytes >= bytes || self.pods.is_empty() {
            return None;
        }
        if self.writing.1 == 0 {
            let place = self.random.below(self.shares.last().copied().unwrap_or(1));
            let pod = self.shares.partition_point(|end| *end <= place);
            self.writing = (pod, 1 + self.random.below(BURST_MAX));
        }
        self.writing.1 -= 1;
        let stream = self.writing.0;
        let pod = &mut self.pods[stream];
        let passed = i128::from(span_ns) * i128::from(self.bytes) / i128::from(bytes);
        let now_ns = start_ns + passed as i64 + self.random.below(JITTER_NS) as i64;
        let at_ns = now_ns.max(pod.last_ns.saturating_add(1 + self.random.below(50_000) as i64));
        pod.last_ns = at_ns;
        let source = &self.sources[pod.source];
        self.line.clear();
        source.write(pod.at, at_ns, &mut pod.recent, &self.random, &mut self.line);
        let lines = source.lines();
        pod.at = match self.random.chance(90) {
            true => (pod.at + 1) % lines,
            false => self.random.below(lines as u64) as usize,
        };
        self.bytes += self.line.len() as u64 + 1;
        Some(LogLine { stream, at_ns, line: &self.line })
    }
}

fn labels(
    scale: &LogScale,
    program: &str,
    i: usize,
    random: &SeededRandom,
) -> Vec<(&'static str, String)> {
    let id = random.next_u64();
    vec![
        ("cluster", "production-1".to_owned()),
        ("container", program.to_owned()),
        ("namespace", format!("team-{:02}", i * 7 % scale.namespaces.max(1))),
        ("node", format!("node-{:02}", random.below(scale.nodes.max(1) as u64))),
        ("pod", format!("{program}-{:09x}-{:05x}", id >> 28, id & 0xf_ffff)),
        ("stream", if i % 5 == 4 { "stderr" } else { "stdout" }.to_owned()),
    ]
}

/// Lines of the reference data; `None` if a file is missing.
fn reference_sources() -> Option<Vec<Sample>> {
    let read = |(name, file): &(&'static str, &str)| {
        let path = reference(format!("logs/{file}"))?;
        let bytes = std::fs::read(path).ok()?;
        let lines = bytes.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l));
        let mut lines: Vec<Vec<u8>> = lines.map(<[u8]>::to_vec).collect();
        // Behind the last end of a line there is none.
        lines.pop_if(|last| last.is_empty());
        (!lines.is_empty()).then_some((*name, lines))
    };
    REFERENCE.iter().map(read).collect()
}

#[cfg(test)]
mod tests;
