//! What a watch was told, against what happened: made up, different, too early, or missing.

use std::collections::BTreeSet;

use super::stream::{Received, Stream, covers};
use super::{Fault, Rest, Told, event_text, message_text};
use crate::checker::Detail;
use crate::checker::etcd::log::{Change, Log};
use crate::checker::render::{self, ms};
use crate::history::{EventKind, KeyValue, Outcome};

/// Everything received against the change that it tells of.
pub(super) fn events(
    told: &Told<'_>,
    stream: &Stream<'_>,
    log: &Log<'_, '_>,
    faults: &mut Vec<Fault>,
) {
    for received in &stream.events {
        let (revision, event) = (received.revision(), received.event);
        let by = message_text(told, received.message);
        let start = format!("was told of {} in {by}", event_text(event));
        let at = told.messages[received.message].at;
        if let Some(writer) = log.writer(revision).filter(|writer| writer.call > at) {
            let end = format!("before {} was called at {}", render::who(writer), ms(writer.call));
            let sentence = format!("{start}, {end}");
            faults.push(Fault::new("watch-future", at, &[revision], sentence));
        }
        match log.change(revision, &event.kv.key.0) {
            Some(change) => content(told, received, change, log, faults),
            None if log.leaves_alone(revision, &event.kv.key.0) => {
                let end = match log.writer(revision) {
                    Some(writer) => {
                        format!(
                            "but that revision is {}, which does not touch it",
                            render::who(writer)
                        )
                    }
                    None => "but nobody made that revision".to_owned(),
                };
                let sentence = format!("{start}, {end}");
                faults.push(Fault::new("watch-reliable", at, &[revision], sentence));
            }
            None => {}
        }
    }
}

/// An event against its change, field by field.
fn content(
    told: &Told<'_>,
    received: &Received<'_>,
    change: &Change<'_>,
    log: &Log<'_, '_>,
    faults: &mut Vec<Fault>,
) {
    let event = received.event;
    let at = told.messages[received.message].at;
    let by = message_text(told, received.message);
    let start = format!("was told of {} in {by}", event_text(event));
    let is_put = change.now.is_alive();
    let mut say = |rule, end: String, details: Vec<Detail>| {
        let mut fault = Fault::new(
            rule,
            at,
            &[change.before.modified, change.revision],
            format!("{start}, {end}"),
        );
        fault.details = details;
        faults.push(fault);
    };
    if is_put != (event.kind == EventKind::Put) {
        if change.is_certain {
            let really = if is_put { "put" } else { "deleted" };
            say("watch-reliable", format!("but the key was {really} there"), Vec::new());
        }
        return;
    }
    if !change.is_exact {
        return;
    }
    let key = &event.kv.key;
    let kv = change.now.shown_as(&key.0).unwrap_or_else(|| KeyValue {
        key: key.clone(),
        mod_revision: change.revision,
        ..KeyValue::default()
    });
    let is_create = |kv: &KeyValue| kv.create_revision == kv.mod_revision;
    if is_put && is_create(&event.kv) != is_create(&kv) {
        let end = if change.before.is_alive() {
            format!(
                "which claims to create it, but it existed since revision {}",
                change.before.create
            )
        } else {
            format!(
                "with create revision {}, but it did not exist before",
                event.kv.create_revision
            )
        };
        say("watch-is-create", end, vec![differs("event", &kv, &event.kv)]);
    } else if event.kv != kv {
        let end = "but not as it was written".to_owned();
        say("watch-content", end, vec![differs("event", &kv, &event.kv)]);
    }
    let before = change.before.shown_as(&key.0);
    let wanted = before.filter(|_| told.asked.prev_kv);
    if event.prev_kv != wanted {
        let is_forgotten =
            event.prev_kv.is_none() && log.may_have_forgotten(change.revision - 1, at);
        if !is_forgotten {
            let text =
                |kv: &Option<KeyValue>| kv.as_ref().map_or("nothing".to_owned(), render::key_value);
            let (expected, actual) = (text(&wanted), text(&event.prev_kv));
            let what = "prev_kv".to_owned();
            let end = "with another state before it than there was".to_owned();
            say("watch-prev-kv", end, vec![Detail { what, expected, actual }]);
        }
    }
}

fn differs(what: &str, expected: &KeyValue, actual: &KeyValue) -> Detail {
    Detail {
        what: what.to_owned(),
        expected: render::key_value(expected),
        actual: render::key_value(actual),
    }
}

