//! HTTP/2 over a host's streams: how hyper spawns its tasks and how tonic's channels connect.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;

use super::{BoxFuture, Net, Stream};

/// Runs hyper's tasks on the current runtime, whichever it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spawn;

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}

/// Connects tonic's channels through a [`Net`]:
/// `Endpoint::executor(Spawn).connect_with_connector_lazy(Connector::new(net))`.
#[derive(Clone)]
pub struct Connector {
    net: Arc<dyn Net>,
}

impl Connector {
    /// A connector over these sockets.
    #[must_use]
    pub fn new(net: Arc<dyn Net>) -> Self {
        Self { net }
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let net = self.net.clone();
        Box::pin(async move {
            let authority = uri.authority().ok_or(io::ErrorKind::InvalidInput)?;
            Ok(TokioIo::new(net.connect(authority.as_str()).await?))
        })
    }
}
