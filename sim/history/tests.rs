//! Every operation survives the way through a file, and the file's format does not change unnoticed.

use insta::assert_snapshot;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{
    Body, Bytes, Compare, CompareResult, CompareTarget, DeleteRange, Event, EventKind, Failure,
    KeyValue, LeaderKey, Member, Operation, Outcome, PermissionKind, Put, Range, Request, Response,
    SortOrder, SortTarget, Txn, Watch, WatchMessage,
};

fn bytes() -> BoxedStrategy<Bytes> {
    let any_bytes = vec(any::<u8>(), 0..4).prop_map(Bytes);
    prop_oneof!["[a-c]{0,3}".prop_map(|text| Bytes::from(text.as_str())), any_bytes].boxed()
}

fn name() -> BoxedStrategy<String> {
    "[a-z]{0,3}".boxed()
}

fn key_value() -> BoxedStrategy<KeyValue> {
    (bytes(), any::<[i64; 4]>(), bytes())
        .prop_map(|(key, [create_revision, mod_revision, version, lease], value)| KeyValue {
            key,
            create_revision,
            mod_revision,
            version,
            value,
            lease,
        })
        .boxed()
}

fn leader_key() -> BoxedStrategy<LeaderKey> {
    (bytes(), bytes(), any::<i64>(), any::<i64>())
        .prop_map(|(name, key, revision, lease)| LeaderKey { name, key, revision, lease })
        .boxed()
}

fn member() -> BoxedStrategy<Member> {
    (any::<u64>(), name(), vec(name(), 0..2), any::<bool>())
        .prop_map(|(id, name, peer_urls, learner)| Member { id, name, peer_urls, learner })
        .boxed()
}

fn message() -> BoxedStrategy<WatchMessage> {
    let kind = prop_oneof![Just(EventKind::Put), Just(EventKind::Delete)];
    let event = (kind, key_value(), option::of(key_value()))
        .prop_map(|(kind, kv, prev_kv)| Event { kind, kv, prev_kv });
    (any::<u64>(), any::<[i64; 2]>(), any::<[bool; 3]>(), name(), vec(event, 0..3))
        .prop_map(|(at, numbers, flags, cancel_reason, events)| WatchMessage {
            at,
            revision: numbers[0],
            created: flags[0],
            canceled: flags[1],
            compact_revision: numbers[1],
            cancel_reason,
            fragment: flags[2],
            events,
        })
        .boxed()
}

fn range() -> BoxedStrategy<Range> {
    let order =
        prop_oneof![Just(SortOrder::None), Just(SortOrder::Ascend), Just(SortOrder::Descend)];
    let target = prop_oneof![
        Just(SortTarget::Key),
        Just(SortTarget::Version),
        Just(SortTarget::Create),
        Just(SortTarget::Mod),
        Just(SortTarget::Value)
    ];
    (bytes(), bytes(), any::<[i64; 6]>(), order, target, any::<[bool; 3]>())
        .prop_map(|(key, range_end, numbers, sort_order, sort_target, flags)| Range {
            key,
            range_end,
            limit: numbers[0],
            revision: numbers[1],
            sort_order,
            sort_target,
            serializable: flags[0],
            keys_only: flags[1],
            count_only: flags[2],
            min_mod_revision: numbers[2],
            max_mod_revision: numbers[3],
            min_create_revision: numbers[4],
            max_create_revision: numbers[5],
        })
        .boxed()
}

fn compare() -> BoxedStrategy<Compare> {
    let result = prop_oneof![
        Just(CompareResult::Equal),
        Just(CompareResult::Greater),
        Just(CompareResult::Less),
        Just(CompareResult::NotEqual)
    ];
    let target = prop_oneof![
        any::<i64>().prop_map(CompareTarget::Version),
        any::<i64>().prop_map(CompareTarget::Create),
        any::<i64>().prop_map(CompareTarget::Mod),
        any::<i64>().prop_map(CompareTarget::Lease),
        bytes().prop_map(CompareTarget::Value)
    ];
    (bytes(), bytes(), result, target)
        .prop_map(|(key, range_end, result, target)| Compare { key, range_end, result, target })
        .boxed()
}

