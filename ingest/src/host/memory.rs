//! Memory (`/proc/meminfo`) and paging (`/proc/vmstat`).

use std::io;

use super::families::Families;
use super::{Host, malformed};

pub(super) fn meminfo(host: &Host, families: &mut Families<'_>) -> io::Result<()> {
    let text = host.root.read("proc/meminfo")?;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(key), Some(value)) = (words.next(), words.next()) else {
            continue;
        };
        let mut value: f64 = value.parse().map_err(|_| malformed("proc/meminfo"))?;
        // `Active(anon):` becomes `Active_anon`.
        let mut field = key.trim_end_matches(':').replace('(', "_").replace(')', "");
        if words.next() == Some("kB") {
            value *= 1024.0;
            field.push_str("_bytes");
        }
        let kind = if field.ends_with("_total") { "counter" } else { "gauge" };
        families.one(
            &format!("node_memory_{field}"),
            kind,
            &format!("Memory information field {field}."),
            value,
        );
    }
    Ok(())
}

pub(super) fn vmstat(host: &Host, families: &mut Families<'_>) -> io::Result<()> {
    let text = host.root.read("proc/vmstat")?;
    for line in text.lines() {
        let Some((key, value)) = line.split_once(' ').filter(|(key, _)| is_shown(key)) else {
            continue;
        };
        let value = value.trim_end().parse().map_err(|_| malformed("proc/vmstat"))?;
        let help = format!("/proc/vmstat information field {key}.");
        families.one(&format!("node_vmstat_{key}"), "untyped", &help, value);
    }
    Ok(())
}

/// node_exporter's default: `^(oom_kill|pgpg|pswp|pg.*fault).*`.
fn is_shown(key: &str) -> bool {
    ["oom_kill", "pgpg", "pswp"].iter().any(|prefix| key.starts_with(prefix))
        || key.strip_prefix("pg").is_some_and(|rest| rest.contains("fault"))
}
