//! Reads under way: whoever wants a part that is being read waits for the same answer.

use std::ops::Range;
use std::sync::Arc;

use futures::future::{BoxFuture, Shared, WeakShared};
use futures::{FutureExt, TryFutureExt};
use hashbrown::HashMap;
use object_store::path::Path;
use object_store::{Error, Result};
use parking_lot::Mutex;

use super::files::Part;

type Landing = Shared<BoxFuture<'static, Result<Arc<Vec<Part>>, Arc<Error>>>>;
type Weak = WeakShared<BoxFuture<'static, Result<Arc<Vec<Part>>, Arc<Error>>>>;

/// Runs that are being read, by each of their parts.
type ByPart = HashMap<(Path, u32), (Range<u32>, Weak)>;

/// All reads under way, by object and part. Held weakly: a read that nobody waits for any more
/// ends.
#[derive(Debug, Default)]
pub(super) struct Flights {
    by_part: Arc<Mutex<ByPart>>,
}

/// A read of a run of parts.
#[derive(Debug)]
pub(super) struct Flight {
    run: Range<u32>,
    landing: Landing,
}

impl Flights {
    /// The reads that give the parts of an object, ascending numbers: those under way, and new ones
    /// for runs of neighbours of which nobody reads any.
    pub(super) fn join<F>(
        &self,
        object: &Path,
        parts: &[u32],
        run_max: u32,
        begin: impl Fn(Range<u32>) -> F,
    ) -> Vec<Flight>
    where
        F: Future<Output = Result<Vec<Part>>> + Send + 'static,
    {
        let mut by_part = self.by_part.lock();
        let mut joined: Vec<Flight> = Vec::new();
        let mut runs: Vec<Range<u32>> = Vec::new();
        for part in parts {
            if joined.iter().any(|flight| flight.run.contains(part)) {
                continue;
            }
            let known = by_part.get(&(object.clone(), *part));
            if let Some((run, weak)) = known
                && let Some(landing) = weak.upgrade()
            {
                joined.push(Flight { run: run.clone(), landing });
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == *part && run.end - run.start < run_max => run.end += 1,
                _ => runs.push(*part..*part + 1),
            }
        }
        for run in runs {
            let over = Over {
                by_part: Arc::clone(&self.by_part),
                object: object.clone(),
                run: run.clone(),
            };
            let read = begin(run.clone()).map_ok(Arc::new).map_err(Arc::new);
            let landing = async move {
                let _over = over;
                read.await
            };
            let landing = landing.boxed().shared();
            if let Some(weak) = landing.downgrade() {
                for part in run.clone() {
                    by_part.insert((object.clone(), part), (run.clone(), weak.clone()));
                }
            }
            joined.push(Flight { run, landing });
        }
        joined
    }
}

impl Flight {
    /// What was read, with the numbers of the parts.
    pub(super) async fn landed(self) -> Result<(Range<u32>, Arc<Vec<Part>>)> {
        let landed = self.landing.await;
        landed.map(|parts| (self.run, parts)).map_err(again)
    }
}

/// Takes a read out when it is over, or when nobody waits for it.
struct Over {
    by_part: Arc<Mutex<ByPart>>,
    object: Path,
    run: Range<u32>,
}

impl Drop for Over {
    fn drop(&mut self) {
        let mut by_part = self.by_part.lock();
        for part in self.run.clone() {
            by_part.remove(&(self.object.clone(), part));
        }
    }
}

/// The same error for one of several who waited: what callers tell apart stays apart.
fn again(error: Arc<Error>) -> Error {
    let path = |path: &String| path.clone();
    match error.as_ref() {
        Error::NotFound { path: at, .. } => {
            Error::NotFound { path: path(at), source: Box::new(Told(error)) }
        }
        Error::PermissionDenied { path: at, .. } => {
            Error::PermissionDenied { path: path(at), source: Box::new(Told(error)) }
        }
        Error::Unauthenticated { path: at, .. } => {
            Error::Unauthenticated { path: path(at), source: Box::new(Told(error)) }
        }
        _ => Error::Generic { store: "cached objects", source: Box::new(Told(error)) },
    }
}

/// An error that several were told.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Told(Arc<Error>);
