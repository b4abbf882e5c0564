//! Users, roles and permissions over gRPC against real members: set up, enforced everywhere, remembered.

use snowglobe::proto::authpb::permission::Type;
use snowglobe::proto::authpb::{Permission, UserAddOptions};
use snowglobe::proto::etcdserverpb::auth_client::AuthClient;
use snowglobe::proto::etcdserverpb::lease_client::LeaseClient;
use snowglobe::proto::etcdserverpb::watch_client::WatchClient;
use snowglobe::proto::etcdserverpb::watch_request::RequestUnion;
use snowglobe::proto::etcdserverpb::{
    AuthEnableRequest, AuthRoleAddRequest, AuthRoleGetRequest, AuthRoleGrantPermissionRequest,
    AuthStatusRequest, AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest,
    AuthUserGetRequest, AuthUserGrantRoleRequest, AuthUserListRequest, AuthenticateRequest,
    HashKvRequest, LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest,
    RangeRequest, StatusRequest, WatchCreateRequest, WatchRequest,
};
use snowglobe::proto::v3lockpb::LockRequest;
use snowglobe::proto::v3lockpb::lock_client::LockClient;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::member::{Folder, Member, until};

pub(crate) fn auth(member: &Member) -> AuthClient<Channel> {
    AuthClient::new(member.channel())
}

/// A request that shows a token.
pub(crate) fn by<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("token", token.parse().unwrap());
    request
}

fn put(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: "v".into(), ..Default::default() }
}

fn get(key: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), ..Default::default() }
}

async fn log_in(member: &Member, name: &str) -> Result<String, Status> {
    let request = AuthenticateRequest { name: name.into(), password: name.into() };
    Ok(auth(member).authenticate(request).await?.into_inner().token)
}

async fn add_user(member: &Member, token: &str, name: &str, no_password: bool) {
    let options = Some(UserAddOptions { no_password });
    let (name, password) = (name.to_owned(), name.to_owned());
    let add = AuthUserAddRequest { name, password, options, hashed_password: String::new() };
    auth(member).user_add(by(token, add)).await.unwrap();
}

async fn give(member: &Member, user: &str, role: &str) {
    let request = AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
    auth(member).user_grant_role(request).await.unwrap();
}

/// Members on which root may do everything and ann may read and write the keys from k to l.
async fn cluster(folder: &Folder, count: usize) -> Vec<Member> {
    let members = Member::serving(&folder.0, count, &["--bcrypt-cost=4"]).await;
    let member = &members[0];
    for (name, no_password) in [("root", false), ("ann", false), ("cert", true)] {
        add_user(member, "none", name, no_password).await;
    }
    auth(member).role_add(AuthRoleAddRequest { name: "keys".into() }).await.unwrap();
    let (key, range_end) = ("k".into(), "l".into());
    let perm = Some(Permission { perm_type: Type::Readwrite.into(), key, range_end });
    let grant = AuthRoleGrantPermissionRequest { name: "keys".into(), perm };
    auth(member).role_grant_permission(grant).await.unwrap();
    give(member, "root", "root").await;
    give(member, "ann", "keys").await;
    auth(member).auth_enable(AuthEnableRequest {}).await.unwrap();
    members
}

fn check<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, text: &str) {
    let status = result.expect_err(text);
    assert_eq!((status.code(), status.message()), (code, text));
}

const EMPTY: (Code, &str) = (Code::InvalidArgument, "etcdserver: user name is empty");
const DENIED: (Code, &str) = (Code::PermissionDenied, "etcdserver: permission denied");

/// Passwords and tokens: right ones are taken, all others refused in etcd's words.
#[tokio::test]
async fn passwords_and_tokens() {
    let folder = Folder::new("auth-tokens");
    let member = cluster(&folder, 1).await.remove(0);
    let failed = "etcdserver: authentication failed, invalid user ID or password";
    for (name, password) in [("ann", "root"), ("eve", "eve"), ("ann", "")] {
        let request = AuthenticateRequest { name: name.into(), password: password.into() };
        check(auth(&member).authenticate(request).await, Code::InvalidArgument, failed);
    }
    let text = "auth: authentication failed, password was given for no password user";
    check(log_in(&member, "cert").await, Code::Unknown, text);
    let token = log_in(&member, "ann").await.unwrap();
    member.kv().put(by(&token, put("k1"))).await.unwrap();
    let mut bearer = Request::new(put("k1"));
    bearer.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    member.kv().put(bearer).await.unwrap();
    let text = "etcdserver: invalid auth token";
    for token in ["none", "abc.1", "abc.99999999"] {
        check(member.kv().put(by(token, put("k1"))).await, Code::Unauthenticated, text);
    }
    let root = log_in(&member, "root").await.unwrap();
    let (name, password) = ("ann".to_owned(), "new".to_owned());
    let change = AuthUserChangePasswordRequest { name, password, hashed_password: String::new() };
    auth(&member).user_change_password(by(&root, change)).await.unwrap();
    check(member.kv().put(by(&token, put("k1"))).await, Code::Unauthenticated, text);
    check(log_in(&member, "ann").await, Code::InvalidArgument, failed);
}

