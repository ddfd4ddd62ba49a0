//! The log replayed on several threads: one reads and checks records, others apply them, each to
//! partitions of its own, so that the order within a partition stays.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use model::{Position, Record, RecordKind};

use crate::Error;
use crate::entries::{self, RestoredEntries};
use crate::log::Found;
use crate::open::{Restored, affected};
use crate::partition_map::ENTRIES_FIRST;

/// Bytes of payloads after which work is handed over. Many tenants mean many small records: one by
/// one, handing over would cost more than applying.
const BATCH_BYTES: usize = 256 << 10;

/// Items after which work is handed over.
const BATCH_ITEMS: usize = 1_024;

/// Batches that may wait for one thread: a megabyte, and as much as the records that are larger.
const WAITING_MAX: usize = 4;

/// More threads than this wait for the one that reads.
const THREADS_MAX: usize = 4;

/// What was found in the log, to be applied by the thread that has the partition.
#[derive(Default)]
struct Batch {
    items: Vec<Item>,
    /// Payloads, one behind the other.
    bytes: Vec<u8>,
}

enum Item {
    /// A record whose payload lies in the batch's bytes.
    Record {
        at: Position,
        partition: u16,
        tenant: u32,
        kind: RecordKind,
        payload: Range<usize>,
    },
    Gap {
        partition: Option<u16>,
        end: Position,
    },
}

/// A thread that applies, and what it gets next.
struct Applier {
    sender: SyncSender<Batch>,
    next: Batch,
}

impl Applier {
    fn record(&mut self, at: Position, record: &Record<'_>) {
        let Record { partition, tenant, kind, payload } = *record;
        let start = self.next.bytes.len();
        self.next.bytes.extend_from_slice(payload);
        let payload = start..self.next.bytes.len();
        self.push(Item::Record { at, partition, tenant, kind, payload });
    }

    fn push(&mut self, item: Item) {
        self.next.items.push(item);
        if self.next.items.len() >= BATCH_ITEMS || self.next.bytes.len() >= BATCH_BYTES {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        // A thread that is gone has panicked, and the scope passes that on.
        let _ = self.sender.send(std::mem::take(&mut self.next));
    }
}

/// Runs `read` with a function that takes what is found, and applies it to the partitions.
pub(crate) fn spread<T>(
    restored: &mut [Restored],
    entries: &mut [RestoredEntries],
    read: impl FnOnce(&mut dyn FnMut(Found<'_>)) -> Result<T, Error>,
) -> Result<T, Error> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let share = restored.len().div_ceil(cores.clamp(1, THREADS_MAX)).max(1);
    thread::scope(|scope| {
        let mut appliers: Vec<Applier> = Vec::new();
        for (i, own) in restored.chunks_mut(share).enumerate() {
            let (sender, work) = sync_channel(WAITING_MAX);
            let first = (i * share) as u16;
            scope.spawn(move || apply(own, first, work));
            appliers.push(Applier { sender, next: Batch::default() });
        }
        let metrics = appliers.len();
        let (sender, work) = sync_channel(WAITING_MAX);
        scope.spawn(move || apply_entries(entries, work));
        appliers.push(Applier { sender, next: Batch::default() });
        let mut found = |found: Found<'_>| match found {
            Found::Record(at, record) => {
                let of_metrics = (usize::from(record.partition) / share).min(metrics);
                let is_of_entries = record.partition >= ENTRIES_FIRST;
                if let Some(applier) =
                    appliers.get_mut(if is_of_entries { metrics } else { of_metrics })
                {
                    applier.record(at, &record);
                }
            }
            Found::Gap { partition, end } => {
                appliers.iter_mut().for_each(|a| a.push(Item::Gap { partition, end }));
            }
        };
        let outcome = read(&mut found);
        appliers.iter_mut().for_each(Applier::hand_over);
        outcome
    })
}

/// Applies work to the partitions from `first` on.
fn apply(own: &mut [Restored], first: u16, work: Receiver<Batch>) {
    for Batch { items, bytes } in work {
        for item in items {
            match item {
                Item::Record { at, partition, tenant, kind, payload } => {
                    let payload = bytes.get(payload).unwrap_or_default();
                    if let Some(one) = own.get_mut(usize::from(partition - first)) {
                        one.replay(at, Record { partition, tenant, kind, payload });
                    }
                }
                Item::Gap { partition, end } => {
                    // Numbers here are those within `own`.
                    let within = partition.map(|p| p.wrapping_sub(first));
                    affected(own, within, end).for_each(|one| one.head.note_gap());
                }
            }
        }
    }
}

/// Applies work to the partitions of entries.
fn apply_entries(all: &mut [RestoredEntries], work: Receiver<Batch>) {
    for Batch { items, bytes } in work {
        for item in items {
            match item {
                Item::Record { at, partition, tenant, kind, payload } => {
                    let payload = bytes.get(payload).unwrap_or_default();
                    if let Some(one) = all.iter_mut().find(|one| one.number == partition) {
                        one.replay(at, Record { partition, tenant, kind, payload });
                    }
                }
                Item::Gap { partition, end } => {
                    entries::affected(all, partition, end).for_each(|one| one.head.note_gap());
                }
            }
        }
    }
}
