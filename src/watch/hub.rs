//! The watchers' task: takes in what streams want and what has changed, and lets those who are behind
//! read the past, a piece at a time.
//!
//! Invariants:
//! * Between two pieces of history everybody else gets their turn.
//! * Nothing here waits for a client. It waits for the loop only when it reads history, and the loop
//!   never waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::groups::{Groups, Outlets, Spec};
use super::news::{Batch, News};
use super::stream::{Created, Outlet};
use crate::config::Limits;
use crate::error::{Error, Refusal, Result};
use crate::host::{BoxFuture, Clock};
use crate::raft::{Changes, Handle, Slice};

/// What streams want.
#[derive(Debug)]
pub(super) enum Command {
    Open { stream: u64, outlet: Outlet },
    Create { stream: u64, spec: Spec, answer: oneshot::Sender<Created> },
    Cancel { watcher: u64, answer: oneshot::Sender<i64> },
    AskProgress { stream: u64 },
    Relieved { stream: u64 },
}

/// See the module.
pub(super) struct Hub {
    groups: Groups,
    outlets: Queues,
    handle: Handle,
    clock: Arc<dyn Clock>,
    limits: Limits,
    commands: mpsc::Receiver<Command>,
    closed: mpsc::UnboundedReceiver<u64>,
    changes: Changes,
    /// When the loop was too busy for history: until then it is left alone.
    pause: Option<BoxFuture<'static, ()>>,
}

/// The streams' queues.
#[derive(Default)]
struct Queues {
    outlets: BTreeMap<u64, Outlet>,
    /// Those that did not take what they were offered.
    starved: BTreeSet<u64>,
}

impl Outlets for Queues {
    fn offer(&mut self, stream: u64, news: News) -> bool {
        let is_taken = self.outlets.get_mut(&stream).is_some_and(|outlet| outlet.offer(news));
        if !is_taken {
            self.starved.insert(stream);
        }
        is_taken
    }
}

/// What woke the task.
enum Woken {
    Ended,
    Command(Command),
    Closed(u64),
    Slice(Slice),
    Progress,
    Rested,
}

impl Hub {
    pub(super) fn new(
        handle: Handle,
        changes: Changes,
        clock: Arc<dyn Clock>,
        limits: Limits,
        commands: mpsc::Receiver<Command>,
        closed: mpsc::UnboundedReceiver<u64>,
    ) -> Self {
        let groups = Groups::new(changes.revision());
        let outlets = Queues::default();
        Self { groups, outlets, handle, clock, limits, commands, closed, changes, pause: None }
    }

    /// Runs until the loop ends, or the member is about to stop. Dropping the queues ends all streams.
    ///
    /// # Errors
    /// The database cannot be read: nothing can be told that is certainly true.
    pub(super) async fn run(mut self) -> Result<()> {
        let interval = Duration::from_millis(self.limits.watch_progress_interval_ms);
        let mut progress = self.clock.sleep(interval);
        let handle = self.handle.clone();
        let mut ending = pin!(handle.ending());
        loop {
            while self.relieve() {}
            let is_idle = self.groups.next_piece().is_none() || self.pause.is_some();
            if is_idle {
                match self.wait(ending.as_mut(), &mut progress).await {
                    Woken::Ended => return Ok(()),
                    Woken::Progress => {
                        self.groups.notify_progress(&mut self.outlets);
                        progress = self.clock.sleep(interval);
                    }
                    Woken::Command(command) => self.on_command(command),
                    Woken::Closed(stream) => self.on_closed(stream),
                    Woken::Slice(slice) => self.on_slice(slice),
                    Woken::Rested => self.pause = None,
                }
            } else {
                tokio::task::yield_now().await;
            }
            self.drain();
            if self.pause.is_none() {
                self.catch_up().await?;
            }
        }
    }

