//! What a member shows to whoever asks without gRPC, and gRPC's health service.

use std::io::{Read, Write};
use std::net::TcpStream;

use snowglobe::proto::etcdserverpb::PutRequest;
use snowglobe::proto::health::HealthCheckRequest;
use snowglobe::proto::health::health_client::HealthClient;
use tonic::Code;

use crate::member::{Folder, Member};

/// One request over HTTP/1: the first line of the answer, and its body.
fn ask(member: &Member, method: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", member.client_port())).unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// Pages of a member that is well, over HTTP/1, beside gRPC on the same port.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_one_that_is_well() {
    let folder = Folder::new("pages");
    let mut member = Member::cluster(&folder.0, 1, &[]).remove(0);
    member.start();
    member.ready().await;
    let put = PutRequest { key: "a".into(), value: "1".into(), ..Default::default() };
    member.kv().put(put).await.unwrap();
    let check = |path: &str, expected: &str| {
        let (line, body) = ask(&member, "GET", path);
        assert_eq!((&line[..], &body[..]), ("HTTP/1.1 200 OK", expected), "{path}");
    };
    let well = "{\"health\":\"true\",\"reason\":\"\"}";
    check("/health", well);
    check("/health?serializable=true", well);
    check("/livez", "ok\n");
    check("/livez?verbose", "[+]serializable_read ok\nok\n");
    check("/readyz/linearizable_read?verbose", "[+]linearizable_read ok\nok\n");
    let all = "/readyz?verbose&exclude=non_learner";
    check(all, "[+]linearizable_read ok\n[+]serializable_read ok\nok\n");
    let version = "{\"etcdserver\":\"3.6.0\",\"etcdcluster\":\"3.6.0\",\"storage\":\"3.6.0\"}";
    check("/version", version);
    let (line, metrics) = ask(&member, "GET", "/metrics");
    assert_eq!(line, "HTTP/1.1 200 OK");
    for expected in ["etcd_server_has_leader 1", "etcd_debugging_mvcc_current_revision 2"] {
        assert!(metrics.lines().any(|line| line == expected), "{expected} in\n{metrics}");
    }
    let (line, _) = ask(&member, "POST", "/health");
    assert_eq!(line, "HTTP/1.1 405 Method Not Allowed");
}

/// A member without its quorum is alive, but neither well nor ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_one_that_is_alone() {
    let folder = Folder::new("pages-alone");
    let mut members = Member::cluster(&folder.0, 3, &["--election-timeout=500"]);
    members.iter_mut().for_each(Member::start);
    for member in &members {
        member.ready().await;
    }
    members[1].kill();
    members[2].kill();
    crate::member::until("the member has no leader any more", || async {
        let (line, body) = ask(&members[0], "GET", "/health");
        (line.contains("503") && body.contains("RAFT NO LEADER")).then_some(())
    })
    .await;
    assert_eq!(ask(&members[0], "GET", "/livez").0, "HTTP/1.1 200 OK");
    let (line, body) = ask(&members[0], "GET", "/readyz");
    assert_eq!(line, "HTTP/1.1 503 Service Unavailable");
    assert!(body.starts_with("[-]linearizable_read failed: etcdserver: "), "{body}");
}

/// gRPC's health service speaks for the server as a whole, and of nothing else.
#[tokio::test]
async fn health_service() {
    let folder = Folder::new("health");
    let mut member = Member::cluster(&folder.0, 1, &[]).remove(0);
    member.start();
    member.ready().await;
    let mut client = HealthClient::new(member.channel());
    let whole = HealthCheckRequest { service: String::new() };
    assert_eq!(client.check(whole.clone()).await.unwrap().into_inner().status, 1);
    let other = HealthCheckRequest { service: "x".to_owned() };
    assert_eq!(client.check(other).await.unwrap_err().code(), Code::NotFound);
    let mut told = client.watch(whole).await.unwrap().into_inner();
    assert_eq!(told.message().await.unwrap().unwrap().status, 1);
    assert!(member.terminate().success());
    assert_eq!(told.message().await.unwrap().unwrap().status, 2);
}
