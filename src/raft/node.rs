//! The loop: one task owns raft-rs, the write-ahead log and the state machine; all else reaches it by queues.
//!
//! Three queues feed it, looked at in this order: ticks, what peers and helpers say, what clients ask. Each turn
//! takes a bounded number from each, so none starves; then one [`Ready`](raft::Ready) is carried out
//! (`ready.rs`). While a sync of the log is awaited the queues fill, and the next turn takes all of it into one
//! write: that is the group commit.
//!
//! Invariants:
//! * Nothing is stepped into raft between taking a `Ready` and advancing past it.
//! * The term never goes back; the commit index never passes the end of the log.
//! * What the state machine has applied and what raft was told it has applied are equal after each turn.
//! * Any error that leaves the loop ends the member: nothing here is retried.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use raft::eraftpb::{Message, MessageType};
use raft::{ProgressState, RawNode, SnapshotStatus, StateRole};
use tokio::sync::{mpsc, oneshot};

use super::answers::Held;
use super::callers::AuthQuestion;
use super::changes::{Change, Changes, Contacts};
use super::feed::Feed;
use super::handle::{Shared, Status};
use super::leases::{LeaseRead, Renewals};
use super::lessor::Lessor;
use super::log::LogStore;
use super::membership::Transfer;
use super::propose::{Proposal, Proposals};
use super::read_index::{Leadership, ReadIndex};
use super::recovery::REMEDY;
use super::requests::Read;
use super::snapshot::Received;
use super::transport::{Edges, Transport};
use super::waiters::{Answer, Waiters};
use crate::config::Config;
use crate::error::{Error, Refusal, Result};
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse, TxnRequest, TxnResponse};
use crate::proto::mvccpb::KeyValue;
use crate::state::{Caller, History, KeysHash, Response, State, StateExport};
use crate::wal::{HardState, Mark, SnapshotStore, Wal};

/// An answer to a client's request.
pub(super) type Reply<T> = oneshot::Sender<std::result::Result<T, Refusal>>;

/// What peers and the loop's own helpers say.
pub(super) enum Event {
    /// A message of another member.
    Message(Message),
    /// A snapshot of another member; its file is durable.
    Snapshot(Box<Received>),
    /// A snapshot to another member arrived or failed.
    SnapshotSent { to: u64, ok: bool },
    /// The pause between two steps of a physical compaction is over.
    CompactStep,
    /// Another member says that this one was removed.
    Removed { by: u64 },
    /// Hand leadership over and end.
    Stop { answer: oneshot::Sender<()> },
}

/// What clients ask.
pub(super) enum Request {
    Propose { id: u64, data: bytes::Bytes, answer: Answer },
    Range { caller: Caller, range: RangeRequest, answer: Reply<(RangeResponse, Held)> },
    LinearizableRange { caller: Caller, range: RangeRequest, answer: Reply<(RangeResponse, Held)> },
    Txn { caller: Caller, txn: TxnRequest, answer: Reply<(TxnResponse, Held)> },
    LinearizableTxn { caller: Caller, txn: TxnRequest, answer: Reply<(TxnResponse, Held)> },
    Barrier { answer: Reply<()> },
    Status { answer: Reply<Status> },
    HashAll { answer: Reply<(u64, u64)> },
    Defragment { answer: Reply<()> },
    Export { answer: Reply<StateExport> },
    HashKv { revision: i64, answer: Reply<KeysHash> },
    MoveLeader { target: u64, answer: Reply<()> },
    Change(Change),
    Lease(LeaseRead),
    Leases { caller: Caller, answer: Reply<Vec<i64>> },
    Auth(AuthQuestion),
    History { answer: Reply<History> },
    Previous { keys: Vec<(bytes::Bytes, i64)>, answer: Reply<Vec<Option<KeyValue>>> },
}

/// The receiving ends of the loop's queues.
pub(super) struct Queues {
    pub(super) ticks: mpsc::Receiver<()>,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) requests: mpsc::Receiver<Request>,
    /// For the loop's own helpers.
    pub(super) helpers: mpsc::Sender<Event>,
}

/// A member that is on its way out.
pub(super) struct Stopping {
    pub(super) deadline_tick: u64,
    pub(super) answers: Vec<oneshot::Sender<()>>,
}

