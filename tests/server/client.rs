//! The client of this crate against real members: fail-over, watches that go on, leases kept alive, nothing done twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use snowglobe::client::{Client, Fate, KeepAlive, Options, Repeat, Watch};
use snowglobe::host::os::OsHost;
use snowglobe::proto::etcdserverpb::auth_client::AuthClient;
use snowglobe::proto::etcdserverpb::{
    AuthEnableRequest, AuthUserAddRequest, AuthUserGrantRoleRequest, CompactionRequest,
    LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RangeResponse,
    WatchCreateRequest,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;

use crate::member::{Folder, Member};

fn authority(member: &Member) -> String {
    format!("127.0.0.1:{}", member.client_port())
}

fn client(authorities: &[String], options: Options) -> Client {
    Client::new(Arc::new(OsHost::new()), authorities, options).unwrap()
}

fn client_of(members: &[Member]) -> Client {
    client(&members.iter().map(authority).collect::<Vec<_>>(), Options::default())
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

fn range(key: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

/// `value, version` of the one key that was found.
fn words(found: &RangeResponse) -> String {
    let [kv] = &found.kvs[..] else { return format!("{} keys", found.kvs.len()) };
    format!("{}, {}", String::from_utf8_lossy(&kv.value), kv.version)
}

/// A member that does not lead.
async fn follower(members: &[Member]) -> usize {
    for (place, member) in members.iter().enumerate() {
        let status = member.ready().await;
        if status.header.unwrap().member_id != status.leader {
            return place;
        }
    }
    panic!("everybody leads");
}

/// A member that is killed costs neither a read nor a write: what was never sent to it goes to another one.
#[tokio::test]
async fn fails_over() {
    let folder = Folder::new("client-fails-over");
    let mut members = Member::serving(&folder.0, 3, &[]).await;
    let client = client_of(&members);
    for round in 0..6 {
        client.put(put("k", &round.to_string())).await.unwrap();
    }
    let killed = follower(&members).await;
    members[killed].kill();
    // Reads are repeated, whatever the connection to that member died of.
    for _ in 0..6 {
        assert_eq!(words(&client.range(range("k")).await.unwrap()), "5, 6");
    }
    for round in 6..12 {
        client.put(put("k", &round.to_string())).await.unwrap();
    }
    assert_eq!(words(&client.range(range("k")).await.unwrap()), "11, 12");
    members[killed].start();
    members[killed].ready().await;
    assert_eq!(words(&client.range(range("k")).await.unwrap()), "11, 12");
}

/// The revisions of the next `count` events.
async fn told(watch: &mut Watch, count: usize) -> Vec<i64> {
    let mut revisions = Vec::new();
    while revisions.len() < count {
        let events = watch.next().await.unwrap().events;
        revisions.extend(events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision));
    }
    revisions
}

fn watch_all(start_revision: i64) -> WatchCreateRequest {
    let (key, range_end) = ("\0".into(), "\0".into());
    WatchCreateRequest { key, range_end, start_revision, fragment: true, ..Default::default() }
}

/// A watch goes on where it was when its member is killed and started again: every event is told once, those too that
/// happened while nobody listened.
#[tokio::test]
async fn watches_go_on() {
    let folder = Folder::new("client-watches");
    let mut members = Member::serving(&folder.0, 1, &[]).await;
    let client = client_of(&members);
    let mut watch = client.watch(watch_all(2));
    for round in 0..5 {
        client.put(put("k", &round.to_string())).await.unwrap();
    }
    assert_eq!(told(&mut watch, 3).await[..3], [2, 3, 4]);
    assert_eq!(watch.revision(), 7, "they came in one message");
    members[0].kill();
    members[0].start();
    members[0].ready().await;
    // As the first to speak, a read: it may be repeated.
    client.range(range("k")).await.unwrap();
    for round in 5..10 {
        client.put(put("k", &round.to_string())).await.unwrap();
    }
    assert_eq!(told(&mut watch, 5).await, [7, 8, 9, 10, 11]);
    client.put(put("k", "last")).await.unwrap();
    assert_eq!(told(&mut watch, 1).await, [12]);
}

/// What a watch cannot be told any more ends it; it is not passed over.
#[tokio::test]
async fn compacted_watches_end() {
    let folder = Folder::new("client-compacted");
    let members = Member::serving(&folder.0, 1, &[]).await;
    let client = client_of(&members);
    for round in 0..5 {
        client.put(put("k", &round.to_string())).await.unwrap();
    }
    client.compact(CompactionRequest { revision: 5, physical: true }).await.unwrap();
    let failure = client.watch(watch_all(3)).next().await.unwrap_err();
    assert_eq!(failure.status.code(), Code::OutOfRange, "{failure}");
    assert_eq!(told(&mut client.watch(watch_all(5)), 2).await, [5, 6]);
}

async fn renew(keep_alive: &mut KeepAlive, times: usize) {
    for _ in 0..times {
        assert_eq!(keep_alive.next().await.unwrap().ttl, 3);
    }
}

/// A lease is kept alive through the members that are left, and its end is noticed.
#[tokio::test]
async fn leases_are_kept_alive() {
    let folder = Folder::new("client-leases");
    let mut members = Member::serving(&folder.0, 3, &[]).await;
    let client = client_of(&members);
    let lease = client.lease_grant(LeaseGrantRequest { id: 0, ttl: 3 }).await.unwrap().id;
    client.put(PutRequest { lease, ..put("k", "v") }).await.unwrap();
    let mut keep_alive = client.keep_alive(lease);
    renew(&mut keep_alive, 2).await;
    let killed = follower(&members).await;
    members[killed].kill();
    // Longer than the lease would live.
    renew(&mut keep_alive, 5).await;
    assert_eq!(words(&client.range(range("k")).await.unwrap()), "v, 1");
    client.lease_revoke(LeaseRevokeRequest { id: lease }).await.unwrap();
    assert_eq!(keep_alive.next().await.unwrap_err().status.code(), Code::NotFound);
}

/// Stands before a member; once it is cut, what the member answers does not arrive, and the connection breaks.
struct Proxy {
    authority: String,
    is_cut: Arc<AtomicBool>,
}

impl Proxy {
    async fn before(member: &Member) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let is_cut = Arc::new(AtomicBool::new(false));
        let (behind, cut) = (self::authority(member), Arc::clone(&is_cut));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let member = TcpStream::connect(&behind).await.unwrap();
                tokio::spawn(forward(client, member, Arc::clone(&cut)));
            }
        });
        Self { authority, is_cut }
    }

    fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
    }
}

