//! What ties a question to those who work on it: the flag that tells them to stop, and the
//! counters in which they say what they have used.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use model::{CancelGuard, Watch};

/// A shared flag: set when the client is gone, the deadline passed or somebody ended the question.
/// Evaluators look at it once per morsel.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    stop: model::Cancel,
    usage: Arc<Usage>,
}

impl Cancel {
    /// The same question with a deadline; the earlier one of two counts.
    pub fn until(&self, deadline: Instant) -> Self {
        Self { stop: self.stop.until(deadline), usage: Arc::clone(&self.usage) }
    }

    /// The same question with somebody who may end its work.
    pub fn watched(&self, watch: Arc<dyn Watch>) -> Self {
        Self { stop: self.stop.watched(watch), usage: Arc::clone(&self.usage) }
    }

    /// Tells everyone who holds the flag to stop.
    pub fn set(&self) {
        self.stop.set();
    }

    /// Whether to stop.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.stop.is_set()
    }

    /// The flag and the deadline, for those who count nothing.
    pub fn stop(&self) -> &model::Cancel {
        &self.stop
    }

    /// What the question has used so far.
    #[inline]
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// A guard that sets the flag when it is dropped: kept in a future, it ends the work of that
    /// future however the future ends.
    pub fn guard(&self) -> CancelGuard {
        self.stop.guard()
    }
}

/// What a question has used so far, counted by all threads that work on it.
#[derive(Debug, Default)]
pub struct Usage {
    series: AtomicU64,
    samples: AtomicU64,
    bytes: AtomicU64,
    memory_bytes: AtomicU64,
    memory_bytes_peak: AtomicU64,
    cpu_nanoseconds: AtomicU64,
}

/// [`Usage`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Series selected.
    pub series: u64,
    /// Samples read, each counted once.
    pub samples: u64,
    /// Bytes read from storage.
    pub bytes: u64,
    /// Memory held now.
    pub memory_bytes: u64,
    /// Most memory held at a time.
    pub memory_bytes_peak: u64,
    /// Processor time.
    pub cpu: Duration,
}

impl Usage {
    /// Counts series; gives how many there are now. So do those below.
    pub fn add_series(&self, count: u64) -> u64 {
        add(&self.series, count)
    }

    /// Counts samples.
    pub fn add_samples(&self, count: u64) -> u64 {
        add(&self.samples, count)
    }

    /// Counts bytes read from storage.
    pub fn add_bytes(&self, count: u64) -> u64 {
        add(&self.bytes, count)
    }

    /// Counts memory that is held from now on. It is part of the peak only once
    /// [`Usage::keep_memory`] says that it was allowed.
    pub fn add_memory(&self, bytes: u64) -> u64 {
        add(&self.memory_bytes, bytes)
    }

    /// Says that so much memory is held.
    pub fn keep_memory(&self, total: u64) {
        self.memory_bytes_peak.fetch_max(total, Ordering::Relaxed);
    }

    /// Counts memory that is held no more.
    pub fn release_memory(&self, bytes: u64) {
        self.memory_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts processor time.
    pub fn add_cpu(&self, time: Duration) {
        add(&self.cpu_nanoseconds, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The counters now.
    pub fn now(&self) -> Used {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Used {
            series: load(&self.series),
            samples: load(&self.samples),
            bytes: load(&self.bytes),
            memory_bytes: load(&self.memory_bytes),
            memory_bytes_peak: load(&self.memory_bytes_peak),
            cpu: Duration::from_nanos(load(&self.cpu_nanoseconds)),
        }
    }
}

fn add(counter: &AtomicU64, count: u64) -> u64 {
    counter.fetch_add(count, Ordering::Relaxed).wrapping_add(count)
}
