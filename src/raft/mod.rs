//! The one loop around raft-rs: log, state machine, reads, transport, snapshots, restart.
//!
//! Nothing else in the crate names raft-rs, and nothing else owns the write-ahead log or the state machine.
//! One task does (`node.rs`); everybody else holds a [`Handle`] and waits for answers.
//!
//! ```text
//!   clients ── Handle ──▶ requests ─┐                       ┌─▶ Wal      (append, sync)
//!   peers ─── PeerService ▶ events ─┼─▶ Node: raft-rs ──────┼─▶ State    (apply: one batch)
//!   clock ──────────────▶ ticks ────┘   one Ready a turn    └─▶ Transport (drops, never waits)
//! ```
//!
//! # One turn, beside what raft asks
//!
//! | the loop (`Node::on_ready`) | what raft-rs demands of it |
//! |---|---|
//! | 1. `messages` leave, if term and vote are durable | a leader may replicate while it writes (thesis, 10.2.1); it counts itself only after 4 |
//! | 2. a snapshot: its file is durable already; mark and hard state, sync, state machine, raft's log | a snapshot comes before the entries that follow it, and before the commit index that needs it |
//! | 3. entries and hard state, one append | no hard state whose commit index lies past the log |
//! | 4. sync, where `must_sync`: entries, term or vote changed | a commit index alone may be lost: it is learnt again |
//! | 5. `persisted_messages` leave | votes and acknowledgements speak of what is durable |
//! | 6. `committed_entries` are applied in one batch; waiters are answered | raft-rs hands out only entries that it was told are durable, so nothing is answered before its sync |
//! | 7. answers to ReadIndex are noted | an answer under a term or leader that has passed counts for nothing |
//! | 8. advance; the commit index, messages and entries that follow from 4 are handled like 3, 1 and 6 | the part of `advance` that comes after the append |
//! | 9. what could not be sent is reported | nothing is stepped between `ready` and `advance` |
//!
//! While the loop awaits 4, its queues fill; the next turn takes up to a bounded part of them into one append
//! and one sync. That is the whole of group commit.
//!
//! # A linearizable read
//!
//! joins the batch that waits; the batch is closed, and only then is the leader asked, with a context that is
//! never used twice; a quorum answers; the read looks at the state once the index is applied, unless term or
//! leader have changed since it was asked for (`read_index.rs`). raft-rs drops such requests silently at every
//! change of role, and while the leader has nothing committed in its term; so nothing is asked before an entry of
//! the current term is known to be committed here, and what stays unanswered is asked again. A leader that is the
//! only voter answers itself, under the same condition: a commit index that a crash took back is never
//! answered from.
//!
//! # Where time enters
//!
//! A ticker task sends a tick each heartbeat interval; all of raft's timeouts, retries of reads, handovers and
//! half-open connections are counted in ticks. The deadline of a request belongs to its handle. The loop itself
//! awaits only its queues and the sync of the log; it looks at the clock to log what was slow, and decides nothing by it.
//!
//! Invariants:
//! * Nothing is acknowledged before it is durable; a failed sync ends the member.
//! * mark of the newest snapshot ≤ what the backend holds durably ≤ applied ≤ committed ≤ last entry.
//! * Every queue, batch, retry and wait has its bound in [`Limits`](crate::config::Limits).
//! * The loop decides from its queues, its log and its state alone.
//!
//! # Leases and watches
//!
//! What leases there are is replicated state; when they are due, only the leader knows (`lessor.rs`). It asks
//! for what it decides through the log, for its own term alone. Other members pass renewals on to it
//! (`leases.rs`).
//! Who watches is told of changes by a feed that never makes the loop wait (`feed.rs`), and reads older ones
//! from views of the database that the loop hands out.
//!
//! # Who the members are
//!
//! is replicated state, too, and who votes is raft's; one entry changes both (`changes.rs`, `membership.rs`). A
//! new member is told by the others who it is (`join.rs`), and begins with a snapshot.
//!
//! Not here yet: reading the log's entries from disk (what a
//! follower may still need is kept in memory, anything older goes as a snapshot); installing a snapshot stops
//! the loop while it is loaded.

