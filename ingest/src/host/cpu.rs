//! Seconds the processors spent, by mode (`/proc/stat`).

use std::io;

use super::families::Families;
use super::{Host, malformed};

/// The kernel counts in hundredths of a second for user space, on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Columns of a `cpu` line.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const IDLE: usize = 3;
const COLUMNS: usize = 10;

/// An idle counter that falls by more seconds than this belongs to a processor that was replaced
/// (node_exporter's `jumpBackSeconds`).
const JUMP_BACK_SECONDS: f64 = 3.0;

/// The highest seconds seen of each processor. The kernel's idle and iowait counters sometimes go
/// back a little; a counter that falls would look like a restart.
#[derive(Debug, Default)]
pub(super) struct Seen {
    processors: Vec<(String, [f64; COLUMNS])>,
}

impl Seen {
    fn update(&mut self, name: &str, now: [f64; COLUMNS]) -> [f64; COLUMNS] {
        let Some((_, seen)) = self.processors.iter_mut().find(|(known, _)| known == name) else {
            self.processors.push((name.to_owned(), now));
            return now;
        };
        if seen[IDLE] - now[IDLE] >= JUMP_BACK_SECONDS {
            *seen = now;
        }
        for (seen, now) in seen.iter_mut().zip(now) {
            *seen = seen.max(now);
        }
        *seen
    }
}

pub(super) fn collect(host: &Host, families: &mut Families<'_>) -> io::Result<()> {
    let stat = host.root.read("proc/stat")?;
    let mut processors = Vec::new();
    let mut seen = host.cpu.lock();
    for line in stat.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(number) =
            words.next().and_then(|w| w.strip_prefix("cpu")).filter(|n| !n.is_empty())
        else {
            continue;
        };
        let mut seconds = [0.0; COLUMNS];
        for (column, word) in seconds.iter_mut().zip(words) {
            *column = word.parse::<f64>().map_err(|_| malformed("proc/stat"))? / TICKS_PER_SECOND;
        }
        processors.push((number, seen.update(number, seconds)));
    }
    drop(seen);
    let help = "Seconds the CPUs spent in guests (VMs) for each mode.";
    families.open("node_cpu_guest_seconds_total", "counter", help);
    for (number, seconds) in &processors {
        families.sample(&[("cpu", number), ("mode", "user")], seconds[8]);
        families.sample(&[("cpu", number), ("mode", "nice")], seconds[9]);
    }
    families.open("node_cpu_seconds_total", "counter", "Seconds the CPUs spent in each mode.");
    for (number, seconds) in &processors {
        for (mode, seconds) in MODES.iter().zip(seconds) {
            families.sample(&[("cpu", number), ("mode", mode)], *seconds);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(idle: &[f64], shown: &[f64]) {
        let mut seen = Seen::default();
        let of = |seconds: f64| std::array::from_fn(|i| if i == IDLE { seconds } else { 1.0 });
        let got: Vec<f64> = idle.iter().map(|s| seen.update("0", of(*s))[IDLE]).collect();
        assert_eq!(got, shown);
    }

    #[test]
    fn counters_fall_only_when_a_processor_is_replaced() {
        check(&[10.0, 11.0, 10.9, 12.0], &[10.0, 11.0, 11.0, 12.0]);
        check(&[10.0, 7.0, 8.0], &[10.0, 7.0, 8.0]);
    }
}
