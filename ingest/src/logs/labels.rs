//! Labels of a stream: checked, completed, in canonical encoding; and what they say of its source.

use model::{Level, Signal, SourceKind, TENANT_LABEL};
use storage::entries::EntryReason;
use tenancy::Limits;

use super::level;
use crate::build::put_label;
use crate::intake::CLUSTER;
use crate::remote_write::shortened;

/// The label by which Grafana's log views group streams.
pub(crate) const SERVICE_NAME: &str = "service_name";

/// The labels that give the service's name where there is none; the first that is there counts
/// (Loki's `discover_service_name`).
const NAMED_BY: [&str; 13] = [
    "service",
    "app",
    "application",
    "app_name",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
    "k8s_job_name",
];

/// What it is if none is.
const UNKNOWN_SERVICE: &str = "unknown_service";

/// Labels as they came, names and values.
pub(crate) type Pairs<'t> = Vec<(&'t str, &'t str)>;

/// What stands around labels and decides what becomes of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Around<'c> {
    /// What the entries are.
    pub(crate) signal: Signal,
    /// What they come from, if the door knows.
    pub(crate) kind: SourceKind,
    /// Label `cluster` of streams that have none; empty for none.
    pub(crate) cluster: &'c str,
}

/// Labels that may be stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StreamLabels {
    /// In canonical encoding.
    pub(crate) encoded: Box<[u8]>,
    /// What the stream comes from.
    pub(crate) kind: SourceKind,
    /// What its labels say of how bad its entries are.
    pub(crate) level: Option<Level>,
    /// How many labels the sender gave.
    pub(crate) count: usize,
    /// Length of the longest name.
    pub(crate) name_bytes: usize,
    /// Length of the longest value.
    pub(crate) value_bytes: usize,
}

/// Why labels were refused.
pub(crate) type Refused = (EntryReason, String);

impl StreamLabels {
    /// From what a sender gave, in any order. Labels without a value are left out.
    pub(crate) fn of(pairs: &mut Pairs<'_>, around: Around<'_>) -> Result<Self, Refused> {
        pairs.retain(|(_, value)| !value.is_empty());
        pairs.sort_by(|a, b| a.0.cmp(b.0));
        let wrong = |text: String| Err((EntryReason::InvalidLabels, text));
        if pairs.is_empty() {
            return wrong("at least one label pair is required per stream".to_owned());
        }
        for (i, (name, _)) in pairs.iter().enumerate() {
            let told = || (shown(pairs), shortened(name.as_bytes()));
            if !is_name(name) {
                let (stream, name) = told();
                return wrong(format!(
                    "error parsing labels '{stream}': {name:?} is no name of a label, which has letters, \
                     digits and underscores"
                ));
            }
            if *name == TENANT_LABEL {
                let (stream, _) = told();
                return wrong(format!(
                    "label {TENANT_LABEL} of stream '{stream}' is reserved: it names the tenant in answers"
                ));
            }
            if i > 0 && pairs[i - 1].0 == *name {
                let (stream, name) = told();
                return wrong(format!("stream '{stream}' has the label {name:?} twice"));
            }
        }
        Ok(Self::of_checked(pairs, around))
    }

    fn of_checked(pairs: &[(&str, &str)], around: Around<'_>) -> Self {
        let pairs = &mut pairs.to_vec();
        let (count, level) = (pairs.len(), level_of(pairs));
        let longest = |of: fn(&(&str, &str)) -> usize| pairs.iter().map(of).max().unwrap_or(0);
        let (name_bytes, value_bytes) = (longest(|p| p.0.len()), longest(|p| p.1.len()));
        let kind = kind_of(pairs, around);
        if !around.cluster.is_empty() {
            add(pairs, CLUSTER, around.cluster);
        }
        if around.signal == Signal::Logs {
            let service = NAMED_BY.iter().find_map(|name| get(pairs, name));
            add(pairs, SERVICE_NAME, service.unwrap_or(UNKNOWN_SERVICE));
        }
        let mut encoded = Vec::with_capacity(256);
        for (name, value) in &*pairs {
            put_label(&mut encoded, name, [value, ""]);
        }
        Self { encoded: encoded.into(), kind, level, count, name_bytes, value_bytes }
    }