async fn forward(client: TcpStream, member: TcpStream, is_cut: Arc<AtomicBool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_member, mut to_member) = member.into_split();
    let up = async { tokio::io::copy(&mut from_client, &mut to_member).await.is_ok() };
    let down = async {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from_member.read(&mut buffer).await {
            if is_cut.load(Ordering::SeqCst) || to_client.write_all(&buffer[..count]).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        () = down => {}
        _ = up => {}
    }
}

/// A put whose answer was lost is not sent again, for it has happened; a read is.
#[tokio::test]
async fn nothing_is_done_twice() {
    let folder = Folder::new("client-twice");
    let members = Member::serving(&folder.0, 1, &[]).await;
    for is_write in [true, false] {
        let proxy = Proxy::before(&members[0]).await;
        let authorities = [proxy.authority.clone(), authority(&members[0])];
        let client = client(&authorities, Options::default());
        // One turn each: the next one is the proxy's.
        for _ in 0..2 {
            client.range(range("k")).await.unwrap();
        }
        proxy.cut();
        if is_write {
            let failure = client.put(put("k", "v")).await.unwrap_err();
            assert_eq!(failure.fate, Fate::Unknown, "{failure}");
        }
        assert_eq!(words(&client.range(range("k")).await.unwrap()), "v, 1");
    }
}

/// Nobody who can be reached: nothing was sent, and whoever asks is told so after as many tries as are allowed.
#[tokio::test]
async fn nobody_there() {
    let mut options = Options::default();
    options.limits.retries_max = 3;
    // A port on which nobody listens any more.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    let client = client(&[nobody], options);
    let failure = client.put(put("k", "v")).await.unwrap_err();
    assert_eq!((failure.fate, failure.status.code()), (Fate::NotDone, Code::Unavailable));
}

/// A client that is a user asks for a token when it needs one, and again after the member has forgotten it.
#[tokio::test]
async fn logs_in_again() {
    let folder = Folder::new("client-users");
    let mut members = Member::serving(&folder.0, 1, &[]).await;
    let nobody = client_of(&members);
    let auth = |way| AuthClient::new(way);
    let (name, password) = ("root".to_owned(), "secret".to_owned());
    let user =
        AuthUserAddRequest { name: name.clone(), password: password.clone(), ..Default::default() };
    let add = |way| {
        let user = user.clone();
        async move { auth(way).user_add(user).await }
    };
    nobody.call(Repeat::IfNeverSent, add).await.unwrap();
    let grant = |way| async move {
        let (user, role) = ("root".to_owned(), "root".to_owned());
        auth(way).user_grant_role(AuthUserGrantRoleRequest { user, role }).await
    };
    nobody.call(Repeat::IfNeverSent, grant).await.unwrap();
    let root = client(
        &[authority(&members[0])],
        Options { user: Some((name, password)), ..Options::default() },
    );
    root.put(put("k", "before")).await.unwrap();
    let enable = |way| async move { auth(way).auth_enable(AuthEnableRequest {}).await };
    nobody.call(Repeat::IfNeverSent, enable).await.unwrap();
    root.put(put("k", "after")).await.unwrap();
    assert_eq!(nobody.put(put("k", "x")).await.unwrap_err().fate, Fate::NotDone);
    let mut watch = root.watch(watch_all(2));
    assert_eq!(told(&mut watch, 2).await, [2, 3]);
    members[0].kill();
    members[0].start();
    let watching = tokio::spawn(async move { told(&mut watch, 1).await });
    crate::member::until("the member serves again", || async { root.range(range("k")).await.ok() })
        .await;
    root.put(put("k", "again")).await.unwrap();
    assert_eq!(words(&root.range(range("k")).await.unwrap()), "again, 3");
    assert_eq!(watching.await.unwrap(), [4]);
    let failure = nobody.watch(watch_all(1)).next().await.unwrap_err();
    let words = (failure.status.code(), failure.status.message());
    assert_eq!(words, (Code::InvalidArgument, "etcdserver: user name is empty"));
}
