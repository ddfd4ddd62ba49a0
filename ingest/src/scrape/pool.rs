//! The targets of one job: what discovery tells, relabelled, becomes loops that start and end.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use model::Labels;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::runner::{JobRun, Memory, Order, Running, Shared};
use super::target::{Outcome, Prepared, of_group};
use super::treatment::Treatment;
use crate::discovery::{Group, Provider, Update, Updates};

/// How often a pool takes notice of what discovery tells, as Prometheus.
const SYNC_EVERY: Duration = Duration::from_secs(5);

/// How long a new pool waits for all its providers if it follows another: the targets of that one
/// must not end because a name server takes its time.
const FOLLOW_AFTER: Duration = Duration::from_secs(10);

/// The same if it follows none: what comes together is looked at together.
const BEGIN_AFTER: Duration = Duration::from_millis(100);

/// Updates on their way.
const UPDATES_MAX: usize = 64;

/// Dropped targets that are remembered if the job sets no limit.
const DROPPED_MAX: usize = 10_000;

/// Targets that cannot be scraped and are told in the log, each time.
const WRONG_SHOWN: usize = 3;

/// A job's targets.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) run: Arc<JobRun>,
    state: Mutex<State>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct State {
    /// By provider and source.
    groups: BTreeMap<(usize, String), Group>,
    active: HashMap<u64, Arc<Running>>,
    /// Gone, but their series have not ended yet.
    ending: HashMap<u64, Arc<Running>>,
    dropped: Vec<Labels>,
    dropped_count: usize,
    /// The pool of the same job as it was configured before.
    before: Option<Arc<Pool>>,
}

impl Pool {
    /// Starts discovery. Targets of `before` go on if they are still there.
    pub(super) fn start(
        run: JobRun,
        providers: Vec<Arc<dyn Provider>>,
        before: Option<Arc<Self>>,
        shared: &Arc<Shared>,
    ) -> Arc<Self> {
        let follows = before.is_some();
        let state = Mutex::new(State { before, ..State::default() });
        let pool = Arc::new(Self { run: Arc::new(run), state, tasks: Mutex::default() });
        let (sender, updates) = mpsc::channel(UPDATES_MAX);
        let count = providers.len();
        let mut tasks: Vec<_> = providers
            .into_iter()
            .enumerate()
            .map(|(provider, it)| {
                tokio::spawn(it.run(Updates { provider, sender: sender.clone() }))
            })
            .collect();
        drop(sender);
        let following = Arc::clone(&pool).follow(Arc::clone(shared), updates, count, follows);
        tasks.push(tokio::spawn(following));
        *pool.tasks.lock() = tasks;
        pool
    }

    /// Ends discovery; loops go on.
    pub(super) fn stop_discovery(&self) {
        self.tasks.lock().drain(..).for_each(|task| task.abort());
    }

    /// The job is gone.
    pub(super) fn end(&self) {
        self.stop_discovery();
        for target in self.take_active().into_values() {
            target.tell(Order::End);
        }
    }

    /// Hands the loops to whoever goes on with them.
    fn take_active(&self) -> HashMap<u64, Arc<Running>> {
        let (mut active, before) = {
            let mut state = self.state.lock();
            let mut all = std::mem::take(&mut state.ending);
            all.extend(std::mem::take(&mut state.active));
            (all, state.before.take())
        };
        if let Some(before) = before {
            for (hash, target) in before.take_active() {
                active.entry(hash).or_insert(target);
            }
        }
        active
    }

    async fn follow(
        self: Arc<Self>,
        shared: Arc<Shared>,
        mut updates: mpsc::Receiver<(usize, Update)>,
        providers: usize,
        follows: bool,
    ) {
        let patience = if follows { FOLLOW_AFTER } else { BEGIN_AFTER };
        let mut heard = vec![false; providers];
        let all = async {
            while heard.contains(&false) {
                let Some((provider, update)) = updates.recv().await else { return };
                heard[provider] = true;
                self.take(provider, update);
            }
        };
        // Whoever has not told anything by then is late; its targets come when it does.
        drop(tokio::time::timeout(patience, all).await);
        loop {
            self.sync(&shared);
            let Some((provider, update)) = updates.recv().await else { return };
            self.take(provider, update);
            tokio::time::sleep(SYNC_EVERY).await;
            while let Ok((provider, update)) = updates.try_recv() {
                self.take(provider, update);
            }
        }
    }

