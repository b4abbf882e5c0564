//! The notation of requests in scripts.
//!
//! ```text
//! put KEY VALUE [lease=N] [prev_kv] [ignore_value] [ignore_lease]
//! del KEY [END] [prev_kv]
//! get KEY [END] [limit=N] [rev=N] [order=…] [by=…] [keys_only] [count_only] [min_mod=N] …
//! txn [if COMPARE…] [then OP ; OP …] [else OP ; OP …]   nested: ( if … then … else … )
//! compact REVISION
//! member ID NAME URL…
//! alarm raise|disarm|get MEMBER KIND
//! add ID [learner] URL… | remove ID | update ID URL… | promote ID
//! grant LEASE TTL | revoke LEASE | checkpoint LEASE REMAINING …
//! auth … | as …                                         see `auth`
//! empty                                                 a request or operation of nothing
//! COMPARE: TARGET(KEY)RVALUE or TARGET(KEY,END)RVALUE, R one of = != > < ?
//! ```
//!
//! Keys and values are words; `\0`, `\xff` and the like are bytes, `""` is the empty word.

use bytes::Bytes;

use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::member_change::Kind as MemberKind;
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{
    AlarmRequest, AlarmType, ClusterMemberAttrSetRequest, CompactionRequest, Compare,
    DeleteRangeRequest, InternalRaftRequest, LeaseCheckpoint, LeaseCheckpointRequest,
    LeaseGrantRequest, LeaseRevokeRequest, MemberChange, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
};

/// A number that no option has.
const UNKNOWN: i32 = 99;

pub(super) fn request(line: &str) -> InternalRaftRequest {
    let words: Vec<_> = line.split_whitespace().collect();
    let mut request = InternalRaftRequest::default();
    match words[0] {
        "put" => request.put = Some(put(&words[1..])),
        "del" => request.delete_range = Some(delete(&words[1..])),
        "get" => request.range = Some(range(&words[1..])),
        "txn" => request.txn = Some(txn(&mut &words[1..])),
        "compact" => {
            request.compaction =
                Some(CompactionRequest { revision: number(words[1]), physical: false });
        }
        "member" => {
            let client_urls = words[3..].iter().map(|url| (*url).to_owned()).collect();
            let (member_id, name) = (number(words[1]) as u64, words[2].to_owned());
            let member = ClusterMemberAttrSetRequest { member_id, name, client_urls };
            request.cluster_member_attr_set = Some(member);
        }
        // `alarm raise|disarm|get MEMBER KIND`
        "alarm" => {
            let action = match words[1] {
                "raise" => AlarmAction::Activate,
                "disarm" => AlarmAction::Deactivate,
                _ => AlarmAction::Get,
            };
            let alarm = AlarmType::from_str_name(words[3]).expect("a kind of alarm").into();
            let (action, member_id) = (action.into(), number(words[2]) as u64);
            request.alarm = Some(AlarmRequest { action, member_id, alarm });
        }
        "add" | "remove" | "update" | "promote" => request.member_change = Some(change(&words)),
        "grant" => {
            let (id, ttl) = (number(words[1]), number(words[2]));
            request.lease_grant = Some(LeaseGrantRequest { id, ttl });
        }
        "revoke" => request.lease_revoke = Some(LeaseRevokeRequest { id: number(words[1]) }),
        "checkpoint" => {
            let pairs = words[1..].chunks(2);
            let checkpoints = pairs.map(|pair| LeaseCheckpoint {
                id: number(pair[0]),
                remaining_ttl: number(pair[1]),
            });
            let checkpoints = checkpoints.collect();
            request.lease_checkpoint = Some(LeaseCheckpointRequest { checkpoints });
        }
        "auth" => request = super::auth::request(&words[1..]),
        "as" => {
            let inner = self::request(&words[3..].join(" "));
            request = super::auth::by(inner, words[1], number(words[2]).cast_unsigned());
        }
        "empty" => {}
        word => panic!("no such request: {word}"),
    }
    request
}

/// `add 4 [learner] url…`, `remove 4`, `update 4 url…`, `promote 4`.
fn change(words: &[&str]) -> MemberChange {
    let kind = MemberKind::from_str_name(&words[0].to_uppercase()).expect("a kind of change");
    let is_learner = words.contains(&"learner");
    let urls = words[2..].iter().filter(|word| **word != "learner");
    let peer_urls = urls.map(|url| (*url).to_owned()).collect();
    MemberChange { kind: kind.into(), id: number(words[1]) as u64, peer_urls, is_learner }
}

fn number(word: &str) -> i64 {
    word.parse().unwrap_or_else(|_| panic!("not a number: {word}"))
}

pub(super) fn bytes(word: &str) -> Bytes {
    let mut bytes = Vec::new();
    let mut rest = if word == "\"\"" { "" } else { word };
    while let Some(letter) = rest.chars().next() {
        if let Some(code) = rest.strip_prefix("\\x") {
            bytes.push(u8::from_str_radix(&code[..2], 16).expect("two hex digits"));
            rest = &code[2..];
        } else if let Some(after) = rest.strip_prefix("\\0") {
            bytes.push(0);
            rest = after;
        } else {
            bytes.extend_from_slice(&rest.as_bytes()[..letter.len_utf8()]);
            rest = &rest[letter.len_utf8()..];
        }
    }
    bytes.into()
}

