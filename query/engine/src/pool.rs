//! The CPU pool: a thread per core for the arithmetic of all questions, so that the threads that
//! move bytes never wait for it. Tenants take turns, and within a tenant its questions (lanes), job
//! by job: a question with a thousand morsels delays one with a single morsel by one morsel, and a
//! tenant with twenty questions another tenant's by no more than a tenant with one.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use query::{Cancel, Error};
use tenancy::{ReadScope, TenantId};
use tokio::sync::oneshot;

use crate::cpu;

type Job = Box<dyn FnOnce() + Send>;

/// Jobs that may wait, of all lanes together. A question hands in a few morsels at a time, so this
/// is a thousand questions and more; only a defect, or far too many questions, gets there.
const WAITING_MAX: usize = 16_384;

/// The nice value of these threads: their weight is a fifth of what others have.
#[cfg(target_os = "linux")]
const NICE: i32 = 7;

/// Stack of a thread, in bytes. Planners walk down expressions that are some hundred operators deep;
/// what is not reached takes no memory.
const STACK_BYTES: usize = 64 << 20;

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

/// Who takes turns: questions over the same tenants share one.
type Tenants = Arc<[TenantId]>;

#[derive(Default)]
struct Queue {
    /// Tenants that have jobs, the next one first; of each the lanes that do, the next one first.
    tenants: VecDeque<(Tenants, Lanes)>,
    /// Jobs in all lanes; at most [`WAITING_MAX`].
    waiting: usize,
    closed: bool,
}

type Lanes = VecDeque<(u64, VecDeque<Job>)>;

/// One question's place in the pool.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    pool: Arc<Pool>,
    tenants: Tenants,
    id: u64,
    /// Charged with what its jobs take.
    cancel: Cancel,
}

