//! HTTP/2 over the host's streams: hyper's executor and timer, and lazily connected gRPC channels.
//!
//! tonic's own transport reaches for sockets, tasks and time of its own; these pieces give it ours instead.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Uri;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};

use super::{BoxFuture, Clock, Net};
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

/// Tells hyper the host's time.
///
/// hyper wants the standard library's instants, which only the system's clock can make: one of them is the origin, and
/// what is told is that one and the host's time since.
pub struct Timer {
    clock: Arc<dyn Clock>,
    origin: Instant,
    since: Duration,
}

impl Timer {
    /// A timer that goes by `clock`.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "an origin: only differences to it are looked at")]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let since = clock.monotonic();
        Self { clock, origin: Instant::now(), since }
    }
}

impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(Mutex::new(self.clock.sleep(duration))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep(deadline.saturating_duration_since(self.now()))
    }

    fn now(&self) -> Instant {
        self.origin + self.clock.monotonic().saturating_sub(self.since)
    }
}

/// A sleep as hyper wants it: to be shared between threads. Nobody ever waits for the lock.
struct Sleep(Mutex<BoxFuture<'static, ()>>);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll(context)
    }
}

impl hyper::rt::Sleep for Sleep {}

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
