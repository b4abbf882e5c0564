//! Violations and operations as text, for readers who know etcd but not this project.

mod services;

use std::collections::BTreeMap;
use std::fmt::Write as _;

pub(super) use self::services::member;
use super::{
    BEHIND_MS, BEHIND_REVISIONS, Report, Resolution, Staleness, Verdict, Violation, rules,
};
use crate::history::{
    Body, Compare, CompareResult, CompareTarget, KeyValue, Operation, Outcome, Range, Request,
    Response, SortOrder,
};

/// Longest value shown in full; longer ones are cut and their length is given.
const VALUE_CHARS: usize = 40;
/// Most keys of an answer that are shown.
const KEYS_SHOWN: usize = 6;
/// Most operations that are shown as open.
const OPEN_SHOWN: usize = 10;
/// Most violations of one report that are shown in full.
const VIOLATIONS_SHOWN: usize = 5;

/// Nanoseconds as milliseconds, such as `12.034 ms`.
pub fn ms(ns: u64) -> String {
    format!("{}.{:03} ms", ns / 1_000_000, ns % 1_000_000 / 1_000)
}

/// A whole report: verdict, violations with their proofs, doubts.
pub fn report(report: &Report, operations: &[Operation]) -> String {
    let mut text = String::new();
    let by_op: BTreeMap<u64, &Operation> = cited(report, operations);
    for fault in &report.malformed {
        let _ = writeln!(text, "malformed: line {}: {}", fault.line, fault.sentence);
    }
    for shown in report.violations.iter().take(VIOLATIONS_SHOWN) {
        text.push_str(&violation(shown, |op| by_op.get(&op).map(|found| line(found))));
        text.push('\n');
    }
    if report.violations.len() > VIOLATIONS_SHOWN {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for left in &report.violations[VIOLATIONS_SHOWN..] {
            *counts.entry(left.rule).or_default() += 1;
        }
        let counts: Vec<String> = counts.iter().map(|(rule, n)| format!("{n} × {rule}")).collect();
        let _ = writeln!(text, "… and {}\n", counts.join(", "));
    }
    for doubt in &report.doubts {
        let _ = writeln!(text, "undecided: {}", doubt.sentence);
    }
    text.push_str(&open_ends(report));
    let verdict = match report.verdict {
        Verdict::Kept => "kept",
        Verdict::Broken => "broken",
        Verdict::Undecided => "undecided",
    };
    let stats = &report.stats;
    let _ = writeln!(
        text,
        "{verdict}: {} operations, last revision {}, {} writes with unknown outcome, of which {} took effect",
        stats.operations,
        stats.last_revision,
        stats.unknown_writes,
        report.ledger.iter().filter(|resolution| resolution.revision.is_some()).count(),
    );
    text.push_str(&staleness(&stats.staleness));
    text
}

/// What was spent where something could not be decided, and which operations stay open; else nothing.
pub fn open_ends(report: &Report) -> String {
    if report.doubts.is_empty() {
        return String::new();
    }
    let stats = &report.stats;
    let open: Vec<&Resolution> =
        report.ledger.iter().filter(|resolution| !resolution.certain).collect();
    let mut text = format!(
        "spent: {} steps on {} revisions that nobody claims; open: {} of {} writes with unknown outcome\n",
        stats.search_steps,
        stats.holes,
        open.len(),
        report.ledger.len()
    );
    for resolution in open.iter().take(OPEN_SHOWN) {
        let _ = writeln!(text, "  {}", resolution.sentence);
    }
    if open.len() > OPEN_SHOWN {
        let _ = writeln!(text, "  … and {} more; --json lists them", open.len() - OPEN_SHOWN);
    }
    text
}

/// How old serializable reads were, where there were any.
fn staleness(staleness: &Staleness) -> String {
    if staleness.reads == 0 {
        return String::new();
    }
    let classes = |ends: &[String], counts: &[u64; 6]| -> String {
        let names = ends.iter().map(|end| format!("≤ {end}")).chain(["more".to_owned()]);
        let shown = names.zip(counts).filter(|(_, count)| **count > 0);
        shown.map(|(name, count)| format!("{name}: {count}")).collect::<Vec<_>>().join(", ")
    };
    format!(
        "serializable reads: {}; revisions behind: {}, at most {}; ms behind: {}, at most {}; {} went back on their \
         member\n",
        staleness.reads,
        classes(&BEHIND_REVISIONS.map(|end| end.to_string()), &staleness.revisions),
        staleness.revisions_max,
        classes(&BEHIND_MS.map(|end| end.to_string()), &staleness.ms),
        staleness.ms_max,
        staleness.went_back,
    )
}

