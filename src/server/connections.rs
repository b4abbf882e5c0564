//! The connections of one kind (clients or peers): accepted, counted, served, drained, cut.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Semaphore, watch};
use tonic::service::Routes;

use crate::config::Config;
use crate::host::channel::Executor;
use crate::host::{Clock, Listener, Stream};

/// What is being done with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// New ones are accepted.
    Serving,
    /// None is accepted; open ones finish the requests they have and close.
    Draining,
    /// All are cut.
    Closed,
}

/// A set of connections that is stopped as one.
pub(super) struct Connections {
    phase: Arc<watch::Sender<Phase>>,
    shared: Shared,
}

/// What each task of the set holds. The phase's receivers are counted: none left means all have ended.
#[derive(Clone)]
struct Shared {
    clock: Arc<dyn Clock>,
    places: Arc<Semaphore>,
    streams_max: u32,
    accept_retry: Duration,
}

impl Connections {
    pub(super) fn new(clock: Arc<dyn Clock>, config: &Config) -> Self {
        let shared = Shared {
            clock,
            places: Arc::new(Semaphore::new(config.limits.connections_max)),
            streams_max: config.max_concurrent_streams,
            accept_retry: Duration::from_millis(config.limits.accept_retry_ms),
        };
        Self { phase: Arc::new(watch::Sender::new(Phase::Serving)), shared }
    }

    /// Serves `routes` to everybody who connects, in a task of its own.
    pub(super) fn accept(&self, listener: Box<dyn Listener>, routes: Routes) {
        tokio::spawn(accept(listener, routes, self.shared.clone(), self.phase.subscribe()));
    }

    /// Moves on; there is no way back.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
    }

    /// Completes once no task of the set is left.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + use<> {
        let phase = Arc::clone(&self.phase);
        async move { phase.closed().await }
    }
}

async fn accept(
    mut listener: Box<dyn Listener>,
    routes: Routes,
    shared: Shared,
    mut phase: watch::Receiver<Phase>,
) {
    loop {
        // With no place left nobody is accepted: the kernel's queue makes them wait, then refuses.
        let next = async {
            let place = shared.places.clone().acquire_owned().await;
            (place.expect("never closed"), listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            _ = phase.wait_for(|now| *now > Phase::Serving) => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, from)) => {
                let (routes, shared, phase) = (routes.clone(), shared.clone(), phase.clone());
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, routes, &shared, phase).await {
                        tracing::debug!("connection from {from}: {error}");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                // Such as too many open files: it passes when others close theirs.
                tracing::warn!("cannot accept a connection: {error}");
                shared.clock.sleep(shared.accept_retry).await;
            }
        }
    }
}

/// Serves one connection until either side ends it.
async fn serve(
    stream: Box<dyn Stream>,
    routes: Routes,
    shared: &Shared,
    mut phase: watch::Receiver<Phase>,
) -> hyper::Result<()> {
    let mut connection = pin!(
        http2::Builder::new(Executor)
            .max_concurrent_streams(shared.streams_max)
            // The date is of no use to gRPC, and hyper would take it from the system's clock.
            .auto_date_header(false)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
    );
    tokio::select! {
        biased;
        result = connection.as_mut() => return result,
        _ = phase.wait_for(|now| *now > Phase::Serving) => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        biased;
        result = connection => result,
        _ = phase.wait_for(|now| *now == Phase::Closed) => Ok(()),
    }
}
