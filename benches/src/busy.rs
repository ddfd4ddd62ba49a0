//! Writing while heavy questions run in a loop: how much of its rate ingest keeps. The same writes
//! alone and beside the questions, in turn, so that a machine that gets slower does so for both.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cluster::Jitter;
use crate::load::{self, Load};
use crate::scenario::{Figure, PORT, Run, fresh, heavy, median};
use crate::sender;
use crate::system::System;

/// Hours of SIM that the questions are about.
const HOURS: u64 = 24;

/// Series that are written meanwhile.
const SERIES: u64 = 100_000;

/// Samples of each in one turn, 15 s apart.
const ROUNDS: u64 = 60;

/// Turns alone and beside questions.
const TURNS: u64 = 3;

/// Connections that ask, each the next question as soon as it has the answer.
const ASKING: usize = 2;

/// Every system in turn.
pub(crate) fn measure(run: &Run, end_ms: i64, figures: &mut Vec<Figure>) -> Result<()> {
    let past_ms = end_ms - HOURS as i64 * 3_600_000;
    let past = load::simulated(&run.dir, "busy-past", Jitter::Realistic, past_ms, HOURS)?;
    let start_ms = end_ms - ((2 * TURNS + 1) * ROUNDS) as i64 * 15_000;
    let part = |name: &str, rounds: Range<u64>| {
        load::wide(&run.dir, &format!("busy-{name}"), SERIES, start_ms, rounds)
    };
    let first = part("first", 0..1)?;
    let turns = (0..2 * TURNS)
        .map(|turn| part(&turn.to_string(), 1 + turn * ROUNDS..1 + (turn + 1) * ROUNDS))
        .collect::<Result<Vec<_>>>()?;
    for &kind in &run.kinds {
        let data = fresh(run.dir.join(format!("busy-{}", kind.name())))?;
        let (system, _) = System::start(kind, &data, PORT)?;
        let what = |doing: &str| format!("{doing} → {}", kind.name());
        sender::send(&past, PORT, &sender::REMOTE_WRITE, &what("what is asked for"))?;
        sender::send(&first, PORT, &sender::REMOTE_WRITE, &what("new series"))?;
        system.settle();
        let (mut alone, mut beside, mut asked) = (Vec::new(), Vec::new(), Vec::new());
        for (turn, load) in turns.iter().enumerate() {
            if turn % 2 == 0 {
                alone.push(rate(load, &what("alone"))?);
                continue;
            }
            let (rate, questions) = asking(&system, past.end_ms, || rate(load, &what("beside")))?;
            beside.push(rate?);
            asked.push(questions);
        }
        let (alone, beside) = (median(&mut alone), median(&mut beside));
        let mut put = |measure: &str, value: f64| {
            let (measure, value) = (measure.to_owned(), Some(value));
            figures.push(Figure { measure, kind, value, more_is_better: true });
        };
        put("busy: M samples per wall s, nothing asked", alone / 1e6);
        put("busy: the same while heavy questions run in a loop", beside / 1e6);
        put("busy: share of its rate that ingest keeps", beside / alone);
        put("busy: heavy questions answered meanwhile, per minute", median(&mut asked) * 60.0);
        std::fs::remove_dir_all(system.kill()?)?;
    }
    Ok(())
}

/// Samples per second of wall time.
fn rate(load: &Load, what: &str) -> Result<f64> {
    let sent = sender::send(load, PORT, &sender::REMOTE_WRITE, what)?;
    Ok(sent.samples as f64 / sent.wall.as_secs_f64())
}

/// Runs `work` while questions run; also how many were answered a second.
fn asking<T>(system: &System, end_ms: i64, work: impl FnOnce() -> T) -> Result<(T, f64)> {
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let paths = heavy(end_ms);
    let begun = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..ASKING)
            .map(|own| {
                let (stop, answered, paths) = (&stop, &answered, &paths);
                scope.spawn(move || -> Result<()> {
                    let mut connection = system.connect()?;
                    for path in paths.iter().cycle().skip(own) {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let response = connection.call("GET", path, &[], &[])?;
                        let is_answered = response.status == 200;
                        answered.fetch_add(u64::from(is_answered), Ordering::Relaxed);
                        if !is_answered {
                            // Refused because too much is asked at once: it comes back.
                            thread::sleep(Duration::from_millis(20));
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        // They are at work when the writes begin.
        thread::sleep(Duration::from_millis(500));
        let done = work();
        stop.store(true, Ordering::Relaxed);
        let took = begun.elapsed().as_secs_f64();
        let questions = answered.load(Ordering::Relaxed) as f64 / took;
        threads.into_iter().try_for_each(|t| t.join().expect("an asking thread does not panic"))?;
        Ok((done, questions))
    })
}
