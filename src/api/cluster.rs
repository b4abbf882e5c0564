//! The Cluster service: who the members are.

use tonic::{Request, Response, Status};

use super::{Api, status};
use crate::config::Url;
use crate::proto::etcdserverpb::cluster_server::Cluster;
use crate::proto::etcdserverpb::{Member, MemberListRequest, MemberListResponse};

#[tonic::async_trait]
impl Cluster for Api {
    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        self.known_caller(request.metadata()).await?;
        if request.into_inner().linearizable {
            self.handle.linearizable_barrier().await.map_err(status)?;
        }
        let published = self.handle.status().await.map_err(status)?.members;
        let members = self.config.initial_members().into_iter().map(|(id, (_, peer_urls))| {
            // A member that never started has not published its name: it stays empty, as in etcd.
            let attributes = published.get(&id).cloned().unwrap_or_default();
            Member {
                id,
                name: attributes.name,
                peer_ur_ls: peer_urls.iter().map(Url::to_string).collect(),
                client_ur_ls: attributes.client_urls,
                is_learner: false,
            }
        });
        let members = members.collect();
        Ok(Response::new(MemberListResponse { header: self.header(0), members }))
    }
}
