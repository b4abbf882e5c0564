//! The Lease service: grant, revoke, keep alive, time to live, list.
//!
//! The least time to live is this member's own, as in etcd; it is put into the request before that is
//! proposed, so that the log alone decides and members with other flags agree.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status, Streaming};

use super::gate::Credentials;
use super::{Api, status};
use crate::error::Refusal;
use crate::proto::etcdserverpb::lease_server::Lease;
use crate::proto::etcdserverpb::{
    InternalRaftRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest,
    LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use crate::raft::May;
use crate::state;

/// One answer of a keep-alive stream, under way.
type Answer = oneshot::Receiver<Result<LeaseKeepAliveResponse, Status>>;

#[tonic::async_trait]
impl Lease for Api {
    type LeaseKeepAliveStream = Answers;

    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let caller = self.known_caller(&Credentials::of(&request)).await?;
        let mut grant = request.into_inner();
        if grant.id == 0 {
            grant.id = self.handle.lease_id();
        }
        grant.ttl = grant.ttl.max(self.config.lease_ttl_min_s());
        let request = InternalRaftRequest { lease_grant: Some(grant), ..Default::default() };
        match self.propose(&caller, request).await? {
            state::Response::LeaseGrant(mut response) => {
                self.complete(&mut response.header);
                Ok(Response::new(response))
            }
            _ => Err(super::wrong_kind()),
        }
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let caller = self.known_caller(&Credentials::of(&request)).await?;
        let lease_revoke = Some(request.into_inner());
        let request = InternalRaftRequest { lease_revoke, ..Default::default() };
        match self.propose(&caller, request).await? {
            state::Response::LeaseRevoke(mut response) => {
                self.complete(&mut response.header);
                Ok(Response::new(response))
            }
            _ => Err(super::wrong_kind()),
        }
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let (sender, answers) = mpsc::channel(self.config.limits.lease_stream_renewals_max);
        let credentials = Credentials::of(&request);
        tokio::spawn(keep_alive(self.clone(), credentials, request.into_inner(), sender));
        Ok(Response::new(Answers { answers, next: None }))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let caller = self.known_caller(&Credentials::of(&request)).await?;
        let LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        if keys {
            self.handle.may(&caller, May::ReadLease(id)).await.map_err(status)?;
        }
        let found = self.handle.lease_time_to_live(id, keys).await.map_err(status)?;
        // The leader may know of more keys than this member did.
        for key in found.iter().flat_map(|found| &found.keys) {
            let what = May::Read { key: key.clone(), range_end: bytes::Bytes::new() };
            self.handle.may(&caller, what).await.map_err(status)?;
        }
        let header = self.header(self.handle.revision());
        // A lease that is not there is an answer, not an error.
        let gone = LeaseTimeToLiveResponse { id, ttl: -1, ..LeaseTimeToLiveResponse::default() };
        let response = found.map_or(gone, |found| LeaseTimeToLiveResponse {
            header: None,
            id,
            ttl: found.ttl_s,
            granted_ttl: found.granted_ttl_s,
            keys: found.keys,
        });
        Ok(Response::new(LeaseTimeToLiveResponse { header, ..response }))
    }

    async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let caller = self.known_caller(&Credentials::of(&request)).await?;
        let ids = self.handle.leases(caller).await.map_err(status)?;
        let header = self.header(self.handle.revision());
        let leases = ids.into_iter().map(|id| LeaseStatus { id }).collect();
        Ok(Response::new(LeaseLeasesResponse { header, leases }))
    }
}

impl Api {
    async fn renew(
        &self,
        credentials: &Credentials,
        id: i64,
    ) -> Result<LeaseKeepAliveResponse, Status> {
        let caller = self.known_caller(credentials).await?;
        self.handle.may(&caller, May::RenewLease(id)).await.map_err(status)?;
        // Taken first: a lease that was revoked later must not seem to have been renewed after that.
        let header = self.header(self.handle.revision());
        let ttl = self.handle.lease_renew(id).await.map_err(status)?;
        Ok(LeaseKeepAliveResponse { header, id, ttl })
    }
}

/// Reads renewals from a stream and has each done, several at once: each of them waits for a quorum.
async fn keep_alive(
    api: Api,
    credentials: Credentials,
    mut requests: Streaming<LeaseKeepAliveRequest>,
    answers: mpsc::Sender<Answer>,
) {
    loop {
        let request = tokio::select! {
            biased;
            () = answers.closed() => return,
            () = api.handle.ending() => Err(status(Refusal::Stopped)),
            request = requests.message() => match request {
                Ok(Some(request)) => Ok(request),
                Ok(None) => return,
                Err(status) => Err(super::not_received_on(status)),
            },
        };
        let (answer, answered) = oneshot::channel();
        // Waits for room: what is under way on one stream is bounded.
        if answers.send(answered).await.is_err() {
            return;
        }
        match request {
            Ok(request) => {
                let (api, credentials) = (api.clone(), credentials.clone());
                tokio::spawn(async move {
                    // The client may have gone.
                    let _ = answer.send(api.renew(&credentials, request.id).await);
                });
            }
            Err(status) => {
                let _ = answer.send(Err(status));
                return;
            }
        }
    }
}

/// The answers of one keep-alive stream, in the order of the requests.
pub(super) struct Answers {
    answers: mpsc::Receiver<Answer>,
    next: Option<Answer>,
}

impl tokio_stream::Stream for Answers {
    type Item = Result<LeaseKeepAliveResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.next.is_none() {
            match std::task::ready!(this.answers.poll_recv(context)) {
                Some(next) => this.next = Some(next),
                None => return Poll::Ready(None),
            }
        }
        let next = this.next.as_mut().expect("it was put there");
        let answer = std::task::ready!(Pin::new(next).poll(context));
        this.next = None;
        Poll::Ready(Some(answer.unwrap_or_else(|_| Err(status(Refusal::Stopped)))))
    }
}