mod alone;
mod answers;
mod callers;
mod changes;
mod feed;
mod frame;
mod handle;
mod hashes;
mod join;
mod leases;
mod lessor;
mod log;
mod logger;
mod membership;
mod node;
mod peer;
mod propose;
mod quota;
mod read_index;
mod ready;
mod recovery;
mod requests;
mod restore;
mod roster;
mod snapshot;
mod tokens;
mod transport;
mod waiters;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raft::{RawNode, ReadOnlyOption};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use answers::Held;
pub use callers::May;
pub use feed::{Changes, Slice};
pub use frame::{is_whole, sealed};
pub use handle::{Handle, Header, Status};
pub use hashes::KvHash;
pub use join::{Joined, join};
pub use leases::TimeToLive;
pub use peer::PeerService;
pub use restore::restore;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::host::{Clock, Host};
use handle::Shared;
use leases::{Forward, Renewals};
use lessor::Lessor;
use log::LogStore;
use node::{Node, Queues};
use peer::{Inbound, Slot};
use propose::Proposals;
use read_index::{Contexts, Leadership, ReadIndex};
use transport::{Edges, Transport};
use waiters::{RequestIds, Waiters};

/// The running loop of one member.
pub struct Member {
    task: JoinHandle<Result<()>>,
}

impl Member {
    /// Returns when the loop has ended.
    ///
    /// # Errors
    /// What killed the loop; none after [`Handle::stop`].
    pub async fn ended(&mut self) -> Result<()> {
        match (&mut self.task).await {
            Ok(result) => result,
            Err(error) => Err(Error::Fatal(format!("the raft loop died: {error}"))),
        }
    }
}

/// Reads what the member left behind, or makes it new, and starts its loop.
///
/// `joined`: what a member was told that joins for the first time. The caller holds the lock on the data folder, serves the [`PeerService`], watches the [`Member`], and reads
/// the [`Changes`].
///
/// # Errors
/// The disk failed; the log, a snapshot or the backend is damaged or contradicts the others; the data folder
/// belongs to another member.
pub async fn start(
    host: Arc<dyn Host>,
    config: Arc<Config>,
    joined: Option<Joined>,
) -> Result<(Handle, PeerService, Member, Changes)> {
    let edges = Edges::new(&*host, &config)?;
    let recovered = recovery::recover(&host, &config, joined).await?;
    let is_alone = recovered.log.conf_state().voters == [config.member_id()];
    let shared = Arc::new(Shared::new(&config));
    shared.applied.store(recovered.log.applied().index, Ordering::Release);
    shared.term.store(recovered.hard_state.term, Ordering::Relaxed);
    let limits = config.limits.clone();
    let (tick_sender, ticks) = mpsc::channel(limits.loop_queue_ticks);
    let (event_sender, events) = mpsc::channel(limits.loop_queue_events);
    let (request_sender, requests) = mpsc::channel(limits.loop_queue_requests);
    let (feed, changes) = feed::feed(recovered.state.current_revision(), &limits);
    shared.revision.store(recovered.state.current_revision(), Ordering::Release);
    let (auth_enabled, auth_revision) = recovered.state.auth_status();
    shared.auth_revision.store(auth_revision, Ordering::Release);
    shared.auth_enabled.store(auth_enabled, Ordering::Release);
    let inbound = Arc::new(Inbound::default());
    let identity = (shared.cluster_id, shared.member_id);
    let forward = Forward { edges: edges.clone(), channels: Mutex::default() };
    let silence_ticks = ticks_of(limits.peer_silence_ms, &config);
    let contexts = Contexts::new(shared.member_id, host.random_u64());
    let retry_ticks = ticks_of(limits.read_index_retry_ms, &config);
    let told = event_sender.clone();
    let transport = Transport::new(&edges, identity, told, silence_ticks, Arc::clone(&inbound));
    let parts = Parts {
        transport,
        queues: Queues { ticks, events, requests, helpers: event_sender.clone() },
        reads: ReadIndex::new(contexts, retry_ticks, limits.reads_waiting_max),
        feed,
        edges,
        shared: Arc::clone(&shared),
        config: Arc::clone(&config),
    };
    let mut node = node(recovered, parts)?;
    node.members_changed();
    let snapshots = Arc::clone(&node.snapshots);
    if is_alone {
        // Nobody else could win or object: no reason to wait for an election timeout.
        node.raw.campaign().map_err(|e| Error::Fatal(format!("cannot stand for election: {e}")))?;
    }
    let heartbeat = Duration::from_millis(config.heartbeat_interval_ms);
    tokio::spawn(tick(host.clock(), heartbeat, tick_sender));
    let task = tokio::spawn(node.run());
    let ids = RequestIds::new(shared.member_id, host.random_u64());
    let handle = Handle::new(
        Arc::clone(&shared),
        request_sender,
        event_sender.clone(),
        forward,
        ids,
        &config,
    );
    let service = PeerService {
        shared,
        config,
        events: event_sender,
        inbound,
        snapshots,
        slot: Slot::default(),
        clock: host.clock(),
        handle: handle.clone(),
    };
    Ok((handle, service, Member { task }, changes))
}

