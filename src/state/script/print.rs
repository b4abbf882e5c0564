//! What scripts print: responses, and views into the state.

use std::fmt::Write;

use prost::Message;

use super::super::revision::{Revision, Row};
use super::super::{Change, KeysHash, Member, Response, State, Verdict};
use super::refusal;
use crate::error::Result;
use crate::proto::etcdserverpb::response_op;
use crate::proto::etcdserverpb::{
    DeleteRangeResponse, LeaseGrantResponse, PutResponse, RangeResponse, ResponseHeader,
    ResponseOp, TxnResponse,
};
use crate::proto::mvccpb::KeyValue;
use crate::storage::Family;

pub(super) fn verdict(verdict: Verdict<String>) -> String {
    verdict.unwrap_or_else(|refusal| format!("refused: {}", refusal.text()))
}

pub(super) fn response(response: Response) -> String {
    match response {
        Response::Range(response) => range(response),
        Response::Put(response) => put(response),
        Response::DeleteRange(response) => delete(response),
        Response::Txn(response) => txn(response),
        Response::Compact(response) => header(response.header.as_ref()),
        Response::LeaseGrant(response) => {
            let LeaseGrantResponse { header: head, id, ttl, .. } = response;
            format!("{} lease={id} ttl={ttl}", header(head.as_ref()))
        }
        Response::LeaseRevoke(response) => header(response.header.as_ref()),
        Response::LeaseCheckpoint(response) => header(response.header.as_ref()),
        Response::Auth { answer, .. } => super::auth::answer(answer),
        Response::Attributes => "published".to_owned(),
        Response::Alarm(response) => {
            let alarms = response.alarms.iter();
            let alarms =
                alarms.map(|it| format!(" {:x}:{}", it.member_id, it.alarm().as_str_name()));
            format!("alarms{}", alarms.collect::<String>())
        }
        Response::Members(members) => {
            let members = members.into_iter().map(Member::from_message);
            members.map(|(id, member)| self::member(id, &member)).collect::<Vec<_>>().join("\n")
        }
    }
}

/// One member: id, name, peer URLs, then where clients find it.
pub(super) fn member(id: u64, member: &Member) -> String {
    let Member { name, peer_urls, client_urls, is_learner } = member;
    let learner = if *is_learner { " learner" } else { "" };
    let peers =
        if peer_urls.is_empty() { String::new() } else { format!(" {}", peer_urls.join(",")) };
    let clients = client_urls.iter().map(|url| format!(" {url}")).collect::<String>();
    format!("member {id:x} {name}{peers}{clients}{learner}")
}

fn header(header: Option<&ResponseHeader>) -> String {
    let header = header.expect("every response has a header");
    assert_eq!((header.cluster_id, header.member_id, header.raft_term), (0, 0, 0));
    format!("revision={}", header.revision)
}

pub(super) fn key_value(kv: &KeyValue) -> String {
    let KeyValue { create_revision, mod_revision, version, lease, .. } = kv;
    let mut line = format!(
        "{}={} create={create_revision} mod={mod_revision} version={version}",
        kv.key.escape_ascii(),
        kv.value.escape_ascii()
    );
    if *lease != 0 {
        write!(line, " lease={lease}").unwrap();
    }
    line
}

pub(super) fn range(response: RangeResponse) -> String {
    let more = if response.more { " more" } else { "" };
    let first = format!("{} count={}{more}", header(response.header.as_ref()), response.count);
    let lines = response.kvs.iter().map(key_value);
    std::iter::once(first).chain(lines).collect::<Vec<_>>().join("\n")
}

fn put(response: PutResponse) -> String {
    let previous = response.prev_kv.map(|kv| format!("\nprevious {}", key_value(&kv)));
    format!("{}{}", header(response.header.as_ref()), previous.unwrap_or_default())
}

fn delete(response: DeleteRangeResponse) -> String {
    let first = format!("{} deleted={}", header(response.header.as_ref()), response.deleted);
    let lines = response.prev_kvs.iter().map(|kv| format!("previous {}", key_value(kv)));
    std::iter::once(first).chain(lines).collect::<Vec<_>>().join("\n")
}

pub(super) fn txn(response: TxnResponse) -> String {
    let verdict = if response.succeeded { "succeeded" } else { "failed" };
    let first = format!("{} {verdict}", header(response.header.as_ref()));
    let ops = response.responses.into_iter().map(|op| {
        let text = op_response(op);
        let indented: Vec<_> = text.lines().map(|line| format!("  {line}")).collect();
        indented.join("\n")
    });
    std::iter::once(first).chain(ops).collect::<Vec<_>>().join("\n")
}