fn put(words: &[&str]) -> PutRequest {
    let (key, value) = (bytes(words[0]), bytes(words[1]));
    let mut put = PutRequest { key, value, ..PutRequest::default() };
    for option in &words[2..] {
        match option.split_once('=').unwrap_or((option, "")) {
            ("prev_kv", _) => put.prev_kv = true,
            ("ignore_value", _) => put.ignore_value = true,
            ("ignore_lease", _) => put.ignore_lease = true,
            ("lease", lease) => put.lease = number(lease),
            _ => panic!("no such option of put: {option}"),
        }
    }
    put
}

fn delete(words: &[&str]) -> DeleteRangeRequest {
    let mut delete = DeleteRangeRequest { key: bytes(words[0]), ..DeleteRangeRequest::default() };
    for word in &words[1..] {
        match *word {
            "prev_kv" => delete.prev_kv = true,
            end => delete.range_end = bytes(end),
        }
    }
    delete
}

fn range(words: &[&str]) -> RangeRequest {
    let mut range = RangeRequest { key: bytes(words[0]), ..RangeRequest::default() };
    for option in &words[1..] {
        match option.split_once('=').unwrap_or((option, "")) {
            ("keys_only", _) => range.keys_only = true,
            ("count_only", _) => range.count_only = true,
            ("serializable", _) => range.serializable = true,
            ("limit", limit) => range.limit = number(limit),
            ("rev", revision) => range.revision = number(revision),
            ("min_mod", revision) => range.min_mod_revision = number(revision),
            ("max_mod", revision) => range.max_mod_revision = number(revision),
            ("min_create", revision) => range.min_create_revision = number(revision),
            ("max_create", revision) => range.max_create_revision = number(revision),
            ("order", order) => {
                let order = SortOrder::from_str_name(&order.to_uppercase());
                range.sort_order = order.map_or(UNKNOWN, i32::from);
            }
            ("by", target) => {
                let target = SortTarget::from_str_name(&target.to_uppercase());
                range.sort_target = target.map_or(UNKNOWN, i32::from);
            }
            _ => range.range_end = bytes(option),
        }
    }
    range
}

/// Reads `if … then … else …` up to the end or a closing parenthesis.
fn txn(words: &mut &[&str]) -> TxnRequest {
    let mut txn = TxnRequest::default();
    while let Some((&word, rest)) = words.split_first() {
        *words = rest;
        match word {
            ")" => break,
            "if" => {
                while words.first().is_some_and(|word| word.contains('(') && *word != "(") {
                    txn.compare.push(compare(words[0]));
                    *words = &words[1..];
                }
            }
            "then" => txn.success = ops(words),
            "else" => txn.failure = ops(words),
            _ => panic!("not a part of a txn: {word}"),
        }
    }
    txn
}

fn ops(words: &mut &[&str]) -> Vec<RequestOp> {
    let mut ops = Vec::new();
    loop {
        if words.first() == Some(&"(") {
            *words = &words[1..];
            let nested = txn(words);
            ops.push(RequestOp { request: Some(Request::RequestTxn(nested)) });
        } else {
            let ends = |word: &&str| matches!(*word, ";" | "else" | "then" | ")");
            let end = words.iter().position(ends).unwrap_or(words.len());
            let (op_words, rest) = words.split_at(end);
            *words = rest;
            ops.push(op(op_words));
        }
        match words.first() {
            Some(&";") => *words = &words[1..],
            _ => return ops,
        }
    }
}

fn op(words: &[&str]) -> RequestOp {
    let request = match words[0] {
        "put" => Some(Request::RequestPut(put(&words[1..]))),
        "del" => Some(Request::RequestDeleteRange(delete(&words[1..]))),
        "get" => Some(Request::RequestRange(range(&words[1..]))),
        "empty" => None,
        word => panic!("no such operation: {word}"),
    };
    RequestOp { request }
}

fn compare(word: &str) -> Compare {
    let (target, rest) = word.split_once('(').expect("TARGET(KEY)RVALUE");
    let (keys, rest) = rest.split_once(')').expect("TARGET(KEY)RVALUE");
    let (key, end) = keys.split_once(',').map_or((keys, None), |(key, end)| (key, Some(end)));
    let (result, value) = [
        ("!=", i32::from(CompareResult::NotEqual)),
        ("=", i32::from(CompareResult::Equal)),
        (">", i32::from(CompareResult::Greater)),
        ("<", i32::from(CompareResult::Less)),
        ("?", UNKNOWN),
    ]
    .iter()
    .find_map(|(sign, result)| Some((*result, rest.strip_prefix(sign)?)))
    .expect("an operator");
    let (target, target_union) = match target {
        "version" => (CompareTarget::Version.into(), TargetUnion::Version(number(value))),
        "create" => (CompareTarget::Create.into(), TargetUnion::CreateRevision(number(value))),
        "mod" => (CompareTarget::Mod.into(), TargetUnion::ModRevision(number(value))),
        "lease" => (CompareTarget::Lease.into(), TargetUnion::Lease(number(value))),
        "value" => (CompareTarget::Value.into(), TargetUnion::Value(bytes(value))),
        // A target with the union of another one.
        "version_by_value" => (CompareTarget::Version.into(), TargetUnion::Value(bytes(value))),
        _ => (UNKNOWN, TargetUnion::Version(number(value))),
    };
    Compare {
        result,
        target,
        key: bytes(key),
        range_end: end.map(bytes).unwrap_or_default(),
        target_union: Some(target_union),
    }
}