/// What the loop is made of, besides what a restart found.
struct Parts {
    transport: Transport,
    queues: Queues,
    reads: ReadIndex<requests::Read>,
    feed: feed::Feed,
    edges: Edges,
    shared: Arc<Shared>,
    config: Arc<Config>,
}

/// The loop at its beginning.
fn node(recovered: recovery::Recovered, parts: Parts) -> Result<Node> {
    let Parts { transport, queues, reads, feed, edges, shared, config } = parts;
    let limits = &config.limits;
    Ok(Node {
        raw: raw_node(recovered.log, &config)?,
        transport,
        queues,
        wal: recovered.wal,
        snapshots: Arc::new(recovered.snapshots),
        state: recovered.state,
        proposals: Proposals::default(),
        waiters: Waiters::new(limits.proposals_in_flight_max),
        reads,
        leadership: Leadership { term: recovered.hard_state.term, leader: 0 },
        hard_state: recovered.hard_state,
        unsynced: false,
        snapshot: recovered.snapshot,
        received: None,
        refused: None,
        sends: 0,
        unreachable: BTreeSet::new(),
        snapshots_failed: Vec::new(),
        compacted: Vec::new(),
        compact_pause: false,
        transfer: None,
        changes: std::collections::VecDeque::new(),
        contacts: changes::Contacts::default(),
        leaving: None,
        lessor: Lessor::new(limits),
        renewals: Renewals::default(),
        feed,
        stopping: None,
        tick: 0,
        edges,
        shared,
        config,
    })
}

/// How many ticks cover a time.
fn ticks_of(time_ms: u64, config: &Config) -> u64 {
    time_ms.div_ceil(config.heartbeat_interval_ms).max(1)
}

fn raw_node(log: LogStore, config: &Config) -> Result<RawNode<LogStore>> {
    let limits = &config.limits;
    let raft_config = raft::Config {
        id: config.member_id(),
        election_tick: config.election_ticks(),
        heartbeat_tick: 1,
        applied: log.applied().index,
        max_size_per_msg: limits.raft_message_bytes_max,
        max_inflight_msgs: limits.raft_inflight_messages_max,
        check_quorum: true,
        pre_vote: config.pre_vote,
        // A lease would trust clocks that may stop while others run on.
        read_only_option: ReadOnlyOption::Safe,
        max_uncommitted_size: limits.raft_uncommitted_bytes_max,
        max_committed_size_per_ready: limits.raft_apply_bytes_max,
        ..raft::Config::default()
    };
    RawNode::new(&raft_config, log, &logger::logger())
        .map_err(|e| Error::Config(format!("raft cannot be set up: {e}")))
}

/// Sends a tick each heartbeat interval until the loop has ended.
async fn tick(clock: Arc<dyn Clock>, heartbeat: Duration, ticks: mpsc::Sender<()>) {
    loop {
        clock.sleep(heartbeat).await;
        match ticks.try_send(()) {
            // A full queue: the loop is busy, and will see the ticks that are there.
            Ok(()) | Err(mpsc::error::TrySendError::Full(())) => {}
            Err(mpsc::error::TrySendError::Closed(())) => return,
        }
    }
}
