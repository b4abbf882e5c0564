//! What other members send: the gRPC service that feeds their messages and snapshots into the loop.
//!
//! Invariants:
//! * A frame or chunk whose checksum is wrong is refused with its stream, before anything in it is believed.
//! * Frames from another cluster, for another member, or from a stranger are refused and logged.
//! * One stream per member is listened to: a newer one ends the older, so that messages keep their order.
//! * When the loop is busy, streams are not read on; the sender's queue fills and drops. Nothing is unbounded.
//! * One snapshot is taken in at a time, until the loop has installed or refused it: a second one can neither
//!   overwrite nor remove the file of the first.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message as _;
use raft::eraftpb::Message;
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status, Streaming};

use super::frame::{chunk_checksum, is_whole};
use super::handle::{Handle, Shared};
use super::hashes::KvHash;
use super::leases::TimeToLive;
use super::node::Event;
use super::snapshot::Receiver;
use super::transport::REMOVED;
use crate::config::Config;
use crate::error::Refusal;
use crate::host::Clock;
use crate::proto::etcdserverpb::{self as pb, MemberChange};
use crate::proto::peer::peer_server::{Peer, PeerServer};
use crate::proto::peer::{
    Ack, ChangeMembersRequest, Frame, HashKvRequest, HashKvResponse, LeaseRenewRequest,
    LeaseRenewResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, MembersRequest,
    MembersResponse, SnapshotAck, SnapshotChunk,
};
use crate::wal::SnapshotStore;

/// The streams that are listened to, so that they can be ended.
#[derive(Default)]
pub(super) struct Inbound {
    /// Dropping a sender ends its stream.
    streams: Mutex<BTreeMap<u64, oneshot::Sender<()>>>,
}

