//! One small history per rule, and the explanation a reader gets. No acknowledgement below is possible in etcd.

use insta::assert_snapshot;

use crate::checker::etcd::check;
use crate::checker::{Doubt, RULES, Verdict, render};
use crate::history::{Operation, Request, Response};

/// Makes a history from lines of `client[/user] call..return request → response`, times in microseconds, in JSON;
/// `?` for an unknown outcome, `!text` for a refusal.
pub(super) fn parse(lines: &str) -> Vec<Operation> {
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.enumerate().map(|(op, line)| parse_line(op as u64, line)).collect()
}

fn parse_line(op: u64, line: &str) -> Operation {
    let mut parts = line.splitn(3, ' ');
    let client = parts.next().expect("a client");
    let (client, user) = client.split_once('/').map_or((client, None), |(c, user)| (c, Some(user)));
    let client: u32 = client.parse().expect("a number");
    let (call, returned) = parts.next().expect("times").split_once("..").expect("two times");
    let (request, answer) = parts.next().expect("a request").split_once(" → ").expect("an answer");
    let request: Request = serde_json::from_str(request).expect("a request");
    let time = |text: &str| text.parse::<u64>().expect("a time") * 1_000;
    let (outcome, response, error) = match answer {
        "?" => ("unknown", None, Some(("Unavailable", "etcdserver: request timed out"))),
        refusal if refusal.starts_with('!') => ("failed", None, Some(("Test", &refusal[1..]))),
        answer => ("ok", Some(serde_json::from_str::<Response>(answer).expect("a response")), None),
    };
    let error = error.map(|(code, message)| serde_json::json!({"code": code, "message": message}));
    let value = serde_json::json!({
        "op": op, "client": client, "user": user, "member": format!("n{}", client % 3 + 1),
        "call": time(call), "return": time(returned), "request": request, "response": response,
        "outcome": outcome, "error": error,
    });
    serde_json::from_value(value).expect("an operation")
}

/// The report on a history.
fn explain(lines: &str) -> String {
    let operations = parse(lines);
    render::report(&check(&operations), &operations)
}

/// A good history, with the ledger of its unknown outcomes.
#[test]
fn kept_with_ledger() {
    let operations = parse(
        r#"
        1 0..10 {"put":{"key":"a","value":"1"}} → {"revision":2,"put":{}}
        2 5..15 {"put":{"key":"a","value":"2"}} → ?
        1 20..30 {"range":{"key":"a"}} → {"revision":3,"range":{"kvs":[{"key":"a","create_revision":2,"mod_revision":3,"version":2,"value":"2"}],"count":1}}
        2 30..40 {"put":{"key":"b","value":"3"}} → ?
        "#,
    );
    let report = check(&operations);
    let ledger: Vec<&str> = report.ledger.iter().map(|one| one.sentence.as_str()).collect();
    assert_snapshot!(format!("{}{}", render::report(&report, &operations), ledger.join("\n")));
}

/// A read that misses a write acknowledged before it began.
#[test]
fn stale_read() {
    assert_snapshot!(explain(
        r#"
        1 0..1000 {"put":{"key":"a","value":"1"}} → {"revision":2,"put":{}}
        2 0..2000 {"put":{"key":"a","value":"2"}} → {"revision":3,"put":{}}
        1 5200..6000 {"range":{"key":"a"}} → {"revision":2,"range":{"kvs":[{"key":"a","create_revision":2,"mod_revision":2,"version":1,"value":"1"}],"count":1}}
        "#
    ));
}

/// A write that starts later gets a lower revision.
#[test]
fn revision_went_back() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"put":{"key":"a","value":"1"}} → {"revision":3,"put":{}}
        2 20..30 {"put":{"key":"b","value":"2"}} → {"revision":2,"put":{}}
        "#
    ));
}

/// A revision is seen before its writer asks for it.
#[test]
fn future_read() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"range":{"key":"a"}} → {"revision":2,"range":{"kvs":[{"key":"a","create_revision":2,"mod_revision":2,"version":1,"value":"1"}],"count":1}}
        2 20..30 {"put":{"key":"a","value":"1"}} → {"revision":2,"put":{}}
        "#
    ));
}

/// Two members hand out the same revision.
#[test]
fn duplicate_revision() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"put":{"key":"a","value":"1"}} → {"revision":2,"put":{}}
        2 5..15 {"put":{"key":"b","value":"9"}} → {"revision":2,"put":{}}
        "#
    ));
}

