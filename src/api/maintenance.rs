//! The Maintenance service: status, hashes, leadership, alarms, snapshots, defragmentation.

use tonic::{Request, Response, Status};

use super::gate::Credentials;
use super::image::Image;
use super::{Api, status};
use crate::error::Refusal;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::downgrade_request::DowngradeAction;
use crate::proto::etcdserverpb::maintenance_server::Maintenance;
use crate::proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, DowngradeInfo,
    DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse,
    InternalRaftRequest, MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, StatusRequest,
    StatusResponse,
};
use crate::state::{self, KeysHash};

/// The etcd release whose API is served: clients choose by it what they may ask for.
pub(super) const ETCD_VERSION: &str = "3.6.0";

/// The same without the patch, by which a cluster is known.
const CLUSTER_VERSION: &str = "3.6";

/// The version before that one.
const DOWNGRADE_TARGET: (u64, u64) = (3, 5);

/// An alarm as etcd writes it.
fn words(alarm: &AlarmMember) -> String {
    format!("memberID:{} alarm:{} ", alarm.member_id, alarm.alarm().as_str_name())
}

/// Major and minor of a version to go back to.
fn target(version: &str) -> Result<(u64, u64), Refusal> {
    let mut parts = version.split('.').map(str::parse::<u64>);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor)), None | Some(Ok(_))) => Ok((major, minor)),
        _ => Err(Refusal::WrongDowngradeVersionFormat),
    }
}

#[tonic::async_trait]
impl Maintenance for Api {
    type SnapshotStream = Image;

    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        if request.get_ref().action() == AlarmAction::Get {
            self.known_caller(&Credentials::of(&request)).await?;
        } else {
            self.admin(&Credentials::of(&request)).await?;
        }
        let alarm = Some(request.into_inner());
        let request = InternalRaftRequest { alarm, ..Default::default() };
        match self.handle.propose(request).await.map_err(status)? {
            state::Response::Alarm(mut response) => {
                self.complete(&mut response.header);
                Ok(Response::new(response))
            }
            _ => Err(super::wrong_kind()),
        }
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        self.admin(&Credentials::of(&request)).await?;
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
            errors: no_leader.into_iter().chain(now.alarms.iter().map(words)).collect(),
            db_size_in_use: bytes(now.db_size_in_use),
            is_learner: now.is_learner,
            storage_version: ETCD_VERSION.into(),
            // As it was asked for, so that 0 stands for the default.
            db_size_quota: self.config.quota_backend_bytes,
            downgrade_info: Some(DowngradeInfo::default()),
        }))
    }

    async fn defragment(
        &self,
        request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        self.admin(&Credentials::of(&request)).await?;
        self.handle.defragment().await.map_err(status)?;
        // etcd sends no header here.
        Ok(Response::new(DefragmentResponse { header: None }))
    }

    async fn hash(&self, request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        self.admin(&Credentials::of(&request)).await?;
        let (_, hash) = self.handle.hash_all().await.map_err(status)?;
        let hash = (hash ^ (hash >> 32)) as u32;
        Ok(Response::new(HashResponse { header: self.header(self.handle.revision()), hash }))
    }

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        self.admin(&Credentials::of(&request)).await?;
        let export = self.handle.export().await.map_err(status)?;
        let header = self.header(self.handle.revision());
        Ok(Response::new(Image::new(export, header, self.config.limits.snapshot_chunk_bytes)))
    }

    async fn downgrade(
        &self,
        request: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        self.admin(&Credentials::of(&request)).await?;
        let DowngradeRequest { action, version } = request.into_inner();
        let refusal = match DowngradeAction::try_from(action) {
            Ok(DowngradeAction::Validate) => match target(&version) {
                Ok(target) if target == DOWNGRADE_TARGET => {
                    let header = self.header(self.handle.revision());
                    let version = CLUSTER_VERSION.to_owned();
                    return Ok(Response::new(DowngradeResponse { header, version }));
                }
                Ok(_) => Refusal::InvalidDowngradeTargetVersion,
                Err(refusal) => refusal,
            },
            Ok(DowngradeAction::Cancel) => Refusal::NoInflightDowngrade,
            // There is one version, and none to go back to.
            Ok(DowngradeAction::Enable) => Refusal::InvalidDowngradeTargetVersion,
            Err(_) => return Err(Status::invalid_argument("etcdserver: unknown downgrade action")),
        };
        Err(status(refusal))
    }

    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        self.admin(&Credentials::of(&request)).await?;
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
        self.admin(&Credentials::of(&request)).await?;
        self.handle.move_leader(request.into_inner().target_id).await.map_err(status)?;
        // etcd sends no header here.
        Ok(Response::new(MoveLeaderResponse { header: None }))
    }
}