/// One violation: the rule, the sentence, the fields that differ, the operations that prove it one a line, as
/// `find` shows them.
pub fn violation(violation: &Violation, find: impl Fn(u64) -> Option<String>) -> String {
    let mut text = format!("{}: {}\n", violation.rule, violation.sentence);
    if let Some(rule) = rules::find(violation.rule) {
        let _ = writeln!(text, "  promise: {}", rule.promise);
    }
    for detail in &violation.details {
        let _ = writeln!(
            text,
            "  {}: expected {}, got {}",
            detail.what, detail.expected, detail.actual
        );
    }
    for op in &violation.operations {
        match find(*op) {
            Some(line) => {
                let _ = writeln!(text, "  {line}");
            }
            None => {
                let _ = writeln!(text, "  #{op}");
            }
        }
    }
    text
}

fn cited<'a>(report: &Report, operations: &'a [Operation]) -> BTreeMap<u64, &'a Operation> {
    let shown = report.violations.iter().take(VIOLATIONS_SHOWN);
    let mut wanted: Vec<u64> = shown.flat_map(|v| v.operations.iter().copied()).collect();
    wanted.sort_unstable();
    let found = operations.iter().filter(|operation| wanted.binary_search(&operation.op).is_ok());
    found.map(|operation| (operation.op, operation)).collect()
}

/// An operation in a sentence, such as `put(a, 1) (#12, client 3, n2)`.
pub fn who(operation: &Operation) -> String {
    let Operation { op, client, member, .. } = operation;
    format!("{} (#{op}, client {client}, {member})", request(&operation.request))
}

/// One operation on one line: number, client, member, times, request, answer.
pub fn line(operation: &Operation) -> String {
    let returned = match operation.returned {
        Some(returned) => format!("to {}", ms(returned)),
        None => "never returned".to_owned(),
    };
    format!(
        "#{} client {} at {}, {} {returned}: {} → {}",
        operation.op,
        operation.client,
        operation.member,
        ms(operation.call),
        request(&operation.request),
        answer(operation)
    )
}

/// What the client was told.
pub fn answer(operation: &Operation) -> String {
    match (&operation.response, &operation.error) {
        // Some headers carry no revision.
        (Some(given), _) if given.revision == 0 => response(given).replacen(", ", "", 1),
        (Some(given), _) => format!("revision {}{}", given.revision, response(given)),
        (None, Some(error)) if operation.outcome == Outcome::Failed => {
            format!("refused: {}", error.message)
        }
        (None, Some(error)) => format!("unknown outcome: {}", error.message),
        (None, None) => "unknown outcome".to_owned(),
    }
}

/// A request as a client would write it, such as `put(a, 1)`.
pub fn request(request: &Request) -> String {
    match request {
        Request::Range(range) => range_text(range),
        Request::Put(put) => {
            let value =
                if put.ignore_value { "same value".to_owned() } else { value(&put.value.0) };
            let mut text = format!("put({}, {value}", put.key);
            if put.lease != 0 {
                let _ = write!(text, ", lease {}", put.lease);
            }
            push_flags(&mut text, &[(put.ignore_lease, "same lease"), (put.prev_kv, "prev_kv")]);
            text + ")"
        }
        Request::DeleteRange(delete) => {
            let mut text = format!("delete({}", span(&delete.key.0, &delete.range_end.0));
            push_flags(&mut text, &[(delete.prev_kv, "prev_kv")]);
            text + ")"
        }
        Request::Txn(txn) => {
            let list = |requests: &[Request]| {
                requests.iter().map(self::request).collect::<Vec<_>>().join("; ")
            };
            let compares: Vec<String> = txn.compare.iter().map(compare).collect();
            let mut text = format!(
                "txn(if {} then {{{}}}",
                if compares.is_empty() { "true".to_owned() } else { compares.join(" and ") },
                list(&txn.success)
            );
            if !txn.failure.is_empty() {
                let _ = write!(text, " else {{{}}}", list(&txn.failure));
            }
            text + ")"
        }
        Request::Compact { revision, physical } => {
            format!("compact({revision}{})", if *physical { ", physical" } else { "" })
        }
        other => services::request(other),
    }
}

