//! A warning for each call that took long, as etcd's `--warning-unary-request-duration` asks for.
//!
//! Not here: streams, which last; who asked and for which keys, which is nobody's business in a log.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Buf, Frame, SizeHint};
use tower::{Layer, Service};

use crate::host::{BoxFuture, Clock};

/// Calls that last as long as their client wants them to, or as long as another one holds what they want.
const LASTING: &[&str] = &[
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/etcdserverpb.Maintenance/Snapshot",
    "/v3electionpb.Election/Campaign",
    "/v3electionpb.Election/Observe",
    "/v3lockpb.Lock/Lock",
    "/grpc.health.v1.Health/Watch",
];

/// Measures everything else.
#[derive(Clone)]
pub(super) struct SlowLayer {
    pub(super) clock: Arc<dyn Clock>,
    /// From when on a call is slow.
    pub(super) slow: Duration,
}

impl<S> Layer<S> for SlowLayer {
    type Service = Measured<S>;

    fn layer(&self, inner: S) -> Measured<S> {
        Measured { inner, layer: self.clone() }
    }
}

/// A service behind the layer.
#[derive(Clone)]
pub(super) struct Measured<S> {
    inner: S,
    layer: SlowLayer,
}

impl<S, Q, B> Service<http::Request<Q>> for Measured<S>
where
    S: Service<http::Request<Counted<Q>>, Response = http::Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<B>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<B>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Q>) -> Self::Future {
        let path = request.uri().path().to_owned();
        let bytes = Arc::new(AtomicUsize::new(0));
        let counted = request.map(|body| Counted { body, bytes: Arc::clone(&bytes) });
        let SlowLayer { clock, slow } = self.layer.clone();
        let begun = clock.monotonic();
        let answer = self.inner.call(counted);
        if LASTING.contains(&&*path) {
            return Box::pin(answer);
        }
        Box::pin(async move {
            let answer = answer.await;
            let took = clock.monotonic().saturating_sub(begun);
            if took > slow {
                let bytes = bytes.load(Ordering::Relaxed);
                tracing::warn!("slow: {path}, a request of {bytes} bytes, took {took:?}");
            }
            answer
        })
    }
}

/// A body whose bytes are counted as they come in.
pub(super) struct Counted<B> {
    body: B,
    bytes: Arc<AtomicUsize>,
}

impl<B: Body + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.bytes.fetch_add(data.remaining(), Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
