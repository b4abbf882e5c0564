//! Watches over a history that happened: slow ones, late ones, ones that start in the past or the future.
//!
//! What they record they were told by a server that keeps every promise.

use super::cluster::{Dice, Past, Shape, history_and_past};
use super::model::Model;
use crate::history::{
    Body, Bytes, Event, EventKind, KeyValue, Operation, Outcome, Request, Response, Watch,
    WatchMessage,
};

/// A history with so many watches in it, in the order of calls, with the store that it left behind.
pub(super) fn watched(seed: u64, shape: Shape, watches: u64) -> (Vec<Operation>, Model) {
    let (mut operations, past) = history_and_past(seed, shape);
    let mut dice = Dice(seed ^ 0xaaaa);
    for number in 0..watches {
        operations.push(watch(&mut dice, &past, shape, number));
    }
    operations.sort_by_key(|operation| operation.call);
    for (number, operation) in operations.iter_mut().enumerate() {
        operation.op = number as u64;
    }
    (operations, past.store)
}

fn watch(dice: &mut Dice, past: &Past, shape: Shape, number: u64) -> Operation {
    let call = dice.below(past.end + 1);
    // Some go on for long after everything has happened, and hear of it all.
    let returned = call + dice.below(past.end - call + 1) + dice.below(2) * 1_000 * past.pace_ns;
    let asked = asked(dice, past, shape, call);
    let mut teller = Teller { dice, past, asked: &asked, now: call, told: 0, messages: Vec::new() };
    teller.tell(returned);
    let body = Body::Watch { messages: teller.messages };
    Operation {
        op: 0,
        client: dice.below(shape.clients) as u32,
        user: None,
        member: format!("n{}", number % 3 + 1),
        call,
        returned: Some(returned),
        request: Request::Watch(asked),
        response: Some(Response { revision: 0, member_id: 0, raft_term: 0, body }),
        outcome: Outcome::Ok,
        error: None,
    }
}

fn asked(dice: &mut Dice, past: &Past, shape: Shape, call: u64) -> Watch {
    let key = |dice: &mut Dice| Bytes::from(format!("k{}", dice.below(shape.keys)).as_str());
    let newest = revision_at(past, call) as u64;
    Watch {
        key: key(dice),
        range_end: match dice.below(3) {
            0 => Bytes::default(),
            1 => Bytes(vec![0]),
            _ => key(dice),
        },
        start_revision: if dice.chance(50) { 1 + dice.below(newest + 3) as i64 } else { 0 },
        prev_kv: dice.chance(50),
        progress_notify: dice.chance(50),
        fragment: dice.chance(30),
        no_put: dice.chance(10),
        no_delete: dice.chance(10),
    }
}

/// The store's revision at a moment.
fn revision_at(past: &Past, at: u64) -> i64 {
    past.born.partition_point(|born| *born <= at) as i64 - 1
}

struct Teller<'t> {
    dice: &'t mut Dice,
    past: &'t Past,
    asked: &'t Watch,
    now: u64,
    /// Everything up to here has been told.
    told: i64,
    messages: Vec<WatchMessage>,
}

impl Teller<'_> {
    fn tell(&mut self, until: u64) {
        // At the pace of the history: one that takes a minute is not looked at every few microseconds.
        let pace_ns = self.past.pace_ns;
        self.now += self.dice.below(2 * pace_ns);
        if self.now > until {
            return;
        }
        // The member may lag behind.
        let newest = revision_at(self.past, self.now);
        let revision = (newest - self.dice.below(4) as i64).max(1);
        self.told =
            if self.asked.start_revision > 0 { self.asked.start_revision - 1 } else { revision };
        self.push(WatchMessage { revision, created: true, ..WatchMessage::default() });
        let mut shown = revision;
        loop {
            let steps = if self.now < self.past.end { 20 } else { 400 };
            self.now += self.dice.below(steps * pace_ns);
            if self.now > until || self.is_canceled(shown) {
                return;
            }
            let newest = revision_at(self.past, self.now);
            shown += self.dice.below((newest - shown) as u64 + 1) as i64;
            if shown > self.told {
                let events = self.events(shown);
                self.told = shown;
                self.send(events, shown, newest);
            }
            if self.dice.chance(30) {
                self.push(WatchMessage { revision: shown, ..WatchMessage::default() });
            }
        }
    }

    fn push(&mut self, message: WatchMessage) {
        self.messages.push(WatchMessage { at: self.now, ..message });
    }

    /// A watch that is behind a compaction may be ended.
    fn is_canceled(&mut self, shown: i64) -> bool {
        let next = self.told + 1;
        let cuts = self.past.cuts.iter().filter(|(at, _)| *at <= self.now);
        let Some(kept) = cuts.map(|(_, kept)| *kept).max().filter(|kept| *kept > next) else {
            return false;
        };
        if !self.dice.chance(50) {
            return false;
        }
        let (revision, compact_revision) = (shown.max(kept), kept);
        let canceled = true;
        self.push(WatchMessage { revision, canceled, compact_revision, ..WatchMessage::default() });
        true
    }

    fn events(&mut self, until: i64) -> Vec<Event> {
        let mut events = Vec::new();
        for revision in self.told + 1..=until {
            for (key, now, before) in self.past.store.changes(revision) {
                let kind = if now.is_some() { EventKind::Put } else { EventKind::Delete };
                let is_left_out = match kind {
                    EventKind::Put => self.asked.no_put,
                    EventKind::Delete => self.asked.no_delete,
                };
                if is_left_out || !covers(self.asked, &key) {
                    continue;
                }
                let gone = KeyValue { key, mod_revision: revision, ..KeyValue::default() };
                let is_kept = !self.is_forgotten(revision) || self.dice.chance(50);
                let prev_kv = before.filter(|_| self.asked.prev_kv && is_kept);
                events.push(Event { kind, kv: now.unwrap_or(gone), prev_kv });
            }
        }
        events
    }

    fn is_forgotten(&self, revision: i64) -> bool {
        self.past.cuts.iter().any(|(at, kept)| *at <= self.now && *kept >= revision)
    }

    /// In one message, in several that end with a revision, or in pieces.
    fn send(&mut self, events: Vec<Event>, shown: i64, newest: i64) {
        let header = shown + self.dice.below((newest - shown) as u64 + 1) as i64;
        let mut message = WatchMessage { revision: header, ..WatchMessage::default() };
        for event in events {
            let is_new = message
                .events
                .last()
                .is_some_and(|last: &Event| last.kv.mod_revision < event.kv.mod_revision);
            let may_break = !message.events.is_empty() && self.dice.chance(30);
            if may_break && (is_new || self.asked.fragment) {
                let fragment = !is_new || self.asked.fragment;
                self.push(WatchMessage { fragment, ..message.clone() });
                message.events.clear();
            }
            message.events.push(event);
        }
        if !message.events.is_empty() {
            self.push(message);
        }
    }
}

fn covers(asked: &Watch, key: &Bytes) -> bool {
    match asked.range_end.0.as_slice() {
        [] => *key == asked.key,
        [0] => *key >= asked.key,
        _ => *key >= asked.key && *key < asked.range_end,
    }
}
