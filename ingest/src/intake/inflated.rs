//! Room for decompressed bodies: usual ones in a buffer that is kept, large ones in memory of
//! their own, which is the system's again as soon as the body is stored.
//!
//! Invariant: what large bodies take is bounded over all requests together; whoever finds no room
//! waits for those before, in the order of asking.

use std::sync::{Arc, LazyLock};

use memmap2::MmapMut;
use parking_lot::{Condvar, Mutex};

/// Inflated bodies above this are rare. A third more than a large request of Prometheus (10,000
/// samples of 300 bytes). There are a few such buffers at most.
pub(super) const KEPT_BYTES_MAX: usize = 4 << 20;

/// What all large bodies may take at a time, for each core: one of a large agent's requests.
const LARGE_BYTES_OF_CORE: usize = 8 << 20;

/// The same on machines of few cores: the largest body that is allowed unless a tenant's limits
/// say otherwise.
const LARGE_BYTES_MIN: usize = 32 << 20;

/// A decompressed body, and room for the next one. Only what was written into it means anything.
#[derive(Debug)]
pub(crate) struct Inflated {
    /// Never shortened, so that it is zeroed once and not per request.
    kept: Vec<u8>,
    large: Option<(MmapMut, Held)>,
    rooms: Arc<Rooms>,
}

impl Default for Inflated {
    fn default() -> Self {
        Self::within(&ROOMS)
    }
}

impl Inflated {
    fn within(rooms: &Arc<Rooms>) -> Self {
        Self { kept: Vec::new(), large: None, rooms: Arc::clone(rooms) }
    }

    /// At least so many bytes, of which the first `filled` are what was there before. Room beyond
    /// the usual is asked for once for a body: `most` is what it can come to.
    pub(super) fn room(&mut self, bytes: usize, filled: usize, most: usize) -> &mut [u8] {
        if self.large.is_none() && bytes > KEPT_BYTES_MAX {
            self.large = map(&self.rooms, most.max(bytes));
            if let Some((large, _)) = &mut self.large {
                large[..filled].copy_from_slice(&self.kept[..filled]);
            }
        }
        match &mut self.large {
            Some((large, _)) if large.len() >= bytes => large,
            _ => {
                if self.kept.len() < bytes {
                    self.kept.resize(bytes, 0);
                }
                &mut self.kept
            }
        }
    }

    /// What was written.
    pub(super) fn filled(&self, bytes: usize) -> &[u8] {
        match &self.large {
            Some((large, _)) => &large[..bytes],
            None => &self.kept[..bytes],
        }
    }

    /// Gives back all that is more than usual.
    pub(crate) fn clear(&mut self) {
        self.large = None;
        if self.kept.capacity() > KEPT_BYTES_MAX {
            self.kept = Vec::new();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.kept.len() + self.large.as_ref().map_or(0, |(large, _)| large.len())
    }
}

/// Memory for one body. `None` if the system has none to map: then the allocator is asked.
fn map(rooms: &Arc<Rooms>, bytes: usize) -> Option<(MmapMut, Held)> {
    let held = rooms.take(bytes);
    Some((MmapMut::map_anon(bytes).ok()?, held))
}

/// Of the whole process: memory is.
static ROOMS: LazyLock<Arc<Rooms>> = LazyLock::new(Arc::default);

/// How many bytes large bodies may still take, and who is next.
#[derive(Debug)]
struct Rooms {
    total: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    left: usize,
    /// Numbers are given to those who ask; the one that is `next` gets room first.
    numbers: u64,
    next: u64,
}

/// Gives its bytes back when dropped.
#[derive(Debug)]
struct Held {
    rooms: Arc<Rooms>,
    bytes: usize,
}

impl Default for Rooms {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::of(cores.saturating_mul(LARGE_BYTES_OF_CORE).max(LARGE_BYTES_MIN))
    }
}

impl Rooms {
    fn of(total: usize) -> Self {
        let state = State { left: total, numbers: 0, next: 0 };
        Self { total, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Waits for room. A body that is larger than all there is has it to itself.
    fn take(self: &Arc<Self>, bytes: usize) -> Held {
        let bytes = bytes.min(self.total);
        let mut state = self.state.lock();
        let number = state.numbers;
        state.numbers += 1;
        while state.next != number || state.left < bytes {
            self.changed.wait(&mut state);
        }
        state.next += 1;
        state.left -= bytes;
        drop(state);
        self.changed.notify_all();
        Held { rooms: Arc::clone(self), bytes }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.rooms.state.lock().left += self.bytes;
        self.rooms.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn large_bodies_never_take_more_than_there_is() {
        let rooms = Arc::new(Rooms::of(10));
        let (taken, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4_usize {
                let (rooms, taken, most) = (&rooms, &taken, &most);
                scope.spawn(move || {
                    for i in 0..200 {
                        let bytes = 1 + (thread * 7 + i * 3) % 14;
                        let held = rooms.take(bytes);
                        let now = taken.fetch_add(held.bytes, Ordering::SeqCst) + held.bytes;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        taken.fetch_sub(held.bytes, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 10);
        assert_eq!(rooms.state.lock().left, 10);
    }

    #[test]
    fn large_bodies_have_memory_of_their_own() {
        let mut inflated = Inflated::within(&Arc::new(Rooms::of(100)));
        inflated.room(3, 0, 3)[..3].copy_from_slice(b"abc");
        assert_eq!(inflated.filled(3), b"abc");
        let large = KEPT_BYTES_MAX + 1;
        let room = inflated.room(large, 3, large + 5);
        assert_eq!(
            (room.len(), &room[..3]),
            (large + 5, &b"abc"[..]),
            "what was there comes along"
        );
        room[large - 1] = 7;
        assert_eq!(inflated.filled(large)[large - 1], 7);
        inflated.clear();
        assert_eq!(inflated.len(), 3, "only the usual is kept");
        assert_eq!(inflated.rooms.state.lock().left, inflated.rooms.total);
    }
}