impl Pool {
    /// A pool of so many threads, at least one.
    pub fn new(threads: usize) -> Arc<Self> {
        let shared = Arc::new(Shared::default());
        let start = |i: usize| {
            let shared = Arc::clone(&shared);
            let named = std::thread::Builder::new().name(format!("query-{i}"));
            let named = named.stack_size(STACK_BYTES);
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

    /// A place for a question of this scope.
    pub(crate) fn lane(self: &Arc<Self>, scope: &ReadScope, cancel: &Cancel) -> Lane {
        let tenants = scope.tenants().iter().map(|tenant| tenant.id).collect();
        let id = self.shared.lanes.fetch_add(1, Ordering::Relaxed);
        Lane { pool: Arc::clone(self), tenants, id, cancel: cancel.clone() }
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
        let cancel = self.cancel.clone();
        let job: Job = Box::new(move || {
            if send.is_closed() {
                return;
            }
            let (result, took) = cpu::measured(|| catch_unwind(AssertUnwindSafe(job)));
            cancel.usage().add_cpu(took);
            // Nobody listens any more if the question was dropped.
            let _ = send.send(result.unwrap_or_else(|panic| Err(panicked(&*panic))));
        });
        let pushed = if self.pool.threads.is_empty() {
            job();
            Ok(())
        } else {
            self.pool.shared.push(&self.tenants, self.id, job, WAITING_MAX)
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

/// Lets writes go first: a question takes somewhat longer, a write that waits holds up a sender
/// whose queue fills. Where both want all cores, these threads get about a fifth of the time.
fn stand_back() {
    // On Linux this is about the calling thread; elsewhere it would be about the process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "questions compete with writes on equal terms");
    }
}

impl Shared {
    fn push(
        &self,
        tenants: &Tenants,
        lane: u64,
        job: Job,
        waiting_max: usize,
    ) -> Result<(), Error> {
        let mut queue = self.queue.lock();
        if queue.waiting >= waiting_max {
            return Err(Error::Unavailable(format!(
                "{waiting_max} pieces of work wait for the processor already; try again later"
            )));
        }
        queue.waiting += 1;
        let lanes = match queue.tenants.iter().position(|(of, _)| of == tenants) {
            Some(at) => at,
            None => {
                queue.tenants.push_back((Arc::clone(tenants), Lanes::new()));
                queue.tenants.len() - 1
            }
        };
        let lanes = &mut queue.tenants[lanes].1;
        match lanes.iter_mut().find(|(id, _)| *id == lane) {
            Some((_, jobs)) => jobs.push_back(job),
            None => lanes.push_back((lane, VecDeque::from([job]))),
        }
        self.ready.notify_one();
        Ok(())
    }

    fn work(&self) {
        stand_back();
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
            if let Some((tenants, mut lanes)) = queue.tenants.pop_front() {
                let job = lanes.pop_front().and_then(|(lane, mut jobs)| {
                    let job = jobs.pop_front();
                    if !jobs.is_empty() {
                        lanes.push_back((lane, jobs));
                    }
                    job
                });
                if !lanes.is_empty() {
                    queue.tenants.push_back((tenants, lanes));
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
            std::mem::take(&mut queue.tenants)
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

    fn lane(pool: &Arc<Pool>, tenant: u32) -> Lane {
        pool.lane(&ReadScope::for_test(&[(tenant, "a")]), &Cancel::default())
    }

    #[tokio::test]
    async fn jobs_run_and_panics_are_errors() {
        let lane = lane(&Pool::new(2), 1);
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

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn writes_go_before_questions() {
        let nice = || rustix::process::getpriority_process(None);
        let own = nice().expect("a thread knows its own");
        let lane = lane(&Pool::new(1), 1);
        let of_pool = lane
            .run(move || Ok(nice()))
            .await
            .expect("no job fails")
            .expect("a thread knows its own");
        assert_eq!(of_pool, NICE.max(own));
        assert_eq!(nice().expect("as before"), own, "it is about threads of the pool alone");
    }

    #[tokio::test]
    async fn a_job_whose_asker_is_gone_does_not_run() {
        let lane = lane(&Pool::new(1), 1);
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
        let (open, held) = hold(&lane(&pool, 1));
        let tenants = lane(&pool, 1).tenants;
        let push = |lane| pool.shared.push(&tenants, lane, Box::new(|| {}), 2);
        assert!(push(1).is_ok() && push(2).is_ok());
        assert!(matches!(push(3), Err(Error::Unavailable(_))));
        open.send(()).expect("the first job waits");
        held.await.expect("no job fails");
        lane(&pool, 1).run(|| Ok(())).await.expect("the lanes before are done");
        assert!(push(3).is_ok(), "there is room again");
    }

    /// Jobs of tenants and lanes, in the order they come and in the order they run. `a1` is a job
    /// of tenant a's first question.
    async fn check_order(come: &[&'static str], run: &[&str]) {
        let pool = Pool::new(1);
        let (open, held) = hold(&lane(&pool, 0));
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut lanes = std::collections::HashMap::new();
        let mut jobs = Vec::new();
        for job in come.iter().copied() {
            let tenant = u32::from(job.as_bytes()[0]);
            let lane = lanes.entry(job).or_insert_with(|| lane(&pool, tenant));
            let order = Arc::clone(&order);
            jobs.push(lane.run(move || {
                order.lock().push(job);
                Ok(())
            }));
        }
        open.send(()).expect("the first job waits");
        held.await.expect("no job fails");
        for job in jobs {
            job.await.expect("no job fails");
        }
        assert_eq!(*order.lock(), run, "{come:?}");
    }

    #[tokio::test]
    async fn tenants_and_their_questions_take_turns() {
        check_order(&["a1", "a1", "a2"], &["a1", "a2", "a1"]).await;
        check_order(&["a1", "a2", "a3", "b1", "b1"], &["a1", "b1", "a2", "b1", "a3"]).await;
    }

    #[tokio::test]
    async fn a_question_is_charged_for_its_jobs() {
        let cancel = Cancel::default();
        let lane = Pool::new(1).lane(&ReadScope::for_test(&[]), &cancel);
        let busy = || {
            let begun = std::time::Instant::now();
            while begun.elapsed() < std::time::Duration::from_millis(50) {}
            Ok(())
        };
        lane.run(busy).await.expect("no job fails");
        lane.run(|| Ok(())).await.expect("no job fails");
        assert!(cancel.usage().now().cpu > std::time::Duration::from_millis(2));
    }
}
