//! What runs here: kernel, distribution, time.

use std::io;

use super::Host;
use super::families::Families;

pub(super) fn time(host: &Host, families: &mut Families<'_>) -> io::Result<()> {
    let seconds = host.clock.now_ms() as f64 / 1000.0;
    families.one(
        "node_time_seconds",
        "gauge",
        "System time in seconds since epoch (1970).",
        seconds,
    );
    Ok(())
}

pub(super) fn uname(host: &Host, families: &mut Families<'_>) -> io::Result<()> {
    let of = |file: &str| host.root.value(&format!("proc/sys/kernel/{file}")).unwrap_or_default();
    let release = host.root.read("proc/sys/kernel/osrelease")?;
    // `arch` is there since Linux 6.1; before, the machine is the one this was built for.
    let machine = host
        .root
        .value("proc/sys/kernel/arch")
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let labels = [
        ("sysname", of("ostype")),
        ("release", release.trim_end().to_owned()),
        ("version", of("version")),
        ("machine", machine),
        ("nodename", of("hostname")),
        ("domainname", of("domainname")),
    ];
    let help = "Labeled system information as provided by the uname system call.";
    families.open("node_uname_info", "gauge", help);
    families.sample(&labels.each_ref().map(|(name, value)| (*name, value.as_str())), 1.0);
    Ok(())
}

/// Labels of `node_os_info`, by their names in `os-release` in lower case.
const OS_LABELS: [&str; 12] = [
    "build_id",
    "id",
    "id_like",
    "image_id",
    "image_version",
    "name",
    "pretty_name",
    "variant",
    "variant_id",
    "version",
    "version_codename",
    "version_id",
];

pub(super) fn os(host: &Host, families: &mut Families<'_>) -> io::Result<()> {
    let text =
        host.root.read("etc/os-release").or_else(|_| host.root.read("usr/lib/os-release"))?;
    let of = |key: &str| {
        let line = text
            .lines()
            .filter_map(|l| l.trim().split_once('='))
            .find(|(k, _)| k.eq_ignore_ascii_case(key));
        line.map(|(_, value)| unquoted(value)).unwrap_or_default()
    };
    let values = OS_LABELS.map(|name| (name, of(name)));
    let help = "A metric with a constant '1' value labeled by build_id, id, id_like, image_id, image_version, \
                name, pretty_name, variant, variant_id, version, version_codename, version_id.";
    families.open("node_os_info", "gauge", help);
    families.sample(&values.each_ref().map(|(name, value)| (*name, value.as_str())), 1.0);
    let version_id = of("version_id");
    let mut parts = version_id.splitn(3, '.');
    let number = [parts.next(), parts.next()].into_iter().flatten().collect::<Vec<_>>().join(".");
    if let Ok(number) = number.parse() {
        let help = "Metric containing the major.minor part of the OS version.";
        families.open("node_os_version", "gauge", help);
        let labels = [("id", &of("id")), ("id_like", &of("id_like")), ("name", &of("name"))];
        families.sample(&labels.map(|(name, value)| (name, value.as_str())), number);
    }
    Ok(())
}

/// A value of a shell-like file: maybe in quotes, with backslashes before some characters.
fn unquoted(value: &str) -> String {
    let value = value.trim();
    let inner =
        ['"', '\''].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q)).unwrap_or(value);
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    out
}
