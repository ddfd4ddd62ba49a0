//! Power cuts and failing calls at every operation: nothing acknowledged may be lost, nothing that
//! was only torn may be called damage.

use super::*;

/// What a run of the workload knows when it ends, however it ended.
#[derive(Debug, Default)]
struct Run {
    /// Payload numbers in the order of append.
    appended: Vec<u64>,
    /// How many of them were acknowledged.
    acknowledged: usize,
}

fn payload(number: u64) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(8 + (number * 977 % 1900) as usize, number as u8);
    payload
}

fn numbers(seen: &[(u64, Owned)]) -> Vec<u64> {
    seen.iter()
        .map(|(_, (_, _, bytes))| {
            let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            assert_eq!(*bytes, payload(number));
            number
        })
        .collect()
}

/// Appends some records, waiting for every third, over several segments.
fn workload(log: &LocalLog, first: u64, count: u64, run: &mut Run) {
    for number in first..first + count {
        let Ok(position) = append(log, (number % 8) as u16, &payload(number)) else { return };
        run.appended.push(number);
        if number.is_multiple_of(3) {
            if wait(log, position).is_err() {
                return;
            }
            run.acknowledged = run.appended.len();
        }
    }
}

fn run(disk: &FaultyDisk, config: Config) -> Run {
    let mut run = Run::default();
    if let Ok((log, ..)) = open_from(disk, config, Replay::default()) {
        workload(&log, 0, 14, &mut run);
    }
    run
}

/// What a restart finds against what a run was promised.
fn verdict(disk: &FaultyDisk, run: &Run) -> Result<(), String> {
    let (log, recovery, seen) =
        open_from(disk, config(SMALL), Replay::default()).map_err(|e| e.to_string())?;
    let found = numbers(&seen);
    if found.len() < run.acknowledged {
        return Err(format!("{} acknowledged, {} found", run.acknowledged, found.len()));
    }
    if found != run.appended[..found.len()] {
        return Err(format!("found {found:?} of {:?}", run.appended));
    }
    if !recovery.damaged.is_empty() {
        return Err(format!("damage: {:?}", recovery.damaged));
    }
    drop(log);
    Ok(())
}

/// A second life after the first crash, cut short as well.
fn second_life(disk: &FaultyDisk, first: &Run, seed: u64) -> Result<(), String> {
    let (log, _, seen) =
        open_from(disk, config(SMALL), Replay::default()).map_err(|e| e.to_string())?;
    let mut run =
        Run { appended: numbers(&seen), acknowledged: seen.len().max(first.acknowledged) };
    workload(&log, 99, 5, &mut run);
    disk.crash();
    drop(log);
    verdict(&disk.after_crash(seed), &run)
}

fn crash_everywhere(config: &Config, syncs_ignored: bool) -> Vec<String> {
    let healthy = FaultyDisk::new();
    healthy.ignore_syncs(syncs_ignored);
    run(&healthy, config.clone());
    let mut failures = Vec::new();
    for operation in 1..=healthy.operations() {
        for seed in 0..6 {
            let disk = FaultyDisk::new();
            disk.ignore_syncs(syncs_ignored);
            disk.crash_at(operation, seed);
            let run = run(&disk, config.clone());
            disk.crash();
            let left = disk.after_crash(seed);
            let result =
                verdict(&left.after_kill(), &run).and_then(|()| second_life(&left, &run, seed));
            failures.extend(
                result
                    .err()
                    .map(|what| format!("{}, seed {seed}: {what}", healthy.describe(operation))),
            );
        }
    }
    failures
}

#[test]
fn a_power_cut_anywhere_loses_nothing_acknowledged() {
    assert_eq!(crash_everywhere(&config(SMALL), false), [""; 0]);
}

