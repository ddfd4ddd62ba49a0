//! Sets are what they are said to be.

use std::collections::HashSet;

use super::*;

const START_NS: i64 = 1_795_300_000_000_000_000;

fn scale(bytes: u64) -> LogScale {
    LogScale { bytes, ..LogScale::full(START_NS) }
}

/// Stream, instant and text of all lines.
fn all(mut set: LogSet) -> Vec<(usize, i64, Vec<u8>)> {
    let mut lines = Vec::new();
    while let Some(LogLine { stream, at_ns, line }) = set.next_line() {
        lines.push((stream, at_ns, line.to_vec()));
    }
    lines
}

#[test]
fn a_set_follows_from_its_seed_and_has_its_size() {
    let lines = all(LogSet::own(scale(4_000_000)));
    assert_eq!(lines, all(LogSet::own(scale(4_000_000))));
    assert_ne!(lines, all(LogSet::own(LogScale { seed: 7, ..scale(4_000_000) })));
    let bytes: usize = lines.iter().map(|(_, _, line)| line.len() + 1).sum();
    assert!((4_000_000..4_002_000).contains(&bytes), "{bytes}");
    let mean = bytes / lines.len();
    assert!((120..200).contains(&mean), "{mean} bytes a line");
    let last_ns = lines.iter().map(|(_, at_ns, _)| *at_ns).max().expect("there are lines");
    let minutes = (last_ns - START_NS) / 60_000_000_000;
    assert!((174..176).contains(&minutes), "{minutes} minutes");
    let streams: HashSet<usize> = lines.iter().map(|(stream, ..)| *stream).collect();
    assert!(streams.len() > 200, "{} streams speak", streams.len());
}

#[test]
fn lines_grow_in_time_within_a_stream_and_differ() {
    let lines = all(LogSet::own(scale(2_000_000)));
    let mut last = vec![i64::MIN; 254];
    for (stream, at_ns, _) in &lines {
        assert!(*at_ns > last[*stream]);
        last[*stream] = *at_ns;
    }
    let different: HashSet<&[u8]> = lines.iter().map(|(_, _, line)| &line[..]).collect();
    assert!(different.len() * 100 > lines.len() * 95, "{} of {}", different.len(), lines.len());
    let set = LogSet::own(scale(1));
    let of = |name: &str| {
        let labels = set.streams().iter().flatten().filter(|(known, _)| *known == name);
        labels.map(|(_, value)| value.clone()).collect::<HashSet<_>>().len()
    };
    assert_eq!((of("pod"), of("namespace"), of("node")), (254, 20, 24));
}

#[test]
fn reference_lines_are_multiplied_where_they_are() {
    let Some(sources) = reference_sources() else { return };
    assert_eq!(sources.len(), REFERENCE.len());
    let lines = all(LogSet::of(scale(2_000_000), sources));
    // The clock of the set stands in the lines.
    let at = lines.iter().filter(|(_, _, line)| line.starts_with(b"2026-11-2")).count();
    assert!(at * 20 > lines.len(), "{at} of {} lines begin with a date of the set", lines.len());
}
