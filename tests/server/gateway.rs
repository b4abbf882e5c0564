//! The JSON gateway of real members over HTTP/1.1: every service, refusals, streams, tokens, limits.

use std::fmt::Write;

use serde_json::Value;
use snowglobe::proto::etcdserverpb::PutRequest;

use crate::http::{Answer, ask, open, send};
use crate::member::{Folder, Member, until};

/// What differs from cluster to cluster.
const HIDDEN: &[&str] = &[
    "cluster_id",
    "member_id",
    "leader",
    "raft_term",
    "raftTerm",
    "raftIndex",
    "raftAppliedIndex",
    "dbSize",
    "dbSizeInUse",
    "dbSizeQuota",
    "hash",
    "token",
    "blob",
    "remaining_bytes",
    "peerURLs",
    "clientURLs",
];

/// Hides what differs: also the ids that servers choose, versions of servers, and what is left of a lease.
fn hide(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let is_lease = fields.contains_key("grantedTTL");
            for (name, value) in fields {
                let text = value.as_str().unwrap_or_default();
                let is_hidden = HIDDEN.contains(&name.as_str()) && !value.is_object();
                let is_chosen = name == "ID" && text.len() > 10;
                let is_version = name == "version" && text.contains('.');
                if is_hidden || is_chosen || is_version || is_lease && name == "TTL" {
                    *value = "?".into();
                } else {
                    hide(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

/// One line of an answer, without what differs.
fn masked(line: &str) -> String {
    let mut value: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    hide(&mut value);
    value.to_string()
}

/// Every request of a script with its answer. A request is a line: a path below `/v3/` and a body, after the number
/// of lines to wait for where the answer has no end.
fn answers(port: u16, script: &str) -> String {
    let mut said = String::new();
    for request in script.lines().filter(|line| !line.is_empty()) {
        let (lines, call) = match request.split_once(' ') {
            Some((first, rest)) if first.parse::<usize>().is_ok() => (first.parse().unwrap(), rest),
            _ => (usize::MAX, request),
        };
        let (path, body) = call.split_once(' ').unwrap_or((call, ""));
        let mut answer = ask(port, "POST", &format!("/v3/{path}"), &[], body);
        assert_eq!(answer.header("content-type"), Some("application/json"), "{request}");
        writeln!(said, "{request}\n  {}", answer.code).unwrap();
        for line in std::iter::from_fn(|| answer.line()).take(lines) {
            writeln!(said, "  {}", masked(&line)).unwrap();
        }
    }
    said
}

async fn member(folder: &Folder, flags: &[&str]) -> Member {
    let mut member = Member::cluster(&folder.0, 1, flags).remove(0);
    member.start();
    member.ready().await;
    member
}

/// Requests to all services. etcd 3.6.5 gives the same answers, but for the snapshot: what is in that is its own.
const SERVICES: &str = r#"
kv/put {"key":"Zm9v","value":"YmFy"}
kv/put {"key":"Zm9v","value":"YmF6","prevKv":true}
kv/range {"key":"Zm9v"}
kv/range {"key":"Zm9v","sort_order":"ASCEND","sortTarget":"VALUE","nobody":{"knows":["this"]}}
kv/range {"key":"Zm9v","sort_order":"SIDEWAYS","limit":"1"}
kv/range {"key":"Zm9v"} what follows is not looked at
kv/range
kv/range {"key":"Zm9v","revision":99}
kv/range {"key":"Zm9v","sort_order":7}
kv/txn {"compare":[{"key":"Zm9v","result":"EQUAL","target":"VERSION","version":"2"}],"success":[{"requestRange":{"key":"Zm9v"}}]}
kv/nothing {}
watch/ {}
lease/grant {"TTL":100,"ID":77}
lease/grant {"TTL":100,"ID":77}
lease/timetolive {"ID":"77","keys":true}
kv/lease/timetolive {"ID":78}
lease/leases {}
kv/lease/leases {}
lease/keepalive {"ID":77}{"ID":78} {"ID":77}
2 watch {"create_request":{"key":"Zm9v","start_revision":"1"}}
1 watch {"create_request":{"key":"Zm9v","watch_id":7}}
lock/lock {"name":"am9i","lease":77}
lock/unlock {"key":"am9iLzRk"}
election/leader {"name":"ZWxlY3Q="}
election/campaign {"name":"ZWxlY3Q=","value":"bWU=","lease":77}
election/leader {"name":"ZWxlY3Q="}
election/proclaim {"leader":{"name":"ZWxlY3Q=","key":"ZWxlY3QvNGQ=","rev":"6","lease":77},"value":"eW91"}
1 election/observe {"name":"ZWxlY3Q="}
election/resign {"leader":{"name":"ZWxlY3Q=","key":"ZWxlY3QvNGQ=","rev":"6","lease":77}}
kv/lease/revoke {"ID":77}
lease/revoke {"ID":77}
kv/deleterange {"key":"Zm9v","prev_kv":true}
kv/compaction {"revision":2}
kv/compaction {"revision":2}
maintenance/status {}
maintenance/hash {}
maintenance/alarm {}
maintenance/alarm {"action":"ACTIVATE","alarm":"CORRUPT"}
maintenance/alarm {"action":"DEACTIVATE","alarm":"CORRUPT"}
maintenance/defragment {}
maintenance/transfer-leadership {"targetID":1}
maintenance/downgrade {"version":"nothing"}
1 maintenance/snapshot {}
cluster/member/list {}
cluster/member/add {"peerURLs":["nothing"]}
cluster/member/remove {"ID":1}
cluster/member/update {"ID":1,"peerURLs":["http://127.0.0.1:1"]}
cluster/member/promote {"ID":1}
auth/user/add {"name":"root","password":"root"}
auth/user/add {"name":"root","password":"root"}
auth/user/grant {"user":"root","role":"root"}
auth/user/get {"name":"root"}
auth/user/list {}
auth/role/add {"name":"r"}
auth/role/grant {"name":"r","perm":{"key":"Zm9v","permType":"READWRITE"}}
auth/role/get {"role":"r"}
auth/enable {}
kv/range {"key":"Zm9v"}
1 watch {"create_request":{"key":"Zm9v"}}
auth/authenticate {"name":"root","password":"nothing"}
auth/authenticate {"name":"root","password":"root"}
"#;

/// All services answer in JSON as etcd's gateway does. `GATEWAY_PORT` asks a fresh etcd on that port instead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services() {
    let folder = Folder::new("gateway");
    let member = member(&folder, &["--bcrypt-cost=4"]).await;
    let etcd = std::env::var("GATEWAY_PORT").ok();
    let port = etcd.map_or(member.client_port(), |port| port.parse().unwrap());
    insta::assert_snapshot!(answers(port, SERVICES));
}

/// Bodies that cannot be read, in words of our own.
const BAD: &str = r#"
kv/range {"key":"%"}
kv/range {"key":7}
kv/range {"limit":1.5}
kv/range {"key":"Zm9v"
kv/range nothing
kv/range [1]
kv/range null
kv/range {"key":[}]}
kv/txn {"success":[{"request_range":{},"requestPut":{}}]}
watch nothing
watch {"create_request":7}
maintenance/snapshot nothing
lease/keepalive
"#;

/// What is no JSON, or not the message's, is refused before anything is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_bodies() {
    let folder = Folder::new("gateway-bad");
    let member = member(&folder, &[]).await;
    insta::assert_snapshot!(answers(member.client_port(), BAD));
}

/// Calls are posted, below `/v3/` or as of old below `/v3beta/`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_and_roots() {
    let folder = Folder::new("gateway-methods");
    let member = member(&folder, &[]).await;
    let check = |method: &str, path: &str, code: &str, text: &str| {
        let mut answer = ask(member.client_port(), method, path, &[], "{}");
        let line = answer.line().unwrap();
        assert_eq!((&answer.code[..], &line[..]), (code, text), "{method} {path}");
    };
    let not_allowed = r#"{"code":12,"message":"Method Not Allowed"}"#;
    check("GET", "/v3/kv/range", "501", not_allowed);
    check("PUT", "/v3/watch", "501", not_allowed);
    let not_found = r#"{"code":5,"message":"Not Found"}"#;
    check("GET", "/v3/nothing", "404", not_found);
    check("POST", "/v3/", "404", not_found);
    check("POST", "/v3/etcdserverpb.KV/Range", "404", not_found);
    let no_key = r#"{"code":3,"message":"etcdserver: key is not provided"}"#;
    check("POST", "/v3beta/kv/range", "400", no_key);
}

/// The token goes with the request under either header; without a good one, permissions hold here as in gRPC.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens() {
    let folder = Folder::new("gateway-tokens");
    let member = member(&folder, &["--bcrypt-cost=4"]).await;
    let port = member.client_port();
    let ask = |headers: &[(&str, &str)], path: &str, body: &str| {
        let mut answer = ask(port, "POST", &format!("/v3/{path}"), headers, body);
        let line = answer.line().unwrap();
        (answer, serde_json::from_str::<Value>(&line).unwrap())
    };
    let set_up = [
        ("auth/user/add", r#"{"name":"root","password":"root"}"#),
        ("auth/user/grant", r#"{"user":"root","role":"root"}"#),
        ("auth/enable", "{}"),
    ];
    for (path, body) in set_up {
        assert_eq!(ask(&[], path, body).0.code, "200", "{path}");
    }
    let (_, answer) = ask(&[], "auth/authenticate", r#"{"name":"root","password":"root"}"#);
    let token = answer["token"].as_str().unwrap();
    let put = r#"{"key":"Zm9v","value":"YmFy"}"#;
    for header in ["Authorization", "Grpc-Metadata-Token", "Grpc-Metadata-Authorization"] {
        assert_eq!(ask(&[(header, token)], "kv/put", put).0.code, "200", "{header}");
        let (answer, body) = ask(&[(header, "none")], "kv/put", put);
        let text = "etcdserver: invalid auth token";
        assert_eq!(answer.code, "401", "{header}");
        assert_eq!((body["code"].as_i64(), body["message"].as_str()), (Some(16), Some(text)));
        assert_eq!(answer.header("www-authenticate"), Some(text));
    }
    let (answer, body) = ask(&[], "kv/put", put);
    assert_eq!(
        (&answer.code[..], &body["message"]),
        ("400", &"etcdserver: user name is empty".into())
    );
    let (answer, body) = ask(&[], "watch", r#"{"create_request":{"key":"Zm9v"}}"#);
    assert_eq!((&answer.code[..], &body["result"]["canceled"]), ("200", &true.into()));
}

/// A watch is a conversation: requests come in pieces while answers leave, and a message that cannot be read ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_in_pieces() {
    let folder = Folder::new("gateway-watch");
    let member = member(&folder, &[]).await;
    let mut body =
        open(member.client_port(), "POST", "/v3/watch", &[("Transfer-Encoding", "chunked")]);
    send(&mut body, r#"{"create_request":{"key":"Zm9"#);
    send(&mut body, "v\"}}\n");
    let mut answer = Answer::read(body.try_clone().unwrap());
    let mut said = vec![answer.code.clone(), masked(&answer.line().unwrap())];
    for value in ["one", "two"] {
        let put = PutRequest { key: "foo".into(), value: value.into(), ..Default::default() };
        member.kv().put(put).await.unwrap();
        said.push(masked(&answer.line().unwrap()));
    }
    send(
        &mut body,
        r#"{"create_request":{"key":"YmFy","watch_id":"9"}} {"cancel_request":{"watch_id":"0"}}"#,
    );
    said.extend([(); 2].map(|()| masked(&answer.line().unwrap())));
    send(&mut body, "}");
    said.push(masked(&answer.line().unwrap()));
    assert_eq!(answer.line(), None);
    insta::assert_snapshot!(said.join("\n"));
}

/// Who hangs up in the middle of a watch leaves nothing behind, and a member that stops ends the watches it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_end() {
    let folder = Folder::new("gateway-ends");
    let mut member = member(&folder, &[]).await;
    let watch = || {
        let body = r#"{"create_request":{"key":"Zm9v"}}"#;
        let mut answer = ask(member.client_port(), "POST", "/v3/watch", &[], body);
        assert!(answer.line().unwrap().contains("\"created\":true"));
        answer
    };
    drop(watch());
    let mut left = watch();
    assert!(member.terminate().success());
    assert_eq!(
        left.line().as_deref(),
        Some(r#"{"error":{"code":14,"message":"etcdserver: server stopped"}}"#)
    );
    assert_eq!(left.line(), None);
}

/// Large requests are gRPC's to judge; what is larger than any of them could be in JSON is not read to its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies() {
    let folder = Folder::new("gateway-large");
    let member = member(&folder, &[]).await;
    let put = |bytes: usize| {
        let body = format!(r#"{{"key":"Zm9v","value":"{}"}}"#, "AAAA".repeat(bytes / 3));
        let mut answer = ask(member.client_port(), "POST", "/v3/kv/put", &[], &body);
        (answer.code.clone(), answer.line().unwrap())
    };
    assert_eq!(put(1_200_000).0, "200");
    let refused = |bytes: usize, code: &str, text: &str| {
        let (found, line) = put(bytes);
        assert_eq!(found, code, "{bytes}: {line}");
        assert!(line.contains(text), "{bytes}: {line}");
    };
    refused(1_800_000, "400", r#"{"code":3,"message":"etcdserver: request is too large"}"#);
    refused(3_000_000, "429", r#"{"code":8,"message":"grpc: received message larger than max"#);
    let text = r#"{"code":8,"message":"a JSON object is larger than max (4194304 bytes)"}"#;
    refused(4_000_000, "429", text);
    until("the member is well", || async { (put(3).0 == "200").then_some(()) }).await;
}
