//! What happens to each message of one directed link.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::{Message, MessageType};
use snowglobe::proto::peer::{Frame, SnapshotChunk};
use snowglobe::raft::sealed;

use super::{LATE_MAX, Meddling, Meeting, Rule};
use crate::dice::Dice;
use crate::messages::MessageKind;

/// Cluster, sender and receiver by their ids.
pub(super) type Route = (u64, u64, u64);

/// The route that a frame says it has.
pub(super) fn route(frame: &Frame) -> Route {
    (frame.cluster_id, frame.from, frame.to)
}

/// How late a message can be, at most, in nanoseconds: a few others, a round trip, a heartbeat, an election.
const LATE_NS: &[u64] = &[200_000, 3_000_000, 100_000_000, 600_000_000, 3_000_000_000];

/// A sleep that something else ends.
const NEVER_NS: u64 = u64::MAX;

/// Attempts to turn over a bit such that what is left is still a frame: nearly each does.
const DAMAGE_ATTEMPTS: u32 = 64;

/// See the module.
pub(super) struct Link {
    names: [Arc<str>; 2],
    dice: Dice,
    rules: BTreeMap<u32, Rule>,
    /// By the rule that holds them.
    held: BTreeMap<u32, Vec<Late>>,
    /// By the time at which they are due, then by the order in which they became late.
    late: BTreeMap<(u64, u64), Late>,
    /// How many messages became late.
    order: u64,
    /// How many messages have passed.
    passed: u64,
    /// The number of the newest stream.
    stream: u64,
}

/// A message that others overtake.
struct Late {
    route: Route,
    bytes: Bytes,
    seen: Seen,
    is_held: bool,
    is_copy: bool,
    /// How many had passed when it came, and in which stream it came.
    passed: u64,
    stream: u64,
}

/// What is known of a message.
#[derive(Clone, Copy)]
struct Seen {
    kind: Option<MessageKind>,
    term: u64,
    index: u64,
}

impl Seen {
    fn new(bytes: &Bytes) -> Self {
        let parsed: Result<Message, _> = protobuf::Message::parse_from_carllerche_bytes(bytes);
        let Ok(message) = parsed else { return Self { kind: None, term: 0, index: 0 } };
        let kind = MessageKind::of(message.get_msg_type());
        // Who asks whether it would be voted for names a term that nobody is in yet.
        let term = match message.get_msg_type() {
            MessageType::MsgRequestPreVote | MessageType::MsgRequestPreVoteResponse => 0,
            _ => message.term,
        };
        Self { kind, term, index: message.index }
    }
}

impl Link {
    /// From one name to another; no rule yet.
    pub(super) fn new(names: [Arc<str>; 2], dice: Dice) -> Self {
        Self {
            names,
            dice,
            rules: BTreeMap::new(),
            held: BTreeMap::new(),
            late: BTreeMap::new(),
            order: 0,
            passed: 0,
            stream: 0,
        }
    }

    pub(super) fn begin(&mut self, id: u32, rule: Rule) {
        self.rules.insert(id, rule);
    }

    /// The numbers of all rules that are in force.
    pub(super) fn rules(&self) -> impl Iterator<Item = &u32> {
        self.rules.keys()
    }

    pub(super) fn end(&mut self, id: u32, now_ns: u64) {
        self.rules.remove(&id);
        for late in self.held.remove(&id).unwrap_or_default() {
            self.put_off(now_ns, late);
        }
    }

    /// The number of a stream that begins.
    pub(super) fn open(&mut self) -> u64 {
        self.stream += 1;
        self.stream
    }

    fn put_off(&mut self, due_ns: u64, late: Late) {
        self.order += 1;
        self.late.insert((due_ns, self.order), late);
    }

    /// The oldest rule that hits a message of this kind.
    fn verdict(&mut self, kind: Option<MessageKind>) -> Option<(u32, Meddling)> {
        for (id, rule) in &self.rules {
            let is_about = rule.kind.is_none() || rule.kind == kind;
            let is_possible = match rule.what {
                Meddling::Repeat => kind != Some(MessageKind::Propose),
                Meddling::Hold => kind != Some(MessageKind::Snapshot),
                Meddling::Lose | Meddling::Reorder | Meddling::Corrupt => true,
            };
            if is_about && is_possible && self.dice.below(rule.one_in) == 0 {
                return Some((*id, rule.what));
            }
        }
        None
    }

    fn note(&self, what: &'static str, seen: Seen, meeting: &Meeting<'_>) {
        let kind = seen.kind.map_or(u64::MAX, |kind| kind as u64);
        let numbers = [("kind", kind), ("term", seen.term), ("index", seen.index)];
        meeting.world.note(what, &self.names[0], &self.names[1], &numbers);
        meeting.world.count(what, 1);
    }

