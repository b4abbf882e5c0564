//! TLS towards clients and between members: who is let in, as whom, and what happens when files change or are wrong.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use snowglobe::proto::authpb::Permission;
use snowglobe::proto::authpb::permission::Type;
use snowglobe::proto::etcdserverpb::auth_client::AuthClient;
use snowglobe::proto::etcdserverpb::lease_client::LeaseClient;
use snowglobe::proto::etcdserverpb::watch_client::WatchClient;
use snowglobe::proto::etcdserverpb::watch_request::RequestUnion;
use snowglobe::proto::etcdserverpb::{
    AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest,
    AuthUserGrantRoleRequest, AuthenticateRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
    PutRequest, RangeRequest, StatusRequest, WatchCreateRequest, WatchRequest,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::certificates::{Authority, Identity, connect};
use crate::member::{Folder, Member, snowglobe, until};

/// Far longer than the server takes to refuse somebody, and than a handshake may take.
const REFUSED: Duration = Duration::from_secs(30);

fn put(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: "v".into(), ..Default::default() }
}

/// Flags by which a member shows `identity` and asks for certificates of `authority`, on one side.
fn flags(
    prefix: &str,
    folder: &Path,
    name: &str,
    identity: &Identity,
    authority: &Authority,
) -> Vec<String> {
    let (cert, key) = identity.write(folder, &format!("{name}{prefix}"));
    let roots = authority.write(folder, &format!("{name}{prefix}-ca"));
    vec![
        format!("--{prefix}cert-file={}", cert.display()),
        format!("--{prefix}key-file={}", key.display()),
        format!("--{prefix}trusted-ca-file={}", roots.display()),
        format!("--{prefix}client-cert-auth"),
    ]
}

/// Members that speak TLS alone, with clients and with each other, and know each other's certificates.
fn cluster(folder: &Path, count: usize, authority: &Authority, extra: &[&str]) -> Vec<Member> {
    let mut members = Member::cluster(folder, count, extra);
    let client = authority.client(Some(&authority.sign("root")));
    for member in &mut members {
        let flags = ["", "peer-"].map(|prefix| {
            flags(prefix, folder, &member.name, &authority.sign(&member.name), authority)
        });
        member.flags.iter_mut().for_each(|flag| *flag = flag.replace("http://", "https://"));
        member.flags.extend(flags.concat());
        member.tls = Some(Arc::clone(&client));
    }
    members
}

/// Waits until the other side closes the connection; what it said before.
async fn closed(mut stream: impl tokio::io::AsyncRead + Unpin) -> Vec<u8> {
    let mut said = Vec::new();
    let read = tokio::time::timeout(REFUSED, stream.read_to_end(&mut said)).await;
    // An alert, or a reset: both end it.
    let _ = read.expect("the connection is closed in time");
    said
}

/// Three members serve puts and reads over TLS with certificates on both sides. Nobody else is let in: no plain
/// client, none without a certificate, none with one of somebody else's; and who is silent stops nobody.
#[tokio::test]
async fn three_members() {
    let folder = Folder::new("tls-three");
    let authority = Authority::new("authority");
    let mut members = cluster(&folder.0, 3, &authority, &[]);
    members.iter_mut().for_each(Member::start);
    for member in &members {
        member.ready().await;
    }
    let ports = [members[0].client_port(), members[0].peer_port()];
    let silent = ports.map(|port| TcpStream::connect(("127.0.0.1", port)));
    let [client, peer] = silent;
    let silent = [client.await.unwrap(), peer.await.unwrap()];

    for member in &members {
        member.kv().put(put("k")).await.unwrap();
        let range = RangeRequest { key: "k".into(), ..Default::default() };
        let found = member.kv().range(range).await.unwrap().into_inner();
        assert_eq!(found.kvs[0].value, "v");
    }
    let stranger = Authority::new("stranger");
    let strange = stranger.sign("root");
    for port in ports {
        let mut plain = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        closed(plain).await;
        for identity in [None, Some(&strange)] {
            // The client is done before the server has looked at its certificate.
            let stream = connect(port, &authority.client(identity)).await.unwrap();
            assert_eq!(closed(stream).await, b"");
        }
        assert!(
            connect(port, &stranger.client(Some(&strange))).await.is_err(),
            "not whom it trusts"
        );
    }
    members[0].tls = None;
    assert!(members[0].kv().put(put("k")).await.is_err(), "a client without TLS is refused");
    for stream in silent {
        closed(stream).await;
    }
}

