//! HTTP/2 over the host's streams: the executor that hyper spawns on, and lazily connected gRPC channels.
//!
//! tonic's own transport reaches for sockets and tasks of its own; these two pieces give it ours instead.

use std::future::Future;
use std::sync::Arc;

use http::Uri;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};

use super::Net;
use crate::error::{Error, Result};

/// Spawns hyper's tasks on the runtime of the caller.
#[derive(Clone, Copy, Debug, Default)]
pub struct Executor;

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}

/// A gRPC channel to `authority` (`host:port`) that connects when it is first used.
///
/// # Errors
/// [`Error::Config`] where `authority` is not the authority of a URL.
pub fn connect(net: Arc<dyn Net>, authority: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))
        .map_err(|e| Error::Config(format!("{authority} is not host:port: {e}")))?;
    let authority = authority.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let (net, authority) = (Arc::clone(&net), authority.clone());
        async move { net.connect(&authority).await.map(TokioIo::new) }
    });
    Ok(endpoint.executor(Executor).connect_with_connector_lazy(connector))
}
