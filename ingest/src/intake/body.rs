//! Receiving a body: bounded in bytes, in time, and together with all other bodies held.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pool::Pool;
use crate::Metrics;

/// Why a body was not received.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Larger than allowed.
    #[error("body has more than {limit} bytes (body_bytes_max)")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// Too many bodies are held at the moment.
    #[error("too many bytes of writes are being received; try again")]
    Busy,
    /// The sender stopped sending.
    #[error("body did not arrive within {seconds} s")]
    Slow {
        /// The time it had.
        seconds: u64,
    },
    /// The connection broke.
    #[error("receive body: {0}")]
    Broken(axum::Error),
}

/// Permits of the budget are kibibytes.
const PERMIT_BYTES: usize = 1_024;

/// Buffers that are kept for the next requests, and their bytes together.
const SPARE_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 32 << 20;

/// Memory for bodies of all requests together.
#[derive(Debug)]
pub(crate) struct Receiver {
    budget: Arc<Semaphore>,
    buffers: Arc<Pool<Vec<u8>>>,
    metrics: Arc<Metrics>,
    time_max: Duration,
}

/// A body that arrived. Its buffer and its share of the budget go back when it is dropped.
#[derive(Debug)]
pub(crate) struct Received {
    bytes: Vec<u8>,
    permit: Option<OwnedSemaphorePermit>,
    buffers: Arc<Pool<Vec<u8>>>,
    metrics: Arc<Metrics>,
}

impl Receiver {
    pub(crate) fn new(config: &crate::Config, metrics: Arc<Metrics>) -> Self {
        let permits =
            config.bodies_in_flight_bytes_max.div_ceil(PERMIT_BYTES).min(Semaphore::MAX_PERMITS);
        Self {
            budget: Arc::new(Semaphore::new(permits)),
            buffers: Arc::new(Pool::new(SPARE_MAX, SPARE_BYTES_MAX)),
            metrics,
            time_max: Duration::from_secs(config.body_seconds_max),
        }
    }

    /// Receives a body of up to `limit` bytes. What announces itself as larger is refused before
    /// a byte of it is read.
    pub(crate) async fn receive(&self, body: Body, limit: usize) -> Result<Received, BodyError> {
        if body.size_hint().lower() > limit as u64 {
            return Err(BodyError::TooLarge { limit });
        }
        match tokio::time::timeout(self.time_max, self.collect(body, limit)).await {
            Ok(received) => received,
            Err(_) => Err(BodyError::Slow { seconds: self.time_max.as_secs() }),
        }
    }

    async fn collect(&self, mut body: Body, limit: usize) -> Result<Received, BodyError> {
        let mut received = Received {
            bytes: self.buffers.take(),
            permit: None,
            buffers: Arc::clone(&self.buffers),
            metrics: Arc::clone(&self.metrics),
        };
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(0);
        self.reserve(&mut received, announced)?;
        received.bytes.reserve_exact(announced);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else {
                continue; // Trailers say nothing here.
            };
            if received.bytes.len() + data.len() > limit {
                return Err(BodyError::TooLarge { limit });
            }
            self.reserve(&mut received, data.len())?;
            received.bytes.extend_from_slice(&data);
            self.metrics.held(data.len());
        }
        Ok(received)
    }

    /// Takes from the budget what `more` bytes need beyond what was taken already.
    fn reserve(&self, received: &mut Received, more: usize) -> Result<(), BodyError> {
        let need = (received.bytes.len() + more).div_ceil(PERMIT_BYTES);
        let have = received.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if need > have {
            let missing = u32::try_from(need - have).map_err(|_| BodyError::Busy)?;
            let permit = Arc::clone(&self.budget)
                .try_acquire_many_owned(missing)
                .map_err(|_| BodyError::Busy)?;
            match &mut received.permit {
                Some(held) => held.merge(permit),
                none => *none = Some(permit),
            }
        }
        Ok(())
    }
}

impl Received {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.metrics.released(self.bytes.len());
        self.buffers.put(std::mem::take(&mut self.bytes));
    }
}
