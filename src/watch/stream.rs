//! The queue between the watchers' task and one stream, bounded in pieces of news and in bytes.
//!
//! Invariants:
//! * Offering never waits. What does not fit is not taken, and the stream is *starved* until its reader
//!   has taken half of what was queued; then the reader says so.
//! * A starved stream is never forgotten: either the reader sees that it is starved after it has taken
//!   something, or whoever offered sees that there is room by now.
//! * A batch that several pieces of news share counts once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::groups::Spec;
use super::hub::Command;
use super::news::News;
use crate::config::Limits;
use crate::error::Refusal;

/// What both ends look at.
#[derive(Debug, Default)]
struct Gauge {
    queued: AtomicUsize,
    bytes: AtomicUsize,
    starved: AtomicBool,
}

/// News with the bytes that it keeps in memory.
type Queued = (News, usize);

/// The end that news is offered to.
#[derive(Debug)]
pub(super) struct Outlet {
    news: mpsc::Sender<Queued>,
    gauge: Arc<Gauge>,
    news_max: usize,
    bytes_max: usize,
    /// Where the batch of the last news lies in memory.
    last_batch: usize,
}

impl Outlet {
    /// Takes news in, or leaves it, where there is no room.
    pub(super) fn offer(&mut self, news: News) -> bool {
        let batch = match &news {
            News::Events { batch, .. } => Some(batch),
            _ => None,
        };
        let place = batch.map_or(0, |batch| Arc::as_ptr(batch) as usize);
        let bytes = batch.filter(|_| place != self.last_batch).map_or(0, |batch| batch.bytes());
        // One piece of news always fits, however large.
        let queued = self.gauge.queued.fetch_add(1, Ordering::SeqCst);
        let before = self.gauge.bytes.fetch_add(bytes, Ordering::SeqCst);
        let fits = queued == 0 || (queued < self.news_max && before + bytes <= self.bytes_max);
        let is_taken = fits && self.news.try_send((news, bytes)).is_ok();
        if is_taken {
            self.last_batch = if place == 0 { self.last_batch } else { place };
        } else {
            self.gauge.queued.fetch_sub(1, Ordering::SeqCst);
            self.gauge.bytes.fetch_sub(bytes, Ordering::SeqCst);
            self.gauge.starved.store(true, Ordering::SeqCst);
        }
        is_taken
    }

    /// Whether it is starved, although there is room by now.
    pub(super) fn is_relieved(&self) -> bool {
        self.gauge.has_room(self.news_max, self.bytes_max)
            && self.gauge.starved.swap(false, Ordering::SeqCst)
    }
}

impl Gauge {
    /// Whether half of the queue is free.
    fn has_room(&self, news_max: usize, bytes_max: usize) -> bool {
        self.queued.load(Ordering::SeqCst) <= news_max / 2
            && self.bytes.load(Ordering::SeqCst) <= bytes_max / 2
    }
}

/// What a stream is told of a watcher it has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its number, by which news name it.
    pub watcher: u64,
    /// The revision that it was made at.
    pub revision: i64,
}

/// One stream of a client, with its watchers. They are forgotten when it is dropped.
#[derive(Debug)]
pub struct Stream {
    id: u64,
    commands: mpsc::Sender<Command>,
    /// Not bounded, but holds at most one entry for each stream that was open.
    closed: mpsc::UnboundedSender<u64>,
    news: mpsc::Receiver<Queued>,
    gauge: Arc<Gauge>,
    news_max: usize,
    bytes_max: usize,
}

/// Both ends of a new stream.
pub(super) fn stream(
    id: u64,
    commands: mpsc::Sender<Command>,
    closed: mpsc::UnboundedSender<u64>,
    limits: &Limits,
) -> (Outlet, Stream) {
    let (news_max, bytes_max) = (limits.watch_stream_news.max(1), limits.watch_stream_bytes_max);
    let (sender, news) = mpsc::channel(news_max);
    let gauge = Arc::new(Gauge::default());
    let last_batch = 0;
    let outlet =
        Outlet { news: sender, gauge: Arc::clone(&gauge), news_max, bytes_max, last_batch };
    (outlet, Stream { id, commands, closed, news, gauge, news_max, bytes_max })
}

impl Stream {
    /// A new watcher.
    ///
    /// # Errors
    /// [`Refusal::Stopped`].
    pub async fn create(&self, spec: Spec) -> Result<Created, Refusal> {
        let (answer, created) = oneshot::channel();
        self.command(Command::Create { stream: self.id, spec, answer }).await?;
        created.await.map_err(|_| Refusal::Stopped)
    }

    /// Ends a watcher: what is queued for it may still come. Tells the current revision.
    ///
    /// # Errors
    /// [`Refusal::Stopped`].
    pub async fn cancel(&self, watcher: u64) -> Result<i64, Refusal> {
        let (answer, revision) = oneshot::channel();
        self.command(Command::Cancel { watcher, answer }).await?;
        revision.await.map_err(|_| Refusal::Stopped)
    }

    /// Asks how far all watchers of the stream are; the answer comes as news.
    ///
    /// # Errors
    /// [`Refusal::Stopped`].
    pub async fn ask_progress(&self) -> Result<(), Refusal> {
        self.command(Command::AskProgress { stream: self.id }).await
    }

    /// The next news; `None` once the member stops. Nothing is lost where it is not awaited to the end.
    pub async fn next(&mut self) -> Option<News> {
        let (news, bytes) = self.news.recv().await?;
        self.gauge.queued.fetch_sub(1, Ordering::SeqCst);
        self.gauge.bytes.fetch_sub(bytes, Ordering::SeqCst);
        if self.gauge.has_room(self.news_max, self.bytes_max)
            && self.gauge.starved.load(Ordering::SeqCst)
        {
            // Where the queue is full, its reader looks at all starved streams once it gets there.
            let _ = self.commands.try_send(Command::Relieved { stream: self.id });
        }
        Some(news)
    }

    async fn command(&self, command: Command) -> Result<(), Refusal> {
        self.commands.send(command).await.map_err(|_| Refusal::Stopped)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Fails only when the member has stopped.
        let _ = self.closed.send(self.id);
    }
}
