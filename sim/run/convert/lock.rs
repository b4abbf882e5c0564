//! Requests about locks and elections: sent, and their answers in a history's words.

use snowglobe::proto::v3electionpb::election_client::ElectionClient;
use snowglobe::proto::v3lockpb::lock_client::LockClient;
use snowglobe::proto::{v3electionpb as epb, v3lockpb as lpb};
use tonic::Status;

use super::{Way, answer, key_value, no_way};
use crate::history::{Body, Bytes, LeaderKey, Request, Response};

/// Whether a request is about locks or elections.
#[must_use]
pub fn is_about(request: &Request) -> bool {
    matches!(
        request,
        Request::Lock { .. }
            | Request::Unlock { .. }
            | Request::Campaign { .. }
            | Request::Proclaim { .. }
            | Request::Resign { .. }
            | Request::Leader { .. }
    )
}

/// Sends a request about locks or elections. Errors: what the server says; a request of another kind.
pub async fn send(way: Way, request: &Request) -> Result<Response, Status> {
    let mut locks = LockClient::new(way.clone());
    let mut elections = ElectionClient::new(way);
    Ok(match request {
        Request::Lock { name, lease } => {
            let request = lpb::LockRequest { name: bytes(name), lease: *lease };
            let response = locks.lock(request).await?.into_inner();
            answer(response.header, Body::Lock { key: Bytes(response.key.to_vec()) })
        }
        Request::Unlock { key } => {
            let request = lpb::UnlockRequest { key: bytes(key) };
            answer(locks.unlock(request).await?.into_inner().header, Body::Unlock {})
        }
        Request::Campaign { name, lease, value } => {
            let (name, value) = (bytes(name), bytes(value));
            let request = epb::CampaignRequest { name, lease: *lease, value };
            let response = elections.campaign(request).await?.into_inner();
            let missing = || Status::data_loss("a campaign was won without a leadership");
            let leader = response.leader.ok_or_else(missing)?;
            let leader = LeaderKey {
                name: Bytes(leader.name.to_vec()),
                key: Bytes(leader.key.to_vec()),
                revision: leader.rev,
                lease: leader.lease,
            };
            answer(response.header, Body::Campaign { leader })
        }
        Request::Proclaim { leader, value } => {
            let leader = Some(leader_key(leader));
            let request = epb::ProclaimRequest { leader, value: bytes(value) };
            answer(elections.proclaim(request).await?.into_inner().header, Body::Proclaim {})
        }
        Request::Resign { leader } => {
            let request = epb::ResignRequest { leader: Some(leader_key(leader)) };
            answer(elections.resign(request).await?.into_inner().header, Body::Resign {})
        }
        Request::Leader { name } => {
            let request = epb::LeaderRequest { name: bytes(name) };
            let response = elections.leader(request).await?.into_inner();
            let kv = key_value(response.kv.unwrap_or_default());
            answer(response.header, Body::Leader { kv })
        }
        other => return Err(no_way(other)),
    })
}

fn bytes(bytes: &Bytes) -> bytes::Bytes {
    bytes.0.clone().into()
}

fn leader_key(leader: &LeaderKey) -> epb::LeaderKey {
    epb::LeaderKey {
        name: bytes(&leader.name),
        key: bytes(&leader.key),
        rev: leader.revision,
        lease: leader.lease,
    }
}
