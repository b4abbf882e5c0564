//! The connections of one kind (clients or peers): accepted, counted, served, drained, cut.
//!
//! Invariants:
//! * Who holds a place says something: a new connection within a deadline, an HTTP/1 one from request to request,
//!   an HTTP/2 one when it is asked, which it is after a long silence. The others are closed.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Semaphore, watch};
use tonic::service::Routes;
use tower::util::MapRequest;

use super::hello::Hello;
use crate::config::Config;
use crate::host::channel::{Executor, Timer};
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
    builder: Builder<Executor>,
    hello: Duration,
    accept_retry: Duration,
}

impl Connections {
    pub(super) fn new(clock: Arc<dyn Clock>, config: &Config) -> Self {
        let shared = Shared {
            builder: builder(&clock, config),
            clock,
            places: Arc::new(Semaphore::new(config.limits.connections_max)),
            hello: Duration::from_millis(config.limits.connection_hello_ms),
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
    let named = move |mut request: http::Request<hyper::body::Incoming>| {
        if let Some(name) = name.clone() {
            request.extensions_mut().insert(name);
        }
        request
    };
    let service = TowerToHyperService::new(MapRequest::new(routes, named));
    let stream = TokioIo::new(Hello::new(stream, shared.clock.sleep(shared.hello)));
    let mut connection = pin!(shared.builder.serve_connection(stream, service));
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

/// How connections are served.
fn builder(clock: &Arc<dyn Clock>, config: &Config) -> Builder<Executor> {
    let mut builder = Builder::new(Executor);
    let timer = || Timer::new(Arc::clone(clock));
    // The date is of no use to gRPC, and hyper would take it from the system's clock.
    builder
        .http1()
        .timer(timer())
        .header_read_timeout(Duration::from_millis(config.limits.http1_head_ms))
        .auto_date_header(false);
    builder
        .http2()
        .timer(timer())
        .keep_alive_interval(Duration::from_millis(config.grpc_keepalive_interval_ms))
        .keep_alive_timeout(Duration::from_millis(config.grpc_keepalive_timeout_ms))
        .max_concurrent_streams(config.max_concurrent_streams)
        .auto_date_header(false);
    builder
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tonic::Code;
    use tonic::transport::Channel;

    use super::*;
    use crate::host::os::OsHost;
    use crate::host::{Host, channel};
    use crate::proto::etcdserverpb::RangeRequest;
    use crate::proto::etcdserverpb::kv_client::KvClient;

    const HELLO_MS: u64 = 1000;

    /// A server without services on a free port, with places for so many connections.
    async fn serve(places: usize) -> (Connections, String) {
        let host = OsHost::new();
        let mut config = Config::default();
        config.limits.connections_max = places;
        config.limits.connection_hello_ms = HELLO_MS;
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

    /// Who says nothing, or stops in the middle of a hello, gives the place back as well.
    #[tokio::test]
    async fn silence() {
        let (_connections, authority) = serve(1).await;
        let _silent = OsHost::new().net().connect(&authority).await.unwrap();
        assert_eq!(code(&mut client(&authority)).await, Code::Unimplemented);
        let mut half = OsHost::new().net().connect(&authority).await.unwrap();
        half.write_all(b"PRI * HTTP/2.0").await.unwrap();
        half.flush().await.unwrap();
        assert_eq!(code(&mut client(&authority)).await, Code::Unimplemented);
    }

    /// Who has said hello may be silent for longer than that.
    #[tokio::test]
    async fn idleness() {
        let (_connections, authority) = serve(1).await;
        let mut idle = OsHost::new().net().connect(&authority).await.unwrap();
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        idle.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        idle.write_all(&settings).await.unwrap();
        idle.flush().await.unwrap();
        OsHost::new().clock().sleep(Duration::from_millis(2 * HELLO_MS)).await;
        idle.write_all(&[&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], b"are you?"].concat()).await.unwrap();
        idle.flush().await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"are you?") {
            let mut buffer = [0; 64];
            let count = idle.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "the connection was closed after {answer:?}");
            answer.extend_from_slice(&buffer[..count]);
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
