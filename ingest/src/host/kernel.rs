//! Single numbers the kernel gives: load, interrupts, processes, pressure, file handles, entropy.

use std::io;

use super::families::Families;
use super::{Host, malformed};

pub(super) fn load(host: &Host, families: &mut Families<'_>) -> io::Result<()> {
    let text = host.root.read("proc/loadavg")?;
    let mut words = text.split(' ');
    for (minutes, help) in
        [("1", "1m load average."), ("5", "5m load average."), ("15", "15m load average.")]
    {
        let value =
            words.next().and_then(|w| w.parse().ok()).ok_or_else(|| malformed("proc/loadavg"))?;
        families.one(&format!("node_load{minutes}"), "gauge", help, value);
    }
    Ok(())
}

pub(super) fn stat(host: &Host, families: &mut Families<'_>) -> io::Result<()> {
    let text = host.root.read("proc/stat")?;
    let lines = [
        ("btime", "node_boot_time_seconds", "gauge", "Node boot time, in unixtime."),
        ("ctxt", "node_context_switches_total", "counter", "Total number of context switches."),
        ("processes", "node_forks_total", "counter", "Total number of forks."),
        ("intr", "node_intr_total", "counter", "Total number of interrupts serviced."),
        (
            "procs_blocked",
            "node_procs_blocked",
            "gauge",
            "Number of processes blocked waiting for I/O to complete.",
        ),
        ("procs_running", "node_procs_running", "gauge", "Number of processes in runnable state."),
    ];
    for (key, name, kind, help) in lines {
        let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '));
        let value = line
            .and_then(|l| l.split(' ').next()?.parse().ok())
            .ok_or_else(|| malformed("proc/stat"))?;
        families.one(name, kind, help, value);
    }
    Ok(())
}

pub(super) fn pressure(host: &Host, families: &mut Families<'_>) -> io::Result<()> {
    let lines = [
        (
            "cpu",
            "some",
            "cpu_waiting",
            "Total time in seconds that processes have waited for CPU time",
        ),
        (
            "io",
            "full",
            "io_stalled",
            "Total time in seconds no process could make progress due to IO congestion",
        ),
        (
            "io",
            "some",
            "io_waiting",
            "Total time in seconds that processes have waited due to IO congestion",
        ),
        (
            "memory",
            "full",
            "memory_stalled",
            "Total time in seconds no process could make progress due to memory congestion",
        ),
        (
            "memory",
            "some",
            "memory_waiting",
            "Total time in seconds that processes have waited for memory",
        ),
    ];
    for (file, line, name, help) in lines {
        let text = host.root.read(&format!("proc/pressure/{file}"))?;
        let total =
            text.lines().find(|l| l.starts_with(line)).and_then(|l| l.rsplit_once("total="));
        let microseconds: f64 =
            total.and_then(|(_, n)| n.parse().ok()).ok_or_else(|| malformed("proc/pressure"))?;
        families.one(
            &format!("node_pressure_{name}_seconds_total"),
            "counter",
            help,
            microseconds / 1e6,
        );
    }
    Ok(())
}

pub(super) fn file_descriptors(host: &Host, families: &mut Families<'_>) -> io::Result<()> {
    let text = host.root.read("proc/sys/fs/file-nr")?;
    let numbers: Vec<f64> = text.split_ascii_whitespace().filter_map(|w| w.parse().ok()).collect();
    let [allocated, _, maximum] = numbers[..] else {
        return Err(malformed("proc/sys/fs/file-nr"));
    };
    families.one(
        "node_filefd_allocated",
        "gauge",
        "File descriptor statistics: allocated.",
        allocated,
    );
    families.one("node_filefd_maximum", "gauge", "File descriptor statistics: maximum.", maximum);
    Ok(())
}

pub(super) fn entropy(host: &Host, families: &mut Families<'_>) -> io::Result<()> {
    let files = [
        ("entropy_avail", "node_entropy_available_bits", "Bits of available entropy."),
        ("poolsize", "node_entropy_pool_size_bits", "Bits of entropy pool."),
    ];
    for (file, name, help) in files {
        let text = host.root.read(&format!("proc/sys/kernel/random/{file}"))?;
        families.one(name, "gauge", help, text.trim_end().parse().map_err(|_| malformed(file))?);
    }
    Ok(())
}