/// A revision that none of the clients asked for.
#[test]
fn unexplained_revision() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"put":{"key":"a","value":"1"}} → {"revision":2,"put":{}}
        2 20..30 {"put":{"key":"b","value":"2"}} → {"revision":4,"put":{}}
        1 40..50 {"put":{"key":"c","value":"3"}} → ?
        "#
    ));
}

/// An acknowledged write is missing from a read at its own revision.
#[test]
fn lost_write() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"put":{"key":"a","value":"1"}} → {"revision":2,"put":{}}
        2 20..30 {"put":{"key":"a","value":"2"}} → {"revision":3,"put":{}}
        1 25..40 {"put":{"key":"b","value":"3"}} → {"revision":4,"put":{}}
        2 50..60 {"range":{"key":"a"}} → {"revision":4,"range":{"kvs":[{"key":"a","create_revision":2,"mod_revision":2,"version":1,"value":"1"}],"count":1}}
        "#
    ));
}

/// A value that was written, but to another key.
#[test]
fn phantom_value() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"put":{"key":"a","value":"1"}} → {"revision":2,"put":{}}
        2 20..30 {"put":{"key":"b","value":"9"}} → {"revision":3,"put":{}}
        1 50..60 {"range":{"key":"a"}} → {"revision":3,"range":{"kvs":[{"key":"a","create_revision":2,"mod_revision":2,"version":1,"value":"9"}],"count":1}}
        "#
    ));
}

/// A refused put is read back.
#[test]
fn failed_took_effect() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"put":{"key":"a","value":"1"}} → !etcdserver: too many requests
        2 20..30 {"range":{"key":"a"}} → {"revision":2,"range":{"kvs":[{"key":"a","create_revision":2,"mod_revision":2,"version":1,"value":"1"}],"count":1}}
        "#
    ));
}

/// One put with an unknown outcome shows up as two revisions.
#[test]
fn applied_twice() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"put":{"key":"a","value":"1"}} → ?
        2 20..30 {"range":{"key":"a"}} → {"revision":2,"range":{"kvs":[{"key":"a","create_revision":2,"mod_revision":2,"version":1,"value":"1"}],"count":1}}
        2 40..50 {"range":{"key":"a"}} → {"revision":3,"range":{"kvs":[{"key":"a","create_revision":2,"mod_revision":3,"version":2,"value":"1"}],"count":1}}
        "#
    ));
}

/// The version counts one put too many.
#[test]
fn wrong_content() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"put":{"key":"a","value":"1"}} → {"revision":2,"put":{}}
        2 20..30 {"range":{"key":"a"}} → {"revision":2,"range":{"kvs":[{"key":"a","create_revision":2,"mod_revision":2,"version":2,"value":"1"}],"count":1}}
        2 40..50 {"range":{"key":"a","range_end":"b","limit":1}} → {"revision":2,"range":{"kvs":[{"key":"a","create_revision":2,"mod_revision":2,"version":1,"value":"1"}],"count":1,"more":true}}
        "#
    ));
}

/// A serializable read that mixes two revisions.
#[test]
fn serializable_content() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"put":{"key":"a","value":"1"}} → {"revision":2,"put":{}}
        1 20..30 {"put":{"key":"b","value":"2"}} → {"revision":3,"put":{}}
        2 40..50 {"range":{"key":"a","range_end":"c","serializable":true}} → {"revision":2,"range":{"kvs":[{"key":"a","create_revision":2,"mod_revision":2,"version":1,"value":"1"}],"count":1}}
        2 60..70 {"range":{"key":"a","range_end":"c","serializable":true}} → {"revision":3,"range":{"kvs":[{"key":"b","create_revision":3,"mod_revision":3,"version":1,"value":"2"}],"count":1}}
        "#
    ));
}

/// A read below an acknowledged compaction, and a refusal before there was any.
#[test]
fn compaction() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"put":{"key":"a","value":"1"}} → {"revision":2,"put":{}}
        1 20..30 {"put":{"key":"a","value":"2"}} → {"revision":3,"put":{}}
        2 35..38 {"range":{"key":"a","revision":2}} → !etcdserver: mvcc: required revision has been compacted
        1 40..50 {"compact":{"revision":3}} → {"revision":3,"compact":{}}
        2 60..70 {"range":{"key":"a","revision":2}} → {"revision":3,"range":{"kvs":[{"key":"a","create_revision":2,"mod_revision":2,"version":1,"value":"1"}],"count":1}}
        "#
    ));
}

