//! Requests about leases: sent, and their answers in a history's words.

use snowglobe::proto::etcdserverpb as pb;
use snowglobe::proto::etcdserverpb::lease_client::LeaseClient;
use tonic::Status;

use super::{Way, answer, no_way};
use crate::history::{Body, Bytes, Request, Response};

/// Sends a request about leases. Errors: what the server says; a request of another kind.
pub async fn send(way: Way, request: &Request) -> Result<Response, Status> {
    let mut client = LeaseClient::new(way);
    Ok(match *request {
        Request::LeaseGrant { id, ttl_s } => {
            let request = pb::LeaseGrantRequest { id, ttl: ttl_s };
            let response = client.lease_grant(request).await?.into_inner();
            let (id, ttl_s) = (response.id, response.ttl);
            answer(response.header, Body::LeaseGrant { id, ttl_s })
        }
        Request::LeaseRevoke { id } => {
            let response = client.lease_revoke(pb::LeaseRevokeRequest { id }).await?.into_inner();
            answer(response.header, Body::LeaseRevoke {})
        }
        Request::LeaseKeepAlive { id } => {
            // One round of a stream: one request, one answer.
            let once = tokio_stream::once(pb::LeaseKeepAliveRequest { id });
            let mut answers = client.lease_keep_alive(once).await?.into_inner();
            let ended = || Status::unavailable("the stream ended without an answer");
            let response = answers.message().await?.ok_or_else(ended)?;
            let (id, ttl_s) = (response.id, response.ttl);
            answer(response.header, Body::LeaseKeepAlive { id, ttl_s })
        }
        Request::LeaseTimeToLive { id, keys } => {
            let request = pb::LeaseTimeToLiveRequest { id, keys };
            let response = client.lease_time_to_live(request).await?.into_inner();
            let body = Body::LeaseTimeToLive {
                id: response.id,
                ttl_s: response.ttl,
                granted_ttl_s: response.granted_ttl,
                keys: response.keys.into_iter().map(|key| Bytes(key.to_vec())).collect(),
            };
            answer(response.header, body)
        }
        Request::LeaseLeases {} => {
            let response = client.lease_leases(pb::LeaseLeasesRequest {}).await?.into_inner();
            let ids = response.leases.into_iter().map(|lease| lease.id).collect();
            answer(response.header, Body::LeaseLeases { ids })
        }
        ref other => return Err(no_way(other)),
    })
}