    /// Whether a tenant may have a stream like this.
    pub(crate) fn check(&self, limits: &Limits) -> Result<(), Refused> {
        if self.count <= limits.stream_labels_max
            && self.name_bytes <= limits.label_name_bytes_max
            && self.value_bytes <= limits.label_value_bytes_max
        {
            return Ok(());
        }
        let labels = model::Labels::from_wire(&self.encoded).unwrap_or_default();
        let stream = shortened(labels.to_string().as_bytes());
        if self.count > limits.stream_labels_max {
            let (count, limit) = (self.count, limits.stream_labels_max);
            let text = format!(
                "entry for stream '{stream}' has {count} label names; limit {limit} (stream_labels_max)"
            );
            return Err((EntryReason::TooManyLabels, text));
        }
        let long = labels.iter().find(|(name, _)| name.len() == self.name_bytes);
        if let Some((name, _)) = long.filter(|_| self.name_bytes > limits.label_name_bytes_max) {
            let (bytes, limit) = (name.len(), limits.label_name_bytes_max);
            let name = shortened(name.as_bytes());
            let text = format!(
                "stream '{stream}' has label name too long: '{name}', {bytes} bytes; limit {limit} \
                 (label_name_bytes_max)"
            );
            return Err((EntryReason::LabelNameTooLong, text));
        }
        // What was added here may be longer.
        let long = labels.iter().find(|(_, value)| value.len() == self.value_bytes);
        let (name, value) = long.unwrap_or_default();
        let (bytes, limit) = (value.len(), limits.label_value_bytes_max);
        let value = shortened(value.as_bytes());
        let text = format!(
            "stream '{stream}' has label value too long: '{value}' of '{name}', {bytes} bytes; limit \
             {limit} (label_value_bytes_max)"
        );
        Err((EntryReason::LabelValueTooLong, text))
    }
}

