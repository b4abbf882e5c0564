//! Small histories with watches, written in one line each.
//!
//! Writes, one revision each from 2 on: `x=1` a put, `-x` a delete, `x=1,y=2` a txn of puts; with `!` in front the
//! write is refused, with `?` it takes effect but its outcome is unknown; `cut:5` compacts. Write `n` (from 0) is
//! called at `100 n` and returns at `100 n + 10` microseconds.
//!
//! A watch asks for `x`, for `x*` (a prefix) or for `all`, with `from=3`, `prev`, `fragment`, `no-put`, `no-delete`.
//! Its messages are separated by `|`: `c1` created at revision 1, `^4` progress, `cut:5` canceled by a compaction,
//! `end:reason` canceled, else events: `x=1@2` or `-x@3`. What an event does not say is as it was: `+` claims that
//! the key is new, `~` that it is not, `<1@2` shows another state before, `<` none. `h4` sets the header's revision,
//! `&` says that more pieces follow, `50us` when the message arrives (else behind all writes).

use super::model::{Model, failure};
use crate::history::{
    Body, Bytes, DeleteRange, Event, EventKind, KeyValue, Operation, Outcome, Put, Request,
    Response, Txn, Watch, WatchMessage,
};

/// The history of these writes and watches.
pub(super) fn history(writes: &str, watches: &[(&str, &str)]) -> Vec<Operation> {
    let mut store = Model::new();
    let mut operations: Vec<Operation> =
        writes.split_whitespace().enumerate().map(|(n, text)| write(n, text, &mut store)).collect();
    let end = operations.len() as u64 * 100_000;
    for (asked, messages) in watches {
        let asked = watch(asked);
        let messages = messages.split('|').map(str::trim).filter(|text| !text.is_empty());
        let messages =
            messages.enumerate().map(|(n, text)| message(n, text, &asked, &store, end)).collect();
        let body = Body::Watch { messages };
        operations.push(operation(
            operations.len(),
            (0, 2 * end + 1_000_000),
            Request::Watch(asked),
        ));
        let last = operations.last_mut().expect("just pushed");
        last.response = Some(Response { revision: 0, member_id: 0, raft_term: 0, body });
        last.outcome = Outcome::Ok;
    }
    operations
}

fn operation(number: usize, (call, returned): (u64, u64), request: Request) -> Operation {
    Operation {
        op: number as u64,
        client: 1,
        user: None,
        member: "n1".to_owned(),
        call,
        returned: Some(returned),
        request,
        response: None,
        outcome: Outcome::Unknown,
        error: None,
    }
}

fn write(number: usize, text: &str, store: &mut Model) -> Operation {
    let (mode, text) = match text.strip_prefix(['!', '?']) {
        Some(rest) => (&text[..1], rest),
        None => ("", text),
    };
    let puts: Vec<Request> = text.split(',').map(|one| one_write(one, mode == "!")).collect();
    let request = match puts.as_slice() {
        [one] => one.clone(),
        _ => Request::Txn(Txn { success: puts, ..Txn::default() }),
    };
    let call = number as u64 * 100_000;
    let mut operation = operation(number, (call, call + 10_000), request);
    match mode {
        "!" => {
            operation.outcome = Outcome::Failed;
            operation.error = Some(failure("etcdserver: requested lease not found"));
        }
        mode => {
            let response = store.apply(&operation.request).expect("nothing that is refused");
            if mode == "?" {
                operation.error = Some(failure("etcdserver: request timed out"));
            } else {
                operation.response = Some(response);
                operation.outcome = Outcome::Ok;
            }
        }
    }
    operation
}

fn one_write(text: &str, is_refused: bool) -> Request {
    if let Some(revision) = text.strip_prefix("cut:") {
        return Request::Compact { revision: number(revision), physical: false };
    }
    if let Some(key) = text.strip_prefix('-') {
        return Request::DeleteRange(DeleteRange { key: key.into(), ..DeleteRange::default() });
    }
    let (key, value) = text.split_once('=').expect("a put");
    let lease = if is_refused { 7 } else { 0 };
    Request::Put(Put { key: key.into(), value: value.into(), lease, ..Put::default() })
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_else(|_| panic!("a number, not {text:?}"))
}

