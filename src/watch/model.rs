//! Random lives of watchers against a plain list of everything that happened.
//!
//! The feed is heard late or in parts, queues are short, readers slow, history is read in small pieces
//! and compacted meanwhile. Whatever the order: each watcher hears exactly what a list of all changes
//! says, or that it was compacted; progress never runs ahead; and in the end everybody knows everything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use super::groups::{Groups, Outlets, Spec};
use super::interest::Keys;
use super::news::{Batch, News};
use crate::proto::mvccpb::KeyValue;
use crate::state::{Change, Revision};

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// A watch of a key, or of a range, from a revision relative to the current one.
    Create {
        stream: u64,
        key: u8,
        end: u8,
        start: Option<i64>,
        filter: u8,
        notify: bool,
    },
    Cancel {
        nth: usize,
    },
    Close {
        stream: u64,
    },
    /// Some revisions of changes (key, whether it is deleted); the slice may not fit into the feed.
    Write {
        revisions: Vec<Vec<(u8, bool)>>,
        fits: bool,
    },
    /// Slices are heard.
    Hear {
        count: usize,
    },
    /// A snapshot was installed: revisions that no slice tells of.
    Install {
        revisions: Vec<Vec<(u8, bool)>>,
    },
    CatchUp {
        changes_max: usize,
        watchers_max: usize,
    },
    Compact {
        back: i64,
    },
    Read {
        stream: u64,
        count: usize,
    },
    NotifyProgress,
    AskProgress {
        stream: u64,
    },
}

fn revisions() -> impl Strategy<Value = Vec<Vec<(u8, bool)>>> {
    prop::collection::vec(prop::collection::vec((0..6_u8, any::<bool>()), 1..4), 1..4)
}

fn step() -> impl Strategy<Value = Step> {
    let start = prop_oneof![2 => Just(None), 3 => (-12..4_i64).prop_map(Some)];
    let stream = 0..3_u64;
    prop_oneof![
        4 => (stream.clone(), 0..6_u8, 0..9_u8, start, 0..5_u8, any::<bool>()).prop_map(
            |(stream, key, end, start, filter, notify)| Step::Create {
                stream, key, end, start, filter, notify
            }
        ),
        1 => (0..20_usize).prop_map(|nth| Step::Cancel { nth }),
        1 => stream.clone().prop_map(|stream| Step::Close { stream }),
        8 => (revisions(), prop::bool::weighted(0.8)).prop_map(
            |(revisions, fits)| Step::Write { revisions, fits }
        ),
        8 => (1..4_usize).prop_map(|count| Step::Hear { count }),
        1 => revisions().prop_map(|revisions| Step::Install { revisions }),
        8 => (1..6_usize, 1..4_usize).prop_map(
            |(changes_max, watchers_max)| Step::CatchUp { changes_max, watchers_max }
        ),
        2 => (0..12_i64).prop_map(|back| Step::Compact { back }),
        8 => (stream.clone(), 1..5_usize).prop_map(|(stream, count)| Step::Read { stream, count }),
        2 => Just(Step::NotifyProgress),
        2 => stream.prop_map(|stream| Step::AskProgress { stream }),
    ]
}

proptest! {
    #![proptest_config(Config {
        cases: 600,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..Config::default()
    })]

    /// Each watcher hears everything about its keys once, in order, and nothing else.
    #[test]
    fn everybody_hears_everything(
        steps in prop::collection::vec(step(), 1..80),
        capacity in 1..4_usize,
    ) {
        let mut world = World::new(capacity);
        steps.into_iter().for_each(|step| world.step(step));
        world.settle();
        for (id, client) in &world.clients {
            let missing = world.missing(client, i64::MAX);
            prop_assert!(
                client.is_over || missing.is_empty(),
                "watcher {id} never heard of {missing:?}"
            );
        }
        prop_assert_eq!(world.told_progress(), world.reached_streams());
    }
}

/// What a client knows of its watch.
#[derive(Debug)]
struct Client {
    stream: u64,
    spec: Spec,
    /// The first revision that it should hear of.
    from: i64,
    heard: usize,
    /// Everything up to here it was told.
    told: i64,
    is_over: bool,
}

#[derive(Default)]
struct Queues {
    capacity: usize,
    queues: BTreeMap<u64, VecDeque<News>>,
    starved: BTreeSet<u64>,
}

impl Outlets for Queues {
    fn offer(&mut self, stream: u64, news: News) -> bool {
        let queue = self.queues.entry(stream).or_default();
        let fits = queue.len() < self.capacity;
        if fits {
            queue.push_back(news);
        } else {
            self.starved.insert(stream);
        }
        fits
    }
}