    async fn wait(
        &mut self,
        ending: Pin<&mut impl Future<Output = ()>>,
        progress: &mut BoxFuture<'static, ()>,
    ) -> Woken {
        let rested = async {
            match &mut self.pause {
                Some(pause) => pause.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = ending => Woken::Ended,
            Some(command) = self.commands.recv() => Woken::Command(command),
            Some(stream) = self.closed.recv() => Woken::Closed(stream),
            slice = self.changes.next() => slice.map_or(Woken::Ended, Woken::Slice),
            () = progress => Woken::Progress,
            () = rested => Woken::Rested,
        }
    }

    /// Takes in what else is there, a bounded part of it.
    fn drain(&mut self) {
        for _ in 0..self.limits.watch_turn_events {
            let Ok(command) = self.commands.try_recv() else { break };
            self.on_command(command);
        }
        while let Ok(stream) = self.closed.try_recv() {
            self.on_closed(stream);
        }
        for _ in 0..self.limits.watch_turn_events {
            let Some(slice) = self.changes.try_next() else { break };
            self.on_slice(slice);
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Open { stream, outlet } => {
                self.outlets.outlets.insert(stream, outlet);
            }
            Command::Create { stream, spec, answer } => {
                // Before the revision is looked at: see the feed's invariants.
                self.changes.watched_by(self.groups.len() + 1);
                let revision = self.changes.revision();
                let watcher = self.groups.create(stream, spec, revision);
                if answer.send(Created { watcher, revision }).is_err() {
                    self.groups.cancel(watcher);
                }
            }
            Command::Cancel { watcher, answer } => {
                self.groups.cancel(watcher);
                self.changes.watched_by(self.groups.len());
                // The stream may have gone.
                let _ = answer.send(self.changes.revision());
            }
            Command::AskProgress { stream } => {
                self.groups.ask_progress(stream, &mut self.outlets);
            }
            // All starved streams are looked at each turn.
            Command::Relieved { stream } => drop(self.outlets.starved.insert(stream)),
        }
    }

    fn on_closed(&mut self, stream: u64) {
        self.groups.close(stream);
        self.outlets.outlets.remove(&stream);
        self.outlets.starved.remove(&stream);
        self.changes.watched_by(self.groups.len());
    }

    fn on_slice(&mut self, slice: Slice) {
        let Slice { from, to, changes, .. } = slice;
        self.groups.changed(from, to, &Arc::new(Batch::new(changes)), &mut self.outlets);
    }

    /// Goes on with streams that have room again; whether there were any.
    fn relieve(&mut self) -> bool {
        let outlets = &self.outlets.outlets;
        let is_relieved =
            |stream: &&u64| outlets.get(stream).is_some_and(|outlet| outlet.is_relieved());
        let relieved: Vec<u64> = self.outlets.starved.iter().filter(is_relieved).copied().collect();
        for stream in &relieved {
            self.outlets.starved.remove(stream);
            self.groups.has_room(*stream, &mut self.outlets);
        }
        !relieved.is_empty()
    }

    /// Lets those whose turn it is read a piece of the past.
    async fn catch_up(&mut self) -> Result<()> {
        if self.groups.next_piece().is_none() {
            return Ok(());
        }
        let mut history = match self.handle.history().await {
            Ok(history) => history,
            // The feed's end will be noticed.
            Err(Refusal::Stopped) => return Ok(()),
            Err(refusal) => {
                tracing::debug!("no history for watchers now: {}", refusal.text());
                let pause = Duration::from_millis(self.limits.watch_retry_ms);
                self.pause = Some(self.clock.sleep(pause));
                return Ok(());
            }
        };
        let present = history.current();
        self.groups.compacted(history.compact(), present, &mut self.outlets);
        let Some(from) = self.groups.next_piece() else { return Ok(()) };
        if from > present {
            return Err(Error::Fatal(format!(
                "a watcher wants to read revision {from}, the present is {present}"
            )));
        }
        let Limits { watch_piece_changes, watch_piece_bytes, watch_catch_up_watchers, .. } =
            self.limits;
        let piece = history.read(from, watch_piece_changes, watch_piece_bytes)?;
        let batch = Arc::new(Batch::new(piece.changes));
        self.groups.caught_up(
            (from, piece.end),
            present,
            &batch,
            watch_catch_up_watchers,
            &mut self.outlets,
        );
        Ok(())
    }
}
