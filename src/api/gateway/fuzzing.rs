//! Requests made of any bytes: as protobuf, as JSON, and as text in which JSON objects stand.
//!
//! Invariants:
//! * Bytes are a message or are refused, and a message has one encoding: it decodes to that message again.
//! * The gateway understands what gRPC understands: by its description a message is the same one, and its JSON means
//!   that message again, as far as JSON may be nested.
//! * Validation answers, and what a member with a limit lets through is valid without one.
//! * Text is cut into the same objects in whatever pieces it comes, and where `serde_json` would cut it.

use std::any::Any;

use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};

use super::body::Objects;
use super::{calls, codec};
use crate::config::Url;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::{etcdserverpb as pb, v3electionpb, v3lockpb};
use crate::state::validate;
use crate::watch::Keys;

/// Larger than any input.
const OBJECT_BYTES_MAX: usize = 1 << 20;

/// One kind of request.
type Kind = (&'static str, fn(MessageDescriptor, Form, &[u8]));

/// What the bytes of a request are.
#[derive(Clone, Copy)]
enum Form {
    Protobuf,
    Json,
}

macro_rules! kinds {
    ($($name:literal $kind:ty),* $(,)?) => { &[$(($name, request::<$kind>)),*] };
}

/// What clients can send, in the order of the services.
const KINDS: &[Kind] = kinds![
    "etcdserverpb.RangeRequest" pb::RangeRequest,
    "etcdserverpb.PutRequest" pb::PutRequest,
    "etcdserverpb.DeleteRangeRequest" pb::DeleteRangeRequest,
    "etcdserverpb.TxnRequest" pb::TxnRequest,
    "etcdserverpb.CompactionRequest" pb::CompactionRequest,
    "etcdserverpb.WatchRequest" pb::WatchRequest,
    "etcdserverpb.LeaseGrantRequest" pb::LeaseGrantRequest,
    "etcdserverpb.LeaseRevokeRequest" pb::LeaseRevokeRequest,
    "etcdserverpb.LeaseKeepAliveRequest" pb::LeaseKeepAliveRequest,
    "etcdserverpb.LeaseTimeToLiveRequest" pb::LeaseTimeToLiveRequest,
    "etcdserverpb.LeaseLeasesRequest" pb::LeaseLeasesRequest,
    "etcdserverpb.MemberAddRequest" pb::MemberAddRequest,
    "etcdserverpb.MemberRemoveRequest" pb::MemberRemoveRequest,
    "etcdserverpb.MemberUpdateRequest" pb::MemberUpdateRequest,
    "etcdserverpb.MemberListRequest" pb::MemberListRequest,
    "etcdserverpb.MemberPromoteRequest" pb::MemberPromoteRequest,
    "etcdserverpb.AlarmRequest" pb::AlarmRequest,
    "etcdserverpb.StatusRequest" pb::StatusRequest,
    "etcdserverpb.DefragmentRequest" pb::DefragmentRequest,
    "etcdserverpb.HashRequest" pb::HashRequest,
    "etcdserverpb.HashKVRequest" pb::HashKvRequest,
    "etcdserverpb.SnapshotRequest" pb::SnapshotRequest,
    "etcdserverpb.MoveLeaderRequest" pb::MoveLeaderRequest,
    "etcdserverpb.DowngradeRequest" pb::DowngradeRequest,
    "etcdserverpb.AuthEnableRequest" pb::AuthEnableRequest,
    "etcdserverpb.AuthDisableRequest" pb::AuthDisableRequest,
    "etcdserverpb.AuthStatusRequest" pb::AuthStatusRequest,
    "etcdserverpb.AuthenticateRequest" pb::AuthenticateRequest,
    "etcdserverpb.AuthUserAddRequest" pb::AuthUserAddRequest,
    "etcdserverpb.AuthUserGetRequest" pb::AuthUserGetRequest,
    "etcdserverpb.AuthUserListRequest" pb::AuthUserListRequest,
    "etcdserverpb.AuthUserDeleteRequest" pb::AuthUserDeleteRequest,
    "etcdserverpb.AuthUserChangePasswordRequest" pb::AuthUserChangePasswordRequest,
    "etcdserverpb.AuthUserGrantRoleRequest" pb::AuthUserGrantRoleRequest,
    "etcdserverpb.AuthUserRevokeRoleRequest" pb::AuthUserRevokeRoleRequest,
    "etcdserverpb.AuthRoleAddRequest" pb::AuthRoleAddRequest,
    "etcdserverpb.AuthRoleGetRequest" pb::AuthRoleGetRequest,
    "etcdserverpb.AuthRoleListRequest" pb::AuthRoleListRequest,
    "etcdserverpb.AuthRoleDeleteRequest" pb::AuthRoleDeleteRequest,
    "etcdserverpb.AuthRoleGrantPermissionRequest" pb::AuthRoleGrantPermissionRequest,
    "etcdserverpb.AuthRoleRevokePermissionRequest" pb::AuthRoleRevokePermissionRequest,
    "v3lockpb.LockRequest" v3lockpb::LockRequest,
    "v3lockpb.UnlockRequest" v3lockpb::UnlockRequest,
    "v3electionpb.CampaignRequest" v3electionpb::CampaignRequest,
    "v3electionpb.ProclaimRequest" v3electionpb::ProclaimRequest,
    "v3electionpb.LeaderRequest" v3electionpb::LeaderRequest,
    "v3electionpb.ResignRequest" v3electionpb::ResignRequest,
];

/// Reads a request: the first byte says of which kind, the second in which form. Panics where an invariant of this
/// file is broken.
pub fn requests(bytes: &[u8]) {
    let [kind, form, rest @ ..] = bytes else { return };
    // Txns are the kind in which most can be wrong.
    let (name, request) = KINDS.get(usize::from(*kind)).unwrap_or(&KINDS[3]);
    let kind = calls::message(name).expect("a message of the API");
    match form % 3 {
        0 => request(kind, Form::Protobuf, rest),
        1 => request(kind, Form::Json, rest),
        _ => text(rest, form / 3),
    }
}

/// Reads one request.
fn request<M: Any + Message + Default + PartialEq>(
    kind: MessageDescriptor,
    form: Form,
    bytes: &[u8],
) {
    let (message, dynamic) = match form {
        Form::Protobuf => {
            let Ok(message) = M::decode(bytes) else { return };
            let again = DynamicMessage::decode(kind.clone(), &message.encode_to_vec()[..]);
            (message, again.expect("what gRPC understands, the gateway does"))
        }
        Form::Json => {
            let Ok(dynamic) = codec::from_json(kind.clone(), bytes) else { return };
            let message = M::decode(&dynamic.encode_to_vec()[..]);
            (message.expect("what the gateway sends is understood"), dynamic)
        }
    };
    let same = |bytes: &[u8]| assert!(M::decode(bytes).as_ref() == Ok(&message), "another one");
    let encoded = message.encode_to_vec();
    assert_eq!(message.encoded_len(), encoded.len());
    same(&encoded);
    same(&dynamic.encode_to_vec());
    let json = codec::to_json(&dynamic).expect("every message has a JSON");
    match codec::from_json(kind, json.as_bytes()) {
        Ok(again) => same(&again.encode_to_vec()),
        Err(status) => assert!(status.message().contains("recursion limit"), "{status}: {json}"),
    }
    validate_all(&message);
}

/// Every check that looks at the request alone.
fn validate_all(request: &dyn Any) {
    if let Some(request) = request.downcast_ref() {
        let _ = validate::range(request);
    }
    if let Some(request) = request.downcast_ref() {
        let _ = validate::put(request);
    }
    if let Some(request) = request.downcast_ref() {
        let _ = validate::delete_range(request);
    }
    if let Some(request) = request.downcast_ref::<pb::TxnRequest>() {
        let all = validate::txn(request, usize::MAX);
        for ops_max in [0, 1, 128] {
            let some = validate::txn(request, ops_max);
            assert!(all.is_ok() || some.is_err(), "a limit lets through what is invalid");
        }
    }
    if let Some(pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(watch)) }) =
        request.downcast_ref()
    {
        let _ = Keys::new(&watch.key, &watch.range_end);
    }
    if let Some(member) = request.downcast_ref::<pb::MemberAddRequest>() {
        for url in member.peer_ur_ls.iter().filter_map(|text| text.parse::<Url>().ok()) {
            assert_eq!(url.to_string().parse::<Url>().as_ref(), Ok(&url));
        }
    }
}