/// A member whose certificate is of another authority takes no part; with the right one it does, without a restart.
#[tokio::test]
async fn a_member_of_another_authority() {
    let folder = Folder::new("tls-stranger");
    let (authority, stranger) = (Authority::new("authority"), Authority::new("stranger"));
    let mut members = cluster(&folder.0, 3, &authority, &[]);
    stranger.sign("n3").write(&folder.0, "n3peer-");
    members.iter_mut().for_each(Member::start);
    for member in &members[..2] {
        member.ready().await;
    }
    until("n3 is refused by both", || async {
        members[..2].iter().all(|member| member.log().contains("UnknownIssuer")).then_some(())
    })
    .await;
    let status = members[2].maintenance().status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.leader, 0, "nobody has spoken to it");
    authority.sign("n3").write(&folder.0, "n3peer-");
    members[2].ready().await;
    // It hears the leader before the leader hears it: what it forwards until then is lost.
    until("n3 takes part", || async { members[2].kv().put(put("k")).await.ok() }).await;
}

/// The certificate that a member shows, as it is now.
async fn shown(member: &Member, tls: &Arc<ClientConfig>) -> Vec<u8> {
    let stream = connect(member.client_port(), tls).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// A certificate that is put in place of another one is shown from then on; one that cannot be used is not, and the
/// log says so once.
#[tokio::test]
async fn replaced_certificates() {
    let folder = Folder::new("tls-replaced");
    let authority = Authority::new("authority");
    let mut member = cluster(&folder.0, 1, &authority, &[]).remove(0);
    member.start();
    member.ready().await;
    let tls = member.tls.clone().unwrap();
    let first = shown(&member, &tls).await;
    assert_eq!(shown(&member, &tls).await, first);
    let (cert, _) = authority.sign("n1").write(&folder.0, "n1");
    let second = shown(&member, &tls).await;
    assert_ne!(second, first);
    for _ in 0..2 {
        fs::write(&cert, "-----BEGIN CERTIFICATE-----\nhalf").unwrap();
        assert_eq!(shown(&member, &tls).await, second);
    }
    assert_eq!(member.log().matches("--cert-file").count(), 2, "{}", member.log());
    authority.sign("n1").write(&folder.0, "n1");
    assert_ne!(shown(&member, &tls).await, second);
    // Whom clients may be is read anew as well.
    let other = Authority::new("other");
    other.write(&folder.0, "n1-ca");
    let stream = connect(member.client_port(), &tls).await.unwrap();
    assert_eq!(closed(stream).await, b"");
    member.tls = Some(authority.client(Some(&other.sign("root"))));
    member.kv().put(put("k")).await.unwrap();
}

/// One listener speaks TLS and another one does not, each as its URL says; plain pages are served on both.
#[tokio::test]
async fn mixed_listeners() {
    let folder = Folder::new("tls-mixed");
    let authority = Authority::new("authority");
    let mut spare = Member::cluster(&folder.0, 2, &[]);
    let plain = spare.remove(1).client_port();
    let mut member = cluster(&folder.0, 1, &authority, &[]).remove(0);
    let urls = format!("https://127.0.0.1:{},http://127.0.0.1:{plain}", member.client_port());
    member.flags.push(format!("--listen-client-urls={urls}"));
    member.start();
    member.ready().await;
    let ask = b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut config = ClientConfig::clone(&member.tls.clone().unwrap());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut secure = connect(member.client_port(), &Arc::new(config)).await.unwrap();
    secure.write_all(ask).await.unwrap();
    let mut open = TcpStream::connect(("127.0.0.1", plain)).await.unwrap();
    open.write_all(ask).await.unwrap();
    for said in [closed(secure).await, closed(open).await] {
        assert!(said.starts_with(b"HTTP/1.1 200 OK"), "{said:?}");
    }
}

fn auth(channel: Channel) -> AuthClient<Channel> {
    AuthClient::new(channel)
}

/// Users root and ann, who may read and write the keys from k to l; they need no password.
async fn enable(root: &Channel) {
    for name in ["root", "ann"] {
        let options = Some(snowglobe::proto::authpb::UserAddOptions { no_password: name == "ann" });
        let (name, password) = (name.to_owned(), "secret".to_owned());
        let add = AuthUserAddRequest { name, password, options, hashed_password: String::new() };
        auth(root.clone()).user_add(add).await.unwrap();
    }
    auth(root.clone()).role_add(AuthRoleAddRequest { name: "keys".into() }).await.unwrap();
    let (key, range_end) = ("k".into(), "l".into());
    let perm = Some(Permission { perm_type: Type::Readwrite.into(), key, range_end });
    let grant = AuthRoleGrantPermissionRequest { name: "keys".into(), perm };
    auth(root.clone()).role_grant_permission(grant).await.unwrap();
    for (user, role) in [("root", "root"), ("ann", "keys")] {
        let grant = AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
        auth(root.clone()).user_grant_role(grant).await.unwrap();
    }
    auth(root.clone()).auth_enable(AuthEnableRequest {}).await.unwrap();
}

fn check<T: std::fmt::Debug>(result: Result<T, Status>, expected: &str) {
    let status = result.map(drop).map_err(|status| status.message().to_owned());
    assert_eq!(status.err().as_deref().unwrap_or("done"), expected);
}

/// Without a token, a client is who its certificate says; a token decides where there is one; and what comes
/// through etcd's gateway is nobody's.
#[tokio::test]
async fn users_by_certificate() {
    let folder = Folder::new("tls-users");
    let authority = Authority::new("authority");
    let mut member = cluster(&folder.0, 1, &authority, &["--bcrypt-cost=4"]).remove(0);
    member.start();
    member.ready().await;
    let root = member.channel();
    enable(&root).await;
    let [ann, eve, nobody] = ["ann", "eve", ""].map(|name| {
        member.tls = Some(authority.client(Some(&authority.sign(name))));
        member.channel()
    });
    let (denied, empty) = ("etcdserver: permission denied", "etcdserver: user name is empty");
    let kv = |channel: &Channel| {
        snowglobe::proto::etcdserverpb::kv_client::KvClient::new(channel.clone())
    };
    check(kv(&root).put(put("z")).await, "done");
    check(kv(&ann).put(put("k1")).await, "done");
    check(kv(&ann).put(put("z")).await, denied);
    check(kv(&eve).put(put("k1")).await, denied);
    check(kv(&nobody).put(put("k1")).await, empty);

    let (name, password) = ("root".to_owned(), "secret".to_owned());
    let request = AuthenticateRequest { name, password };
    let token = auth(ann.clone()).authenticate(request).await.unwrap().into_inner().token;
    let by = |key: &'static str, value: &str| {
        let mut request = Request::new(put("z"));
        request.metadata_mut().insert(key, value.parse().unwrap());
        request
    };
    check(kv(&ann).put(by("token", &token)).await, "done");
    check(kv(&root).put(by("token", "none")).await, "etcdserver: invalid auth token");
    check(kv(&root).put(by("grpcgateway-accept", "*/*")).await, empty);

    let grant = LeaseGrantRequest { id: 7, ttl: 60 };
    check(LeaseClient::new(ann.clone()).lease_grant(grant).await, "done");
    let keep = |channel: &Channel| {
        let mut client = LeaseClient::new(channel.clone());
        async move {
            let renew = tokio_stream::once(LeaseKeepAliveRequest { id: 7 });
            client.lease_keep_alive(renew).await?.get_mut().message().await
        }
    };
    check(keep(&ann).await, "done");
    check(keep(&nobody).await, empty);
    let watch = |key: &'static str| {
        let mut client = WatchClient::new(ann.clone());
        async move {
            let create = WatchCreateRequest { key: key.into(), ..Default::default() };
            let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
            let mut told = client.watch(tokio_stream::once(request)).await.unwrap().into_inner();
            told.message().await.unwrap().unwrap().cancel_reason
        }
    };
    assert_eq!(watch("k1").await, "");
    assert!(watch("z").await.ends_with(denied));
}

