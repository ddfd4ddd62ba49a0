//! An object store that fails, lags and counts, around any other.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions, Result, UploadPart,
};
use parking_lot::Mutex;
use tokio::time::Instant;

/// A store whose requests have numbers, from 1, over all kinds together. Clones are the same store.
#[derive(Debug, Clone)]
pub struct FaultyObjects {
    inner: Arc<dyn ObjectStore>,
    state: Arc<Mutex<State>>,
}

/// Kinds of requests, as a bill of S3 tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names explain themselves")]
pub enum Request {
    Put,
    Get,
    List,
    Delete,
    Copy,
}

/// How a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectFault {
    /// Nothing happened.
    Refused,
    /// It happened, but the answer was lost: the caller cannot know.
    AnswerLost,
}

#[derive(Debug, Default)]
struct State {
    counts: [u64; 5],
    faults: Vec<(u64, u64, ObjectFault)>,
    latency: Duration,
    pause: Duration,
    next_start: Option<Instant>,
}

impl FaultyObjects {
    /// A store without faults around `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, state: Arc::default() }
    }

    /// A store in memory.
    pub fn in_memory() -> Self {
        Self::new(Arc::new(object_store::memory::InMemory::new()))
    }

    /// How many requests there were.
    pub fn requests(&self) -> u64 {
        self.state.lock().counts.iter().sum()
    }

    /// How many requests of one kind there were.
    pub fn requests_of(&self, kind: Request) -> u64 {
        self.state.lock().counts[kind as usize]
    }

    /// Request `n` fails, once.
    pub fn fail_at(&self, n: u64, fault: ObjectFault) {
        self.state.lock().faults.push((n, n, fault));
    }

    /// Request `n` and all later ones fail, until [`FaultyObjects::heal`].
    pub fn fail_from(&self, n: u64, fault: ObjectFault) {
        self.state.lock().faults.push((n, u64::MAX, fault));
    }

    /// Takes back faults, latency and throttle.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.faults.clear();
        (state.latency, state.pause, state.next_start) = (Duration::ZERO, Duration::ZERO, None);
    }

    /// Every request takes this long before it is begun.
    pub fn set_latency(&self, latency: Duration) {
        self.state.lock().latency = latency;
    }

    /// Requests start at least this far apart, however many are made at once.
    pub fn throttle(&self, pause: Duration) {
        self.state.lock().pause = pause;
    }

    /// Counts a request and waits as long as it has to.
    async fn enter(&self, kind: Request) -> Option<ObjectFault> {
        let (fault, until) = {
            let mut state = self.state.lock();
            state.counts[kind as usize] += 1;
            let n: u64 = state.counts.iter().sum();
            let fault = state.faults.iter().find(|(first, last, _)| (*first..=*last).contains(&n));
            let (fault, now) = (fault.map(|f| f.2), Instant::now());
            let start = state.next_start.map_or(now, |next| next.max(now));
            state.next_start = Some(start + state.pause);
            (fault, (start > now || !state.latency.is_zero()).then_some(start + state.latency))
        };
        if let Some(until) = until {
            tokio::time::sleep_until(until).await;
        }
        fault
    }

    async fn request<T>(&self, kind: Request, act: impl Future<Output = Result<T>>) -> Result<T> {
        match self.enter(kind).await {
            None => act.await,
            Some(ObjectFault::Refused) => Err(failed(ObjectFault::Refused)),
            Some(ObjectFault::AnswerLost) => {
                act.await?;
                Err(failed(ObjectFault::AnswerLost))
            }
        }
    }

    /// The stream that `list` gives, failing before its first entry if planned.
    fn listed(
        &self,
        listed: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        let begun =
            async move { store.request(Request::List, async { Ok(()) }).await.map(|()| listed) };
        begun.into_stream().try_flatten().boxed()
    }
}

fn failed(fault: ObjectFault) -> Error {
    Error::Generic { store: "FaultyObjects", source: format!("planned fault: {fault:?}").into() }
}

impl fmt::Display for FaultyObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyObjects({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyObjects {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.request(Request::Put, self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload =
            self.request(Request::Put, self.inner.put_multipart_opts(location, options)).await?;
        Ok(Box::new(FaultyUpload { upload, store: self.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.request(Request::Get, self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.request(Request::Get, self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Path| {
            let store = store.clone();
            async move {
                store.request(Request::Delete, store.inner.delete(&location)).await?;
                Ok(location)
            }
        };
        locations.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.request(Request::List, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.request(Request::Copy, self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.request(Request::Copy, self.inner.rename_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    upload: Box<dyn MultipartUpload>,
    store: FaultyObjects,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (part, store) = (self.upload.put_part(data), self.store.clone());
        async move { store.request(Request::Put, part).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.store.request(Request::Put, self.upload.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.store.request(Request::Delete, self.upload.abort()).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn store() -> FaultyObjects {
        FaultyObjects::new(Arc::new(InMemory::new()))
    }

    #[tokio::test]
    async fn requests_are_counted_and_fail_when_told() {
        let store = store();
        let at = |name: &str| Path::from(name);
        store.put(&at("a"), "1".into()).await.unwrap();
        store.fail_at(2, ObjectFault::Refused);
        store.put(&at("b"), "1".into()).await.unwrap_err();
        assert!(matches!(store.head(&at("b")).await, Err(Error::NotFound { .. })));
        store.fail_at(4, ObjectFault::AnswerLost);
        store.put(&at("c"), "1".into()).await.unwrap_err();
        store.head(&at("c")).await.unwrap();
        assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 2);
        store.fail_from(7, ObjectFault::Refused);
        assert!(store.list(None).try_collect::<Vec<_>>().await.is_err());
        store.delete(&at("a")).await.unwrap_err();
        store.heal();
        store.delete(&at("a")).await.unwrap();
        let kinds = [Request::Put, Request::Get, Request::List, Request::Delete, Request::Copy];
        assert_eq!(kinds.map(|kind| store.requests_of(kind)), [3, 2, 2, 2, 0]);
        assert_eq!(store.requests(), 9);
    }

    #[tokio::test]
    async fn uploads_in_parts_fail_too() {
        let store = store();
        let mut upload = store.put_multipart(&Path::from("m")).await.unwrap();
        upload.put_part("1".into()).await.unwrap();
        store.fail_at(3, ObjectFault::Refused);
        upload.complete().await.unwrap_err();
        upload.complete().await.unwrap();
        assert_eq!(store.get(&Path::from("m")).await.unwrap().bytes().await.unwrap(), "1");
    }

    #[tokio::test]
    async fn time_passes_as_told() {
        let store = store();
        store.set_latency(Duration::from_millis(20));
        store.throttle(Duration::from_millis(30));
        let begun = Instant::now();
        let (path, other) = (Path::from("x"), Path::from("y"));
        let both = futures::join!(store.head(&path), store.head(&other));
        assert!(both.0.is_err() && both.1.is_err());
        assert!(begun.elapsed() >= Duration::from_millis(50), "{:?}", begun.elapsed());
    }
}
