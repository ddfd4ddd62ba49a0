//! The log replayed on several threads: one reads and checks records, others apply them, each to
//! partitions of its own, so that the order within a partition stays.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use model::{Position, Record, RecordKind};

use crate::Error;
use crate::log::Found;
use crate::open::{Restored, affected};

/// Records that may wait for one thread: some megabytes.
const WAITING_MAX: usize = 1_024;

/// More threads than this wait for the one that reads.
const THREADS_MAX: usize = 4;

/// What was found in the log, to be applied by the thread that has the partition.
enum Work {
    Record { at: Position, partition: u16, tenant: u32, kind: RecordKind, payload: Vec<u8> },
    Gap { partition: Option<u16>, end: Position },
}

/// Runs `read` with a function that takes what is found, and applies it to the partitions.
pub(crate) fn spread<T>(
    restored: &mut [Restored],
    read: impl FnOnce(&mut dyn FnMut(Found<'_>)) -> Result<T, Error>,
) -> Result<T, Error> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let share = restored.len().div_ceil(cores.clamp(1, THREADS_MAX)).max(1);
    thread::scope(|scope| {
        let mut threads: Vec<SyncSender<Work>> = Vec::new();
        for (i, own) in restored.chunks_mut(share).enumerate() {
            let (sender, work) = sync_channel(WAITING_MAX);
            let first = (i * share) as u16;
            scope.spawn(move || apply(own, first, work));
            threads.push(sender);
        }
        // A thread that is gone has panicked, and the scope passes that on.
        let mut found = |found: Found<'_>| match found {
            Found::Record(at, record) => {
                let Record { partition, tenant, kind, payload } = record;
                if let Some(thread) = threads.get(usize::from(partition) / share) {
                    let payload = payload.to_vec();
                    let _ = thread.send(Work::Record { at, partition, tenant, kind, payload });
                }
            }
            Found::Gap { partition, end } => {
                threads.iter().for_each(|t| drop(t.send(Work::Gap { partition, end })));
            }
        };
        read(&mut found)
    })
}

/// Applies work to the partitions from `first` on.
fn apply(own: &mut [Restored], first: u16, work: Receiver<Work>) {
    for found in work {
        match found {
            Work::Record { at, partition, tenant, kind, payload } => {
                if let Some(one) = own.get_mut(usize::from(partition - first)) {
                    one.replay(at, Record { partition, tenant, kind, payload: &payload });
                }
            }
            Work::Gap { partition, end } => {
                // Numbers here are those within `own`.
                let within = partition.map(|p| p.wrapping_sub(first));
                affected(own, within, end).for_each(|one| one.head.note_gap());
            }
        }
    }
}
