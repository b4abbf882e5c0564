//! One small history per rule about elections, members and permissions, and the explanation a reader gets.

use insta::assert_snapshot;

use super::golden::parse;
use crate::checker::{check, render};

fn explain(lines: &str) -> String {
    let operations = parse(lines);
    render::report(&check(&operations, None), &operations)
}

/// A lock is given away while somebody has an older key.
#[test]
fn lock_owner() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"lease_grant":{"id":7,"ttl_s":60}} → {"revision":1,"lease_grant":{"id":7,"ttl_s":60}}
        2 0..10 {"lease_grant":{"id":8,"ttl_s":60}} → {"revision":1,"lease_grant":{"id":8,"ttl_s":60}}
        1 20..30 {"lock":{"name":"l","lease":7}} → {"revision":2,"lock":{"key":"l/7"}}
        2 40..50 {"lock":{"name":"l","lease":8}} → {"revision":3,"lock":{"key":"l/8"}}
        "#
    ));
}

/// Somebody who still waits is shown as leader.
#[test]
fn election_leader() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"lease_grant":{"id":7,"ttl_s":60}} → {"revision":1,"lease_grant":{"id":7,"ttl_s":60}}
        2 0..10 {"lease_grant":{"id":8,"ttl_s":60}} → {"revision":1,"lease_grant":{"id":8,"ttl_s":60}}
        1 20..30 {"campaign":{"name":"e","lease":7,"value":"a"}} → {"revision":2,"campaign":{"leader":{"name":"e","key":"e/7","revision":2,"lease":7}}}
        2 35..90 {"campaign":{"name":"e","lease":8,"value":"b"}} → ?
        3 40..50 {"leader":{"name":"e"}} → {"revision":3,"leader":{"kv":{"key":"e/8","create_revision":3,"mod_revision":3,"version":1,"value":"b","lease":8}}}
        "#
    ));
}

/// Somebody proclaims after another one has won.
#[test]
fn election_fenced() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"campaign":{"name":"e","lease":7,"value":"a"}} → {"revision":0,"campaign":{"leader":{"name":"e","key":"e/7","revision":2,"lease":7}}}
        2 5..30 {"campaign":{"name":"e","lease":8,"value":"b"}} → {"revision":0,"campaign":{"leader":{"name":"e","key":"e/8","revision":3,"lease":8}}}
        1 40..50 {"proclaim":{"leader":{"name":"e","key":"e/7","revision":2,"lease":7},"value":"c"}} → {"revision":0,"proclaim":{}}
        "#
    ));
}

/// Two win with one revision.
#[test]
fn election_revision() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"campaign":{"name":"e","lease":7,"value":"a"}} → {"revision":0,"campaign":{"leader":{"name":"e","key":"e/7","revision":2,"lease":7}}}
        2 5..30 {"campaign":{"name":"e","lease":8,"value":"b"}} → {"revision":0,"campaign":{"leader":{"name":"e","key":"e/8","revision":2,"lease":8}}}
        "#
    ));
}

/// A member that was removed is still listed.
#[test]
fn member_list() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"member_remove":{"id":3}} → {"revision":0,"members":{"members":[{"id":1,"name":"n1","peer_urls":["http://n1"]}]}}
        2 20..30 {"member_list":{"linearizable":true}} → {"revision":0,"members":{"members":[{"id":1,"name":"n1","peer_urls":["http://n1"]},{"id":3,"name":"n3","peer_urls":["http://n3"]}]}}
        "#
    ));
}

/// An id is given a second time.
#[test]
fn member_id() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"member_list":{"linearizable":true}} → {"revision":0,"members":{"members":[{"id":1,"name":"n1","peer_urls":["http://n1"]}]}}
        2 20..30 {"member_add":{"peer_urls":["http://n2"]}} → {"revision":0,"members":{"member":{"id":1,"peer_urls":["http://n2"]},"members":[{"id":1,"peer_urls":["http://n2"]}]}}
        "#
    ));
}

/// Two learners at a time.
#[test]
fn learner_limit() {
    assert_snapshot!(explain(
        r#"
        1 0..10 {"member_list":{}} → {"revision":0,"members":{"members":[{"id":1,"name":"n1","peer_urls":["http://n1"],"learner":true},{"id":2,"name":"n2","peer_urls":["http://n2"],"learner":true}]}}
        "#
    ));
}

/// A read without any permission.
#[test]
fn auth_forbidden() {
    assert_snapshot!(explain(
        r#"
        1/root 0..10 {"auth_enable":{}} → {"revision":0,"auth":{}}
        2/ann 20..30 {"range":{"key":"a"}} → {"revision":1,"range":{"kvs":[],"count":0}}
        "#
    ));
}

/// A put in a txn in a txn, under a permission to read.
#[test]
fn auth_forbidden_inside() {
    assert_snapshot!(explain(
        r#"
        1/root 0..10 {"user_grant_role":{"name":"ann","role":"r"}} → {"revision":0,"auth":{}}
        1/root 10..20 {"role_grant_permission":{"role":"r","kind":"read","key":"a","range_end":"c"}} → {"revision":0,"auth":{}}
        1/root 20..30 {"auth_enable":{}} → {"revision":0,"auth":{}}
        2/ann 40..50 {"txn":{"compare":[{"key":"a","result":"equal","target":{"create":0}}],"success":[{"txn":{"compare":[],"success":[{"put":{"key":"b","value":"1"}}],"failure":[]}}],"failure":[]}} → {"revision":2,"txn":{"succeeded":true,"responses":[{"revision":0,"txn":{"succeeded":true,"responses":[{"revision":2,"put":{}}]}}]}}
        "#
    ));
}

/// A denial although everything was granted.
#[test]
fn auth_denied() {
    assert_snapshot!(explain(
        r#"
        1/root 0..10 {"user_grant_role":{"name":"ann","role":"r"}} → {"revision":0,"auth":{}}
        1/root 10..20 {"role_grant_permission":{"role":"r","kind":"read","key":"a","range_end":"c"}} → {"revision":0,"auth":{}}
        1/root 20..30 {"auth_enable":{}} → {"revision":0,"auth":{}}
        2/ann 40..50 {"range":{"key":"b"}} → !etcdserver: permission denied
        "#
    ));
}
