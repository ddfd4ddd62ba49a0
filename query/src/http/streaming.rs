//! Bodies that are sent as they are made: what goes wrong before the first piece still has a status,
//! later the connection breaks off. Whoever reads no more ends the work, wherever it is.

use axum::body::{Body, Bytes};
use futures::{Stream, StreamExt, stream};
use tokio::sync::mpsc;

use crate::Error;

/// Pieces that wait for a slow client.
const PIECES_WAITING_MAX: usize = 4;

/// What follows the last piece, so that an answer that was cut off is not taken for a whole one.
const END: Bytes = Bytes::new();

/// Where pieces are sent.
pub(super) struct Sender(mpsc::Sender<Result<Bytes, Error>>);

impl Sender {
    /// Sends a piece, once there is room for it; of no length it is none.
    pub(super) async fn send(&self, piece: Bytes) -> Result<(), Error> {
        if piece.is_empty() {
            return Ok(());
        }
        let gone = |_| Error::Canceled("query was canceled: the client is gone".to_owned());
        self.0.send(Ok(piece)).await.map_err(gone)
    }
}

/// A body of the pieces that `produce` sends. It goes on in a task of its own until its last piece
/// is taken.
pub(super) async fn body<F>(
    produce: impl FnOnce(Sender) -> F + Send + 'static,
) -> Result<Body, Error>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let pieces = pieces(produce).await?;
    let broken = |error: Error| std::io::Error::other(error.to_string());
    Ok(Body::from_stream(pieces.map(move |piece| piece.map_err(broken))))
}

/// The pieces that `produce` sends, in the same way; the first is there already.
pub(super) async fn pieces<F, P>(
    produce: P,
) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + use<F, P>, Error>
where
    P: FnOnce(Sender) -> F + Send + 'static,
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let (send, mut receive) = mpsc::channel(PIECES_WAITING_MAX);
    tokio::spawn(async move {
        let ended = tokio::select! {
            biased;
            () = send.closed() => return,
            ended = produce(Sender(send.clone())) => ended,
        };
        let _ = send.send(ended.map(|()| END)).await;
    });
    let first = next(&mut receive).await?;
    let receive = first.is_some().then_some(receive);
    let rest = stream::unfold(receive, async |receive| {
        let mut receive = receive?;
        match next(&mut receive).await {
            Ok(piece) => piece.map(|piece| (Ok(piece), Some(receive))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(stream::iter(first.map(Ok)).chain(rest))
}

async fn next(receive: &mut mpsc::Receiver<Result<Bytes, Error>>) -> Result<Option<Bytes>, Error> {
    match receive.recv().await {
        Some(piece) => piece.map(|piece| Some(piece).filter(|piece| *piece != END)),
        None => Err(Error::internal("stream the answer", "its task ended early")),
    }
}