/// With names asked for, a certificate of the right authority is not enough.
#[tokio::test]
async fn names_are_asked_for() {
    let folder = Folder::new("tls-names");
    let authority = Authority::new("authority");
    let allowed = "--peer-cert-allowed-cn=n1,n2";
    let mut members = cluster(&folder.0, 3, &authority, &[allowed]);
    members.iter_mut().for_each(Member::start);
    for member in &members[..2] {
        member.ready().await;
    }
    until("n3 is refused by both", || async {
        let refused = "the certificate has none of the names asked for";
        members[..2].iter().all(|member| member.log().contains(refused)).then_some(())
    })
    .await;
}

/// Runs `serve` to its end: its exit code, and the one line that it says.
fn start(folder: &Folder, flags: &[String]) -> String {
    let output = snowglobe().arg("serve").args(flags).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "one line, not: {text}");
    let text = text.replace(folder.0.to_str().unwrap(), "DIR");
    format!("{} {text}", output.status.code().unwrap())
}

/// A member at an `https` URL cannot be judged without roots.
#[test]
fn members_without_roots() {
    let folder = Folder::new("tls-rootless");
    let mut member = Member::cluster(&folder.0, 1, &[]).remove(0);
    let own = format!("n1={}", member.peer_url());
    member.flags.push(format!("--initial-cluster={own},n2=https://127.0.0.1:1"));
    insta::assert_snapshot!(start(&folder, &member.flags));
}

