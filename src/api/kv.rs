//! The KV service: ranges, puts, deletes, txns and compactions.

use tonic::{Request, Response, Status};

use super::gate::Credentials;
use super::{Api, status};
use crate::error::Refusal;
use crate::proto::etcdserverpb::kv_server::Kv;
use crate::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    InternalRaftRequest, PutRequest, PutResponse, RangeRequest, RangeResponse, TxnRequest,
    TxnResponse,
};
use crate::state::{self, validate};

/// The answer of one kind, with this member's header; any other kind is a bug of ours.
macro_rules! answer {
    ($api:expr, $response:expr, $kind:ident) => {
        match $response {
            state::Response::$kind(mut response) => {
                $api.complete(&mut response.header);
                Ok(Response::new(response))
            }
            _ => Err(super::wrong_kind()),
        }
    };
}

#[tonic::async_trait]
impl Kv for Api {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let (credentials, request) = (Credentials::of(&request), request.into_inner());
        validate::range(&request).map_err(status)?;
        if !request.serializable && self.handle.is_learner() {
            return Err(status(Refusal::NotSupportedForLearner));
        }
        let caller = self.caller(&credentials).await?;
        let mut response = self.handle.range(caller, request).await.map_err(status)?;
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let (credentials, request) = (Credentials::of(&request), request.into_inner());
        validate::put(&request).map_err(status)?;
        let caller = self.caller(&credentials).await?;
        let request = InternalRaftRequest { put: Some(request), ..Default::default() };
        answer!(self, self.propose(&caller, request).await?, Put)
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let (credentials, request) = (Credentials::of(&request), request.into_inner());
        validate::delete_range(&request).map_err(status)?;
        let caller = self.caller(&credentials).await?;
        let request = InternalRaftRequest { delete_range: Some(request), ..Default::default() };
        answer!(self, self.propose(&caller, request).await?, DeleteRange)
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let (credentials, request) = (Credentials::of(&request), request.into_inner());
        validate::txn(&request, self.config.max_txn_ops).map_err(status)?;
        let caller = self.caller(&credentials).await?;
        if state::is_read_only(&request) {
            let mut response = self.handle.txn_read_only(caller, request).await.map_err(status)?;
            self.complete(&mut response.header);
            return Ok(Response::new(response));
        }
        let request = InternalRaftRequest { txn: Some(request), ..Default::default() };
        answer!(self, self.propose(&caller, request).await?, Txn)
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let (credentials, request) = (Credentials::of(&request), request.into_inner());
        let caller = self.caller(&credentials).await?;
        let request = InternalRaftRequest { compaction: Some(request), ..Default::default() };
        answer!(self, self.propose(&caller, request).await?, Compact)
    }
}
