//! Snapshots on their way: the whole state machine, in chunks, with a running checksum.
//!
//! Sender: raft-rs asks for a message of type MsgSnapshot; the loop pins the state as of its applied index and
//! [`send`] streams it in a task of its own, then reports success or failure back into the loop.
//! Receiver: the chunks go to a file written aside; once it is complete, synced and renamed, the message is
//! handed to the loop, and only raft decides whether it is installed (`ready.rs`).
//!
//! Invariants:
//! * The metadata of the message that leaves describes exactly the state that is streamed.
//! * Each chunk is checked against the checksum of all chunks so far; a stream that ends early leaves nothing.
//! * A transfer without progress for [`Limits::snapshot_stall_ms`](crate::config::Limits) ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::Message;
use tonic::Status;

use super::frame::chunk_checksum;
use super::peer::Taken;
use super::transport::{Edges, Route, encode};
use crate::config::Url;
use crate::error::Error;
use crate::proto::peer::SnapshotChunk;
use crate::proto::peer::peer_client::PeerClient;
use crate::state::StateExport;
use crate::wal::{Mark, SnapshotMeta, SnapshotStore, SnapshotWriter};

/// Streams `message` with the state behind it; whether the receiver has it safe.
pub(super) async fn send(
    edges: Edges,
    route: Route,
    url: Url,
    message: Message,
    export: StateExport,
) -> bool {
    let progress = Arc::new(AtomicU64::new(0));
    let stream = Chunks {
        route,
        chunk_bytes: edges.limits.snapshot_chunk_bytes,
        message: Some(encode(&message)),
        export,
        checksum: 0,
        ended: false,
        progress: Arc::clone(&progress),
    };
    let channel = match edges.connect(&url) {
        Ok(channel) => channel,
        Err(error) => {
            tracing::warn!("snapshot to member {:x} not sent: {error}", route.to);
            return false;
        }
    };
    let mut client = PeerClient::new(channel);
    tokio::select! {
        biased;
        answer = client.snapshot(stream) => match answer {
            Ok(_) => true,
            Err(status) => {
                tracing::warn!("snapshot to member {:x} failed: {}", route.to, status.message());
                false
            }
        },
        () = stalled(&edges, &progress) => {
            tracing::warn!("snapshot to member {:x} stalled", route.to);
            false
        }
    }
}

/// Completes when nothing has moved for a while.
async fn stalled(edges: &Edges, progress: &AtomicU64) {
    let mut before = None;
    loop {
        let now = progress.load(Ordering::Relaxed);
        if before.replace(now) == Some(now) {
            return;
        }
        edges.clock.sleep(Duration::from_millis(edges.limits.snapshot_stall_ms)).await;
    }
}

/// The chunks of one snapshot, read from the pinned state as the stream takes them.
struct Chunks {
    route: Route,
    chunk_bytes: usize,
    /// Goes into the first chunk.
    message: Option<Bytes>,
    export: StateExport,
    checksum: u32,
    ended: bool,
    progress: Arc<AtomicU64>,
}

impl tokio_stream::Stream for Chunks {
    type Item = SnapshotChunk;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<SnapshotChunk>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let limit = self.chunk_bytes;
        let data = match self.export.next_chunk(limit) {
            Ok(data) => data,
            Err(error) => {
                // Ending without a last chunk makes the receiver throw away what it has.
                tracing::error!("snapshot cannot be read: {error}");
                self.ended = true;
                return Poll::Ready(None);
            }
        };
        self.ended = data.is_none();
        let data = data.unwrap_or_default();
        self.progress.fetch_add(1, Ordering::Relaxed);
        let Route { cluster_id, from, to } = self.route;
        let message = self.message.take().unwrap_or_default();
        let last = self.ended;
        let mut chunk = SnapshotChunk { cluster_id, from, to, message, data, checksum: 0, last };
        self.checksum = chunk_checksum(self.checksum, &chunk);
        chunk.checksum = self.checksum;
        Poll::Ready(Some(chunk))
    }
}

/// A snapshot whose file is safe, and the slot it holds until the loop is done with it.
pub(super) struct Received {
    pub(super) message: Message,
    pub(super) mark: Mark,
    /// Held for its drop.
    pub(super) _taken: Taken,
}

/// A snapshot being taken in.
pub(super) struct Receiver {
    message: Message,
    mark: Mark,
    writer: SnapshotWriter,
}

impl Receiver {
    /// Starts a file for the snapshot that `message` announces.
    pub(super) async fn begin(store: &SnapshotStore, message: Message) -> Result<Self, Status> {
        if message.get_msg_type() != raft::eraftpb::MessageType::MsgSnapshot {
            return Err(Status::invalid_argument("the first chunk announces no snapshot"));
        }
        let metadata = message.get_snapshot().get_metadata();
        let mark = Mark { index: metadata.index, term: metadata.term };
        let conf_state = metadata
            .get_conf_state()
            .write_to_bytes()
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let meta = SnapshotMeta { mark, conf_state, has_state: true, members: Vec::new() };
        let writer = store.create(meta).await.map_err(failed)?;
        Ok(Self { message, mark, writer })
    }

    /// Takes one chunk in, whose checksum was right.
    pub(super) fn take_in(&mut self, chunk: &SnapshotChunk) -> Result<(), Status> {
        self.writer.write(&chunk.data).map_err(failed)
    }

    /// Makes the file durable.
    pub(super) async fn finish(self, taken: Taken) -> Result<Received, Status> {
        self.writer.finish().await.map_err(failed)?;
        Ok(Received { message: self.message, mark: self.mark, _taken: taken })
    }
}

fn failed(error: Error) -> Status {
    tracing::error!("snapshot not taken in: {error}");
    Status::internal(error.to_string())
}