fn range_text(range: &Range) -> String {
    let mut text = format!("get({}", span(&range.key.0, &range.range_end.0));
    let numbers = [
        ("revision", range.revision),
        ("limit", range.limit),
        ("min_mod", range.min_mod_revision),
        ("max_mod", range.max_mod_revision),
        ("min_create", range.min_create_revision),
        ("max_create", range.max_create_revision),
    ];
    for (name, number) in numbers.iter().filter(|(_, number)| *number != 0) {
        let _ = write!(text, ", {name} {number}");
    }
    if range.sort_order != SortOrder::None || range.sort_target != Default::default() {
        let _ = write!(text, ", sort {:?} {:?}", range.sort_target, range.sort_order);
    }
    let flags = [
        (range.serializable, "serializable"),
        (range.keys_only, "keys only"),
        (range.count_only, "count only"),
    ];
    push_flags(&mut text, &flags);
    text + ")"
}

fn push_flags(text: &mut String, flags: &[(bool, &str)]) {
    for (_, name) in flags.iter().filter(|(set, _)| *set) {
        let _ = write!(text, ", {name}");
    }
}

/// A key or a range of keys.
pub fn span(key: &[u8], end: &[u8]) -> String {
    let key = key.escape_ascii();
    match end {
        [] => format!("{key}"),
        [0] => format!("{key}…"),
        end => format!("{key}..{}", end.escape_ascii()),
    }
}

fn compare(compare: &Compare) -> String {
    let sign = match compare.result {
        CompareResult::Equal => "==",
        CompareResult::Greater => ">",
        CompareResult::Less => "<",
        CompareResult::NotEqual => "!=",
    };
    let key = span(&compare.key.0, &compare.range_end.0);
    match &compare.target {
        CompareTarget::Version(n) => format!("version({key}) {sign} {n}"),
        CompareTarget::Create(n) => format!("create({key}) {sign} {n}"),
        CompareTarget::Mod(n) => format!("mod({key}) {sign} {n}"),
        CompareTarget::Value(bytes) => format!("value({key}) {sign} {}", value(&bytes.0)),
        CompareTarget::Lease(n) => format!("lease({key}) {sign} {n}"),
    }
}

fn response(given: &Response) -> String {
    match &given.body {
        Body::Range { kvs, more, count } => {
            let mut text = format!(", count {count}");
            push_keys(&mut text, kvs);
            text + if *more { ", more" } else { "" }
        }
        Body::Put { prev_kv: Some(kv) } => format!(", before: {}", key_value(kv)),
        Body::Put { prev_kv: None } | Body::Compact {} => String::new(),
        Body::DeleteRange { deleted, prev_kvs } => {
            let mut text = format!(", deleted {deleted}");
            push_keys(&mut text, prev_kvs);
            text
        }
        Body::Txn { succeeded, responses } => {
            let mut text = format!(", succeeded {succeeded}");
            let inner: Vec<String> =
                responses.iter().map(|inner| response(inner).replacen(", ", "", 1)).collect();
            let shown: Vec<String> = inner.into_iter().filter(|one| !one.is_empty()).collect();
            if !shown.is_empty() {
                let _ = write!(text, " {{{}}}", shown.join("; "));
            }
            text
        }
        other => services::answer(other),
    }
}

fn push_keys(text: &mut String, kvs: &[KeyValue]) {
    for kv in kvs.iter().take(KEYS_SHOWN) {
        let _ = write!(text, ", {}", key_value(kv));
    }
    if kvs.len() > KEYS_SHOWN {
        let _ = write!(text, ", … {} keys in all", kvs.len());
    }
}

/// A key with its value and numbers, such as `a=1 (mod 5, create 2, version 3)`.
pub fn key_value(kv: &KeyValue) -> String {
    let mut text = format!(
        "{}={} (mod {}, create {}, version {}",
        kv.key,
        value(&kv.value.0),
        kv.mod_revision,
        kv.create_revision,
        kv.version
    );
    if kv.lease != 0 {
        let _ = write!(text, ", lease {}", kv.lease);
    }
    text + ")"
}

/// A value, cut where it is long.
pub fn value(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    if text.is_empty() {
        return "\"\"".to_owned();
    }
    if text.len() <= VALUE_CHARS {
        return text;
    }
    format!("{}… ({} bytes)", &text[..VALUE_CHARS], bytes.len())
}
