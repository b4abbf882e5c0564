//! JSON web tokens against real members: signed by one, good on all, old when users have changed.

use snowglobe::proto::etcdserverpb::lease_client::LeaseClient;
use snowglobe::proto::etcdserverpb::{
    AuthEnableRequest, AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserGrantRoleRequest,
    AuthUserListRequest, AuthenticateRequest, LeaseGrantRequest, PutRequest, RangeRequest,
};
use tonic::{Code, Status};

use crate::auth::{auth, by};
use crate::member::{Folder, Member, snowglobe, until};

/// Keys that were made for these tests and protect nothing.
const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys");

fn put() -> PutRequest {
    PutRequest { key: "k".into(), value: "v".into(), ..Default::default() }
}

async fn log_in(member: &Member) -> Result<String, Status> {
    let request = AuthenticateRequest { name: "root".into(), password: "root".into() };
    Ok(auth(member).authenticate(request).await?.into_inner().token)
}

/// Waits until a member that has started takes a token; how it is it tells nobody without one.
async fn taken(member: &Member, token: &str) {
    until("the token is taken", || async { member.kv().put(by(token, put())).await.ok() }).await;
}

/// Members with root for their only user, whose tokens are made by these options.
async fn cluster(folder: &Folder, count: usize, options: &str) -> Vec<Member> {
    let auth_token = format!("--auth-token=jwt,{options}");
    let members = Member::serving(&folder.0, count, &["--bcrypt-cost=4", &auth_token]).await;
    let (name, password) = ("root".to_owned(), "root".to_owned());
    let add = AuthUserAddRequest { name, password, ..Default::default() };
    auth(&members[0]).user_add(add).await.unwrap();
    let grant = AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() };
    auth(&members[0]).user_grant_role(grant).await.unwrap();
    auth(&members[0]).auth_enable(AuthEnableRequest {}).await.unwrap();
    members
}

/// A token is good on every member and outlives them, until users change: then keys need a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members() {
    let folder = Folder::new("jwt-three");
    let options = format!("sign-method=ES256,priv-key={KEYS}/ec256.pem,pub-key={KEYS}/ec256.pub");
    let mut members = cluster(&folder, 3, &options).await;
    let token = log_in(&members[0]).await.unwrap();
    for member in &members {
        until("the member knows that authentication is on", || async {
            member.kv().put(put()).await.err()
        })
        .await;
        member.kv().put(by(&token, put())).await.unwrap();
    }
    members[2].kill();
    members[2].start();
    taken(&members[2], &token).await;
    let text = "etcdserver: invalid auth token";
    for bad in ["abc.1", &token[1..]] {
        let status = members[1].kv().put(by(bad, put())).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unauthenticated, text));
    }

    let (name, password) = ("root".to_owned(), "new".to_owned());
    let change = AuthUserChangePasswordRequest { name, password, hashed_password: String::new() };
    auth(&members[0]).user_change_password(by(&token, change)).await.unwrap();
    let text = "etcdserver: revision of auth store is old";
    let status = members[0].kv().put(by(&token, put())).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, text));
    let get = RangeRequest { key: "k".into(), serializable: true, ..Default::default() };
    let status = members[0].kv().range(by(&token, get)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, text));
    // As in etcd, what is about no key asks who it is and not since when.
    auth(&members[0]).user_list(by(&token, AuthUserListRequest {})).await.unwrap();
    let mut leases = LeaseClient::new(members[0].channel());
    leases.lease_grant(by(&token, LeaseGrantRequest { id: 7, ttl: 60 })).await.unwrap();
    assert!(log_in(&members[0]).await.is_err());
}

/// A member with the public key alone takes the tokens of others and signs none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_checks() {
    let folder = Folder::new("jwt-checks");
    let options = format!("sign-method=RS256,priv-key={KEYS}/rsa.pem,ttl=1h");
    let mut member = cluster(&folder, 1, &options).await.remove(0);
    let token = log_in(&member).await.unwrap();
    assert!(member.terminate().success());
    member.flags.pop();
    member.flags.push(format!("--auth-token=jwt,sign-method=RS256,pub-key={KEYS}/rsa.pub"));
    member.start();
    taken(&member, &token).await;
    let text = "auth: token signing attempted with verify-only key";
    let status = log_in(&member).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, text));
}

/// Wrong options and keys end the start with one line and exit code 2, before anything is written.
#[test]
fn bad_starts() {
    let folder = Folder::new("jwt-starts");
    let data_dir = folder.0.join("n1");
    let said: Vec<String> = [
        "word",
        "jwt,sign-method=RS257",
        "jwt,sign-method=RS256,ttl=5",
        "jwt,sign-method=RS256",
        "jwt,sign-method=RS256,priv-key=KEYS/nothing",
        "jwt,sign-method=RS256,priv-key=KEYS/rsa.pem,pub-key=KEYS/rsa-other.pub",
    ]
    .into_iter()
    .map(|options| {
        let auth_token = format!("--auth-token={}", options.replace("KEYS", KEYS));
        let data_dir = format!("--data-dir={}", data_dir.display());
        let output = snowglobe().args(["serve", &auth_token, &data_dir]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap().replace(KEYS, "KEYS");
        assert_eq!(text.lines().count(), 1, "one line, not: {text}");
        format!("{} {text}", output.status.code().unwrap())
    })
    .collect();
    assert!(!data_dir.exists());
    insta::assert_snapshot!(said.concat());
}