/// The stream as messages show it.
fn shown(pairs: &Pairs<'_>) -> String {
    let shown = pairs.iter().take(20).map(|(name, value)| format!("{name}={value:?}"));
    shortened(format!("{{{}}}", shown.collect::<Vec<_>>().join(", ")).as_bytes())
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`
pub(crate) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Adds a label where it belongs unless there is one of the name.
fn add<'t>(pairs: &mut Pairs<'t>, name: &'t str, value: &'t str) {
    if let Err(at) = pairs.binary_search_by(|(known, _)| (*known).cmp(name)) {
        pairs.insert(at, (name, value));
    }
}

fn get<'t>(pairs: &Pairs<'t>, name: &str) -> Option<&'t str> {
    let at = pairs.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    Some(pairs[at].1)
}

fn level_of(pairs: &Pairs<'_>) -> Option<Level> {
    let said = pairs.iter().find(|(name, _)| level::is_level_name(name.as_bytes()));
    level::of_word(said?.1.as_bytes())
}

/// What a stream comes from: as its door says, or by the labels that collectors give.
fn kind_of(pairs: &Pairs<'_>, around: Around<'_>) -> SourceKind {
    match around.kind {
        SourceKind::Other | SourceKind::Application => {}
        known => return known,
    }
    match around.signal {
        Signal::Events => return SourceKind::Events,
        Signal::Audits => return SourceKind::Audit,
        Signal::Logs => {}
    }
    let container = ["container", "container_name", "k8s_container_name"];
    if let Some(container) = container.iter().find_map(|name| get(pairs, name)) {
        return match container {
            "istio-proxy" | "istio-ingressgateway" => SourceKind::Mesh,
            name if name.contains("ingress") => SourceKind::Ingress,
            _ if is_ingress(pairs) => SourceKind::Ingress,
            _ => SourceKind::Container,
        };
    }
    let units = ["unit", "systemd_unit", "_SYSTEMD_UNIT", "__journal__systemd_unit"];
    if let Some(unit) = units.iter().find_map(|name| get(pairs, name)) {
        return if unit.starts_with("kubelet") { SourceKind::Kubelet } else { SourceKind::Node };
    }
    match get(pairs, "job") {
        Some("kubelet") => SourceKind::Kubelet,
        Some("systemd-journal" | "journal" | "syslog") => SourceKind::Node,
        _ => around.kind,
    }
}

fn is_ingress(pairs: &Pairs<'_>) -> bool {
    let names = ["app", "app_kubernetes_io_name", "workload"];
    let values = names.iter().filter_map(|name| get(pairs, name));
    values.into_iter().any(|value| value.contains("ingress-nginx") || value == "kubesphere-router")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Around<'_> =
        Around { signal: Signal::Logs, kind: SourceKind::Other, cluster: "c1" };

    #[track_caller]
    fn check(pairs: &[(&str, &str)], shown: &str) {
        let stored = StreamLabels::of(&mut pairs.to_vec(), PLAIN);
        let stored = stored.map(|labels| {
            let decoded = model::Labels::from_wire(&labels.encoded).expect("labels");
            let mut canonical = Vec::new();
            decoded.encode(&mut canonical);
            assert_eq!(*labels.encoded, canonical, "labels are in canonical encoding");
            decoded.to_string()
        });
        assert_eq!(stored.unwrap_or_else(|(_, text)| text), shown);
    }

    #[test]
    fn labels_are_completed_and_checked() {
        check(
            &[("b", "2"), ("a", "1"), ("x", "")],
            r#"{a="1", b="2", cluster="c1", service_name="unknown_service"}"#,
        );
        check(
            &[("cluster", "own"), ("job", "j"), ("app", "a")],
            r#"{app="a", cluster="own", job="j", service_name="a"}"#,
        );
        check(
            &[("service_name", "s"), ("app", "a")],
            r#"{app="a", cluster="c1", service_name="s"}"#,
        );
        check(&[], "at least one label pair is required per stream");
        check(&[("a", "")], "at least one label pair is required per stream");
        check(&[("a", "1"), ("a", "2")], r#"stream '{a="1", a="2"}' has the label "a" twice"#);
        check(
            &[("a.b", "1")],
            r#"error parsing labels '{a.b="1"}': "a.b" is no name of a label, which has letters, digits and underscores"#,
        );
        check(
            &[("__tenant_id__", "1")],
            r#"label __tenant_id__ of stream '{__tenant_id__="1"}' is reserved: it names the tenant in answers"#,
        );
    }

    #[test]
    fn limits_are_told_with_the_stream() {
        let limits = Limits {
            stream_labels_max: 2,
            label_name_bytes_max: 8,
            label_value_bytes_max: 3,
            ..Limits::default()
        };
        let refused = |pairs: &[(&str, &str)]| {
            let around = Around { cluster: "", ..PLAIN };
            let labels = StreamLabels::of(&mut pairs.to_vec(), around).expect("labels");
            labels
                .check(&limits)
                .map_or_else(|(reason, text)| format!("{reason} {text}"), |()| String::new())
        };
        assert_eq!(refused(&[("a", "1"), ("b", "2")]), "");
        assert!(
            refused(&[("a", "1"), ("b", "2"), ("c", "3")])
                .starts_with("too_many_labels entry for stream '{a=\"1\", b=")
        );
        assert!(
            refused(&[("abcdefghi", "1")])
                .contains("label name too long: 'abcdefghi', 9 bytes; limit 8")
        );
        assert!(
            refused(&[("a", "1234")])
                .contains("label value too long: '1234' of 'a', 4 bytes; limit 3")
        );
    }

    #[test]
    fn sources_are_known_by_their_labels() {
        let of = |kind, pairs: &[(&str, &str)]| {
            let around = Around { kind, ..PLAIN };
            StreamLabels::of(&mut pairs.to_vec(), around).expect("labels").kind
        };
        let other = SourceKind::Other;
        assert_eq!(of(other, &[("container", "web")]), SourceKind::Container);
        assert_eq!(of(other, &[("container", "istio-proxy")]), SourceKind::Mesh);
        assert_eq!(of(other, &[("container", "nginx-ingress-controller")]), SourceKind::Ingress);
        assert_eq!(
            of(other, &[("container", "controller"), ("app", "ingress-nginx")]),
            SourceKind::Ingress
        );
        assert_eq!(of(other, &[("unit", "kubelet.service")]), SourceKind::Kubelet);
        assert_eq!(of(other, &[("systemd_unit", "sshd.service")]), SourceKind::Node);
        assert_eq!(of(other, &[("x", "y")]), SourceKind::Other);
        assert_eq!(of(SourceKind::Application, &[("x", "y")]), SourceKind::Application);
        assert_eq!(
            of(SourceKind::Application, &[("k8s_container_name", "y")]),
            SourceKind::Container
        );
        assert_eq!(of(SourceKind::PlatformAudit, &[("container", "y")]), SourceKind::PlatformAudit);
    }
}