/// See the module.
pub(super) struct Node {
    pub(super) config: Arc<Config>,
    pub(super) edges: Edges,
    pub(super) shared: Arc<Shared>,
    pub(super) queues: Queues,
    pub(super) raw: RawNode<LogStore>,
    pub(super) wal: Wal,
    pub(super) snapshots: Arc<SnapshotStore>,
    pub(super) state: State,
    pub(super) transport: Transport,
    pub(super) proposals: Proposals,
    pub(super) waiters: Waiters,
    pub(super) reads: ReadIndex<Read>,
    /// Term and leader as everybody was last told.
    pub(super) leadership: Leadership,
    /// The hard state last appended to the log.
    pub(super) hard_state: HardState,
    /// Whether the log holds entries, a term or a vote that are not durable yet.
    pub(super) unsynced: bool,
    /// The newest snapshot marked in the log.
    pub(super) snapshot: Mark,
    /// A received snapshot that raft accepted and that awaits its `Ready`.
    pub(super) received: Option<Box<Received>>,
    /// A received snapshot that raft had no use for.
    pub(super) refused: Option<Box<Received>>,
    /// Snapshots being sent.
    pub(super) sends: usize,
    /// To be reported to raft after the current `Ready`.
    pub(super) unreachable: BTreeSet<u64>,
    pub(super) snapshots_failed: Vec<u64>,
    /// Compactions whose answer waits for the physical removal.
    pub(super) compacted: Vec<(u64, std::result::Result<Response, Refusal>)>,
    /// Whether a pause between two steps of compaction is running.
    pub(super) compact_pause: bool,
    pub(super) transfer: Option<Transfer>,
    /// Changes of members that wait for their turn.
    pub(super) changes: Changes,
    pub(super) contacts: Contacts,
    /// Where this member was removed: the tick at which it ends.
    pub(super) leaving: Option<u64>,
    pub(super) lessor: Lessor,
    pub(super) renewals: Renewals,
    /// What those who watch are told.
    pub(super) feed: Feed,
    pub(super) stopping: Option<Stopping>,
    /// Ticks so far.
    pub(super) tick: u64,
}

impl Node {
    /// Runs until told to stop, or until something fails.
    pub(super) async fn run(mut self) -> Result<()> {
        loop {
            if self.has_work() {
                // Other tasks get their turn too.
                tokio::task::yield_now().await;
            } else {
                self.wait().await?;
            }
            self.drain()?;
            self.observe();
            self.propose();
            self.propose_change();
            self.ask_read_index();
            if self.raw.has_ready() {
                self.on_ready().await?;
                self.report();
            }
            self.settle().await?;
            self.check();
            if self.leaving.is_some_and(|tick| self.tick >= tick) {
                let text = self.farewell();
                self.close().await?;
                return Err(Error::Removed(text));
            }
            if self.may_stop() {
                return self.close().await;
            }
        }
    }

    fn has_work(&self) -> bool {
        self.raw.has_ready() || (self.can_propose() && !self.proposals.is_empty())
    }

    /// Waits for the first thing to do and takes it in.
    async fn wait(&mut self) -> Result<()> {
        let Queues { ticks, events, requests, .. } = &mut self.queues;
        tokio::select! {
            biased;
            Some(()) = ticks.recv() => self.on_tick(),
            Some(event) = events.recv() => self.on_event(event)?,
            Some(request) = requests.recv() => self.on_request(request)?,
        }
        Ok(())
    }

    /// Takes in what else is queued, a bounded part of each queue.
    fn drain(&mut self) -> Result<()> {
        while self.queues.ticks.try_recv().is_ok() {
            self.on_tick();
        }
        for _ in 0..self.config.limits.loop_turn_events {
            let Ok(event) = self.queues.events.try_recv() else { break };
            self.on_event(event)?;
        }
        for _ in 0..self.config.limits.loop_turn_requests {
            if self.proposals.bytes() >= self.config.limits.loop_turn_bytes_max {
                break;
            }
            let Ok(request) = self.queues.requests.try_recv() else { break };
            self.on_request(request)?;
        }
        Ok(())
    }

    fn on_tick(&mut self) {
        self.tick += 1;
        self.raw.tick();
        self.transport.tick();
        self.waiters.tick();
        self.proposals.tick();
        self.reads.tick();
        self.tick_leases();
        self.tick_quota();
        self.feed.tick();
    }

