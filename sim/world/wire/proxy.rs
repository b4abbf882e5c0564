//! The proxy of one directed link: a gRPC server towards one member, a gRPC client towards the other.
//!
//! Part of the process of the member that is spoken to: it dies and stands still with that process.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use snowglobe::host::{Host, channel};
use snowglobe::proto::peer::peer_client::PeerClient;
use snowglobe::proto::peer::peer_server::{Peer, PeerServer};
use snowglobe::proto::peer::{
    Ack, ChangeMembersRequest, Frame, HashKvRequest, HashKvResponse, LeaseRenewRequest,
    LeaseRenewResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, MembersRequest,
    MembersResponse, SnapshotAck, SnapshotChunk,
};
use snowglobe::raft::sealed;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::Wires;
use super::link::{Route, route};

/// Frames or pieces that the proxy holds while the member is slow: few, so that the sender feels it.
const UNDER_WAY_MAX: usize = 4;

/// Serves one link until the process ends.
pub(super) async fn serve(proxy: Proxy, address: SocketAddr) {
    // Fails only where the process is gone: nobody else on this machine wants the port.
    let Ok(mut listener) = proxy.host.net().listen(address).await else { return };
    let server = PeerServer::new(proxy).max_decoding_message_size(usize::MAX);
    let routes = tonic::service::Routes::new(server);
    while let Ok((stream, _)) = listener.accept().await {
        let service = TowerToHyperService::new(routes.clone());
        let mut http = hyper::server::conn::http2::Builder::new(channel::Executor);
        http.auto_date_header(false);
        // A connection that breaks is of no interest here: both members see that it did.
        tokio::spawn(
            async move { http.serve_connection(TokioIo::new(stream), service).await.ok() },
        );
    }
}

/// What one link's proxy works with.
pub(super) struct Proxy {
    pub(super) wires: Wires,
    /// The machine of the member that is spoken to.
    pub(super) host: Arc<dyn Host>,
    pub(super) link: (usize, usize),
    /// Where that member listens.
    pub(super) member: String,
}

impl Proxy {
    /// A connection of its own for each call, as members have them for their streams.
    fn member(&self) -> Result<PeerClient<Channel>, Status> {
        channel::connect(self.host.net(), &self.member)
            .map(PeerClient::new)
            .map_err(|error| Status::internal(error.to_string()))
    }

    /// The next late message of a stream, in a frame; none ever before the stream has said who it is of.
    async fn late(&self, stream: Option<(u64, Route)>) -> Frame {
        let Some((number, route)) = stream else { return std::future::pending().await };
        let message = self.wires.late(self.link, number, route).await;
        let (cluster_id, from, to) = route;
        sealed(Frame { cluster_id, from, to, messages: vec![message], checksum: 0 })
    }
}

#[tonic::async_trait]
impl Peer for Proxy {
    async fn messages(&self, request: Request<Streaming<Frame>>) -> Result<Response<Ack>, Status> {
        let mut frames = request.into_inner();
        let (sender, receiver) = mpsc::channel(UNDER_WAY_MAX);
        let mut member = self.member()?;
        let mut answer = pin!(member.messages(ReceiverStream::new(receiver)));
        let mut stream = None;
        loop {
            // Nothing is taken from the one side before the other has room for it.
            let room = tokio::select! {
                biased;
                answer = &mut answer => return answer,
                room = sender.reserve() => room,
            };
            let Ok(room) = room else { return answer.await };
            let frame = tokio::select! {
                biased;
                answer = &mut answer => return answer,
                late = self.late(stream) => Some(late),
                frame = frames.message() => {
                    let Some(frame) = frame? else { break };
                    if stream.is_none() {
                        stream = Some((self.wires.open(self.link), route(&frame)));
                    }
                    self.wires.meet(self.link, frame)
                }
            };
            if let Some(frame) = frame {
                room.send(frame);
            }
        }
        drop(sender);
        answer.await
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<SnapshotAck>, Status> {
        let mut chunks = request.into_inner();
        let (sender, receiver) = mpsc::channel(UNDER_WAY_MAX);
        let mut member = self.member()?;
        let mut answer = pin!(member.snapshot(ReceiverStream::new(receiver)));
        let mut waiting = None;
        loop {
            let chunk = tokio::select! {
                biased;
                answer = &mut answer => return answer,
                chunk = chunks.message() => chunk?,
            };
            let Some(chunk) = chunk else { break };
            for chunk in self.wires.meet_chunk(self.link, chunk, &mut waiting) {
                let sent = tokio::select! {
                    biased;
                    answer = &mut answer => return answer,
                    sent = sender.send(chunk) => sent,
                };
                if sent.is_err() {
                    return answer.await;
                }
            }
        }
        drop(sender);
        answer.await
    }

    async fn lease_renew(
        &self,
        request: Request<LeaseRenewRequest>,
    ) -> Result<Response<LeaseRenewResponse>, Status> {
        self.member()?.lease_renew(request.into_inner()).await
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        self.member()?.lease_time_to_live(request.into_inner()).await
    }

    async fn members(
        &self,
        request: Request<MembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        self.member()?.members(request.into_inner()).await
    }

    async fn change_members(
        &self,
        request: Request<ChangeMembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        self.member()?.change_members(request.into_inner()).await
    }

    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        self.member()?.hash_kv(request.into_inner()).await
    }
}