struct World {
    groups: Groups,
    out: Queues,
    clients: BTreeMap<u64, Client>,
    history: Vec<Change>,
    current: i64,
    compact: i64,
    feed: VecDeque<(i64, i64, Vec<Change>)>,
    missed: bool,
}

impl World {
    fn new(capacity: usize) -> Self {
        Self {
            groups: Groups::new(1),
            out: Queues { capacity, ..Queues::default() },
            clients: BTreeMap::new(),
            history: Vec::new(),
            current: 1,
            compact: -1,
            feed: VecDeque::new(),
            missed: false,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Create { stream, key, end, start, filter, notify } => {
                self.create(stream, (key, end), start, filter, notify);
            }
            Step::Cancel { nth } => {
                if let Some((&id, client)) = self.clients.iter_mut().nth(nth) {
                    client.is_over = true;
                    self.groups.cancel(id);
                }
            }
            Step::Close { stream } => {
                self.groups.close(stream);
                self.out.queues.remove(&stream);
                self.out.starved.remove(&stream);
                self.clients
                    .values_mut()
                    .filter(|client| client.stream == stream)
                    .for_each(|client| client.is_over = true);
            }
            Step::Write { revisions, fits } => {
                let from = self.current;
                let changes = self.write(revisions);
                // To nobody nothing is said.
                let is_watched = self.groups.len() > 0;
                self.missed = is_watched && !fits;
                if is_watched && fits {
                    self.feed.push_back((from, self.current, changes));
                }
            }
            Step::Install { revisions } => {
                self.write(revisions);
                if self.groups.len() > 0 {
                    self.feed.push_back((self.current, self.current, Vec::new()));
                }
                self.missed = false;
            }
            Step::Hear { count } => (0..count).for_each(|_| self.hear()),
            Step::CatchUp { changes_max, watchers_max } => {
                self.catch_up(changes_max, watchers_max);
            }
            Step::Compact { back } => self.compact = self.compact.max(self.current - back),
            Step::Read { stream, count } => (0..count).for_each(|_| self.read(stream)),
            Step::NotifyProgress => self.groups.notify_progress(&mut self.out),
            Step::AskProgress { stream } => self.groups.ask_progress(stream, &mut self.out),
        }
    }

    fn create(
        &mut self,
        stream: u64,
        (key, end): (u8, u8),
        start: Option<i64>,
        filter: u8,
        notify: bool,
    ) {
        let name = |key: u8| Bytes::copy_from_slice(&[b'a' + key]);
        let range_end = match end {
            0..6 => name(end),
            6 => Bytes::from_static(b"\0"),
            _ => Bytes::new(),
        };
        let Some(keys) = Keys::new(&name(key), &range_end) else { return };
        let start_revision = start.map_or(0, |offset| (self.current + offset).max(1));
        let (no_put, no_delete) = (filter == 1, filter == 2);
        let spec = Spec { keys, start_revision, no_put, no_delete, progress_notify: notify };
        let id = self.groups.create(stream, spec.clone(), self.current);
        let from = if start_revision == 0 { self.current + 1 } else { start_revision };
        let client = Client { stream, spec, from, heard: 0, told: from - 1, is_over: false };
        self.clients.insert(id, client);
    }

    fn write(&mut self, revisions: Vec<Vec<(u8, bool)>>) -> Vec<Change> {
        let mut changes = Vec::new();
        for keys in revisions {
            self.current += 1;
            for (sub, (key, is_delete)) in (0..).zip(keys) {
                let revision = Revision { main: self.current, sub };
                let key = Bytes::copy_from_slice(&[b'a' + key]);
                let kv = KeyValue { key, mod_revision: self.current, ..KeyValue::default() };
                changes.push(Change { revision, is_delete, kv });
            }
        }
        self.history.extend(changes.iter().cloned());
        changes
    }

    fn hear(&mut self) {
        if let Some((from, to, changes)) = self.feed.pop_front() {
            self.groups.changed(from, to, &Arc::new(Batch::new(changes)), &mut self.out);
        }
    }

    fn catch_up(&mut self, changes_max: usize, watchers_max: usize) {
        self.groups.compacted(self.compact, self.current, &mut self.out);
        let Some(from) = self.groups.next_piece() else { return };
        assert!(from <= self.current, "revision {from} is not there yet");
        let mut changes: Vec<Change> = Vec::new();
        let mut to = self.current;
        for change in self.history.iter().filter(|change| change.revision.main >= from) {
            let last = changes.last().map_or(0, |change| change.revision.main);
            if changes.len() >= changes_max && change.revision.main > last {
                to = last;
                break;
            }
            changes.push(change.clone());
        }
        let batch = Arc::new(Batch::new(changes));
        self.groups.caught_up((from, to), self.current, &batch, watchers_max, &mut self.out);
    }