    fn on_event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Message(message) => {
                self.heard(message.from);
                self.step(message)?;
            }
            Event::Removed { by } => self.on_removed(by),
            Event::Snapshot(received) => self.on_snapshot(received)?,
            Event::SnapshotSent { to, ok } => {
                self.sends -= 1;
                let status = if ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
                self.raw.report_snapshot(to, status);
            }
            Event::CompactStep => {
                self.compact_pause = false;
                self.state.compact_step()?;
            }
            Event::Stop { answer } => self.on_stop(answer),
        }
        Ok(())
    }

    fn heard(&mut self, id: u64) {
        self.transport.heard(id);
        self.contacts.heard(id, self.tick, self.config.election_ticks() as u64);
    }

    /// Steps a peer's message into raft.
    fn step(&mut self, message: Message) -> Result<()> {
        if self.is_stale_rejection(&message) {
            tracing::debug!("ignored a late rejection of member {:x}", message.from);
            return Ok(());
        }
        self.check_promises(&message)?;
        if let Err(error) = self.raw.step(message) {
            // A proposal that was forwarded to a member that leads no more, or a message of a stranger.
            tracing::debug!("raft refused a message: {error}");
        }
        Ok(())
    }

    /// A leader's heartbeat tells a member to commit what that member itself has acknowledged. Where its log ends
    /// before that, the log has lost what was promised, and going on could lose it for the cluster.
    fn check_promises(&self, message: &Message) -> Result<()> {
        let raft = &self.raw.raft;
        let (acknowledged, last) = (message.commit, raft.raft_log.last_index());
        let is_current = message.term >= raft.term;
        if message.get_msg_type() != MessageType::MsgHeartbeat
            || !is_current
            || acknowledged <= last
        {
            return Ok(());
        }
        Err(Error::corrupt(
            self.config.wal_dir(),
            0,
            format!(
                "this member has acknowledged entry {acknowledged} to leader {:x} of term {}, but its log ends at \
                 {last}: what was promised to be durable is lost; {REMEDY}",
                message.from, message.term
            ),
        ))
    }

    /// Whether the message would make raft-rs 0.7.0 look for a follower's log below what the follower has
    /// already acknowledged: `Progress::maybe_decr_to` lacks a lower bound there (fixed in raft-rs #557, which
    /// was never released). Such a rejection was overtaken by the acknowledgement.
    fn is_stale_rejection(&self, message: &Message) -> bool {
        let raft = &self.raw.raft;
        message.get_msg_type() == MessageType::MsgAppendResponse
            && message.reject
            && message.request_snapshot == 0
            && message.term == raft.term
            && raft.state == StateRole::Leader
            && raft.prs().get(message.from).is_some_and(|progress| {
                progress.state != ProgressState::Replicate && message.index <= progress.matched
            })
    }

    /// A snapshot has arrived: raft decides whether it is of use.
    fn on_snapshot(&mut self, mut received: Box<Received>) -> Result<()> {
        self.heard(received.message.from);
        let message = std::mem::take(&mut received.message);
        self.step(message)?;
        let wanted = self.raw.snap().is_some_and(|snapshot| {
            let metadata = snapshot.get_metadata();
            (metadata.index, metadata.term) == (received.mark.index, received.mark.term)
        });
        let place = if wanted { &mut self.received } else { &mut self.refused };
        assert!(place.is_none(), "a second snapshot was taken in before the first was dealt with");
        *place = Some(received);
        Ok(())
    }

    /// Tells everybody about a change of term or leader.
    pub(super) fn observe(&mut self) {
        let raft = &self.raw.raft;
        let now = Leadership { term: raft.term, leader: raft.leader_id };
        let before = std::mem::replace(&mut self.leadership, now);
        if now == before {
            return;
        }
        assert!(now.term >= before.term, "the term goes back: {} then {}", before.term, now.term);
        self.shared.term.store(now.term, Ordering::Relaxed);
        self.shared.leader.store(now.leader, Ordering::Relaxed);
        if now.leader != before.leader {
            self.shared.leader_changes.fetch_add(1, Ordering::Relaxed);
        }
        match now.leader {
            0 if before.leader == 0 => tracing::debug!("term {} without a leader", now.term),
            0 => tracing::info!("lost leader {:x} in term {}", before.leader, now.term),
            leader if leader == raft.id => tracing::info!("became leader in term {}", now.term),
            leader => tracing::info!("follows leader {leader:x} in term {}", now.term),
        }
        for read in self.reads.leadership(now) {
            read.refuse(Refusal::LeaderChanged);
        }
    }

    /// Asks the leader to confirm reads, where some wait and the leader can be asked.
    fn ask_read_index(&mut self) {
        let committed_in_term = self.raw.raft.commit_to_current_term();
        if let Some(context) = self.reads.ask(self.leadership, committed_in_term) {
            self.raw.read_index(context);
        }
    }

    /// What follows from the progress of a turn.
    async fn settle(&mut self) -> Result<()> {
        self.observe();
        self.settle_lessor();
        for read in self.reads.take_ready(self.raw.store().applied().index) {
            self.serve(read)?;
        }
        self.settle_transfer();
        self.settle_compaction();
        if let Some(refused) = self.refused.take() {
            tracing::info!("snapshot at index {} was not needed", refused.mark.index);
            if refused.mark != self.snapshot {
                self.snapshots.discard(refused.mark).await?;
            }
        }
        let behind = self.raw.store().applied().index - self.snapshot.index;
        if behind >= self.config.snapshot_count {
            self.take_snapshot().await?;
        }
        Ok(())
    }

    /// Paces the physical compaction, and answers those who wait for its end.
    fn settle_compaction(&mut self) {
        if self.state.compaction_pending() {
            if !self.compact_pause {
                self.compact_pause = true;
                let pause_ms = self.config.compaction_sleep_interval_ms;
                let pause = self.edges.clock.sleep(std::time::Duration::from_millis(pause_ms));
                let helpers = self.queues.helpers.clone();
                tokio::spawn(async move {
                    pause.await;
                    // Fails only when the loop has ended.
                    let _ = helpers.send(Event::CompactStep).await;
                });
            }
        } else {
            for (id, result) in std::mem::take(&mut self.compacted) {
                self.waiters.answer(id, result);
            }
        }
    }

    fn check(&self) {
        let raft_log = &self.raw.raft.raft_log;
        let applied = self.raw.store().applied().index;
        let (consistent, _) = self.state.applied();
        assert_eq!(consistent, applied, "the backend's consistent index is not what raft applied");
        assert!(
            applied <= raft_log.committed && raft_log.committed <= raft_log.last_index(),
            "applied {applied}, committed {}, last {} are out of order",
            raft_log.committed,
            raft_log.last_index()
        );
    }

    /// Leaves everything durable behind.
    async fn close(mut self) -> Result<()> {
        self.wal.sync().await?;
        self.state.sync()?;
        let applied = self.raw.store().applied().index;
        tracing::info!("stopped in term {} at index {applied}", self.leadership.term);
        for answer in self.stopping.take().map(|stopping| stopping.answers).unwrap_or_default() {
            // The one who asked may have gone.
            let _ = answer.send(());
        }
        Ok(())
    }

    /// Whether raft would take a proposal, here or at the leader.
    pub(super) fn can_propose(&self) -> bool {
        let raft = &self.raw.raft;
        raft.leader_id != 0 && raft.lead_transferee.is_none() && self.leaving.is_none()
    }

    /// Proposals that were waiting, as one message: one append to each follower.
    fn propose(&mut self) {
        if self.proposals.is_empty() || !self.can_propose() {
            return;
        }
        let batch = self.proposals.take(self.config.limits.loop_turn_bytes_max);
        let mut message = Message { from: self.raw.raft.id, ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        message.set_entries(batch.iter().map(Proposal::entry).collect::<Vec<_>>().into());
        match self.raw.step(message) {
            Ok(()) => {
                for Proposal { id, answer, .. } in batch {
                    self.waiters.insert(id, answer);
                }
            }
            // Certain: nothing was appended, nothing forwarded.
            Err(error) => {
                tracing::debug!("raft refused {} proposals: {error}", batch.len());
                for proposal in batch {
                    let _ = proposal.answer.send(Err(Refusal::TooManyRequests));
                }
            }
        }
    }
}
