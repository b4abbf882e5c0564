//! One pass over what a watch was told: everything that its messages show without knowing what was written.

use super::{Fault, Told, event_text, message_text};
use crate::checker::render;
use crate::history::{Event, EventKind, Watch};

/// An event with the number of the message that brought it.
#[derive(Clone, Copy)]
pub(super) struct Received<'a> {
    pub(super) event: &'a Event,
    pub(super) message: usize,
}

impl Received<'_> {
    pub(super) fn revision(&self) -> i64 {
        self.event.kv.mod_revision
    }
}

/// What one pass has gathered.
pub(super) struct Stream<'a> {
    /// First revision that the watch must be told of.
    pub(super) first: i64,
    /// Everything received, in the order of arrival.
    pub(super) events: Vec<Received<'a>>,
    /// The highest revision up to which a notification promised that everything had been told, and its message.
    pub(super) promised: Option<(i64, usize)>,
    /// The last revision may be incomplete: the pieces of its message did not all arrive.
    pub(super) is_cut: bool,
}

struct Pass<'t, 'a, 'f> {
    told: &'t Told<'a>,
    faults: &'f mut Vec<Fault>,
    stream: Stream<'a>,
    created: Option<usize>,
    canceled: Option<usize>,
    /// The message before goes on in this one.
    is_piece: bool,
    /// Where the events of the last message that brought any begin.
    last_begin: usize,
    /// The event with the highest revision so far.
    newest: Option<Received<'a>>,
    is_disordered: bool,
}

/// Goes through the messages.
pub(super) fn read<'a>(told: &Told<'a>, faults: &mut Vec<Fault>) -> Stream<'a> {
    let stream = Stream {
        first: first_revision(told),
        events: Vec::new(),
        promised: None,
        is_cut: told.messages.last().is_some_and(|message| message.fragment),
    };
    let mut pass = Pass {
        told,
        faults,
        stream,
        created: None,
        canceled: None,
        is_piece: false,
        last_begin: 0,
        newest: None,
        is_disordered: false,
    };
    for number in 0..told.messages.len() {
        pass.message(number);
    }
    pass.stream
}

/// The first revision that the watch must be told of.
fn first_revision(told: &Told<'_>) -> i64 {
    if told.asked.start_revision > 0 {
        return told.asked.start_revision;
    }
    // Histories of other recorders may begin without the message that says "created".
    match told.messages.first() {
        Some(message) if message.created || message.events.is_empty() => message.revision + 1,
        Some(message) => message.events[0].kv.mod_revision,
        None => 0,
    }
}

impl<'a> Pass<'_, 'a, '_> {
    fn fault(&mut self, rule: &'static str, number: usize, cited: &[i64], sentence: String) {
        self.faults.push(Fault::new(rule, self.told.messages[number].at, cited, sentence));
    }

    fn message(&mut self, number: usize) {
        let message = &self.told.messages[number];
        self.life(number);
        if let Some(newest) = message.events.iter().map(|event| event.kv.mod_revision).max()
            && newest > message.revision
        {
            let sentence = format!(
                "was told of revision {newest} in {}, whose header says that the store was at revision {}",
                message_text(self.told, number),
                message.revision
            );
            self.fault("watch-header", number, &[newest], sentence);
        }
        let begin = self.stream.events.len();
        if !self.is_piece && !message.events.is_empty() {
            self.atomic(number);
        }
        for event in &message.events {
            self.event(number, event);
        }
        if !message.events.is_empty() && !self.is_piece {
            self.last_begin = begin;
        }
        self.is_piece = message.fragment;
        if message.events.is_empty() && !message.created && !message.canceled && !message.fragment {
            self.progress(number);
        }
    }

    /// Created once and first, nothing after the end, and an end with a reason.
    fn life(&mut self, number: usize) {
        let message = &self.told.messages[number];
        let shown = message_text(self.told, number);
        if let Some(canceled) = self.canceled {
            let end = message_text(self.told, canceled);
            let sentence = format!("was canceled by {end}, but then got {shown}");
            self.fault("watch-canceled", number, &[], sentence);
        }
        if message.created {
            if let Some(before) = self.created {
                let before = message_text(self.told, before);
                let sentence = format!("was created twice, by {before} and by {shown}");
                self.fault("watch-canceled", number, &[], sentence);
            }
            self.created = Some(number);
        }
        if !message.canceled {
            return;
        }
        self.canceled = Some(number);
        let compacted = message.compact_revision;
        let told = self.newest.map_or(0, |newest| newest.revision());
        let promised = self.stream.promised.map_or(0, |(promised, _)| promised);
        let next = self.stream.first.max(told + 1).max(promised + 1);
        if compacted == 0 && message.cancel_reason.is_empty() {
            let sentence = format!("was canceled by {shown}, which gives no reason");
            self.fault("watch-canceled", number, &[], sentence);
        } else if compacted != 0 && compacted <= next {
            let sentence = format!(
                "was canceled by {shown} because of a compaction at revision {compacted}, which keeps all that was \
                 still to be told: everything from revision {next} on"
            );
            self.fault("watch-canceled", number, &[], sentence);
        }
    }