fn op_response(op: ResponseOp) -> String {
    match op.response.expect("every operation is answered") {
        response_op::Response::ResponseRange(response) => format!("get {}", range(response)),
        response_op::Response::ResponsePut(response) => format!("put {}", put(response)),
        response_op::Response::ResponseDeleteRange(response) => format!("del {}", delete(response)),
        response_op::Response::ResponseTxn(response) => format!("txn {}", txn(response)),
    }
}

pub(super) fn more(more: bool) -> String {
    if more { "more" } else { "done" }.to_owned()
}

pub(super) fn hash(result: Result<KeysHash>) -> String {
    verdict(refusal(result).map(|hash| {
        let KeysHash { hash, compact_revision, hash_revision, .. } = hash;
        format!("hash={hash:08x} compact={compact_revision} revision={hash_revision}")
    }))
}

pub(super) fn state(state: &State) -> String {
    let (index, term) = state.applied();
    let mut text = format!(
        "current={} compact={} pending={} index={index} term={term}",
        state.current_revision(),
        state.compact_revision(),
        state.compaction_pending()
    );
    for (id, member) in state.members() {
        write!(text, "\nmember {id:x} {} {}", member.name, member.client_urls.join(" ")).unwrap();
    }
    text
}

/// The leases with their keys.
pub(super) fn leases(state: &State) -> String {
    let lines = state.leases().map(|(id, lease)| {
        let keys: Vec<_> = lease.keys().map(|key| key.escape_ascii().to_string()).collect();
        let line = format!(
            "{id} ttl={} remaining={} {}",
            lease.granted_ttl_s,
            lease.remaining_ttl_s,
            keys.join(" ")
        );
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The changes of the last slice, as those who watch are told them.
pub(super) fn changes(state: &mut State) -> String {
    let changes = state.take_changes().into_iter();
    changes.map(|change| one_change(&change)).collect::<Vec<_>>().join("\n")
}

/// The changes from a revision on, as those who are behind read them: in pieces of two.
pub(super) fn history(state: &State, from: i64) -> String {
    let mut history = state.history();
    let mut from = from;
    let mut lines = Vec::new();
    while from <= history.current() {
        let piece = history.read(from, 2, usize::MAX).expect("no failure");
        lines.extend(piece.changes.iter().map(one_change));
        lines.push(format!("up to {}", piece.end));
        from = piece.end + 1;
    }
    lines.join("\n")
}

fn one_change(change: &Change) -> String {
    let kind = if change.is_delete { "delete" } else { "put" };
    let Revision { main, sub } = change.revision;
    format!("{main}.{sub} {kind} {}", key_value(&change.kv))
}

fn place(Revision { main, sub }: Revision, tombstone: bool) -> String {
    format!("{main}.{sub}{}", if tombstone { "†" } else { "" })
}

/// The rows as they are in the database, those that wait to be removed included.
pub(super) fn rows(state: &State) -> String {
    let mut cursor = state.storage.cursor();
    cursor.seek(Family::Key, &[]).expect("no failure");
    let mut lines = Vec::new();
    let mut read = |key: &[u8], value: &[u8]| {
        let row = Row::decode(key).expect("a row key");
        let kv = KeyValue::decode(value).expect("a row");
        lines.push(format!("{} {}", place(row.revision, row.tombstone), key_value(&kv)));
        Ok(())
    };
    while cursor.next(Family::Key, &mut read).expect("no failure").is_some() {}
    lines.join("\n")
}

/// The generations of every key.
pub(super) fn index(state: &State) -> String {
    let lines = state.index.histories().map(|(key, history)| {
        let generations: Vec<_> = history
            .generations()
            .map(|(revisions, closed)| {
                let last = revisions.len() - 1;
                let places = revisions.iter().enumerate();
                let places = places.map(|(at, revision)| place(*revision, closed && at == last));
                format!("[{}]", places.collect::<Vec<_>>().join(" "))
            })
            .collect();
        format!("{} {}", key.escape_ascii(), generations.join(" "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The first line in which two texts differ.
pub(super) fn difference(expected: &str, actual: &str) -> String {
    let mut actual_lines = actual.lines();
    for (number, expected) in expected.lines().enumerate() {
        let actual = actual_lines.next().unwrap_or("the end");
        if expected != actual {
            return format!("line {}:\n  script {expected}\n  now    {actual}", number + 1);
        }
    }
    format!("at the end: now {}", actual_lines.next().unwrap_or("the end"))
}