/// Cuts a text that comes whole and in pieces.
fn text(text: &[u8], piece_bytes: u8) {
    let whole = cut(text, text.len().max(1));
    assert_eq!(cut(text, usize::from(piece_bytes).max(1)), whole);
    // Where it is nothing but objects, each is cut where it ends.
    let values = serde_json::Deserializer::from_slice(text).into_iter::<serde_json::Value>();
    if let Ok(values) = values.collect::<Result<Vec<_>, _>>()
        && values.iter().all(serde_json::Value::is_object)
    {
        let (objects, refusal) = whole;
        assert_eq!(refusal, None);
        let objects = objects.iter().map(|object| serde_json::from_slice(object).ok());
        assert_eq!(objects.collect::<Option<Vec<serde_json::Value>>>(), Some(values));
    }
}

/// The objects of a text that comes in pieces of so many bytes, and what is said about the rest.
fn cut(text: &[u8], piece_bytes: usize) -> (Vec<Vec<u8>>, Option<String>) {
    let mut objects = Objects::new(OBJECT_BYTES_MAX);
    let mut taken = Vec::new();
    for piece in text.chunks(piece_bytes) {
        objects.push(piece);
        loop {
            match objects.take() {
                Ok(Some(object)) => taken.push(object.to_vec()),
                Ok(None) => break,
                Err(status) => return (taken, Some(status.message().to_owned())),
            }
        }
    }
    (taken, objects.rest().map(|status| status.message().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever a call takes is among the kinds, each once.
    #[test]
    fn all_kinds() {
        let mut taken: Vec<String> = calls::inputs().collect();
        taken.sort();
        taken.dedup();
        let mut kinds: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
        kinds.sort_unstable();
        assert_eq!(taken, kinds);
    }
}
