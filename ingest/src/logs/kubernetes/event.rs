//! Kubernetes events: core/v1 and events.k8s.io/v1.

use model::{Level, Signal, SourceKind};
use storage::entries::EntryReason;

use super::pick::{Picked, Wanted};
use crate::caps::WalkError;
use crate::logs::builder::{Entries, Line};
use crate::logs::document::{Taken, refuse};
use crate::logs::time;

/// Both versions, and what the older one calls things.
const WANTED: &[Wanted] = &[
    ("involvedObject", "kind", "involvedObject_kind"),
    ("involvedObject", "namespace", "involvedObject_namespace"),
    ("involvedObject", "name", "involvedObject_name"),
    ("involvedObject", "uid", "involvedObject_uid"),
    ("involvedObject", "apiVersion", "involvedObject_apiVersion"),
    ("involvedObject", "fieldPath", "involvedObject_fieldPath"),
    ("regarding", "kind", "involvedObject_kind"),
    ("regarding", "namespace", "involvedObject_namespace"),
    ("regarding", "name", "involvedObject_name"),
    ("regarding", "uid", "involvedObject_uid"),
    ("regarding", "apiVersion", "involvedObject_apiVersion"),
    ("regarding", "fieldPath", "involvedObject_fieldPath"),
    ("reason", "", "reason"),
    ("type", "", "type"),
    ("message", "", "message"),
    ("note", "", "message"),
    ("action", "", "action"),
    ("deprecatedCount", "", "count"),
    ("series", "count", "count"),
    ("count", "", "count"),
    ("deprecatedSource", "component", "source_component"),
    ("deprecatedSource", "host", "source_host"),
    ("source", "component", "source_component"),
    ("source", "host", "source_host"),
    ("reportingComponent", "", "reportingComponent"),
    ("reportingController", "", "reportingComponent"),
    ("reportingInstance", "", "reportingInstance"),
    ("metadata", "name", "metadata_name"),
    ("metadata", "uid", "metadata_uid"),
    ("metadata", "resourceVersion", "metadata_resourceVersion"),
    ("metadata", "namespace", ""),
    ("metadata", "creationTimestamp", ""),
    ("firstTimestamp", "", ""),
    ("lastTimestamp", "", ""),
    ("deprecatedLastTimestamp", "", ""),
    ("deprecatedFirstTimestamp", "", ""),
    ("eventTime", "", ""),
    ("series", "lastObservedTime", ""),
    ("cluster", "", ""),
];

/// When it happened last: the first of these that says a time.
const TIMES: [(&str, &str); 7] = [
    ("lastTimestamp", ""),
    ("series", "lastObservedTime"),
    ("deprecatedLastTimestamp", ""),
    ("eventTime", ""),
    ("firstTimestamp", ""),
    ("deprecatedFirstTimestamp", ""),
    ("metadata", "creationTimestamp"),
];

/// Takes one event apart.
pub(crate) fn event(text: &[u8], out: &mut Entries<'_, '_>) -> Result<Taken, WalkError> {
    let picked = match Picked::of(text, WANTED) {
        Ok(picked) => picked,
        Err(why) => return Ok(refuse(out, (EntryReason::InvalidEntry, why.to_string()))),
    };
    let of = |inner| match picked.str("involvedObject", inner) {
        empty if empty.is_empty() => picked.str("regarding", inner),
        found => found,
    };
    if of("kind").is_empty() && of("name").is_empty() {
        let text =
            "the object is no event: it says neither involvedObject nor regarding".to_owned();
        return Ok(refuse(out, (EntryReason::InvalidEntry, text)));
    }
    let at_ns = TIMES
        .iter()
        .find_map(|(outer, inner)| time::rfc3339_ns(picked.str(outer, inner).as_bytes()));
    let level = match &*picked.str("type", "") {
        "Warning" => Level::Warn,
        "Error" => Level::Error,
        _ => Level::Info,
    };
    let namespace = match of("namespace") {
        empty if empty.is_empty() && of("kind") != "Node" => picked.str("metadata", "namespace"),
        found => found,
    };
    let cluster = picked.str("cluster", "");
    let mut pairs = vec![("cluster", &*cluster), ("namespace", &*namespace), ("source", "events")];
    match out.stream_of(&mut pairs, Signal::Events, SourceKind::Events)? {
        Ok(stream) => {
            picked.fields(out)?;
            let place = out.place(text)?;
            let number = out.entry(Line { at_ns, place, level: Some(level) })?;
            out.of_stream(&stream)?;
            Ok(Ok(number))
        }
        Err(refused) => Ok(refuse(out, refused)),
    }
}
