//! Requests about members: sent, and their answers in a history's words.

use snowglobe::proto::etcdserverpb as pb;
use snowglobe::proto::etcdserverpb::cluster_client::ClusterClient;
use tonic::Status;

use super::{Way, answer, no_way};
use crate::history::{Body, Member, Request, Response};

/// Sends a request about members. Errors: what the server says; a request of another kind.
pub async fn send(way: Way, request: &Request) -> Result<Response, Status> {
    let mut client = ClusterClient::new(way);
    let (header, added, members) = match request {
        Request::MemberList { linearizable } => {
            let request = pb::MemberListRequest { linearizable: *linearizable };
            let response = client.member_list(request).await?.into_inner();
            (response.header, None, response.members)
        }
        Request::MemberAdd { peer_urls, learner } => {
            let (peer_ur_ls, is_learner) = (peer_urls.clone(), *learner);
            let request = pb::MemberAddRequest { peer_ur_ls, is_learner };
            let response = client.member_add(request).await?.into_inner();
            (response.header, response.member, response.members)
        }
        Request::MemberRemove { id } => {
            let request = pb::MemberRemoveRequest { id: *id };
            let response = client.member_remove(request).await?.into_inner();
            (response.header, None, response.members)
        }
        Request::MemberPromote { id } => {
            let request = pb::MemberPromoteRequest { id: *id };
            let response = client.member_promote(request).await?.into_inner();
            (response.header, None, response.members)
        }
        Request::MemberUpdate { id, peer_urls } => {
            let request = pb::MemberUpdateRequest { id: *id, peer_ur_ls: peer_urls.clone() };
            let response = client.member_update(request).await?.into_inner();
            (response.header, None, response.members)
        }
        other => return Err(no_way(other)),
    };
    let members = members.into_iter().map(member).collect();
    Ok(answer(header, Body::Members { member: added.map(member), members }))
}

fn member(member: pb::Member) -> Member {
    Member {
        id: member.id,
        name: member.name,
        peer_urls: member.peer_ur_ls,
        learner: member.is_learner,
    }
}