#[test]
fn without_syncs_the_same_test_fails() {
    assert!(!crash_everywhere(&config(SMALL), true).is_empty(), "a disk that lies must be noticed");
    let unsynced = Config { fsync: false, ..config(SMALL) };
    assert!(!crash_everywhere(&unsynced, false).is_empty(), "fsync = false must be noticed");
}

#[test]
fn a_call_that_fails_anywhere_loses_nothing_acknowledged() {
    let healthy = FaultyDisk::new();
    run(&healthy, config(SMALL));
    for operation in 1..=healthy.operations() + 3 {
        for (seed, fault) in [(0, Fault::Eio), (1, Fault::Enospc), (2, Fault::ShortWrite)] {
            let disk = FaultyDisk::new();
            disk.fail_at(operation, fault);
            let run = run(&disk, config(SMALL));
            let told = |life: &str, what: String| {
                panic!("{life}, {fault:?} at {}: {what}", disk.describe(operation))
            };
            verdict(&disk.after_kill(), &run).unwrap_or_else(|what| told("killed", what));
            verdict(&disk.after_crash(seed), &run).unwrap_or_else(|what| told("power cut", what));
            second_life(&disk.after_kill(), &run, seed)
                .unwrap_or_else(|what| told("second life", what));
        }
    }
}

#[test]
fn a_read_that_fails_is_told_and_loses_nothing_for_good() {
    let disk = FaultyDisk::new();
    let promised = run(&disk, config(SMALL));
    let before = disk.reads();
    verdict(&disk.after_kill(), &promised).unwrap();
    drop(open(&disk, SMALL));
    let mut missing = 0;
    for read in 1..=disk.reads() - before {
        let again = disk.after_kill();
        again.fail_read_at(read);
        let (log, recovery, seen) = open_from(&again, config(SMALL), Replay::default()).unwrap();
        let found = numbers(&seen);
        assert!(found.iter().all(|n| promised.appended.contains(n)), "read {read}: {found:?}");
        let told = recovery.damaged.iter().any(Damage::is_unreadable);
        assert!(told || found.len() >= promised.acknowledged, "read {read}: {found:?} untold");
        missing += usize::from(found.len() < promised.acknowledged);
        drop(log);
        verdict(&again, &promised).unwrap();
    }
    assert!(missing > 0, "no read mattered");
}

/// Appends, trims what is covered then, and appends again.
fn trimming(disk: &FaultyDisk, from: &mut u64, config: &Config) -> Run {
    let mut run = Run::default();
    let replay = Replay { from: Position(*from), floor: Position(*from) };
    let Ok((log, ..)) = open_from(disk, config.clone(), replay) else { return run };
    workload(&log, 0, 13, &mut run);
    if run.acknowledged == 13 {
        // As after a flush: a manifest calls all of it covered, and only then it is trimmed.
        *from = log.end().0;
        run = Run::default();
        drop(log.trim(Position(*from)));
        workload(&log, 13, 6, &mut run);
    }
    run
}

#[test]
fn a_power_cut_around_a_trim_is_no_damage() {
    let healthy = FaultyDisk::new();
    trimming(&healthy, &mut 0, &config(1000));
    assert!(files(&healthy).len() > 5 && !files(&healthy).contains(&segments::path_of(0)));
    for operation in 1..=healthy.operations() {
        for seed in 0..12 {
            let disk = FaultyDisk::new();
            disk.crash_at(operation, seed);
            let mut from = 0;
            let run = trimming(&disk, &mut from, &config(1000));
            disk.crash();
            let replay = Replay { from: Position(from), floor: Position(from) };
            let (_log, recovery, seen) =
                open_from(&disk.after_crash(seed), config(1000), replay).unwrap();
            let (found, at) = (numbers(&seen), healthy.describe(operation));
            assert!(
                found.len() >= run.acknowledged && found == run.appended[..found.len()],
                "{at}: {found:?} of {run:?}"
            );
            assert!(recovery.damaged.is_empty(), "{at}, seed {seed}: {:?}", recovery.damaged);
        }
    }
}