    /// What of a frame goes on at once.
    pub(super) fn meet(&mut self, mut frame: Frame, meeting: &mut Meeting<'_>) -> Option<Frame> {
        let route = route(&frame);
        let (mut is_changed, mut to_damage) = (false, None);
        let mut kept = Vec::with_capacity(frame.messages.len());
        for bytes in std::mem::take(&mut frame.messages) {
            let seen = Seen::new(&bytes);
            *meeting.term = seen.term.max(*meeting.term);
            let Some((rule, what)) = self.verdict(seen.kind) else {
                kept.push(bytes);
                continue;
            };
            match what {
                Meddling::Corrupt => {
                    to_damage = Some(seen);
                    kept.push(bytes);
                }
                Meddling::Repeat => {
                    kept.push(bytes.clone());
                    self.delay(rule, what, (route, bytes, seen), meeting);
                }
                Meddling::Lose | Meddling::Reorder | Meddling::Hold => {
                    is_changed = true;
                    self.delay(rule, what, (route, bytes, seen), meeting);
                }
            }
        }
        self.passed += kept.len() as u64;
        frame.messages = kept;
        if frame.messages.is_empty() {
            return None;
        }
        let frame = if is_changed { sealed(frame) } else { frame };
        let Some(seen) = to_damage else { return Some(frame) };
        let damaged = damage(&frame, &mut self.dice);
        let what = if damaged.is_some() { "message.corrupted" } else { "message.lost" };
        self.note(what, seen, meeting);
        damaged
    }

    /// A message does not go on now; where it is lost it never does.
    fn delay(
        &mut self,
        rule: u32,
        what: Meddling,
        (route, bytes, seen): (Route, Bytes, Seen),
        meeting: &Meeting<'_>,
    ) {
        let held: usize = self.held.values().map(Vec::len).sum();
        if what == Meddling::Lose || held + self.late.len() >= LATE_MAX {
            return self.note("message.lost", seen, meeting);
        }
        let (is_held, is_copy) = (what == Meddling::Hold, what == Meddling::Repeat);
        let (passed, stream) = (self.passed, self.stream);
        let late = Late { route, bytes, seen, is_held, is_copy, passed, stream };
        if is_held {
            self.note("message.held", seen, meeting);
            self.held.entry(rule).or_default().push(late);
            return;
        }
        let longest_ns = *self.dice.pick(LATE_NS);
        let due_ns = meeting.world.now_ns() + self.dice.within(0, longest_ns);
        self.put_off(due_ns, late);
    }

    /// A late message that is due, for the newest stream; or when there may be one.
    pub(super) fn late(
        &mut self,
        stream: u64,
        route: Route,
        meeting: &Meeting<'_>,
    ) -> Result<Bytes, u64> {
        while stream == self.stream {
            let Some(first) = self.late.first_entry() else { return Err(NEVER_NS) };
            let (due_ns, _) = *first.key();
            if due_ns > meeting.world.now_ns() {
                return Err(due_ns);
            }
            let late = first.remove();
            if late.route == route {
                self.arrives(&late, meeting);
                return Ok(late.bytes);
            }
            self.note("message.lost", late.seen, meeting);
        }
        Err(NEVER_NS)
    }

    /// Counts what is special about the arrival of a late message.
    fn arrives(&mut self, late: &Late, meeting: &Meeting<'_>) {
        let is_overtaken = self.passed > late.passed + u64::from(late.is_copy);
        let is_of_the_past = late.seen.term != 0 && late.seen.term < *meeting.term;
        let happened = [
            ("message.repeated", late.is_copy),
            ("message.reordered", is_overtaken && !late.is_copy),
            ("message.held_past_a_term", late.is_held && is_of_the_past),
            ("message.late_from_an_old_term", !late.is_held && is_of_the_past),
            ("message.late_from_an_old_stream", late.stream != self.stream),
        ];
        for (what, _) in happened.iter().filter(|(_, happened)| *happened) {
            self.note(what, late.seen, meeting);
        }
        self.passed += 1;
    }

    /// What of a piece of a snapshot goes on at once; `waiting`: a piece that the next one is to overtake.
    pub(super) fn meet_chunk(
        &mut self,
        chunk: SnapshotChunk,
        waiting: &mut Option<SnapshotChunk>,
        meeting: &Meeting<'_>,
    ) -> Vec<SnapshotChunk> {
        let seen = Seen { kind: Some(MessageKind::Snapshot), term: 0, index: 0 };
        let overtaken = waiting.take();
        let verdict = self.verdict(seen.kind).map(|(_, what)| what);
        let mut passes = match verdict {
            None | Some(Meddling::Hold) => vec![chunk],
            Some(Meddling::Lose) => vec![],
            Some(Meddling::Repeat) => vec![chunk.clone(), chunk],
            Some(Meddling::Corrupt) => damage(&chunk, &mut self.dice).into_iter().collect(),
            Some(Meddling::Reorder) if overtaken.is_none() && !chunk.last => {
                *waiting = Some(chunk);
                vec![]
            }
            Some(Meddling::Reorder) => vec![chunk],
        };
        if overtaken.is_some() {
            self.note("message.snapshot_reordered", seen, meeting);
        }
        passes.extend(overtaken);
        match verdict {
            Some(Meddling::Lose) => self.note("message.snapshot_lost", seen, meeting),
            Some(Meddling::Repeat) => self.note("message.snapshot_repeated", seen, meeting),
            Some(Meddling::Corrupt) => self.note("message.snapshot_corrupted", seen, meeting),
            _ => {}
        }
        passes
    }
}

/// What is left of something on the wire when one bit is turned over, and can still be read.
fn damage<T: prost::Message + Default + PartialEq>(whole: &T, dice: &mut Dice) -> Option<T> {
    let bytes = whole.encode_to_vec();
    for _ in 0..DAMAGE_ATTEMPTS {
        let mut damaged = bytes.clone();
        let bit = dice.below(bytes.len() as u64 * 8) as usize;
        damaged[bit / 8] ^= 1 << (bit % 8);
        match T::decode(damaged.as_slice()) {
            Ok(damaged) if damaged != *whole => return Some(damaged),
            _ => {}
        }
    }
    None
}