    fn take(&self, provider: usize, update: Update) {
        let mut state = self.state.lock();
        for group in update {
            let key = (provider, group.source.clone());
            match group.targets.is_empty() {
                true => drop(state.groups.remove(&key)),
                false => drop(state.groups.insert(key, group)),
            }
        }
    }

    /// Starts loops of targets that are new, ends those of targets that are gone.
    fn sync(&self, shared: &Arc<Shared>) {
        let mut state = self.state.lock();
        let wanted = self.wanted(&mut state);
        self.limit(wanted.len());
        let mut old = state.before.take().map_or_else(HashMap::new, |before| before.take_active());
        state.ending.retain(|_, target| !target.has_ended());
        let gone: Vec<u64> =
            state.active.keys().filter(|hash| !wanted.contains_key(hash)).copied().collect();
        for hash in gone {
            if let Some(target) = state.active.remove(&hash) {
                target.tell(Order::End);
                state.ending.insert(hash, target);
            }
        }
        for (hash, prepared) in wanted {
            let active = state.active.get(&hash);
            if active.is_some_and(|target| target.prepared.forms == prepared.forms) {
                continue;
            }
            let before = state.active.remove(&hash).or_else(|| state.ending.remove(&hash));
            let heir = before.or_else(|| old.remove(&hash));
            let target = self.start_target(prepared, heir, shared);
            state.active.insert(hash, target);
        }
        for (hash, target) in old {
            target.tell(Order::End);
            state.ending.insert(hash, target);
        }
    }

    fn start_target(
        &self,
        prepared: Prepared,
        heir: Option<Arc<Running>>,
        shared: &Arc<Shared>,
    ) -> Arc<Running> {
        let treatment =
            Treatment::of(&self.run.job, prepared.labels.clone(), &self.run.defaults.cluster);
        let memory = match heir {
            Some(before) => {
                before.tell(Order::HandOver);
                before.memory.treat(treatment);
                Arc::clone(&before.memory)
            }
            None => Arc::new(Memory::new(treatment)),
        };
        Running::start(Arc::clone(&self.run), prepared, memory, shared)
    }

    /// What is to be scraped, each target once; what is dropped is noted.
    fn wanted(&self, state: &mut State) -> HashMap<u64, Prepared> {
        let job = &self.run.job;
        let (mut wanted, mut dropped, mut wrong) = (HashMap::new(), Vec::new(), 0);
        let kept_max = match job.limits.dropped_targets {
            0 => DROPPED_MAX,
            limit => DROPPED_MAX.min(limit as usize),
        };
        state.dropped_count = 0;
        for outcome in state.groups.values().flat_map(|group| of_group(job, group)) {
            match outcome {
                Outcome::Target(prepared) => drop(wanted.insert(prepared.hash(), *prepared)),
                Outcome::Dropped(labels) => {
                    state.dropped_count += 1;
                    if dropped.len() < kept_max {
                        dropped.push(labels);
                    }
                }
                Outcome::Wrong(why) => {
                    wrong += 1;
                    if wrong <= WRONG_SHOWN {
                        warn!(job = job.name, why, "target cannot be scraped");
                    }
                }
            }
        }
        state.dropped = dropped;
        wanted
    }

    fn limit(&self, targets: usize) {
        let limit = self.run.job.limits.targets;
        let refused = (limit > 0 && targets as u64 > limit).then(|| {
            format!("target_limit exceeded (number of targets: {targets}, limit: {limit})")
        });
        let mut now = self.run.refused.lock();
        if *now != refused {
            info!(job = self.run.job.name, targets, limit, "targets and their limit");
            *now = refused;
        }
    }

    /// All targets that are scraped.
    pub(super) fn active(&self) -> Vec<Arc<Running>> {
        let state = self.state.lock();
        let mut all: Vec<_> = state.active.values().cloned().collect();
        // Until the first round those of the pool before are the pool's.
        all.extend(state.before.iter().flat_map(|before| before.active()));
        all
    }

    /// Targets that relabelling dropped, as far as they are remembered, and how many there are.
    pub(super) fn dropped(&self) -> (Vec<Labels>, usize) {
        let state = self.state.lock();
        (state.dropped.clone(), state.dropped_count)
    }
}
