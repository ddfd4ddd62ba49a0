//! The CPU pool: a thread per core for the arithmetic of all questions, so that the threads that
//! move bytes never wait for it. Lanes take turns, job by job, so that a question with a thousand
//! morsels delays one with a single morsel by one morsel.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use query::Error;
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// Jobs that may wait, of all lanes together. A question hands in a few morsels at a time, so this
/// is a thousand questions and more; only a defect, or far too many questions, gets there.
const WAITING_MAX: usize = 16_384;

/// Threads for arithmetic.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
    lanes: AtomicU64,
}

#[derive(Default)]
struct Queue {
    /// Lanes that have jobs, the next one first.
    lanes: VecDeque<(u64, VecDeque<Job>)>,
    /// Jobs in all lanes; at most [`WAITING_MAX`].
    waiting: usize,
    closed: bool,
}

/// One question's place in the pool.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    pool: Arc<Pool>,
    id: u64,
}

impl Pool {
    /// A pool of so many threads, at least one.
    pub fn new(threads: usize) -> Arc<Self> {
        let shared = Arc::new(Shared::default());
        let start = |i: usize| {
            let shared = Arc::clone(&shared);
            let named = std::thread::Builder::new().name(format!("query-{i}"));
            named.spawn(move || shared.work()).ok()
        };
        // A system that refuses threads leaves fewer; with none at all jobs run where they are
        // handed in.
        let threads = (0..threads.max(1)).filter_map(start).collect();
        Arc::new(Self { shared, threads })
    }

    /// As many threads as there are cores.
    pub fn of_all_cores() -> Arc<Self> {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads.len().max(1)
    }

    pub(crate) fn lane(self: &Arc<Self>) -> Lane {
        let id = self.shared.lanes.fetch_add(1, Ordering::Relaxed);
        Lane { pool: Arc::clone(self), id }
    }
}

impl Lane {
    pub(crate) fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Hands in a job at once; the future gives its result. If the future is dropped before the
    /// job's turn, the job does not run.
    pub(crate) fn run<T, F>(
        &self,
        job: F,
    ) -> impl Future<Output = Result<T, Error>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Error> + Send + 'static,
    {
        let (send, receive) = oneshot::channel();
        let job: Job = Box::new(move || {
            if send.is_closed() {
                return;
            }
            let result = catch_unwind(AssertUnwindSafe(job));
            // Nobody listens any more if the question was dropped.
            let _ = send.send(result.unwrap_or_else(|panic| Err(panicked(&*panic))));
        });
        let pushed = if self.pool.threads.is_empty() {
            job();
            Ok(())
        } else {
            self.pool.shared.push(self.id, job, WAITING_MAX)
        };
        async move {
            pushed?;
            let gone = || Error::Canceled("query was canceled: the process is ending".to_owned());
            receive.await.unwrap_or_else(|_| Err(gone()))
        }
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    Error::internal("evaluate the expression", format!("unexpected state: {text}"))
}

impl Shared {
    fn push(&self, lane: u64, job: Job, waiting_max: usize) -> Result<(), Error> {
        let mut queue = self.queue.lock();
        if queue.waiting >= waiting_max {
            return Err(Error::Unavailable(format!(
                "{waiting_max} pieces of work wait for the processor already; try again later"
            )));
        }
        queue.waiting += 1;
        match queue.lanes.iter_mut().find(|(id, _)| *id == lane) {
            Some((_, jobs)) => jobs.push_back(job),
            None => queue.lanes.push_back((lane, VecDeque::from([job]))),
        }
        self.ready.notify_one();
        Ok(())
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            job();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some((lane, mut jobs)) = queue.lanes.pop_front() {
                let job = jobs.pop_front();
                if !jobs.is_empty() {
                    queue.lanes.push_back((lane, jobs));
                }
                if job.is_some() {
                    queue.waiting -= 1;
                    return job;
                }
                continue;
            }
            self.ready.wait(&mut queue);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let waiting = {
            let mut queue = self.shared.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.lanes)
        };
        drop(waiting);
        self.shared.ready.notify_all();
        let own = std::thread::current().id();
        for thread in self.threads.drain(..) {
            // The last handle may go on one of our own threads, with a job it held.
            if thread.thread().id() != own {
                let _ = thread.join();
            }
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn jobs_run_and_panics_are_errors() {
        let lane = Pool::new(2).lane();
        assert_eq!(lane.run(|| Ok(1 + 1)).await.ok(), Some(2));
        let broken: Result<(), Error> = lane.run(|| panic!("broken")).await;
        assert!(matches!(broken, Err(Error::Internal { .. })));
        assert_eq!(lane.run(|| Ok(3)).await.ok(), Some(3));
    }

    /// A job that runs until the sender is used.
    fn hold(
        lane: &Lane,
    ) -> (std::sync::mpsc::Sender<()>, impl Future<Output = Result<(), Error>> + use<>) {
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let (begin, begun) = std::sync::mpsc::channel::<()>();
        let held = lane.run(move || {
            begin.send(()).map_err(|e| Error::internal("begin", e))?;
            gate.recv().map_err(|e| Error::internal("wait", e))
        });
        begun.recv().expect("the first job begins");
        (open, held)
    }

    #[tokio::test]
    async fn a_job_whose_asker_is_gone_does_not_run() {
        let lane = Pool::new(1).lane();
        let ran = Arc::new(AtomicU64::new(0));
        let count = || {
            let ran = Arc::clone(&ran);
            move || {
                ran.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        };
        let (open, held) = hold(&lane);
        let (gone, waited_for) = (lane.run(count()), lane.run(count()));
        drop(gone);
        open.send(()).expect("the first job waits");
        held.await.expect("no job fails");
        waited_for.await.expect("no job fails");
        assert_eq!(ran.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn so_many_jobs_wait_and_no_more() {
        let pool = Pool::new(1);
        let (open, held) = hold(&pool.lane());
        let push = |lane| pool.shared.push(lane, Box::new(|| {}), 2);
        assert!(push(1).is_ok() && push(2).is_ok());
        assert!(matches!(push(3), Err(Error::Unavailable(_))));
        open.send(()).expect("the first job waits");
        held.await.expect("no job fails");
        pool.lane().run(|| Ok(())).await.expect("the lanes before are done");
        assert!(push(3).is_ok(), "there is room again");
    }

    #[tokio::test]
    async fn lanes_take_turns() {
        let pool = Pool::new(1);
        let (many, one) = (pool.lane(), pool.lane());
        let order = Arc::new(Mutex::new(Vec::new()));
        let (open, held) = hold(&many);
        let note = |what: &'static str| {
            let order = Arc::clone(&order);
            move || {
                order.lock().push(what);
                Ok(())
            }
        };
        let first = many.run(note("many"));
        let second = many.run(note("many"));
        let other = one.run(note("one"));
        open.send(()).expect("the first job waits");
        for job in [held.await, first.await, second.await, other.await] {
            job.expect("no job fails");
        }
        assert_eq!(*order.lock(), ["many", "one", "many"]);
    }
}