/// Files that cannot be used are refused at the start: which one, what is wrong with it, and how to mend it.
#[test]
fn bad_files() {
    let folder = Folder::new("tls-bad");
    let authority = Authority::new("authority");
    let (cert, key) = authority.sign("n1").write(&folder.0, "n1");
    let (_, other) = authority.sign("n2").write(&folder.0, "n2");
    let roots = authority.write(&folder.0, "ca");
    let none = folder.0.join("none");
    let empty = folder.0.join("empty");
    fs::write(&empty, "").unwrap();
    let broken = folder.0.join("broken");
    fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let half = folder.0.join("half");
    fs::write(&half, "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
    let refused = |side: &str, cert: &Path, key: &Path, roots: &Path| {
        let listen = if side.is_empty() { "client" } else { "peer" };
        start(
            &folder,
            &[
                format!("--data-dir={}", folder.0.join("data").display()),
                format!("--listen-{listen}-urls=https://127.0.0.1:1"),
                format!("--{side}cert-file={}", cert.display()),
                format!("--{side}key-file={}", key.display()),
                format!("--{side}trusted-ca-file={}", roots.display()),
            ],
        )
    };
    let lines = [
        refused("", &none, &key, &roots),
        refused("", &empty, &key, &roots),
        refused("", &broken, &key, &roots),
        refused("", &half, &key, &roots),
        refused("", &cert, &none, &roots),
        refused("", &cert, &cert, &roots),
        refused("", &cert, &other, &roots),
        refused("", &cert, &key, &key),
        refused("", &cert, &key, &broken),
        refused("peer-", &cert, &other, &roots),
        refused("peer-", &cert, &key, &none),
    ];
    assert!(!folder.0.join("data").exists(), "nothing is made before that");
    insta::assert_snapshot!(lines.concat());
}
