//! Work that is polled on the pool: planning a statement or searching entries take processor time wherever
//! they are polled, so each poll is a job, charged to the question and in its turn, and the threads
//! that move bytes only wait between two of them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use query::Error;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::budget::Budget;
use crate::pool::Lane;

/// Rings when work may go on.
struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// Polls work until it is ready; gives it back with what it gave.
pub(crate) async fn drive<W: Send + 'static, T: Send + 'static>(
    lane: &Lane,
    budget: &Budget,
    mut work: W,
    poll: fn(&mut W, &mut Context<'_>) -> Poll<T>,
) -> Result<(W, T), Error> {
    let bell = Arc::new(Bell(Notify::new()));
    loop {
        budget.check()?;
        let waker = Waker::from(Arc::clone(&bell));
        let job = move || {
            let polled = poll(&mut work, &mut Context::from_waker(&waker));
            Ok((work, polled))
        };
        let (back, polled) = lane.run(job).await?;
        work = back;
        match polled {
            Poll::Ready(result) => return Ok((work, result)),
            Poll::Pending => bell.0.notified().await,
        }
    }
}

type Reading<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// Polls on the pool what reads by the runtime it was begun in: arithmetic is done here, and what it
/// waits for goes on there.
pub(crate) async fn on_pool<T: Send + 'static>(
    lane: &Lane,
    budget: &Budget,
    reading: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let work: (Handle, Reading<T>) = (Handle::current(), Box::pin(reading));
    let driven = drive(lane, budget, work, |(runtime, reading), context| {
        let _inside = runtime.enter();
        reading.as_mut().poll(context)
    });
    driven.await?.1
}
