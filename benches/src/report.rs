//! The table of a run: one line a measure, one column a system, and our ratio to each peer.

use std::fmt::Write;

use crate::scenario::Figure;
use crate::system::Kind;

/// The figures as a Markdown table.
pub(crate) fn table(figures: &[Figure], kinds: &[Kind]) -> String {
    let mut out = String::from("| measure |");
    let peers: Vec<Kind> = kinds.iter().copied().filter(|k| *k != Kind::Taffrail).collect();
    for kind in kinds {
        let _ = write!(out, " {} |", kind.name());
    }
    for peer in &peers {
        let _ = write!(out, " ours / {} |", peer.name());
    }
    let columns = kinds.len() + peers.len();
    let _ = write!(out, "\n| --- |{}\n", " ---: |".repeat(columns));
    let mut measures: Vec<&str> = Vec::new();
    for figure in figures {
        if !measures.contains(&figure.measure.as_str()) {
            measures.push(&figure.measure);
        }
    }
    for measure in measures {
        line(&mut out, measure, figures, kinds, &peers);
    }
    out
}

fn line(out: &mut String, measure: &str, figures: &[Figure], kinds: &[Kind], peers: &[Kind]) {
    let figure = |kind| figures.iter().find(|f| f.measure == measure && f.kind == kind);
    let of = |kind: Kind| figure(kind).and_then(|f| f.value);
    let more = figures.iter().any(|f| f.measure == measure && f.more_is_better);
    let _ = write!(out, "| {measure} ({} is better) |", if more { "more" } else { "less" });
    for kind in kinds {
        // What was not asked of a system was not refused by it.
        let none = if figure(*kind).is_some() { "refused" } else { "–" };
        let text = of(*kind).map_or(none.to_owned(), shown);
        let _ = write!(out, " {text} |");
    }
    for peer in peers {
        let ratio = of(Kind::Taffrail)
            .zip(of(*peer))
            .map_or("–".to_owned(), |(ours, theirs)| format!("{:.2}×", ours / theirs));
        let _ = write!(out, " {ratio} |");
    }
    out.push('\n');
}

fn shown(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
