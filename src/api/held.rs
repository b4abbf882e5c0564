//! Keeps the account of an answer open until its client has taken it, or has gone.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::raft::Held;

/// An answer with its part of the account, which [`layer`] hands to the answer's body.
pub(super) fn until_taken<T>(answer: T, held: Held) -> tonic::Response<T> {
    let mut response = tonic::Response::new(answer);
    response.extensions_mut().insert(Arc::new(held));
    response
}

/// A response whose account lives as long as its bytes do: hyper is done with a body long before the client has taken it.
pub(super) fn layer<B>(mut response: http::Response<B>) -> http::Response<HeldBody<B>> {
    let held = response.extensions_mut().remove::<Arc<Held>>();
    response.map(|body| HeldBody { body, held })
}

/// A body whose bytes come with their part of the account.
pub(super) struct HeldBody<B> {
    body: B,
    held: Option<Arc<Held>>,
}

/// Bytes that wait in a connection until its window has room for them.
struct Waiting {
    bytes: Bytes,
    _held: Arc<Held>,
}

impl AsRef<[u8]> for Waiting {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<B: Default> Default for HeldBody<B> {
    fn default() -> Self {
        Self { body: B::default(), held: None }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for HeldBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let Some(held) = &self.held else { return frame };
        let waiting = |bytes| Bytes::from_owner(Waiting { bytes, _held: Arc::clone(held) });
        frame.map_ok(|frame| frame.map_data(waiting))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