    /// A message must not go on where the one before has stopped.
    fn atomic(&mut self, number: usize) {
        let first = &self.told.messages[number].events[0];
        let Some(last) = self.stream.events.last() else { return };
        let revision = first.kv.mod_revision;
        let is_repeated = self.stream.events[self.last_begin..].iter().any(|received| {
            received.revision() == revision && received.event.kv.key == first.kv.key
        });
        if last.revision() != revision || is_repeated {
            return;
        }
        let sentence = format!(
            "was told of revision {revision} in two parts, {} in {} and {} in {}, which are not pieces of one message",
            last.event.kv.key,
            message_text(self.told, last.message),
            first.kv.key,
            message_text(self.told, number),
        );
        self.fault("watch-atomic", number, &[revision], sentence);
    }

    fn event(&mut self, number: usize, event: &'a Event) {
        let revision = event.kv.mod_revision;
        let told =
            format!("was told of {} in {}", event_text(event), message_text(self.told, number));
        if let Some(why) = unasked(self.told.asked, event) {
            self.fault("watch-filter", number, &[revision], format!("{told}, but {why}"));
        }
        self.not_older(number, revision, &told);
        if let Some((promised, by)) =
            self.stream.promised.filter(|(promised, _)| revision <= *promised)
        {
            let sentence = format!(
                "{told}, after {} had promised that everything up to revision {promised} had been told",
                message_text(self.told, by)
            );
            self.fault("watch-bookmarkable", number, &[revision], sentence);
        }
        let received = Received { event, message: number };
        if self.newest.is_none_or(|newest| newest.revision() < revision) {
            self.newest = Some(received);
        } else {
            self.not_newer(received, &told);
        }
        self.stream.events.push(received);
    }

    /// An event at the newest revision told, or at an older one.
    fn not_newer(&mut self, received: Received<'a>, told: &str) {
        let revision = received.revision();
        let newest = self.newest.filter(|newest| newest.revision() > revision);
        // Once out of order, a search through everything each time would say nothing new.
        if newest.is_some() && self.is_disordered {
            return;
        }
        let recent = self.stream.events.iter().rev();
        let twice = recent
            .take_while(|other| newest.is_some() || other.revision() == revision)
            .find(|other| {
                other.revision() == revision && other.event.kv.key == received.event.kv.key
            })
            .copied();
        if let Some(before) = twice {
            let by = message_text(self.told, before.message);
            let sentence = format!("{told}, and had been told of that key and revision by {by}");
            self.fault("watch-unique", received.message, &[revision], sentence);
        } else if let Some(newest) = newest {
            let sentence = format!(
                "{told}, after it had been told of {} by {}",
                event_text(newest.event),
                message_text(self.told, newest.message)
            );
            let cited = [revision, newest.revision()];
            self.fault("watch-ordered", received.message, &cited, sentence);
            self.is_disordered = true;
        }
    }

    /// Nothing from before the start.
    fn not_older(&mut self, number: usize, revision: i64, told: &str) {
        let first = self.stream.first;
        if revision >= first {
            return;
        }
        let why = match self.told.asked.start_revision {
            0 => format!("was created when the store was at revision {}", first - 1),
            start => format!("had asked for everything from revision {start} on"),
        };
        self.fault("watch-resumable", number, &[revision], format!("{told}, but {why}"));
    }

    fn progress(&mut self, number: usize) {
        let revision = self.told.messages[number].revision;
        let promise = format!(
            "was promised by {} that everything up to revision {revision} had been told",
            message_text(self.told, number)
        );
        if let Some((before, by)) = self.stream.promised.filter(|(before, _)| revision < *before) {
            let by = message_text(self.told, by);
            let sentence = format!("{promise}, after {by} had promised so up to revision {before}");
            self.fault("watch-bookmarkable", number, &[revision, before], sentence);
            return;
        }
        if let Some(newest) = self.newest.filter(|newest| newest.revision() > revision) {
            let sentence = format!(
                "{promise}, after it had been told of {} by {}",
                event_text(newest.event),
                message_text(self.told, newest.message)
            );
            self.fault("watch-bookmarkable", number, &[revision, newest.revision()], sentence);
        }
        self.stream.promised = Some((revision, number));
    }
}

/// Why an event is none that was asked for.
fn unasked(asked: &Watch, event: &Event) -> Option<String> {
    let span = render::span(&asked.key.0, &asked.range_end.0);
    match event.kind {
        _ if !covers(asked, &event.kv.key.0) => Some(format!("had asked for {span} alone")),
        EventKind::Put if asked.no_put => Some("had asked for no puts".to_owned()),
        EventKind::Delete if asked.no_delete => Some("had asked for no deletes".to_owned()),
        _ => None,
    }
}

/// Whether a key is watched.
pub(super) fn covers(asked: &Watch, key: &[u8]) -> bool {
    let first = asked.key.0.as_slice();
    match asked.range_end.0.as_slice() {
        [] => key == first,
        [0] => key >= first,
        end => key >= first && key < end,
    }
}
