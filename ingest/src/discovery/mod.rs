//! Discovery: where targets are. Every way of finding them is a [`Provider`]: it tells groups of
//! targets, again and again, until it is stopped.
//!
//! ```text
//! static, file, http, dns (later: kubernetes) ─► Update { source: group } ─► pool of the job
//! ```

mod config;
mod dns;
mod file;
mod group;
mod http;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;

pub(crate) use config::{Discovery, read_all};
pub(crate) use file::matching;
pub(crate) use group::ADDRESS;
pub use group::{Group, Pairs};

/// Groups that are new or changed. One without targets ends its source's.
pub type Update = Vec<Group>;

/// Where a provider tells what it found.
#[derive(Debug, Clone)]
pub struct Updates {
    /// Which of its job's providers tells.
    pub(crate) provider: usize,
    pub(crate) sender: mpsc::Sender<(usize, Update)>,
}

/// Nobody listens any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unheard;

impl Updates {
    /// Tells groups.
    pub async fn send(&self, update: Update) -> Result<(), Unheard> {
        self.sender.send((self.provider, update)).await.map_err(|_| Unheard)
    }

    /// Whether nobody listens any more.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// One way of finding targets, configured.
pub trait Provider: Send + Sync {
    /// Tells groups until nobody listens any more, or this future is dropped. What cannot be
    /// found at the moment stays what it was.
    fn run(self: Arc<Self>, updates: Updates) -> Running;
}

/// A provider at work.
pub type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Groups that are known from the start.
#[derive(Debug)]
pub(crate) struct Fixed(pub(crate) Vec<Group>);

impl Provider for Fixed {
    fn run(self: Arc<Self>, updates: Updates) -> Running {
        Box::pin(async move {
            // Nobody listening is no trouble: there is nothing more to tell.
            let _ = updates.send(self.0.clone()).await;
        })
    }
}

/// What to tell when everything a source has is known: its groups, and empty ones in the place of
/// those it had before.
pub(crate) fn whole(groups: Vec<Group>, before: &mut Vec<String>) -> Update {
    let now: Vec<String> = groups.iter().map(|group| group.source.clone()).collect();
    let gone = before.iter().filter(|source| !now.contains(source));
    let gone = gone.map(|source| Group { source: source.clone(), ..Group::default() });
    let update = gone.collect::<Vec<_>>().into_iter().chain(groups).collect();
    *before = now;
    update
}
