//! The KV service: ranges, puts, deletes, txns and compactions.

use prost::Message as _;
use tonic::{Request, Response, Status};

use super::gate::Credentials;
use super::{Api, held, status};
use crate::error::Refusal;
use crate::proto::etcdserverpb::kv_server::Kv;
use crate::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    InternalRaftRequest, PutRequest, PutResponse, RangeRequest, RangeResponse, TxnRequest,
    TxnResponse,
};
use crate::state::{self, validate};

/// The answer of one kind, with this member's header, counted until its client has taken it; any other kind is a bug of
/// ours.
macro_rules! answer {
    ($api:expr, $response:expr, $kind:ident) => {
        match $response {
            state::Response::$kind(mut response) => {
                $api.complete(&mut response.header);
                let held = $api.handle.hold(response.encoded_len());
                Ok(held::until_taken(response, held))
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
        let (mut response, held) = self.handle.range(caller, request).await.map_err(status)?;
        self.complete(&mut response.header);
        Ok(held::until_taken(response, held))
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
        self.handle.check_room().map_err(status)?;
        let request = InternalRaftRequest { delete_range: Some(request), ..Default::default() };
        answer!(self, self.propose(&caller, request).await?, DeleteRange)
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let (credentials, request) = (Credentials::of(&request), request.into_inner());
        validate::txn(&request, self.config.max_txn_ops).map_err(status)?;
        let caller = self.caller(&credentials).await?;
        if state::is_read_only(&request) {
            let answer = self.handle.txn_read_only(caller, request).await.map_err(status)?;
            let (mut response, held) = answer;
            self.complete(&mut response.header);
            return Ok(held::until_taken(response, held));
        }
        self.handle.check_room().map_err(status)?;
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