/// A revision called future after it was acknowledged, and a key called missing while it is there.
#[test]
fn refusal() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"put":{"key":"a","value":"1"}} → {"revision":2,"put":{}}
        2 20..30 {"range":{"key":"a","revision":2}} → !etcdserver: mvcc: required revision is a future revision
        2 40..50 {"put":{"key":"a","ignore_value":true}} → !etcdserver: key not found
        1 60..70 {"put":{"key":"b","value":"2"}} → {"revision":3,"put":{}}
        "#
    ));
}

/// A renewal of a live lease is told that there is none; and its key goes before its time.
#[test]
fn lease_expired_early() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"lease_grant":{"id":7,"ttl_s":5}} → {"revision":1,"lease_grant":{"id":7,"ttl_s":5}}
        1 20..30 {"put":{"key":"a","value":"1","lease":7}} → {"revision":2,"put":{}}
        1 40..50 {"lease_grant":{"id":8,"ttl_s":5}} → {"revision":2,"lease_grant":{"id":8,"ttl_s":5}}
        2 100000..100010 {"lease_keep_alive":{"id":8}} → {"revision":2,"lease_keep_alive":{"id":8,"ttl_s":5}}
        2 200000..200010 {"lease_keep_alive":{"id":8}} → {"revision":2,"lease_keep_alive":{"id":8,"ttl_s":0}}
        2 300000..300010 {"range":{"key":"a"}} → {"revision":3,"range":{"kvs":[],"count":0}}
        "#
    ));
}

/// A lease is revoked, and only one of its two keys goes.
#[test]
fn lease_kept_keys() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"lease_grant":{"id":7,"ttl_s":5}} → {"revision":1,"lease_grant":{"id":7,"ttl_s":5}}
        1 20..30 {"put":{"key":"a","value":"1","lease":7}} → {"revision":2,"put":{}}
        1 40..50 {"put":{"key":"b","value":"2","lease":7}} → {"revision":3,"put":{}}
        1 60..70 {"lease_revoke":{"id":7}} → {"revision":4,"lease_revoke":{}}
        2 80..90 {"range":{"key":"a","range_end":"c"}} → {"revision":4,"range":{"kvs":[{"key":"b","create_revision":3,"mod_revision":3,"version":1,"value":"2","lease":7}],"count":1}}
        "#
    ));
}

/// A lease that was revoked is renewed.
#[test]
fn lease_revived() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"lease_grant":{"id":7,"ttl_s":5}} → {"revision":1,"lease_grant":{"id":7,"ttl_s":5}}
        1 20..30 {"lease_revoke":{"id":7}} → {"revision":1,"lease_revoke":{}}
        2 40..50 {"lease_keep_alive":{"id":7}} → {"revision":1,"lease_keep_alive":{"id":7,"ttl_s":5}}
        "#
    ));
}

/// A lease is shorter than asked for, has a key that it never had, and is listed beside one that never was.
#[test]
fn lease_content() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"lease_grant":{"id":7,"ttl_s":5}} → {"revision":1,"lease_grant":{"id":7,"ttl_s":4}}
        1 20..30 {"put":{"key":"a","value":"1","lease":7}} → {"revision":2,"put":{}}
        1 40..50 {"lease_time_to_live":{"id":7,"keys":true}} → {"revision":2,"lease_time_to_live":{"id":7,"ttl_s":3,"granted_ttl_s":4,"keys":["a","b"]}}
        1 60..70 {"lease_leases":{}} → {"revision":2,"lease_leases":{"ids":[7,9]}}
        "#
    ));
}

/// A put to a lease that is gone is done, a put to one that is there is refused, and one is granted twice.
#[test]
fn lease_refusal() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"lease_grant":{"id":7,"ttl_s":5}} → {"revision":1,"lease_grant":{"id":7,"ttl_s":5}}
        1 20..30 {"put":{"key":"a","value":"1","lease":7}} → !etcdserver: requested lease not found
        1 40..50 {"lease_grant":{"id":8,"ttl_s":5}} → {"revision":1,"lease_grant":{"id":8,"ttl_s":5}}
        1 60..70 {"lease_grant":{"id":8,"ttl_s":5}} → {"revision":1,"lease_grant":{"id":8,"ttl_s":5}}
        1 80..90 {"put":{"key":"a","value":"2","lease":9}} → {"revision":2,"put":{}}
        "#
    ));
}

