//! The KV service: ranges, puts, deletes, txns and compactions.

use tonic::{Request, Response, Status};

use super::{Api, status};
use crate::proto::etcdserverpb::kv_server::Kv;
use crate::proto::etcdserverpb::request_op::Request as Op;
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
            _ => Err(Status::unknown("etcdserver: the answer is not of the request's kind")),
        }
    };
}

#[tonic::async_trait]
impl Kv for Api {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let request = request.into_inner();
        validate::range(&request).map_err(status)?;
        let mut response = self.handle.range(request).await.map_err(status)?;
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let request = request.into_inner();
        validate::put(&request).map_err(status)?;
        let request = InternalRaftRequest { put: Some(request), ..Default::default() };
        answer!(self, self.propose(request).await?, Put)
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let request = request.into_inner();
        validate::delete_range(&request).map_err(status)?;
        let request = InternalRaftRequest { delete_range: Some(request), ..Default::default() };
        answer!(self, self.propose(request).await?, DeleteRange)
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let request = request.into_inner();
        validate::txn(&request, self.config.max_txn_ops).map_err(status)?;
        if is_read_only(&request) {
            let mut response = self.handle.txn_read_only(request).await.map_err(status)?;
            self.complete(&mut response.header);
            return Ok(Response::new(response));
        }
        let request = InternalRaftRequest { txn: Some(request), ..Default::default() };
        answer!(self, self.propose(request).await?, Txn)
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let request = request.into_inner();
        let request = InternalRaftRequest { compaction: Some(request), ..Default::default() };
        answer!(self, self.propose(request).await?, Compact)
    }
}

impl Api {
    /// Through the log.
    async fn propose(&self, request: InternalRaftRequest) -> Result<state::Response, Status> {
        self.handle.propose(request).await.map_err(status)
    }
}

/// Whether no branch writes, at any depth: such a txn never enters the log.
fn is_read_only(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| match &op.request {
        Some(Op::RequestRange(_)) | None => true,
        Some(Op::RequestPut(_) | Op::RequestDeleteRange(_)) => false,
        Some(Op::RequestTxn(nested)) => is_read_only(nested),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::RequestOp;

    /// A write anywhere, in either branch or nested, makes the txn a write.
    #[test]
    fn read_only_txns() {
        let op = |request| RequestOp { request: Some(request) };
        let range = || op(Op::RequestRange(RangeRequest::default()));
        let put = || op(Op::RequestPut(PutRequest::default()));
        let delete = || op(Op::RequestDeleteRange(DeleteRangeRequest::default()));
        let txn = |success, failure| TxnRequest { success, failure, ..Default::default() };
        let nested = |inner| op(Op::RequestTxn(inner));
        let check = |txn: TxnRequest, expected| assert_eq!(is_read_only(&txn), expected, "{txn:?}");
        check(txn(vec![], vec![]), true);
        check(txn(vec![range()], vec![range()]), true);
        check(txn(vec![put()], vec![]), false);
        check(txn(vec![range()], vec![delete()]), false);
        check(txn(vec![nested(txn(vec![range()], vec![]))], vec![]), true);
        check(txn(vec![], vec![nested(txn(vec![], vec![put()]))]), false);
    }
}
