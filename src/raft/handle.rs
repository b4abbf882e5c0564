//! What everybody else holds: a handle that puts requests into the loop's queue and waits for answers.
//!
//! Invariants:
//! * No call waits longer than the request timeout, whatever happens to the loop.
//! * A full queue answers at once; nothing waits for room.
//! * A timeout of a proposal is an unknown outcome: it may still take effect.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::{Notify, mpsc, oneshot};

use super::answers::{Answers, Held};
use super::leases::Forward;
use super::node::{Event, Request};
use super::roster::Roster;
use super::tokens::Tokens;
use super::waiters::RequestIds;
use crate::error::Refusal;
use crate::host::Clock;
use crate::proto::etcdserverpb::{
    AlarmMember, InternalRaftRequest, RangeRequest, RangeResponse, RequestHeader, TxnRequest,
    TxnResponse,
};
use crate::proto::mvccpb::KeyValue;
use crate::state::{self, Caller, History, KeysHash, Members, Response, StateExport};

/// What a member says about itself in the header of every response (the revision is the response's own).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The cluster.
    pub cluster_id: u64,
    /// The member that answers.
    pub member_id: u64,
    /// Its term, now.
    pub term: u64,
}

/// What a member knows of itself and its cluster at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// Cluster, member, term.
    pub header: Header,
    /// The leader's id; 0 where none is known.
    pub leader: u64,
    /// The last index known to be committed.
    pub commit: u64,
    /// The last index applied.
    pub applied: u64,
    /// The current revision.
    pub revision: i64,
    /// The revision up to which history is gone.
    pub compact_revision: i64,
    /// Bytes of the backend on disk.
    pub db_size: u64,
    /// Of these, bytes that hold something.
    pub db_size_in_use: u64,
    /// Whether the member has no vote.
    pub is_learner: bool,
    /// The members, by id.
    pub members: Members,
    /// The alarms that are raised.
    pub alarms: Vec<AlarmMember>,
    /// The ids of the members with a vote.
    pub voters: Vec<u64>,
}

/// What the loop shows to everybody, at the price of a load.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) cluster_id: u64,
    pub(super) member_id: u64,
    pub(super) term: AtomicU64,
    pub(super) leader: AtomicU64,
    /// How often the leader was lost or changed.
    pub(super) leader_changes: AtomicU64,
    pub(super) applied: AtomicU64,
    /// Frames and chunks of other members that were refused because their checksum was wrong.
    pub(super) damaged: AtomicU64,
    /// The current revision.
    pub(super) revision: AtomicI64,
    /// Bytes of the backend, as of a short while ago.
    pub(super) db_size: AtomicU64,
    /// Whether this member has no vote.
    pub(super) is_learner: AtomicBool,
    roster: Mutex<Arc<Roster>>,
    pub(super) auth_enabled: AtomicBool,
    pub(super) auth_revision: AtomicU64,
    pub(super) tokens: Tokens,
    /// Answers that clients have not taken yet.
    pub(super) answers: Arc<Answers>,
    /// Whether the member is on its way out.
    stopping: AtomicBool,
    stopped: Notify,
}

impl Shared {
    pub(super) fn new(config: &crate::config::Config) -> Self {
        let (cluster_id, member_id) = (config.cluster_id(), config.member_id());
        let ttl = Duration::from_secs(config.auth_token_ttl_s);
        let tokens = Tokens::new(ttl, config.limits.auth_tokens_max);
        let (auth_enabled, auth_revision) = (AtomicBool::new(false), AtomicU64::new(0));
        let zero = || AtomicU64::new(0);
        let (term, leader, leader_changes, applied) = (zero(), zero(), zero(), zero());
        let (revision, stopping, stopped) =
            (AtomicI64::new(0), AtomicBool::new(false), Notify::new());
        Self {
            cluster_id,
            member_id,
            term,
            leader,
            leader_changes,
            applied,
            damaged: zero(),
            revision,
            db_size: zero(),
            is_learner: AtomicBool::new(false),
            roster: Mutex::default(),
            auth_enabled,
            auth_revision,
            tokens,
            answers: Answers::new(&config.limits),
            stopping,
            stopped,
        }
    }

    /// Who the members are.
    pub(super) fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.roster.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_roster(&self, roster: Roster) {
        *self.roster.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(roster);
    }
}

/// See the module.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    events: mpsc::Sender<Event>,
    clock: Arc<dyn Clock>,
    forward: Forward,
    ids: RequestIds,
    request_timeout: Duration,
    max_request_bytes: usize,
    quota_bytes: Option<u64>,
}