/// An expiry with its key is a revision that nobody asked for, and nothing is wrong with it.
#[test]
fn lease_expired() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"lease_grant":{"id":7,"ttl_s":1}} → {"revision":1,"lease_grant":{"id":7,"ttl_s":1}}
        1 20..30 {"put":{"key":"a","value":"1","lease":7}} → {"revision":2,"put":{}}
        2 2000000..2000010 {"range":{"key":"a"}} → {"revision":3,"range":{"kvs":[],"count":0}}
        2 2000020..2000030 {"range":{"key":"b","serializable":true}} → {"revision":1,"range":{"kvs":[],"count":0}}
        "#
    ));
}

/// Lines that cannot be a history are the recorder's fault, and nothing is judged.
#[test]
fn malformed() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"put":{"key":"a","value":"1"}} → {"revision":2,"put":{}}
        1 5..20 {"range":{"key":"a"}} → {"revision":2,"put":{}}
        2 30..20 {"put":{"key":"a","value":"1"}} → !etcdserver: request timed out
        "#
    ));
}

/// A history that the budget was not enough for: what was spent, and what stays open.
#[test]
fn undecided() {
    let operations = parse(
        r#"
        1 0..10 {"put":{"key":"a","value":"1"}} → ?
        2 0..10 {"put":{"key":"a","value":"1"}} → ?
        3 20..30 {"range":{"key":"a"}} → {"revision":2,"range":{"kvs":[{"key":"a","create_revision":2,"mod_revision":2,"version":1,"value":"1"}],"count":1}}
        "#,
    );
    let mut report = check(&operations);
    report.verdict = Verdict::Undecided;
    let sentence =
        "as if every choice had led to a contradiction until the budget was spent.".to_owned();
    report.doubts.push(Doubt { sentence, operations: vec![2], revisions: (2, 2) });
    assert_snapshot!(render::report(&report, &operations));
}

/// What was given back, and is seen again at the same revision.
#[test]
fn given_back_and_still_there() {
    let operations = parse(
        r#"
        1 0..10 {"lease_grant":{"id":7,"ttl_s":60}} → {"revision":1,"lease_grant":{"id":7,"ttl_s":60}}
        1 20..30 {"lock":{"name":"l","lease":7}} → {"revision":2,"lock":{"key":"l/7"}}
        1 40..50 {"unlock":{"key":"l/7"}} → {"revision":2,"unlock":{}}
        2 60..70 {"range":{"key":"l/7"}} → {"revision":2,"range":{"kvs":[{"key":"l/7","create_revision":2,"mod_revision":2,"version":1,"value":"","lease":7}],"count":1}}
        "#,
    );
    assert_snapshot!(render::report(&check(&operations), &operations));
}

/// Who won an election is told the revision of somebody else's write.
#[test]
fn won_by_another_revision() {
    let operations = parse(
        r#"
        1 0..10 {"lease_grant":{"id":7,"ttl_s":60}} → {"revision":1,"lease_grant":{"id":7,"ttl_s":60}}
        2 20..30 {"put":{"key":"a","value":"1"}} → {"revision":2,"put":{}}
        1 40..50 {"campaign":{"name":"e","lease":7,"value":"me"}} → {"revision":3,"campaign":{"leader":{"name":"e","key":"e/7","revision":2,"lease":7}}}
        "#,
    );
    assert_snapshot!(render::report(&check(&operations), &operations));
}

/// Every rule has an explanation here or beside the other checkers, for readers to see.
#[test]
fn every_rule_is_explained() {
    let mut texts = String::new();
    for folder in ["sim/checker/tests/snapshots", "sim/check/snapshots"] {
        for entry in std::fs::read_dir(folder).unwrap() {
            texts += &std::fs::read_to_string(entry.unwrap().path()).unwrap();
        }
    }
    let ids = RULES.iter().map(|rule| rule.id);
    let missing: Vec<&str> = ids.filter(|id| !texts.contains(&format!("\n{id}: "))).collect();
    assert_eq!(missing, [""; 0], "rules without an explanation");
}
