//! The Lock service: a lock is held by the oldest key under its name ([`super::concurrency`]).

use bytes::Bytes;
use tonic::{Request, Response, Status};

use super::Api;
use super::concurrency::{Answer, Failure, Store, attended};
use crate::proto::v3lockpb::lock_server::Lock;
use crate::proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};

#[tonic::async_trait]
impl Lock for Api {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let store = self.store(&request);
        attended(|answer| acquire(store, request.into_inner(), answer)).await
    }

    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        let store = self.store(&request);
        let UnlockRequest { key } = request.into_inner();
        let header = store.delete(key).await?;
        Ok(Response::new(UnlockResponse { header }))
    }
}

/// Takes the lock, or takes its claim back if the client does not wait to the end.
async fn acquire(store: Store, request: LockRequest, mut answer: Answer<LockResponse>) {
    let claimed = match store.claim(&request.name, request.lease, Bytes::new()).await {
        Ok(claimed) => claimed,
        Err(failure) => return drop(answer.send(Err(failure))),
    };
    let claim = claimed.claim;
    let key = claim.key.clone();
    if claimed.owner == claim.revision {
        // Who has gone in this moment holds the lock until the lease ends, as with etcd.
        return drop(answer.send(Ok(LockResponse { header: claimed.header, key })));
    }
    let waited = tokio::select! {
        biased;
        waited = store.wait(&claim) => waited,
        () = answer.closed() => Err(Failure::Said("the client has gone")),
    };
    if waited.is_err() {
        // What fails here is left to the lease.
        let _ = store.release(&claim).await;
    }
    drop(answer.send(waited.map(|header| LockResponse { header, key })));
}
