//! Disk traffic (`/proc/diskstats`).

use std::io;

use super::families::Families;
use super::{Host, malformed};

/// The kernel's sectors are 512 bytes, whatever the device's are.
const SECTOR_BYTES: f64 = 512.0;
const MILLISECOND: f64 = 0.001;

/// Family, type, factor and help of each column after the device's name.
const COLUMNS: [(&str, &str, f64, &str); 17] = [
    ("reads_completed_total", "counter", 1.0, "The total number of reads completed successfully."),
    ("reads_merged_total", "counter", 1.0, "The total number of reads merged."),
    ("read_bytes_total", "counter", SECTOR_BYTES, "The total number of bytes read successfully."),
    (
        "read_time_seconds_total",
        "counter",
        MILLISECOND,
        "The total number of seconds spent by all reads.",
    ),
    (
        "writes_completed_total",
        "counter",
        1.0,
        "The total number of writes completed successfully.",
    ),
    ("writes_merged_total", "counter", 1.0, "The number of writes merged."),
    (
        "written_bytes_total",
        "counter",
        SECTOR_BYTES,
        "The total number of bytes written successfully.",
    ),
    (
        "write_time_seconds_total",
        "counter",
        MILLISECOND,
        "This is the total number of seconds spent by all writes.",
    ),
    ("io_now", "gauge", 1.0, "The number of I/Os currently in progress."),
    ("io_time_seconds_total", "counter", MILLISECOND, "Total seconds spent doing I/Os."),
    (
        "io_time_weighted_seconds_total",
        "counter",
        MILLISECOND,
        "The weighted # of seconds spent doing I/Os.",
    ),
    (
        "discards_completed_total",
        "counter",
        1.0,
        "The total number of discards completed successfully.",
    ),
    ("discards_merged_total", "counter", 1.0, "The total number of discards merged."),
    (
        "discarded_sectors_total",
        "counter",
        1.0,
        "The total number of sectors discarded successfully.",
    ),
    (
        "discard_time_seconds_total",
        "counter",
        MILLISECOND,
        "This is the total number of seconds spent by all discards.",
    ),
    (
        "flush_requests_total",
        "counter",
        1.0,
        "The total number of flush requests completed successfully",
    ),
    (
        "flush_requests_time_seconds_total",
        "counter",
        MILLISECOND,
        "This is the total number of seconds spent by all flush requests.",
    ),
];

struct Device<'a> {
    major: &'a str,
    minor: &'a str,
    name: &'a str,
    columns: Vec<f64>,
}

pub(super) fn collect(host: &Host, families: &mut Families<'_>) -> io::Result<()> {
    let text = host.root.read("proc/diskstats")?;
    let mut devices = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(major), Some(minor), Some(name)) = (words.next(), words.next(), words.next())
        else {
            return Err(malformed("proc/diskstats"));
        };
        if is_left_out(name) {
            continue;
        }
        let columns: Result<Vec<f64>, _> = words.map(str::parse).collect();
        let columns = columns.map_err(|_| malformed("proc/diskstats"))?;
        devices.push(Device { major, minor, name, columns });
    }
    for (i, (name, kind, factor, help)) in COLUMNS.iter().enumerate() {
        // Older kernels have fewer columns.
        if devices.iter().all(|d| d.columns.len() <= i) {
            break;
        }
        families.open(&format!("node_disk_{name}"), kind, help);
        for device in &devices {
            if let Some(value) = device.columns.get(i) {
                families.sample(&[("device", device.name)], scaled(*value, *factor));
            }
        }
    }
    info(host, families, &devices);
    Ok(())
}

/// Milliseconds are divided: a product with 0.001 would show its rounding.
fn scaled(value: f64, factor: f64) -> f64 {
    if factor < 1.0 { value / factor.recip() } else { value * factor }
}

fn info(host: &Host, families: &mut Families<'_>, devices: &[Device<'_>]) {
    families.open("node_disk_info", "gauge", "Info of /sys/block/<block_device>.");
    for Device { major, minor, name, .. } in devices {
        let udev = host.root.read(&format!("run/udev/data/b{major}:{minor}")).unwrap_or_default();
        let of = |key: &str| {
            let line = udev
                .lines()
                .find_map(|l| l.strip_prefix("E:")?.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or("").to_owned()
        };
        let labels = [
            ("device", *name),
            ("major", *major),
            ("minor", *minor),
            ("path", &of("ID_PATH")),
            ("wwn", &of("ID_WWN")),
            ("model", &of("ID_MODEL")),
            ("serial", &of("ID_SERIAL_SHORT")),
            ("revision", &of("ID_REVISION")),
        ];
        families.sample(&labels, 1.0);
    }
}

/// Partitions and devices in memory, node_exporter's default:
/// `^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$`.
fn is_left_out(name: &str) -> bool {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.len() == name.len() {
        return false;
    }
    if matches!(stem, "ram" | "zram" | "loop" | "fd") {
        return true;
    }
    let disk = ["xvd", "hd", "sd", "vd"].iter().find_map(|prefix| stem.strip_prefix(prefix));
    if disk.is_some_and(|letter| letter.len() == 1 && letter.as_bytes()[0].is_ascii_lowercase()) {
        return true;
    }
    let nvme =
        stem.strip_prefix("nvme").and_then(|s| s.strip_suffix('p')).and_then(|s| s.split_once('n'));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    nvme.is_some_and(|(controller, namespace)| digits(controller) && digits(namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_and_memory_are_left_out() {
        for name in
            ["loop0", "ram15", "zram0", "fd0", "sda1", "vdb12", "xvda1", "hda1", "nvme0n1p2"]
        {
            assert!(is_left_out(name), "{name}");
        }
        for name in ["sda", "vda", "nvme0n1", "dm-0", "md127", "sr0", "mmcblk0", "sdaa1", "loop"] {
            assert!(!is_left_out(name), "{name}");
        }
    }
}
