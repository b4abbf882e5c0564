//! The connections of one kind (clients or peers): accepted, counted, served, drained, cut.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Semaphore, watch};
use tonic::service::Routes;
use tower::util::MapRequest;

use crate::config::Config;
use crate::host::channel::Executor;
use crate::host::tls::{Acceptor, CommonName};
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

/// What each task of the set holds. The phase's receivers are counted: none left means all have
/// ended.
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

    /// Serves `routes` to everybody who connects, over TLS where there is `tls`, in a task of its own.
    pub(super) fn accept(
        &self,
        listener: Box<dyn Listener>,
        tls: Option<Arc<Acceptor>>,
        routes: Routes,
    ) {
        let served = Served { tls, routes };
        tokio::spawn(accept(listener, served, self.shared.clone(), self.phase.subscribe()));
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

/// What is behind one listener.
#[derive(Clone)]
struct Served {
    tls: Option<Arc<Acceptor>>,
    routes: Routes,
}

async fn accept(
    mut listener: Box<dyn Listener>,
    served: Served,
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
                let (served, shared, phase) = (served.clone(), shared.clone(), phase.clone());
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, from, served, &shared, phase).await {
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

/// Shakes hands, where there is something to do it by; nothing where that has failed.
async fn secured(
    stream: Box<dyn Stream>,
    from: SocketAddr,
    tls: Option<Arc<Acceptor>>,
    phase: &mut watch::Receiver<Phase>,
) -> Option<(Box<dyn Stream>, Option<CommonName>)> {
    let Some(tls) = tls else { return Some((stream, None)) };
    let accepted = tokio::select! {
        biased;
        accepted = tls.accept(stream) => accepted,
        _ = phase.wait_for(|now| *now > Phase::Serving) => return None,
    };
    match accepted {
        Ok(secured) => return Some(secured),
        // Such as somebody who only looks whether the port is open.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            tracing::debug!("connection from {from} closed before the TLS handshake was over");
        }
        Err(error) => tracing::warn!("refused a connection from {from}: {error}"),
    }
    None
}

/// Serves one connection until either side ends it.
async fn serve(
    stream: Box<dyn Stream>,
    from: SocketAddr,
    Served { tls, routes }: Served,
    shared: &Shared,
    mut phase: watch::Receiver<Phase>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let Some((stream, name)) = secured(stream, from, tls, &mut phase).await else { return Ok(()) };
    let mut builder = auto::Builder::new(Executor);
    // The date is of no use to gRPC, and hyper would take it from the system's clock.
    builder.http1().auto_date_header(false);
    builder.http2().max_concurrent_streams(shared.streams_max).auto_date_header(false);
    let named = move |mut request: http::Request<hyper::body::Incoming>| {
        if let Some(name) = name.clone() {
            request.extensions_mut().insert(name);
        }
        request
    };
    let service = TowerToHyperService::new(MapRequest::new(routes, named));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
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

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic::transport::Channel;

    use super::*;
    use crate::host::os::OsHost;
    use crate::host::{Host, channel};
    use crate::proto::etcdserverpb::RangeRequest;
    use crate::proto::etcdserverpb::kv_client::KvClient;

    /// A server without services on a free port, with places for so many connections.
    async fn serve(places: usize) -> (Connections, String) {
        let host = OsHost::new();
        let mut config = Config::default();
        config.limits.connections_max = places;
        let connections = Connections::new(host.clock(), &config);
        let listener = host.net().listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let authority = listener.local_address().unwrap().to_string();
        connections.accept(listener, None, Routes::default());
        (connections, authority)
    }

    fn client(authority: &str) -> KvClient<Channel> {
        KvClient::new(channel::connect(OsHost::new().net(), authority).unwrap())
    }

    async fn code(client: &mut KvClient<Channel>) -> Code {
        client.range(RangeRequest::default()).await.unwrap_err().code()
    }

    /// With one place, one client after the other is served: each gives its place back.
    #[tokio::test]
    async fn places_are_given_back() {
        let (_connections, authority) = serve(1).await;
        for _ in 0..3 {
            assert_eq!(code(&mut client(&authority)).await, Code::Unimplemented);
        }
    }

    /// Draining ends a connection that has nothing under way, and takes no new one.
    #[tokio::test]
    async fn draining() {
        let (connections, authority) = serve(8).await;
        let mut client = client(&authority);
        assert_eq!(code(&mut client).await, Code::Unimplemented);
        connections.enter(Phase::Draining);
        connections.ended().await;
        assert_ne!(code(&mut client).await, Code::Unimplemented, "nobody is left to say so");
    }

    /// Closing cuts a connection that never says a word, and there is no way back from it.
    #[tokio::test]
    async fn closing() {
        let (connections, authority) = serve(8).await;
        let _silent = OsHost::new().net().connect(&authority).await.unwrap();
        // Connections are accepted in order: this one is served, so the silent one was accepted.
        assert_eq!(code(&mut client(&authority)).await, Code::Unimplemented);
        connections.enter(Phase::Closed);
        connections.enter(Phase::Serving);
        connections.ended().await;
    }
}