    /// What a client should have heard up to a revision, and has not.
    fn missing(&self, client: &Client, to: i64) -> Vec<&Change> {
        let mut interest = super::interest::Interest::default();
        interest.insert(&client.spec.keys, 0);
        let concerns = |change: &&Change| {
            let filtered =
                if change.is_delete { client.spec.no_delete } else { client.spec.no_put };
            let mut watched = false;
            interest.visit(&change.kv.key, |_| watched = true);
            watched && !filtered && (client.from..=to).contains(&change.revision.main)
        };
        self.history.iter().filter(concerns).skip(client.heard).collect()
    }

    fn read(&mut self, stream: u64) {
        let Some(news) = self.out.queues.get_mut(&stream).and_then(VecDeque::pop_front) else {
            return;
        };
        match news {
            News::Events { watcher, batch, picks, revision } => {
                let client = &self.clients[&watcher];
                assert_eq!(client.stream, stream);
                if !client.is_over {
                    let told: Vec<&Change> =
                        picks.iter().map(|pick| &batch.changes()[*pick as usize]).collect();
                    assert_eq!(
                        told,
                        self.missing(client, revision),
                        "up to {revision}: {client:?}"
                    );
                    assert!(!told.is_empty() && revision > client.told, "{client:?}");
                    let (count, client) = (told.len(), self.clients.get_mut(&watcher).unwrap());
                    (client.heard, client.told) = (client.heard + count, revision);
                }
            }
            News::Progress { watcher, revision } => {
                let client = &self.clients[&watcher];
                if !client.is_over {
                    assert!(self.missing(client, revision).is_empty(), "{revision}: {client:?}");
                    assert!(revision >= client.told, "{revision}: {client:?}");
                    assert!(revision >= client.spec.start_revision, "{revision}: {client:?}");
                }
            }
            News::AllProgress { before, revision } => {
                let here = |client: &&Client| client.stream == stream && !client.is_over;
                // Whoever serves the stream does not say it while there are younger watches.
                let old = self.clients.range(..before).map(|(_, client)| client);
                for client in old.filter(here) {
                    assert!(self.missing(client, revision).is_empty(), "{revision}: {client:?}");
                    assert!(revision >= client.spec.start_revision, "{revision}: {client:?}");
                }
            }
            News::Compacted { watcher, compact_revision, .. } => {
                let client = self.clients.get_mut(&watcher).unwrap();
                assert!(client.is_over || client.told + 1 < compact_revision, "{client:?}");
                client.is_over = true;
            }
        }
        if self.out.queues[&stream].len() <= self.out.capacity / 2
            && self.out.starved.remove(&stream)
        {
            self.groups.has_room(stream, &mut self.out);
        }
    }

    /// Streams with watchers, all of which want something that has happened.
    fn reached_streams(&self) -> BTreeSet<u64> {
        let live = || self.clients.values().filter(|client| !client.is_over);
        let ahead = |stream: u64| {
            live()
                .any(|client| client.stream == stream && client.spec.start_revision > self.current)
        };
        live().map(|client| client.stream).filter(|stream| !ahead(*stream)).collect()
    }

    /// Streams that are told of the current revision when they ask for it, after all is settled.
    fn told_progress(&mut self) -> BTreeSet<u64> {
        let now = self.current;
        (0..3).for_each(|stream| self.groups.ask_progress(stream, &mut self.out));
        let told = self.out.queues.iter().filter(|(_, queue)| {
            let last = queue.back();
            matches!(last, Some(News::AllProgress { revision, .. }) if *revision == now)
        });
        told.map(|(stream, _)| *stream).collect()
    }

    /// Everything that can still happen by itself.
    fn settle(&mut self) {
        if std::mem::take(&mut self.missed) {
            self.feed.push_back((self.current, self.current, Vec::new()));
        }
        while !self.feed.is_empty() {
            self.hear();
        }
        for round in 0.. {
            assert!(round < 10_000, "it goes on for ever: {:?}", self.groups);
            self.catch_up(3, 2);
            (0..3).for_each(|stream| (0..4).for_each(|_| self.read(stream)));
            let queued = self.out.queues.values().any(|queue| !queue.is_empty());
            if !queued && self.groups.next_piece().is_none() && self.out.starved.is_empty() {
                return;
            }
        }
    }
}
