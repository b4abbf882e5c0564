//! One `Ready` of raft-rs, carried out in the order that raft demands (see the table in [`super`]).

use std::time::Duration;

use raft::eraftpb::{ConfChangeV2, ConfState, Entry, EntryType, Message, MessageType};
use raft::{SnapshotStatus, StateRole};

use super::log::Place;
use super::node::{Event, Node};
use super::snapshot;
use super::transport::Route;
use crate::error::{Error, Result};
use crate::proto::etcdserverpb::InternalRaftRequest;
use crate::state;
use crate::wal::{self, HardState, Mark, SnapshotMeta};
use prost::Message as _;
use protobuf::Message as _;

impl Node {
    /// Takes the next `Ready` and carries it out.
    pub(super) async fn on_ready(&mut self) -> Result<()> {
        let mut ready = self.raw.ready();
        let hard_state =
            ready.hs().map(|hs| HardState { term: hs.term, vote: hs.vote, commit: hs.commit });
        // A leader's messages may leave while its own log is being written (raft thesis 10.2.1): it counts
        // itself only after the sync. That holds only for a term and a vote that are durable: a member that
        // elects itself alone must not speak in a term that a crash could give to it twice.
        let durable =
            |hs: HardState| (hs.term, hs.vote) == (self.hard_state.term, self.hard_state.vote);
        let messages = ready.take_messages();
        let late = if hard_state.is_none_or(durable) {
            self.send(messages)?;
            Vec::new()
        } else {
            messages
        };
        if !ready.snapshot().is_empty() {
            self.install(ready.snapshot().get_metadata().clone()).await?;
        }
        self.persist(ready.take_entries(), hard_state)?;
        if ready.must_sync() {
            self.sync().await?;
        }
        assert!(!self.unsynced, "about to speak of entries, a term or a vote that are not durable");
        self.send(late)?;
        self.send(ready.take_persisted_messages())?;
        self.apply(ready.take_committed_entries())?;
        for read in ready.take_read_states() {
            self.reads.confirm(&read.request_ctx, read.index);
        }
        let mut light = self.raw.advance_append(ready);
        if let Some(commit) = light.commit_index() {
            let hard_state = HardState { commit, ..self.hard_state };
            self.persist(Vec::new(), Some(hard_state))?;
        }
        self.send(light.take_messages())?;
        self.apply(light.take_committed_entries())?;
        self.raw.advance_apply();
        Ok(())
    }

    /// Appends entries and hard state to the log in one write, and to what raft reads.
    fn persist(&mut self, entries: Vec<Entry>, hard_state: Option<HardState>) -> Result<()> {
        self.unsynced |= !entries.is_empty();
        if let Some(new) = hard_state {
            let old = self.hard_state;
            self.unsynced |= (new.term, new.vote) != (old.term, old.vote);
            assert!(new.term >= old.term, "the term goes back: {old:?} then {new:?}");
            assert!(new.commit >= old.commit, "the commit index goes back: {old:?} then {new:?}");
            self.hard_state = new;
        }
        self.wal.append(&records(&entries)?, hard_state)?;
        self.raw.mut_store().append(entries);
        Ok(())
    }

    /// Makes everything appended to the log durable. Only here does a promise become one.
    async fn sync(&mut self) -> Result<()> {
        self.wal.sync().await?;
        self.unsynced = false;
        Ok(())
    }

    /// Hands messages to the transport. What is dropped is reported to raft by [`Node::report`].
    fn send(&mut self, messages: Vec<Message>) -> Result<()> {
        for message in messages {
            let (to, kind) = (message.to, message.get_msg_type());
            if kind == MessageType::MsgSnapshot {
                self.send_snapshot(message)?;
            } else if !self.transport.send(message) && kind == MessageType::MsgAppend {
                self.unreachable.insert(to);
            }
        }
        Ok(())
    }

    /// Tells raft what did not get through; not before it has advanced past the `Ready`.
    pub(super) fn report(&mut self) {
        while let Some(id) = self.unreachable.pop_first() {
            self.raw.report_unreachable(id);
        }
        for id in std::mem::take(&mut self.snapshots_failed) {
            self.raw.report_snapshot(id, SnapshotStatus::Failure);
        }
    }

    /// Streams the state machine as it is now to a member that is too far behind.
    fn send_snapshot(&mut self, mut message: Message) -> Result<()> {
        let to = message.to;
        let url = self.transport.url(to).cloned();
        let room = self.sends < self.config.limits.snapshot_sends_max;
        let (Some(url), true) = (url, room) else {
            self.snapshots_failed.push(to);
            return Ok(());
        };
        let place = self.raw.store().applied();
        assert_eq!(
            self.state.applied(),
            (place.index, place.term),
            "the state to send is not what raft thinks it is"
        );
        let announced = message.get_snapshot().get_metadata().index;
        assert!(announced <= place.index, "snapshot {announced} is ahead of {place:?}");
        let conf_state = self.raw.store().conf_state().clone();
        let metadata = message.mut_snapshot().mut_metadata();
        (metadata.index, metadata.term) = (place.index, place.term);
        metadata.set_conf_state(conf_state);
        tracing::info!("sending a snapshot at index {} to member {to:x}", place.index);
        let route = Route { cluster_id: self.shared.cluster_id, from: self.shared.member_id, to };
        let export = self.state.export()?;
        let sending = snapshot::send(self.edges.clone(), route, url, message, export);
        let helpers = self.queues.helpers.clone();
        self.sends += 1;
        tokio::spawn(async move {
            let ok = sending.await;
            // Fails only when the loop has ended.
            let _ = helpers.send(Event::SnapshotSent { to, ok }).await;
        });
        Ok(())
    }

