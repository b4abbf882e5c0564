//! The Maintenance service: status, hashes, leadership, alarms.

use tonic::{Request, Response, Status};

use super::{Api, status};
use crate::error::Refusal;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::maintenance_server::Maintenance;
use crate::proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, HashKvRequest, HashKvResponse, MoveLeaderRequest,
    MoveLeaderResponse, StatusRequest, StatusResponse,
};
use crate::state::KeysHash;

/// The etcd release whose API is served: clients choose by it what they may ask for.
const ETCD_VERSION: &str = "3.6.0";

#[tonic::async_trait]
impl Maintenance for Api {
    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        if request.get_ref().action() == AlarmAction::Get {
            self.known_caller(request.metadata()).await?;
        } else {
            self.admin(request.metadata()).await?;
        }
        // No alarm can be raised yet, so there is none to list and none to take back.
        match request.into_inner().action() {
            AlarmAction::Get | AlarmAction::Deactivate => {
                let revision = self.handle.status().await.map_err(status)?.revision;
                Ok(Response::new(AlarmResponse { header: self.header(revision), alarms: vec![] }))
            }
            AlarmAction::Activate => Err(Status::unimplemented("alarms cannot be raised yet")),
        }
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        self.known_caller(request.metadata()).await?;
        let now = self.handle.status().await.map_err(status)?;
        let no_leader = (now.leader == 0).then(|| Refusal::NoLeader.text().to_owned());
        let bytes = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
        Ok(Response::new(StatusResponse {
            header: self.header(now.revision),
            version: ETCD_VERSION.into(),
            db_size: bytes(now.db_size),
            leader: now.leader,
            raft_index: now.commit,
            raft_term: now.header.term,
            raft_applied_index: now.applied,
            errors: no_leader.into_iter().collect(),
            db_size_in_use: bytes(now.db_size_in_use),
            is_learner: now.is_learner,
            storage_version: ETCD_VERSION.into(),
            db_size_quota: 0,
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        self.admin(request.metadata()).await?;
        let asked = request.into_inner().revision;
        let KeysHash { hash, compact_revision, hash_revision, revision } =
            self.handle.hash_kv(asked).await.map_err(status)?;
        let header = self.header(revision);
        Ok(Response::new(HashKvResponse { header, hash, compact_revision, hash_revision }))
    }

    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        self.admin(request.metadata()).await?;
        self.handle.move_leader(request.into_inner().target_id).await.map_err(status)?;
        // etcd sends no header here.
        Ok(Response::new(MoveLeaderResponse { header: None }))
    }
}
