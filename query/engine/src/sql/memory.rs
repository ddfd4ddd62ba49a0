//! DataFusion's memory counts as the question's: one accountant for PromQL and SQL.

use std::fmt;
use std::sync::Arc;

use datafusion_common::{DataFusionError, Result};
use datafusion_execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};

use super::reader::Reader;

/// A pool that takes from a question's budget.
#[derive(Debug)]
pub(super) struct QuestionMemory(pub(super) Arc<Reader>);

impl fmt::Display for QuestionMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl MemoryPool for QuestionMemory {
    fn name(&self) -> &str {
        "question"
    }

    fn grow(&self, _: &MemoryReservation, additional: usize) {
        self.0.budget.hold(additional);
    }

    fn shrink(&self, _: &MemoryReservation, shrink: usize) {
        self.0.budget.shrink(shrink);
    }

    fn try_grow(&self, _: &MemoryReservation, additional: usize) -> Result<()> {
        self.0.budget.grow(additional).map_err(|error| {
            self.0.refuse_memory(&error);
            DataFusionError::External(Box::new(error))
        })
    }

    fn reserved(&self) -> usize {
        self.0.budget.held_bytes()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Unknown
    }
}