/// Every service asks who it is, and lets pass what etcd lets pass.
#[tokio::test]
async fn every_service_asks() {
    let folder = Folder::new("auth-services");
    let member = cluster(&folder, 1).await.remove(0);
    let (root, ann) =
        (log_in(&member, "root").await.unwrap(), log_in(&member, "ann").await.unwrap());
    let leases = || LeaseClient::new(member.channel());
    check(member.kv().put(put("k1")).await, EMPTY.0, EMPTY.1);
    check(member.kv().range(get("k1")).await, EMPTY.0, EMPTY.1);
    check(leases().lease_grant(LeaseGrantRequest { id: 7, ttl: 60 }).await, EMPTY.0, EMPTY.1);
    check(member.maintenance().status(StatusRequest {}).await, EMPTY.0, EMPTY.1);
    check(auth(&member).user_list(AuthUserListRequest {}).await, EMPTY.0, EMPTY.1);
    let lock = || LockRequest { name: "k".into(), lease: 0 };
    let mut locks = LockClient::new(member.channel());
    check(locks.lock(lock()).await, Code::Unknown, EMPTY.1);

    check(member.kv().put(by(&ann, put("z"))).await, DENIED.0, DENIED.1);
    check(member.kv().range(by(&ann, get("z"))).await, DENIED.0, DENIED.1);
    check(auth(&member).user_list(by(&ann, AuthUserListRequest {})).await, DENIED.0, DENIED.1);
    let hash = HashKvRequest { revision: 0 };
    check(member.maintenance().hash_kv(by(&ann, hash)).await, DENIED.0, DENIED.1);
    let denied = LockRequest { name: "job".into(), lease: 0 };
    check(locks.lock(by(&ann, denied)).await, Code::Unknown, DENIED.1);
    locks.lock(by(&ann, lock())).await.unwrap();
    let own = AuthUserGetRequest { name: "ann".into() };
    let roles = auth(&member).user_get(by(&ann, own)).await.unwrap().into_inner().roles;
    assert_eq!(roles, ["keys"]);
    let role = AuthRoleGetRequest { role: "keys".into() };
    let perm = auth(&member).role_get(by(&ann, role)).await.unwrap().into_inner().perm;
    assert_eq!((perm.len(), &perm[0].range_end[..]), (1, &b"l"[..]));
    let status = auth(&member).auth_status(AuthStatusRequest {}).await.unwrap().into_inner();
    assert!(status.enabled && status.auth_revision > 1);

    leases().lease_grant(by(&ann, LeaseGrantRequest { id: 7, ttl: 60 })).await.unwrap();
    let on_lease = PutRequest { lease: 7, ..put("z") };
    member.kv().put(by(&root, on_lease)).await.unwrap();
    let ask = LeaseTimeToLiveRequest { id: 7, keys: true };
    check(leases().lease_time_to_live(by(&ann, ask)).await, DENIED.0, DENIED.1);
    let revoke = LeaseRevokeRequest { id: 7 };
    check(leases().lease_revoke(by(&ann, revoke)).await, DENIED.0, DENIED.1);
    leases().lease_revoke(by(&root, revoke)).await.unwrap();
}

/// Who may not read keys may not watch them; the refusal comes as etcd's does.
#[tokio::test]
async fn watches_are_asked() {
    let folder = Folder::new("auth-watches");
    let member = cluster(&folder, 1).await.remove(0);
    let token = log_in(&member, "ann").await.unwrap();
    let told = async |token: &str, key: &'static str, range_end: &'static str| {
        let (key, range_end) = (key.into(), range_end.into());
        let create = WatchCreateRequest { key, range_end, ..Default::default() };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let request = by(token, tokio_stream::once(request));
        let mut told = WatchClient::new(member.channel()).watch(request).await.unwrap();
        let first = told.get_mut().message().await.unwrap().unwrap();
        assert_eq!(first.watch_id, if first.canceled { -1 } else { 0 });
        first.cancel_reason
    };
    let denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    assert_eq!(told(&token, "k", "l").await, "");
    assert_eq!(told(&token, "k", "m").await, denied);
    assert_eq!(told(&token, "", "\0").await, denied);
    let invalid = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
    assert_eq!(told("none", "k", "l").await, invalid);
}

/// A token of one member is good on all; a restart forgets tokens but no user; a user who is gone may do nothing,
/// whichever member is asked.
#[tokio::test]
async fn three_members() {
    let folder = Folder::new("auth-three");
    let mut members = cluster(&folder, 3).await;
    let token = log_in(&members[0], "ann").await.unwrap();
    for member in &members {
        member.kv().put(by(&token, put("k1"))).await.unwrap();
    }
    members[2].kill();
    members[2].start();
    let text = "etcdserver: invalid auth token";
    until("the token is forgotten", || async {
        let status = members[2].kv().put(by(&token, put("k1"))).await.err()?;
        (status.message() == text).then_some(())
    })
    .await;
    let token = log_in(&members[2], "ann").await.unwrap();
    members[2].kv().put(by(&token, put("k2"))).await.unwrap();
    let root = log_in(&members[1], "root").await.unwrap();
    let delete = AuthUserDeleteRequest { name: "ann".into() };
    auth(&members[1]).user_delete(by(&root, delete)).await.unwrap();
    for member in &members {
        // A member that has not applied it yet asks as a user of before: then the entry is refused.
        let status = member.kv().put(by(&token, put("k3"))).await.unwrap_err();
        assert!(
            ["etcdserver: invalid auth token", "etcdserver: revision of auth store is old"]
                .contains(&status.message()),
            "{status:?}"
        );
    }
    let all = RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    let found = members[0].kv().range(by(&root, all)).await.unwrap().into_inner();
    assert_eq!(found.count, 2);
}