fn kv_request() -> BoxedStrategy<Request> {
    let put = (bytes(), bytes(), any::<i64>(), any::<[bool; 3]>()).prop_map(
        |(key, value, lease, [prev_kv, ignore_value, ignore_lease])| {
            Request::Put(Put { key, value, lease, prev_kv, ignore_value, ignore_lease })
        },
    );
    let delete = (bytes(), bytes(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| {
        Request::DeleteRange(DeleteRange { key, range_end, prev_kv })
    });
    let leaf = prop_oneof![range().prop_map(Request::Range), put, delete].boxed();
    leaf.prop_recursive(2, 6, 2, |inner| {
        (vec(compare(), 0..2), vec(inner.clone(), 0..2), vec(inner, 0..2))
            .prop_map(|(compare, success, failure)| Request::Txn(Txn { compare, success, failure }))
            .boxed()
    })
    .boxed()
}

fn lease_request() -> BoxedStrategy<Request> {
    let watch = (bytes(), bytes(), any::<i64>(), any::<[bool; 5]>()).prop_map(
        |(key, range_end, start_revision, flags)| {
            Request::Watch(Watch {
                key,
                range_end,
                start_revision,
                prev_kv: flags[0],
                progress_notify: flags[1],
                fragment: flags[2],
                no_put: flags[3],
                no_delete: flags[4],
            })
        },
    );
    prop_oneof![
        (any::<i64>(), any::<bool>())
            .prop_map(|(revision, physical)| Request::Compact { revision, physical }),
        any::<[i64; 2]>().prop_map(|[id, ttl_s]| Request::LeaseGrant { id, ttl_s }),
        any::<i64>().prop_map(|id| Request::LeaseRevoke { id }),
        any::<i64>().prop_map(|id| Request::LeaseKeepAlive { id }),
        (any::<i64>(), any::<bool>()).prop_map(|(id, keys)| Request::LeaseTimeToLive { id, keys }),
        Just(Request::LeaseLeases {}),
        watch,
        any::<i64>().prop_map(|revision| Request::HashKv { revision }),
        Just(Request::StateHash {}),
    ]
    .boxed()
}

fn lock_request() -> BoxedStrategy<Request> {
    let urls = || vec(name(), 0..3);
    prop_oneof![
        (bytes(), any::<i64>()).prop_map(|(name, lease)| Request::Lock { name, lease }),
        bytes().prop_map(|key| Request::Unlock { key }),
        (bytes(), any::<i64>(), bytes()).prop_map(|(name, lease, value)| Request::Campaign {
            name,
            lease,
            value
        }),
        (leader_key(), bytes()).prop_map(|(leader, value)| Request::Proclaim { leader, value }),
        leader_key().prop_map(|leader| Request::Resign { leader }),
        bytes().prop_map(|name| Request::Leader { name }),
        any::<bool>().prop_map(|linearizable| Request::MemberList { linearizable }),
        (urls(), any::<bool>())
            .prop_map(|(peer_urls, learner)| Request::MemberAdd { peer_urls, learner }),
        any::<u64>().prop_map(|id| Request::MemberRemove { id }),
        prop_oneof![
            any::<u64>().prop_map(|id| Request::MemberPromote { id }),
            (any::<u64>(), urls())
                .prop_map(|(id, peer_urls)| Request::MemberUpdate { id, peer_urls }),
        ],
    ]
    .boxed()
}

fn auth_request() -> BoxedStrategy<Request> {
    let kind = prop_oneof![
        Just(PermissionKind::Read),
        Just(PermissionKind::Write),
        Just(PermissionKind::ReadWrite)
    ];
    prop_oneof![
        Just(Request::AuthEnable {}),
        Just(Request::AuthDisable {}),
        name().prop_map(|name| Request::UserAdd { name }),
        name().prop_map(|name| Request::UserDelete { name }),
        (name(), name()).prop_map(|(name, role)| Request::UserGrantRole { name, role }),
        (name(), name()).prop_map(|(name, role)| Request::UserRevokeRole { name, role }),
        name().prop_map(|name| Request::RoleAdd { name }),
        name().prop_map(|name| Request::RoleDelete { name }),
        (name(), kind, bytes(), bytes()).prop_map(|(role, kind, key, range_end)| {
            Request::RoleGrantPermission { role, kind, key, range_end }
        }),
        (name(), bytes(), bytes()).prop_map(|(role, key, range_end)| {
            Request::RoleRevokePermission { role, key, range_end }
        }),
    ]
    .boxed()
}

fn kv_body() -> BoxedStrategy<Body> {
    let leaf = prop_oneof![
        (vec(key_value(), 0..3), any::<bool>(), any::<i64>())
            .prop_map(|(kvs, more, count)| Body::Range { kvs, more, count }),
        option::of(key_value()).prop_map(|prev_kv| Body::Put { prev_kv }),
        (any::<i64>(), vec(key_value(), 0..2))
            .prop_map(|(deleted, prev_kvs)| Body::DeleteRange { deleted, prev_kvs }),
    ]
    .boxed();
    leaf.prop_recursive(2, 6, 2, |inner| {
        (any::<bool>(), vec(response(inner), 0..2))
            .prop_map(|(succeeded, responses)| Body::Txn { succeeded, responses })
            .boxed()
    })
    .boxed()
}

fn other_body() -> BoxedStrategy<Body> {
    let plain = prop_oneof![
        Just(Body::Compact {}),
        Just(Body::LeaseRevoke {}),
        Just(Body::Unlock {}),
        Just(Body::Proclaim {}),
        Just(Body::Resign {}),
        Just(Body::Auth {})
    ];
    let lease = prop_oneof![
        any::<[i64; 2]>().prop_map(|[id, ttl_s]| Body::LeaseGrant { id, ttl_s }),
        any::<[i64; 2]>().prop_map(|[id, ttl_s]| Body::LeaseKeepAlive { id, ttl_s }),
        (any::<[i64; 3]>(), vec(bytes(), 0..3)).prop_map(|([id, ttl_s, granted_ttl_s], keys)| {
            Body::LeaseTimeToLive { id, ttl_s, granted_ttl_s, keys }
        }),
        vec(any::<i64>(), 0..3).prop_map(|ids| Body::LeaseLeases { ids }),
    ];
    prop_oneof![
        plain,
        lease,
        vec(message(), 0..3).prop_map(|messages| Body::Watch { messages }),
        bytes().prop_map(|key| Body::Lock { key }),
        leader_key().prop_map(|leader| Body::Campaign { leader }),
        key_value().prop_map(|kv| Body::Leader { kv }),
        (any::<u64>(), any::<[i64; 2]>()).prop_map(|(hash, [compact_revision, hash_revision])| {
            Body::HashKv { hash, compact_revision, hash_revision }
        }),
        any::<[u64; 2]>().prop_map(|[applied_index, hash]| Body::StateHash { applied_index, hash }),
        (option::of(member()), vec(member(), 0..3))
            .prop_map(|(member, members)| Body::Members { member, members }),
    ]
    .boxed()
}

fn response(body: BoxedStrategy<Body>) -> BoxedStrategy<Response> {
    (any::<i64>(), any::<u64>(), any::<u64>(), body)
        .prop_map(|(revision, member_id, raft_term, body)| Response {
            revision,
            member_id,
            raft_term,
            body,
        })
        .boxed()
}

fn operation() -> BoxedStrategy<Operation> {
    let request = prop_oneof![kv_request(), lease_request(), lock_request(), auth_request()];
    let response = option::of(response(prop_oneof![kv_body(), other_body()].boxed()));
    let outcome = prop_oneof![Just(Outcome::Ok), Just(Outcome::Failed), Just(Outcome::Unknown)];
    let failure = (name(), name()).prop_map(|(code, message)| Failure { code, message });
    let who = (any::<u64>(), any::<u32>(), option::of(name()), name());
    let times = (any::<u64>(), option::of(any::<u64>()));
    (who, times, request, response, outcome, option::of(failure))
        .prop_map(|(who, (call, returned), request, response, outcome, error)| Operation {
            op: who.0,
            client: who.1,
            user: who.2,
            member: who.3,
            call,
            returned,
            request,
            response,
            outcome,
            error,
        })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any operation is the same after it was written as a line and read again.
    #[test]
    fn lines_are_read_as_they_were_written(operation in operation()) {
        let line = serde_json::to_string(&operation).unwrap();
        prop_assert!(!line.contains('\n'));
        let again: Operation = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(again, operation);
    }
}

/// How a line looks: a watch, which has most of what is new, and a request with nothing to say.
#[test]
fn format() {
    let kv = KeyValue { key: "a".into(), mod_revision: 7, ..KeyValue::default() };
    let event = Event { kind: EventKind::Delete, kv, prev_kv: None };
    let created = WatchMessage { at: 5, revision: 6, created: true, ..WatchMessage::default() };
    let told = WatchMessage { at: 9, revision: 7, events: vec![event], ..WatchMessage::default() };
    let body = Body::Watch { messages: vec![created, told] };
    let watch = Operation {
        op: 3,
        client: 1,
        user: Some("root".to_owned()),
        member: "n2".to_owned(),
        call: 4,
        returned: Some(10),
        request: Request::Watch(Watch { key: "a".into(), start_revision: 7, ..Watch::default() }),
        response: Some(Response { revision: 7, member_id: 0, raft_term: 0, body }),
        outcome: Outcome::Ok,
        error: None,
    };
    let leases = Operation {
        user: None,
        request: Request::LeaseLeases {},
        response: None,
        outcome: Outcome::Unknown,
        ..watch.clone()
    };
    let lines = [watch, leases].map(|operation| serde_json::to_string(&operation).unwrap());
    assert_snapshot!(lines.join("\n"));
}
