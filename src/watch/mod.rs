//! Who watches which keys, and how each is told of every change, in order, at its own pace.
//!
//! ```text
//!   loop ── slices of changes ──▶ ┌─────┐ ── news ──▶ queue of stream 1 ──▶ connection
//!        ◀─ "a view of history" ─ │ hub │ ── news ──▶ queue of stream 2 ──▶ …
//!   clients ─ create, cancel … ─▶ └─────┘     each bounded, none waited for
//! ```
//!
//! One task, the *hub*, owns all watchers (`groups`). The loop tells it of each slice of changes, and
//! does not wait: what does not fit into the feed is left out, and shows as a gap. Watchers that ask for
//! the past, that were in a gap, or whose connection was slow, read what they missed from a view of the
//! database, in bounded pieces, until they have reached the present. A snapshot that is installed under
//! them is a gap like any other.
//!
//! A stream's queue ends at whoever serves the connection; there, responses are put together.
//!
//! Invariants: those of `groups` for what is told, of `stream` for the queues, of [`crate::raft::Changes`]
//! for the feed.
//!
//! Not here: ids that clients see, fragments, earlier values (`api`); what a revision is (`state`).

mod groups;
mod hub;
mod interest;
mod intervals;
mod news;
mod stream;

#[cfg(test)]
mod model;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::Limits;
use crate::error::{Error, Refusal, Result};
use crate::host::Clock;
use crate::raft::{Changes, Handle};
use hub::{Command, Hub};

pub use groups::Spec;
pub use interest::Keys;
pub use news::{Batch, News};
pub use stream::{Created, Stream};

/// The way to the hub.
#[derive(Clone)]
pub struct Watches {
    commands: mpsc::Sender<Command>,
    closed: mpsc::UnboundedSender<u64>,
    next_stream: Arc<AtomicU64>,
    limits: Arc<Limits>,
}

/// The running hub.
pub struct Running {
    task: JoinHandle<Result<()>>,
}

impl Running {
    /// Returns when the hub has ended.
    ///
    /// # Errors
    /// What killed it; none after the loop has ended or the member was told to stop.
    pub async fn ended(self) -> Result<()> {
        match self.task.await {
            Ok(result) => result,
            Err(error) => Err(Error::Fatal(format!("the watchers' task died: {error}"))),
        }
    }
}

/// Starts the hub.
#[must_use]
pub fn start(
    handle: &Handle,
    changes: Changes,
    clock: Arc<dyn Clock>,
    limits: &Limits,
) -> (Watches, Running) {
    let (sender, commands) = mpsc::channel(limits.watch_queue_commands);
    let (closer, closed) = mpsc::unbounded_channel();
    let hub = Hub::new(handle.clone(), changes, clock, limits.clone(), commands, closed);
    let task = tokio::spawn(hub.run());
    let (next_stream, limits) = (Arc::default(), Arc::new(limits.clone()));
    (Watches { commands: sender, closed: closer, next_stream, limits }, Running { task })
}

impl Watches {
    /// A stream without watchers.
    ///
    /// # Errors
    /// [`Refusal::Stopped`].
    pub async fn open(&self) -> std::result::Result<Stream, Refusal> {
        let id = self.next_stream.fetch_add(1, Ordering::Relaxed);
        let (commands, closed) = (self.commands.clone(), self.closed.clone());
        let (outlet, stream) = stream::stream(id, commands, closed, &self.limits);
        let open = Command::Open { stream: id, outlet };
        self.commands.send(open).await.map_err(|_| Refusal::Stopped)?;
        Ok(stream)
    }
}
