//! What a member without a vote answers: as in etcd, serializable ranges, questions about itself, and snapshots.
//!
//! A layer around all services looks at the method alone; whether a range is serializable is looked at in `kv.rs`.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::status;
use crate::error::Refusal;
use crate::raft;

/// What a learner answers, too.
const SERVED: &[&str] = &[
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/Snapshot",
];

/// Refuses everything else of etcd's while the member is a learner.
#[derive(Clone)]
pub(super) struct LearnerLayer(pub(super) raft::Handle);

impl<S> Layer<S> for LearnerLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { inner, handle: self.0.clone() }
    }
}

/// A service behind the layer.
#[derive(Clone)]
pub(super) struct Guard<S> {
    inner: S,
    handle: raft::Handle,
}

type Answer<B> = Result<http::Response<B>, Infallible>;

impl<S, Q, B> Service<http::Request<Q>> for Guard<S>
where
    S: Service<http::Request<Q>, Response = http::Response<B>, Error = Infallible>,
    B: Default,
{
    type Response = http::Response<B>;
    type Error = Infallible;
    type Future = Either<Ready<Answer<B>>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Q>) -> Self::Future {
        let path = request.uri().path();
        let is_ours = path.starts_with("/etcdserverpb.");
        if is_ours && self.handle.is_learner() && !SERVED.contains(&path) {
            let refused = status(Refusal::NotSupportedForLearner).into_http();
            return Either::Left(ready(Ok(refused)));
        }
        Either::Right(Box::pin(self.inner.call(request)))
    }
}

/// One of two futures.
pub(super) enum Either<L, R> {
    /// The first.
    Left(L),
    /// The second.
    Right(Pin<Box<R>>),
}

impl<L: Future + Unpin, R: Future<Output = L::Output>> Future for Either<L, R> {
    type Output = L::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<L::Output> {
        match &mut *self {
            Self::Left(left) => Pin::new(left).poll(context),
            Self::Right(right) => right.as_mut().poll(context),
        }
    }
}