fn watch(text: &str) -> Watch {
    let mut watch = Watch::default();
    for token in text.split_whitespace() {
        match token.split_once('=').unwrap_or((token, "")) {
            ("all", _) => (watch.key, watch.range_end) = (Bytes(vec![0]), Bytes(vec![0])),
            ("from", revision) => watch.start_revision = number(revision),
            ("prev", _) => watch.prev_kv = true,
            ("fragment", _) => watch.fragment = true,
            ("no-put", _) => watch.no_put = true,
            ("no-delete", _) => watch.no_delete = true,
            (key, _) => match key.strip_suffix('*') {
                Some(prefix) => {
                    let mut end = prefix.as_bytes().to_vec();
                    *end.last_mut().expect("a prefix") += 1;
                    (watch.key, watch.range_end) = (prefix.into(), Bytes(end));
                }
                None => watch.key = key.into(),
            },
        }
    }
    watch
}

fn message(nth: usize, text: &str, asked: &Watch, store: &Model, end: u64) -> WatchMessage {
    let mut message = WatchMessage { at: end + nth as u64 * 1_000, ..WatchMessage::default() };
    let mut header = None;
    for token in text.split_whitespace() {
        let rest = &token[1..];
        if let Some(time) = token.strip_suffix("us") {
            message.at = number(time) as u64 * 1_000;
        } else if let Some(kept) = token.strip_prefix("cut:") {
            (message.canceled, message.compact_revision) = (true, number(kept));
        } else if let Some(reason) = token.strip_prefix("end:") {
            (message.canceled, message.cancel_reason) = (true, reason.to_owned());
        } else if token.contains('@') {
            message.events.push(event(token, asked, store));
        } else {
            match &token[..1] {
                "c" => (message.created, header) = (true, Some(number(rest))),
                "^" | "h" => header = Some(number(rest)),
                "&" => message.fragment = true,
                _ => panic!("{token:?} is no part of a message"),
            }
        }
    }
    let newest = message.events.iter().map(|event| event.kv.mod_revision).max();
    message.revision = header.or(newest).unwrap_or_else(|| store.revision());
    message
}

fn event(text: &str, asked: &Watch, store: &Model) -> Event {
    let (text, before) =
        text.split_once('<').map_or((text, None), |(text, prev)| (text, Some(prev)));
    let (what, at) = text.split_once('@').expect("a revision");
    let revision = number(at.trim_end_matches(['+', '~']));
    let (kind, key, value) = match what.strip_prefix('-') {
        Some(key) => (EventKind::Delete, key, ""),
        None => {
            let (key, value) = what.split_once('=').expect("a put");
            (EventKind::Put, key, value)
        }
    };
    let is_known = (2..=store.revision()).contains(&revision);
    let changes = if is_known { store.changes(revision) } else { Vec::new() };
    let change = changes.into_iter().find(|change| change.0 == key.into());
    let (now, prev) = change.map_or((None, None), |(_, now, prev)| (now, prev));
    let mut kv = match kind {
        EventKind::Put => {
            now.unwrap_or(KeyValue { create_revision: revision, version: 1, ..KeyValue::default() })
        }
        EventKind::Delete => KeyValue::default(),
    };
    (kv.key, kv.mod_revision) = (key.into(), revision);
    if kind == EventKind::Put {
        kv.value = value.into();
    }
    if at.ends_with('+') {
        (kv.create_revision, kv.version) = (revision, 1);
    } else if at.ends_with('~') {
        (kv.create_revision, kv.version) = (revision - 1, 2);
    }
    let prev = prev.filter(|_| asked.prev_kv);
    let prev_kv = match before {
        None => prev,
        Some("") => None,
        Some(text) => {
            let (value, at) = text.split_once('@').expect("a revision");
            let base = prev.unwrap_or_default();
            Some(KeyValue {
                key: key.into(),
                value: value.into(),
                mod_revision: number(at),
                ..base
            })
        }
    };
    Event { kind, kv, prev_kv }
}