    /// Applies committed entries, in one batch where none of them changes the configuration.
    fn apply(&mut self, entries: Vec<Entry>) -> Result<()> {
        let Some(last) = entries.last() else { return Ok(()) };
        let place = Place { index: last.index, term: last.term };
        let first = entries[0].index;
        let (begun, count) = (self.edges.clock.monotonic(), entries.len());
        let bytes: usize = entries.iter().map(|entry| entry.data.len()).sum();
        assert_eq!(
            first,
            self.raw.store().applied().index + 1,
            "committed entries do not follow what is applied"
        );
        let mut batch = Vec::with_capacity(entries.len());
        for entry in entries {
            if entry.get_entry_type() == EntryType::EntryNormal {
                batch.push(decode(entry)?);
            } else {
                // The verdict on a change needs everything before it to be applied.
                self.apply_batch(std::mem::take(&mut batch))?;
                let entry = self.change_members(&entry)?;
                self.apply_batch(vec![entry])?;
            }
        }
        self.apply_batch(batch)?;
        assert_eq!(self.raw.store().applied(), place, "an entry was left out");
        self.warn_if_slow(begun, || format!("applying {count} entries of {bytes} bytes"));
        Ok(())
    }

    /// Logs what held up the loop, as etcd's `--warning-apply-duration` asks for.
    pub(super) fn warn_if_slow(&self, begun: Duration, what: impl FnOnce() -> String) {
        let took = self.edges.clock.monotonic().saturating_sub(begun);
        if took > Duration::from_millis(self.config.warning_apply_duration_ms) {
            tracing::warn!("slow: {} took {took:?}", what());
        }
    }

    /// Applies entries in one batch, and answers those who waited for them.
    fn apply_batch(&mut self, batch: Vec<state::Entry>) -> Result<()> {
        let Some(last) = batch.last() else { return Ok(()) };
        let place = Place { index: last.index, term: last.term };
        let mut physical = Vec::new();
        let mut members_changed = false;
        for entry in &batch {
            let request = entry.request.as_ref();
            if request.and_then(|r| r.compaction.as_ref()).is_some_and(|c| c.physical) {
                physical.extend(request.and_then(|r| r.header.as_ref()).map(|header| header.id));
            }
            members_changed |= request.is_some_and(|request| {
                request.member_change.is_some() || request.cluster_member_attr_set.is_some()
            });
        }
        let before = self.state.current_revision();
        let answers = self.state.apply(&batch)?;
        let now = self.state.current_revision();
        if now != before {
            // Before anybody is told that it has happened.
            let changes = self.state.take_changes();
            self.feed.moved(before, now, changes);
            self.shared.revision.store(now, std::sync::atomic::Ordering::Release);
        }
        self.settle_applied_leases();
        self.settle_auth();
        for applied in answers {
            if physical.contains(&applied.id) && applied.result.is_ok() {
                self.compacted.push((applied.id, applied.result));
            } else {
                self.waiters.answer(applied.id, applied.result);
            }
        }
        self.raw.mut_store().applied_to(place);
        self.shared.applied.store(place.index, std::sync::atomic::Ordering::Release);
        if members_changed {
            self.members_changed();
        }
        Ok(())
    }

    /// A committed change of the configuration as the state machine takes it. Where the state machine has nothing
    /// against it, it takes effect in raft here.
    fn change_members(&mut self, entry: &Entry) -> Result<state::Entry> {
        let (index, term) = (entry.index, entry.term);
        let change = ConfChangeV2::parse_from_carllerche_bytes(&entry.data);
        let change = change.map_err(|e| fatal("decode a change of configuration", &e))?;
        let request = InternalRaftRequest::decode(change.context.clone());
        let request = request.map_err(|e| fatal("decode a change of members", &e))?;
        let asked = request.member_change.clone().unwrap_or_default();
        if let Err(refusal) = self.state.member_verdict(&asked) {
            tracing::info!("entry {index} does not change the members: {}", refusal.text());
            return Ok(state::Entry { index, term, request: Some(request), conf_state: None });
        }
        tracing::info!("entry {index} changes the members: {:?} {:x}", asked.kind(), asked.id);
        let conf_state = self.raw.apply_conf_change(&change);
        let mut conf_state = conf_state.map_err(|e| fatal("change the configuration", &e))?;
        sort(&mut conf_state);
        let bytes = conf_state.write_to_bytes().map_err(|e| fatal("encode members", &e))?;
        self.raw.mut_store().set_conf_state(conf_state);
        // A new member must begin with a snapshot: the first members are in no entry.
        self.raw.mut_store().compact(1);
        Ok(state::Entry { index, term, request: Some(request), conf_state: Some(bytes) })
    }

