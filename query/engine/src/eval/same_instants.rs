//! What series with the same instants share: windows, the samples that stand for steps, how far to
//! extrapolate. Worked out once for each vector of instants, for all morsels of a selection.

use std::fmt;
use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;
use parking_lot::Mutex;
use query::Error;

use super::series::{SeriesWork, Task};
use crate::budget::Reserved;
use crate::functions::RangeKernel;
use crate::kernels::rate::Extrapolation;
use crate::kernels::select::Latest;
use crate::kernels::window::Windows;

/// Bytes that are kept. Once there are more everything is forgotten: where each series has instants
/// of its own there is nothing to share.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// Groups of series by where their instants lie in memory.
#[derive(Default)]
pub(crate) struct SameInstants(Mutex<Known>);

#[derive(Default)]
struct Known {
    groups: HashMap<usize, Arc<Group>>,
    bytes: usize,
}

/// Series with the same instants.
pub(crate) struct Group {
    timestamps: Arc<[i64]>,
    _reserved: Reserved,
    latest: OnceLock<Latest>,
    windows: OnceLock<Windows>,
    extrapolation: OnceLock<Extrapolation>,
}

impl SameInstants {
    /// The group of these instants.
    pub(crate) fn of(
        &self,
        timestamps: &Arc<[i64]>,
        work: &SeriesWork,
    ) -> Result<Arc<Group>, Error> {
        let mut known = self.0.lock();
        let at = timestamps.as_ptr() as usize;
        // Empty vectors may lie anywhere, and groups keep their vectors where they are.
        let same = |group: &&Arc<Group>| group.timestamps.len() == timestamps.len();
        if let Some(group) = known.groups.get(&at).filter(same) {
            return Ok(Arc::clone(group));
        }
        let bytes = work.steps().saturating_mul(bytes_per_step(&work.task));
        if known.bytes.saturating_add(bytes) > KEPT_BYTES_MAX {
            *known = Known::default();
        }
        let group = Arc::new(Group {
            timestamps: Arc::clone(timestamps),
            _reserved: work.budget.reserve(bytes)?,
            latest: OnceLock::new(),
            windows: OnceLock::new(),
            extrapolation: OnceLock::new(),
        });
        known.bytes = known.bytes.saturating_add(bytes);
        known.groups.insert(at, Arc::clone(&group));
        Ok(group)
    }
}

impl Group {
    /// The sample that stands for each step.
    pub(crate) fn latest(&self, work: &SeriesWork) -> &Latest {
        self.latest.get_or_init(|| Latest::new(&self.timestamps, &work.times, work.reach_ms))
    }

    /// The samples before each step.
    pub(crate) fn windows(&self, work: &SeriesWork) -> &Windows {
        let SeriesWork { times, reach_ms, edges, margin_ms, .. } = work;
        let make = || Windows::of_edges(&self.timestamps, times, *reach_ms, *edges, *margin_ms);
        self.windows.get_or_init(make)
    }

    /// How far rates go beyond the samples.
    pub(crate) fn extrapolation(&self, work: &SeriesWork) -> &Extrapolation {
        let windows = self.windows(work);
        let make = || Extrapolation::new(&self.timestamps, windows, &work.times, work.reach_ms);
        self.extrapolation.get_or_init(make)
    }
}

fn bytes_per_step(task: &Task) -> usize {
    match task {
        Task::Instant | Task::Timestamp | Task::Start | Task::InfoTime | Task::Presence => {
            Windows::STEP_BYTES + Latest::STEP_BYTES
        }
        Task::Range { func, .. } if matches!(func.kernel, RangeKernel::Rate(_)) => {
            Windows::STEP_BYTES + Extrapolation::STEP_BYTES
        }
        Task::Range { .. } => Windows::STEP_BYTES,
    }
}

impl fmt::Debug for SameInstants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SameInstants").finish_non_exhaustive()
    }
}