impl Handle {
    pub(super) fn new(
        shared: Arc<Shared>,
        requests: mpsc::Sender<Request>,
        events: mpsc::Sender<Event>,
        forward: Forward,
        ids: RequestIds,
        config: &crate::config::Config,
    ) -> Self {
        let request_timeout = Duration::from_millis(config.request_timeout_ms());
        let max_request_bytes = config.max_request_bytes;
        let clock = Arc::clone(&forward.edges.clock);
        let inner = Inner {
            shared,
            requests,
            events,
            clock,
            forward,
            ids,
            request_timeout,
            max_request_bytes,
            quota_bytes: config.quota_bytes(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub(super) fn forward(&self) -> &Forward {
        &self.inner.forward
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    pub(super) fn quota_bytes(&self) -> Option<u64> {
        self.inner.quota_bytes
    }

    pub(super) fn request_timeout(&self) -> Duration {
        self.inner.request_timeout
    }

    /// Proposes somebody's request and waits until this member has applied it.
    ///
    /// # Errors
    /// The state machine's verdict; [`Refusal::TooManyRequests`] and [`Refusal::RequestTooLarge`] before anything
    /// was proposed; [`Refusal::Timeout`], [`Refusal::TimeoutLeaderFail`] and [`Refusal::Stopped`] with an
    /// unknown outcome.
    pub async fn propose_as(
        &self,
        caller: &Caller,
        request: InternalRaftRequest,
    ) -> Result<Response, Refusal> {
        self.check_quota(&request).await?;
        self.propose_unchecked(caller, request).await
    }

    /// As [`Handle::propose_as`], however full the backend is.
    pub(super) async fn propose_unchecked(
        &self,
        caller: &Caller,
        mut request: InternalRaftRequest,
    ) -> Result<Response, Refusal> {
        let id = self.inner.ids.next();
        let Caller { user: username, auth_revision } = caller.clone();
        request.header = Some(RequestHeader { id, username, auth_revision, only_in_term: 0 });
        let data = Bytes::from(request.encode_to_vec());
        if data.len() > self.inner.max_request_bytes {
            return Err(Refusal::RequestTooLarge);
        }
        self.ask(|answer| Request::Propose { id, data, answer }).await
    }

    /// A range, linearizable unless it asks for less.
    ///
    /// # Errors
    /// The state machine's verdict, that no leader confirmed the read in time, or [`Refusal::TooManyRequests`] where
    /// clients have too much to take already.
    pub async fn range(
        &self,
        caller: Caller,
        range: RangeRequest,
    ) -> Result<(RangeResponse, Held), Refusal> {
        if range.serializable {
            return self.ask(|answer| Request::Range { caller, range, answer }).await;
        }
        self.ask(|answer| Request::LinearizableRange { caller, range, answer }).await
    }

    /// A txn that writes nothing; linearizable unless every range in it is serializable. One without a range is
    /// linearizable too (etcd's is not): its comparisons read.
    ///
    /// # Errors
    /// As [`Handle::range`].
    pub async fn txn_read_only(
        &self,
        caller: Caller,
        txn: TxnRequest,
    ) -> Result<(TxnResponse, Held), Refusal> {
        let ranges = !(txn.success.is_empty() && txn.failure.is_empty());
        if ranges && state::is_serializable(&txn) {
            return self.ask(|answer| Request::Txn { caller, txn, answer }).await;
        }
        self.ask(|answer| Request::LinearizableTxn { caller, txn, answer }).await
    }

    /// Whether there is room for the answer of a request that is going to be proposed.
    ///
    /// # Errors
    /// [`Refusal::TooManyRequests`].
    pub fn check_room(&self) -> Result<(), Refusal> {
        let is_full = self.inner.shared.answers.is_full();
        if is_full { Err(Refusal::TooManyRequests) } else { Ok(()) }
    }

    /// Counts such an answer until it is dropped.
    #[must_use]
    pub fn hold(&self, bytes: usize) -> Held {
        self.inner.shared.answers.hold(bytes)
    }

    /// Returns once this member has applied everything that was committed when it was called.
    ///
    /// # Errors
    /// As [`Handle::range`].
    pub async fn linearizable_barrier(&self) -> Result<(), Refusal> {
        self.ask(|answer| Request::Barrier { answer }).await
    }

    /// What this member knows, now.
    ///
    /// # Errors
    /// [`Refusal::Stopped`], [`Refusal::TooManyRequests`] or [`Refusal::Timeout`].
    pub async fn status(&self) -> Result<Status, Refusal> {
        self.ask(|answer| Request::Status { answer }).await
    }

    /// The hash of all keys up to `revision` (0: the current one).
    ///
    /// # Errors
    /// The state machine's verdict on the revision.
    pub async fn hash_kv(&self, revision: i64) -> Result<KeysHash, Refusal> {
        self.ask(|answer| Request::HashKv { revision, answer }).await
    }

    /// The last index applied, and a hash over everything that members share after it.
    ///
    /// # Errors
    /// As [`Handle::status`].
    pub async fn hash_all(&self) -> Result<(u64, u64), Refusal> {
        self.ask(|answer| Request::HashAll { answer }).await
    }

    /// Gives space that nothing uses any more back; the member does nothing else meanwhile.
    ///
    /// # Errors
    /// As [`Handle::status`].
    pub async fn defragment(&self) -> Result<(), Refusal> {
        self.ask(|answer| Request::Defragment { answer }).await
    }

    /// The whole state as a stream, as it is now.
    ///
    /// # Errors
    /// As [`Handle::status`].
    pub async fn export(&self) -> Result<StateExport, Refusal> {
        self.ask(|answer| Request::Export { answer }).await
    }

    /// Hands leadership to `target` and waits until it has it.
    ///
    /// # Errors
    /// [`Refusal::NotLeader`], [`Refusal::BadLeaderTransferee`], [`Refusal::TimeoutLeaderTransfer`].
    pub async fn move_leader(&self, target: u64) -> Result<(), Refusal> {
        self.ask(|answer| Request::MoveLeader { target, answer }).await
    }

    /// A number that this member has not used before.
    #[must_use]
    pub fn unused_id(&self) -> u64 {
        self.inner.ids.next()
    }

    /// Whether this member has no vote, as far as it knows.
    #[must_use]
    pub fn is_learner(&self) -> bool {
        self.inner.shared.is_learner.load(Ordering::Relaxed)
    }

    /// A lease's id that nobody has used: positive.
    #[must_use]
    pub fn lease_id(&self) -> i64 {
        loop {
            let id = self.inner.ids.next() & i64::MAX.cast_unsigned();
            if id != 0 {
                return id.cast_signed();
            }
        }
    }

    /// The ids of all leases, linearizable.
    ///
    /// # Errors
    /// As [`Handle::range`].
    pub async fn leases(&self, caller: Caller) -> Result<Vec<i64>, Refusal> {
        self.ask(|answer| Request::Leases { caller, answer }).await
    }

    /// A view of all changes so far, to read those from that a watcher has missed.
    ///
    /// # Errors
    /// As [`Handle::status`].
    pub async fn history(&self) -> Result<History, Refusal> {
        self.ask(|answer| Request::History { answer }).await
    }

    /// Each key as it was before a revision; `None` where it was not there, or where that is compacted.
    ///
    /// # Errors
    /// As [`Handle::status`].
    pub async fn previous(
        &self,
        keys: Vec<(Bytes, i64)>,
    ) -> Result<Vec<Option<KeyValue>>, Refusal> {
        self.ask(|answer| Request::Previous { keys, answer }).await
    }

    /// The current revision, which may move on in this moment.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.inner.shared.revision.load(Ordering::Acquire)
    }

    /// Waits, for whoever must ask again later.
    pub async fn sleep(&self, duration: Duration) {
        self.inner.clock.sleep(duration).await;
    }

    /// Tells everybody who serves a stream that the member is about to stop.
    pub fn end_streams(&self) {
        self.inner.shared.stopping.store(true, Ordering::SeqCst);
        self.inner.shared.stopped.notify_waiters();
    }

    /// Completes once the member is about to stop.
    pub async fn ending(&self) {
        let mut ending = std::pin::pin!(self.inner.shared.stopped.notified());
        // Listening comes before looking, so that nothing is missed between the two.
        ending.as_mut().enable();
        if !self.inner.shared.stopping.load(Ordering::SeqCst) {
            ending.await;
        }
    }

    /// Cluster, member and the term as it is now.
    #[must_use]
    pub fn header(&self) -> Header {
        let Shared { cluster_id, member_id, ref term, .. } = *self.inner.shared;
        Header { cluster_id, member_id, term: term.load(Ordering::Relaxed) }
    }

    /// The leader this member knows; 0 is none.
    #[must_use]
    pub fn leader(&self) -> u64 {
        self.inner.shared.leader.load(Ordering::Relaxed)
    }

    /// Whether this member leads, as far as it knows.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leader() == self.inner.shared.member_id
    }

    /// How often the leader was lost or changed since the start.
    #[must_use]
    pub fn leader_changes(&self) -> u64 {
        self.inner.shared.leader_changes.load(Ordering::Relaxed)
    }

    /// Frames and chunks of other members that were refused since the start because their checksum was wrong.
    #[must_use]
    pub fn damaged_frames(&self) -> u64 {
        self.inner.shared.damaged.load(Ordering::Relaxed)
    }

    /// Hands leadership over where this member has it, ends the loop, and returns when it has ended (or when
    /// it does not answer within the request timeout: its disk may hang).
    pub async fn stop(&self) {
        let (answer, stopped) = oneshot::channel();
        let stop = async {
            if self.inner.events.send(Event::Stop { answer }).await.is_ok() {
                // An error means that the loop ended in another way, which is as good.
                let _ = stopped.await;
            }
        };
        tokio::select! {
            biased;
            () = stop => {}
            () = self.inner.clock.sleep(self.inner.request_timeout) => {}
        }
    }

    pub(super) async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Request,
    ) -> Result<T, Refusal> {
        let changes = || self.inner.shared.leader_changes.load(Ordering::Relaxed);
        let changes_before = changes();
        let (answer, answered) = oneshot::channel();
        match self.inner.requests.try_send(request(answer)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(Refusal::TooManyRequests),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Refusal::Stopped),
        }
        tokio::select! {
            biased;
            // The loop drops what it did not answer when it ends.
            answer = answered => answer.unwrap_or(Err(Refusal::Stopped)),
            () = self.inner.clock.sleep(self.inner.request_timeout) => {
                let lost = changes() != changes_before;
                Err(if lost { Refusal::TimeoutLeaderFail } else { Refusal::Timeout })
            }
        }
    }
}