    /// Puts a received snapshot in place of everything: file (already durable), then mark and hard state in
    /// the log, then the state machine. A crash between any two of these starts again from the file.
    async fn install(&mut self, metadata: raft::eraftpb::SnapshotMetadata) -> Result<()> {
        let mark = Mark { index: metadata.index, term: metadata.term };
        let received = self.received.take();
        let received = received.expect("raft accepts a snapshot only while it is held here");
        assert_eq!(received.mark, mark, "raft accepted another snapshot than was received");
        assert!(mark.index > self.state.applied().0, "a snapshot that goes back: {mark:?}");
        let mut file = self.snapshots.open(mark)?;
        self.wal.append_mark(mark)?;
        let hs = self.raw.raft.hard_state();
        let hard_state = HardState { term: hs.term, vote: hs.vote, commit: mark.index };
        self.wal.append(&[], Some(hard_state))?;
        self.sync().await?;
        self.hard_state = hard_state;
        let import = self.state.import_begin(mark.index, mark.term)?;
        self.state = super::recovery::load(import, &mut file)?;
        let revision = self.state.current_revision();
        self.feed.moved(revision, revision, Vec::new());
        self.shared.revision.store(revision, std::sync::atomic::Ordering::Release);
        self.reset_auth();
        self.raw.mut_store().install(&metadata);
        self.shared.applied.store(mark.index, std::sync::atomic::Ordering::Release);
        self.snapshot = mark;
        self.members_changed();
        tracing::info!("installed a snapshot at index {}", mark.index);
        self.release().await
    }

    /// Marks what the backend holds durably as a snapshot, and cuts the log below it.
    pub(super) async fn take_snapshot(&mut self) -> Result<()> {
        let durable = self.state.sync()?;
        let place = self.raw.store().applied();
        assert_eq!(durable, place.index, "the backend has not made durable what was applied");
        let mark = Mark { index: place.index, term: place.term };
        let conf_state = self.raw.store().conf_state().write_to_bytes();
        let conf_state = conf_state.map_err(|e| fatal("encode members", &e))?;
        let meta = SnapshotMeta { mark, conf_state, has_state: false, members: Vec::new() };
        self.snapshots.create(meta).await?.finish().await?;
        self.wal.append_mark(mark)?;
        self.sync().await?;
        self.snapshot = mark;
        tracing::info!("snapshot at index {}", mark.index);
        // A member that is being sent a snapshot will ask for what follows it.
        if self.sends == 0 {
            let keep = self.config.snapshot_catchup_entries;
            self.raw.mut_store().compact(mark.index.saturating_sub(keep));
        }
        self.release().await
    }

    /// Removes snapshot files and segments of the log that no restart needs.
    async fn release(&mut self) -> Result<()> {
        // One more: a file that was received and is not yet installed must not push out the newest that counts.
        let kept = self.snapshots.release(self.config.max_snapshots + 1).await?;
        if let Some(oldest) = kept.first() {
            // Everything below the newest mark is durable in the backend.
            self.wal.release_below(oldest.index.min(self.snapshot.index)).await?;
        }
        Ok(())
    }

    /// Whether this member leads.
    pub(super) fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }
}

/// A committed entry with a request as the state machine takes it.
fn decode(entry: Entry) -> Result<state::Entry> {
    let (index, term) = (entry.index, entry.term);
    let request = if entry.data.is_empty() {
        None
    } else {
        let decoded = InternalRaftRequest::decode(entry.data);
        Some(decoded.map_err(|e| fatal("decode a committed request", &e))?)
    };
    Ok(state::Entry { index, term, request, conf_state: None })
}

/// Entries as the log on disk takes them.
pub(super) fn records(entries: &[Entry]) -> Result<Vec<wal::Entry>> {
    let record = |entry: &Entry| {
        let data = entry.write_to_bytes().map_err(|e| fatal("encode an entry", &e))?;
        Ok(wal::Entry { index: entry.index, term: entry.term, data: data.into() })
    };
    entries.iter().map(record).collect()
}

fn fatal(action: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Fatal(format!("cannot {action}: {error}; the log and this program disagree"))
}

/// Brings the members into one order: raft-rs keeps them in hash sets, and hands them out in an order that depends on
/// what each member has been through. What is stored is the same on all of them.
fn sort(conf_state: &mut ConfState) {
    conf_state.mut_voters().sort_unstable();
    conf_state.mut_learners().sort_unstable();
    conf_state.mut_voters_outgoing().sort_unstable();
    conf_state.mut_learners_next().sort_unstable();
}
