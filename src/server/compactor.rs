//! Removes old revisions by itself, as `--auto-compaction-mode` and `--auto-compaction-retention` ask.
//!
//! Every member looks at the revision now and then, so that it knows the past when it comes to lead; the leader
//! alone compacts. As in etcd, a period is looked at ten times, and compacted once an hour at most.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{AutoCompaction, Config};
use crate::host::Clock;
use crate::proto::etcdserverpb::{CompactionRequest, InternalRaftRequest};
use crate::raft;

/// Longest time between two compactions of a period.
const PERIOD_MAX_MS: u64 = 3_600_000;

/// How often a period is looked at.
const LOOKS: u64 = 10;

/// Revisions that were current at some time, oldest first.
#[derive(Default)]
struct Past {
    seen: VecDeque<(Duration, i64)>,
}

impl Past {
    /// `revision` is the current one now. The one that was current `period` ago, if that is known.
    fn look(&mut self, now: Duration, revision: i64, period: Duration) -> Option<i64> {
        self.seen.push_back((now, revision));
        let is_old = |at: &Duration| now.saturating_sub(*at) >= period;
        // Of those that are old enough only the newest counts.
        while self.seen.get(1).is_some_and(|(at, _)| is_old(at)) {
            self.seen.pop_front();
        }
        self.seen.front().filter(|(at, _)| is_old(at)).map(|(_, revision)| *revision)
    }
}

/// Compacts until the member stops.
pub(super) async fn run(handle: raft::Handle, config: Arc<Config>, clock: Arc<dyn Clock>) {
    let (pause_ms, period_ms) = match config.auto_compaction {
        AutoCompaction::Off => return,
        AutoCompaction::Revision { .. } => (config.limits.auto_compaction_look_ms, 0),
        AutoCompaction::Periodic { retention_ms } => {
            ((retention_ms.min(PERIOD_MAX_MS) / LOOKS).max(1), retention_ms)
        }
    };
    let mut past = Past::default();
    let mut compacted = (Duration::ZERO, 0);
    loop {
        tokio::select! {
            biased;
            () = handle.ending() => return,
            () = clock.sleep(Duration::from_millis(pause_ms)) => {}
        }
        let (now, current) = (clock.monotonic(), handle.revision());
        let (wanted, every_ms) = match config.auto_compaction {
            AutoCompaction::Revision { retention } => (Some(current - retention), 0),
            _ => {
                let period = Duration::from_millis(period_ms);
                (past.look(now, current, period), period_ms.min(PERIOD_MAX_MS))
            }
        };
        let is_time = now.saturating_sub(compacted.0) >= Duration::from_millis(every_ms);
        let Some(revision) = wanted.filter(|it| *it > compacted.1 && *it > 0 && is_time) else {
            continue;
        };
        if !handle.leads() {
            continue;
        }
        let compaction = Some(CompactionRequest { revision, physical: false });
        let request = InternalRaftRequest { compaction, ..Default::default() };
        match handle.propose(request).await {
            Ok(_) => {
                tracing::info!("compacted up to revision {revision}, as asked for by flags");
                compacted = (now, revision);
            }
            Err(refusal) => tracing::info!("not compacted up to {revision}: {}", refusal.text()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is compacted is what was current a period ago, and nothing before a period has passed.
    #[test]
    fn the_past() {
        let mut past = Past::default();
        let mut look = |at_s, revision| {
            past.look(Duration::from_secs(at_s), revision, Duration::from_secs(10))
        };
        let looks = [(0, 5), (4, 9), (8, 20), (12, 30), (16, 31), (40, 50)];
        let found = looks.map(|(at_s, revision)| look(at_s, revision));
        assert_eq!(found, [None, None, None, Some(5), Some(9), Some(31)]);
    }
}
