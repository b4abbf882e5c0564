//! The Cluster service: who the members are, and changes of that.

use tonic::{Request, Response, Status};

use super::gate::Credentials;
use super::{Api, status};
use crate::config::{Url, added_member_id};
use crate::error::Refusal;
use crate::proto::etcdserverpb::cluster_server::Cluster;
use crate::proto::etcdserverpb::member_change::Kind;
use crate::proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberChange, MemberListRequest,
    MemberListResponse, MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest,
    MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse,
};

#[tonic::async_trait]
impl Cluster for Api {
    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        self.admin(&Credentials::of(&request)).await?;
        let MemberAddRequest { peer_ur_ls, is_learner } = request.into_inner();
        let urls = urls(&peer_ur_ls).map_err(status)?;
        let token = &self.config.initial_cluster_token;
        let id = added_member_id(&urls, token, self.handle.unused_id());
        let peer_urls = urls.iter().map(Url::to_string).collect();
        let change = MemberChange { kind: Kind::Add.into(), id, peer_urls, is_learner };
        let members = self.change(change).await?;
        let member = members.iter().find(|member| member.id == id).cloned();
        Ok(Response::new(MemberAddResponse { header: self.header(0), member, members }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        self.admin(&Credentials::of(&request)).await?;
        let id = request.into_inner().id;
        let change = MemberChange { kind: Kind::Remove.into(), id, ..MemberChange::default() };
        let members = self.change(change).await?;
        Ok(Response::new(MemberRemoveResponse { header: self.header(0), members }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        self.admin(&Credentials::of(&request)).await?;
        let MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        let urls = urls(&peer_ur_ls).map_err(status)?;
        let peer_urls = urls.iter().map(Url::to_string).collect();
        let kind = Kind::Update.into();
        let change = MemberChange { kind, id, peer_urls, ..MemberChange::default() };
        let members = self.change(change).await?;
        Ok(Response::new(MemberUpdateResponse { header: self.header(0), members }))
    }

    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        self.known_caller(&Credentials::of(&request)).await?;
        if request.into_inner().linearizable {
            self.handle.linearizable_barrier().await.map_err(status)?;
        }
        let members = self.handle.status().await.map_err(status)?.members;
        let members = members.iter().map(|(id, member)| member.to_message(*id)).collect();
        Ok(Response::new(MemberListResponse { header: self.header(0), members }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        self.admin(&Credentials::of(&request)).await?;
        let id = request.into_inner().id;
        let change = MemberChange { kind: Kind::Promote.into(), id, ..MemberChange::default() };
        let members = self.change(change).await?;
        Ok(Response::new(MemberPromoteResponse { header: self.header(0), members }))
    }
}

impl Api {
    async fn change(&self, change: MemberChange) -> Result<Vec<Member>, Status> {
        self.handle.change_members(change).await.map_err(status)
    }
}

/// Peer URLs, in the order that etcd keeps them in.
fn urls(texts: &[String]) -> Result<Vec<Url>, Refusal> {
    let urls = texts.iter().map(|text| text.parse().map_err(|_| Refusal::MemberBadUrls));
    let mut urls = urls.collect::<Result<Vec<Url>, Refusal>>()?;
    urls.sort_by_key(Url::to_string);
    if urls.is_empty() { Err(Refusal::MemberBadUrls) } else { Ok(urls) }
}
