//! Real gRPC over the simulated streams: tonic, hyper and h2 as the server uses them.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use snowglobe::host::{Host, Stream};
use snowglobe::proto::etcdserverpb::cluster_client::ClusterClient;
use snowglobe::proto::etcdserverpb::cluster_server::{Cluster, ClusterServer};
use snowglobe::proto::etcdserverpb::{
    self as pb, MemberListRequest, MemberListResponse, ResponseHeader,
};
use snowglobe::proto::peer::peer_client::PeerClient;
use snowglobe::proto::peer::peer_server::{Peer, PeerServer};
use snowglobe::proto::peer::{
    Ack, ChangeMembersRequest, Frame, HashKvRequest, HashKvResponse, LeaseRenewRequest,
    LeaseRenewResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, MembersRequest,
    MembersResponse, SnapshotAck, SnapshotChunk,
};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Response, Status, Streaming};

use super::super::{Options, World, run_in_world};
use super::{MS, add_nodes};

#[derive(Clone)]
pub(super) struct Exec;

impl<F> hyper::rt::Executor<F> for Exec
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        drop(tokio::spawn(task));
    }
}

struct Service;

#[tonic::async_trait]
impl Cluster for Service {
    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let revision = i64::from(request.into_inner().linearizable);
        let header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
        Ok(Response::new(MemberListResponse { header, ..MemberListResponse::default() }))
    }

    async fn member_add(
        &self,
        _: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn member_remove(
        &self,
        _: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn member_update(
        &self,
        _: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn member_promote(
        &self,
        _: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

#[tonic::async_trait]
impl Peer for Service {
    async fn messages(&self, request: Request<Streaming<Frame>>) -> Result<Response<Ack>, Status> {
        let mut frames = request.into_inner();
        let mut next = 0;
        while let Some(frame) = frames.message().await? {
            if frame.from != next {
                return Err(Status::data_loss("out of order"));
            }
            next += 1;
        }
        Ok(Response::new(Ack {}))
    }

    async fn snapshot(
        &self,
        _: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<SnapshotAck>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn lease_renew(
        &self,
        _: Request<LeaseRenewRequest>,
    ) -> Result<Response<LeaseRenewResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn lease_time_to_live(
        &self,
        _: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn members(
        &self,
        _: Request<MembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn change_members(
        &self,
        _: Request<ChangeMembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn hash_kv(&self, _: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

/// Serves both services on port 80 for ever.
pub(super) async fn serve(host: Arc<dyn Host>, address: SocketAddr) {
    let mut listener = host.net().listen(address).await.expect("free");
    let routes = tonic::service::Routes::new(ClusterServer::new(Service))
        .add_service(PeerServer::new(Service));
    loop {
        let (stream, _) = listener.accept().await.expect("alive");
        let service = hyper_util::service::TowerToHyperService::new(routes.clone());
        let http = hyper::server::conn::http2::Builder::new(Exec);
        tokio::spawn(
            async move { http.serve_connection(TokioIo::new(stream), service).await.ok() },
        );
    }
}

#[derive(Clone)]
struct Connector(Arc<dyn snowglobe::host::Net>);

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let net = Arc::clone(&self.0);
        Box::pin(async move {
            let authority = uri.authority().expect("given").as_str().to_owned();
            Ok(TokioIo::new(net.connect(&authority).await?))
        })
    }
}

/// A lazy channel from `host` to `uri`.
pub(super) fn channel(host: &Arc<dyn Host>, uri: &'static str) -> Channel {
    Endpoint::from_static(uri).executor(Exec).connect_with_connector_lazy(Connector(host.net()))
}

async fn call_and_stream(world: World, calls: u32) -> (u64, u64) {
    let [a, b] = add_nodes(&world);
    world.boot(b, |host| serve(host, "0.0.0.0:80".parse().expect("valid")));
    world.sleep(MS).await;
    let channel = channel(&world.host(a), "http://b:80");
    let task = world.spawn(a, async move {
        let mut cluster = ClusterClient::new(channel.clone());
        for number in 0..calls {
            let request = MemberListRequest { linearizable: number % 2 == 1 };
            let answer = cluster.member_list(request).await.expect("answered").into_inner();
            assert_eq!(answer.header.expect("sent").revision, i64::from(number % 2));
        }
        let frames = (0..calls.into()).map(|from| Frame {
            from,
            messages: vec![vec![7; 100].into()],
            ..Frame::default()
        });
        PeerClient::new(channel).messages(tokio_stream::iter(frames)).await.expect("in order");
    });
    task.await.expect("not aborted");
    (world.trace().hash(), world.now_ns())
}

/// Two hundred unary calls and a stream of two hundred messages do the same, to the byte, in two runs of a seed.
#[test]
fn calls_are_deterministic() {
    let run = |seed| {
        run_in_world(seed, Options::default(), |world| call_and_stream(world, 200))
            .expect("no panic")
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0);
}

/// Worlds that run side by side in threads of one process do what they do alone.
#[test]
fn worlds_side_by_side_do_not_touch() {
    let run = |seed| {
        run_in_world(seed, Options::default(), |world| call_and_stream(world, 100))
            .expect("no panic")
    };
    let alone = [run(1), run(2)];
    let together = std::thread::scope(|scope| {
        [1, 2]
            .map(|seed| scope.spawn(move || [run(seed), run(seed)]))
            .map(|thread| thread.join().expect("no panic"))
    });
    assert_eq!(together, alone.map(|outcome| [outcome, outcome]));
}

/// A channel outlives its server's death: calls fail at once or hang with the network, and work again later.
#[test]
fn channels_reconnect() {
    run_in_world(1, Options::default(), |world| async move {
        let [a, b] = add_nodes(&world);
        world.boot(b, |host| serve(host, "0.0.0.0:80".parse().expect("valid")));
        let cluster = ClusterClient::new(channel(&world.host(a), "http://b:80"));
        let call = async || {
            let mut cluster = cluster.clone();
            let task = world
                .spawn(a, async move { cluster.member_list(MemberListRequest::default()).await });
            task.await.expect("not aborted").map_err(|status| status.code())
        };
        world.sleep(MS).await;
        assert!(call().await.is_ok());
        world.kill(b);
        world.sleep(100 * MS).await;
        assert_eq!(call().await.err(), Some(tonic::Code::Unavailable));
        world.restart(b);
        world.sleep(100 * MS).await;
        assert!(call().await.is_ok());
    })
    .expect("no panic");
}