/// Everything that happened against what was received: nothing may be missing up to the last word.
pub(super) fn gaps(
    told: &Told<'_>,
    stream: &Stream<'_>,
    log: &Log<'_, '_>,
    faults: &mut Vec<Fault>,
) {
    let genuine = stream
        .events
        .iter()
        .filter(|received| !log.leaves_alone(received.revision(), &received.event.kv.key.0));
    let last = genuine.max_by_key(|received| received.revision());
    let cut = i64::from(stream.is_cut);
    let by_event = last.map(|last| (last.revision() - cut, last.message));
    let Some((until, by)) = by_event.into_iter().chain(stream.promised).max_by_key(|last| last.0)
    else {
        return;
    };
    let missing = missing(told, stream, log, until);
    let Some(change) = missing.first() else { return };
    let first_told = stream.events.iter().map(Received::revision).min();
    let is_late = told.asked.start_revision > 0 && first_told > Some(change.revision);
    let why = match stream.promised {
        Some((promised, number)) if number == by && promised >= until => {
            format!("though {} promised everything up to revision {until}", message_text(told, by))
        }
        _ => format!("though {} brought revision {until}", message_text(told, by)),
    };
    let (rule, at) =
        (if is_late { "watch-resumable" } else { "watch-reliable" }, told.messages[by].at);
    let asked = if is_late {
        format!("had asked for everything from revision {} on, but ", stream.first)
    } else {
        String::new()
    };
    let sentence = format!("{asked}was never told of {}, {why}", lost(log, &missing));
    faults.push(Fault {
        revisions: (change.revision, until),
        ..Fault::new(rule, at, &[change.revision], sentence)
    });
}

/// Watches that lived in peace must have been told all by the end.
pub(super) fn tail(
    told: &Told<'_>,
    stream: &Stream<'_>,
    log: &Log<'_, '_>,
    rest: &Rest,
    faults: &mut Vec<Fault>,
) {
    let is_open = told.operation.returned.is_none_or(|returned| returned >= rest.told_by_ns)
        && !told.messages.iter().any(|message| message.canceled);
    let is_created = told.messages.first().is_some_and(|message| message.created);
    if told.operation.call < rest.healed_ns || !is_open || !is_created {
        return;
    }
    let acknowledged = |revision: i64| {
        let writer = log.writer(revision).filter(|writer| writer.outcome == Outcome::Ok);
        writer.and_then(|writer| writer.returned).is_some_and(|returned| returned <= rest.quiet_ns)
    };
    let mut missing = missing(told, stream, log, log.last());
    missing.retain(|change| acknowledged(change.revision));
    let Some(change) = missing.first() else { return };
    let sentence = format!(
        "was by {} not told of {}, though nothing was broken from {} on",
        ms(rest.told_by_ns),
        lost(log, &missing),
        ms(rest.healed_ns)
    );
    faults.push(Fault::new("watch-tail", rest.told_by_ns, &[change.revision], sentence));
}

/// What happened for certain up to a revision, and was not told.
fn missing<'l, 'a>(
    told: &Told<'_>,
    stream: &Stream<'_>,
    log: &'l Log<'_, 'a>,
    until: i64,
) -> Vec<&'l Change<'a>> {
    let got: BTreeSet<(i64, &[u8])> = stream
        .events
        .iter()
        .map(|received| (received.revision(), received.event.kv.key.0.as_slice()))
        .collect();
    let is_wanted = |change: &Change<'_>| {
        let is_filtered =
            if change.now.is_alive() { told.asked.no_put } else { told.asked.no_delete };
        change.is_certain && !is_filtered && covers(told.asked, change.key)
    };
    let changes = log.between(stream.first, until).iter();
    changes
        .filter(|change| is_wanted(change) && !got.contains(&(change.revision, change.key)))
        .collect()
}

/// What was not told: the first, with its writer, and how many more.
fn lost(log: &Log<'_, '_>, missing: &[&Change<'_>]) -> String {
    let change = missing[0];
    let key = change.key.escape_ascii();
    let what = if change.now.is_alive() {
        format!("put {key}={} at revision {}", render::value(change.now.value), change.revision)
    } else {
        format!("delete {key} at revision {}", change.revision)
    };
    let by = log
        .writer(change.revision)
        .map_or(String::new(), |writer| format!(", made by {}", render::who(writer)));
    match missing.len() {
        1 => format!("{what}{by}"),
        2 => format!("{what}{by}, and of one later change"),
        all => format!("{what}{by}, and of {} later changes", all - 1),
    }
}