impl Inbound {
    /// Registers the stream of member `id`; the result ends when that stream shall end.
    fn open(&self, id: u64) -> oneshot::Receiver<()> {
        let (keep, ended) = oneshot::channel();
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).insert(id, keep);
        ended
    }

    /// Ends the stream of member `id`, if there is one.
    pub(super) fn close(&self, id: u64) {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

/// The one place in which a snapshot is taken in.
#[derive(Clone, Default)]
pub(super) struct Slot(Arc<AtomicBool>);

/// Holds the [`Slot`]; dropping it frees the slot.
pub(super) struct Taken(Arc<AtomicBool>);

impl Slot {
    fn take(&self) -> Option<Taken> {
        let free = !self.0.swap(true, Ordering::AcqRel);
        free.then(|| Taken(Arc::clone(&self.0)))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The gRPC service that other members call.
pub struct PeerService {
    pub(super) shared: Arc<Shared>,
    pub(super) config: Arc<Config>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) inbound: Arc<Inbound>,
    pub(super) snapshots: Arc<SnapshotStore>,
    pub(super) slot: Slot,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) handle: Handle,
}

impl PeerService {
    /// The service as tonic's router takes it, with its limits set.
    #[must_use]
    pub fn into_server(self) -> PeerServer<Self> {
        let limits = &self.config.limits;
        // A frame is closed when it is over its limit; the last message may be one append of the largest
        // size, or one entry that is larger.
        let message_bytes = usize::try_from(limits.raft_message_bytes_max).unwrap_or(usize::MAX);
        let last = message_bytes.max(limits.loop_turn_bytes_max) + self.config.max_frame_bytes();
        let limit = limits.peer_frame_bytes_max + last;
        PeerServer::new(self).max_decoding_message_size(limit)
    }

    /// What came is not what was sent. The sender connects anew, and raft says again what matters.
    fn damaged(&self, what: &str, from: u64) -> Status {
        self.shared.damaged.fetch_add(1, Ordering::Relaxed);
        let text = format!("{what} that says it is of member {from:x} has a wrong checksum");
        tracing::warn!("refused damage: {text}; its stream is ended");
        Status::data_loss(text)
    }

    /// Looks at a frame before it is believed.
    fn check_frame(&self, frame: &Frame) -> Result<(), Status> {
        if !is_whole(frame) {
            return Err(self.damaged("a frame", frame.from));
        }
        self.check((frame.cluster_id, frame.from, frame.to))
    }

    fn check(&self, (cluster_id, from, to): (u64, u64, u64)) -> Result<(), Status> {
        let refuse = |what: String| {
            tracing::warn!("refused a peer: {what}");
            Err(Status::failed_precondition(what))
        };
        let Shared { cluster_id: here, member_id, .. } = *self.shared;
        if cluster_id != here {
            return refuse(format!("member {from:x} is of cluster {cluster_id:x}, not {here:x}"));
        }
        if to != member_id {
            return refuse(format!("member {from:x} means member {to:x}, this is {member_id:x}"));
        }
        let roster = self.shared.roster();
        if roster.removed.contains(&from) {
            let text = format!("member {from:x} has been removed from cluster {here:x}");
            tracing::debug!("refused a peer: {text}");
            return Err(Status::new(REMOVED, text));
        }
        if !roster.members.contains_key(&from) {
            return refuse(format!("member {from:x} is not in cluster {here:x}"));
        }
        Ok(())
    }

    fn decode(&self, from: u64, bytes: &bytes::Bytes) -> Result<Message, Status> {
        let message: Message = protobuf::Message::parse_from_carllerche_bytes(bytes)
            .map_err(|e| Status::invalid_argument(format!("not a raft message: {e}")))?;
        // A forwarded request keeps the one who made it as its sender.
        let roster = self.shared.roster();
        if message.to != self.shared.member_id || !roster.members.contains_key(&message.from) {
            let text = format!(
                "a frame of member {from:x} holds a message from {:x} to {:x}",
                message.from, message.to
            );
            tracing::warn!("refused a peer: {text}");
            return Err(Status::failed_precondition(text));
        }
        Ok(message)
    }

    async fn deliver(&self, frame: &Frame) -> Result<(), Status> {
        for bytes in &frame.messages {
            let message = self.decode(frame.from, bytes)?;
            if message.get_msg_type() == raft::eraftpb::MessageType::MsgSnapshot {
                return Err(Status::invalid_argument("a snapshot travels by its own call"));
            }
            let event = Event::Message(message);
            self.events.send(event).await.map_err(|_| Status::unavailable("stopping"))?;
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn messages(&self, request: Request<Streaming<Frame>>) -> Result<Response<Ack>, Status> {
        let mut frames = request.into_inner();
        let Some(mut frame) = frames.message().await? else { return Ok(Response::new(Ack {})) };
        self.check_frame(&frame)?;
        let from = frame.from;
        let mut ended = self.inbound.open(from);
        loop {
            self.deliver(&frame).await?;
            frame = tokio::select! {
                biased;
                _ = &mut ended => return Err(Status::aborted("another stream took over")),
                next = frames.message() => match next? {
                    Some(next) => next,
                    None => return Ok(Response::new(Ack {})),
                },
            };
            self.check_frame(&frame)?;
            if frame.from != from {
                return Err(Status::failed_precondition("the sender changed within a stream"));
            }
        }
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<SnapshotAck>, Status> {
        let mut chunks = request.into_inner();
        let taken = self.slot.take();
        let taken = taken.ok_or_else(|| Status::resource_exhausted("one snapshot at a time"))?;
        let stall = std::time::Duration::from_millis(self.config.limits.snapshot_stall_ms);
        let mut receiver: Option<Receiver> = None;
        let mut checksum = 0;
        let received = loop {
            let chunk = tokio::select! {
                biased;
                chunk = chunks.message() => chunk?,
                () = self.clock.sleep(stall) => return Err(Status::deadline_exceeded("no progress")),
            };
            let chunk = chunk.ok_or_else(|| Status::data_loss("the last chunk is missing"))?;
            checksum = chunk_checksum(checksum, &chunk);
            if checksum != chunk.checksum {
                return Err(self.damaged("a chunk of a snapshot", chunk.from));
            }
            self.check((chunk.cluster_id, chunk.from, chunk.to))?;
            let mut current = match receiver.take() {
                Some(receiver) => receiver,
                None => {
                    let message = self.decode(chunk.from, &chunk.message)?;
                    let applied = self.shared.applied.load(Ordering::Acquire);
                    if message.get_snapshot().get_metadata().index <= applied {
                        // The sender goes on with what follows, and finds out where we are.
                        return Ok(Response::new(SnapshotAck {}));
                    }
                    Receiver::begin(&self.snapshots, message).await?
                }
            };
            current.take_in(&chunk)?;
            if chunk.last {
                break current.finish(taken).await?;
            }
            receiver = Some(current);
        };
        let event = Event::Snapshot(Box::new(received));
        self.events.send(event).await.map_err(|_| Status::unavailable("stopping"))?;
        Ok(Response::new(SnapshotAck {}))
    }

    async fn lease_renew(
        &self,
        request: Request<LeaseRenewRequest>,
    ) -> Result<Response<LeaseRenewResponse>, Status> {
        let LeaseRenewRequest { cluster_id, from, to, id } = request.into_inner();
        self.check((cluster_id, from, to))?;
        let ttl_s = self.handle.lease_renew_here(id).await.map_err(refused)?;
        Ok(Response::new(LeaseRenewResponse { ttl_s }))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let LeaseTimeToLiveRequest { cluster_id, from, to, id, keys } = request.into_inner();
        self.check((cluster_id, from, to))?;
        let found = self.handle.lease_time_to_live_here(id, keys).await.map_err(refused)?;
        let is_found = found.is_some();
        let TimeToLive { ttl_s, granted_ttl_s, keys } = found.unwrap_or_default();
        let response = LeaseTimeToLiveResponse { found: is_found, ttl_s, granted_ttl_s, keys };
        Ok(Response::new(response))
    }

    async fn members(
        &self,
        _: Request<MembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        let roster = self.shared.roster();
        let members = roster.members.iter().map(|(id, member)| member.to_message(*id));
        Ok(Response::new(self.members_response(members)))
    }

    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        let HashKvRequest { cluster_id, from, to, revision } = request.into_inner();
        self.check((cluster_id, from, to))?;
        let KvHash { hash, compact_revision, revision } =
            self.handle.own_hash(revision).await.map_err(refused)?;
        Ok(Response::new(HashKvResponse { hash, compact_revision, revision }))
    }

    async fn change_members(
        &self,
        request: Request<ChangeMembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        let ChangeMembersRequest { cluster_id, from, to, change } = request.into_inner();
        self.check((cluster_id, from, to))?;
        let change = MemberChange::decode(change)
            .map_err(|error| Status::invalid_argument(format!("not a change: {error}")))?;
        let members = self.handle.change_members_here(change).await.map_err(refused)?;
        Ok(Response::new(self.members_response(members.into_iter())))
    }
}

impl PeerService {
    fn members_response(&self, members: impl Iterator<Item = pb::Member>) -> MembersResponse {
        let members = members.map(|member| member.encode_to_vec().into()).collect();
        MembersResponse { cluster_id: self.shared.cluster_id, members }
    }
}

/// A refusal between members; whoever asked asks again.
fn refused(refusal: Refusal) -> Status {
    Status::unavailable(refusal.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A newer stream of the same member ends the older one; another member's is left alone.
    #[test]
    fn one_stream_per_member() {
        let inbound = Inbound::default();
        let ended = |stream: &mut oneshot::Receiver<()>| {
            stream.try_recv() == Err(oneshot::error::TryRecvError::Closed)
        };
        let (mut first, mut other) = (inbound.open(1), inbound.open(2));
        assert!(!ended(&mut first) && !ended(&mut other));
        let mut second = inbound.open(1);
        assert!(ended(&mut first) && !ended(&mut second) && !ended(&mut other));
        inbound.close(1);
        assert!(ended(&mut second) && !ended(&mut other));
    }

    /// The slot is taken by one at a time, and free again when that one is done.
    #[test]
    fn one_snapshot_at_a_time() {
        let slot = Slot::default();
        let taken = slot.take();
        assert!(taken.is_some() && slot.take().is_none());
        drop(taken);
        assert!(slot.take().is_some());
    }
}
