//! Recovers a member, apart from the cluster, from the durable states that a power cut could leave of its disk.
//!
//! One instant of one member: its disk is copied, and the run goes on with the loss that the plan has for it. Of the
//! copy every legal state is made (bounded, see `world::disk::states`), and of each:
//! * the real server starts on it, recovers, and applies what it knows to be committed;
//! * a second power cut, right after, leaves a log that keeps all that the log had promised at the instant: entries,
//!   term and vote that a sync had covered;
//! * the state at the applied index is that of every other member, and of every other such state, at that index.
//!
//! What the log had promised is read from the copy as if the power had taken what was written since the last syncs,
//! and no name: a name that was not synced in time is what this looks for.
//!
//! Left out: members whose disks are damaged already (they may refuse); hashes of a member that is alone (apart, it
//! goes on by itself).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use snowglobe::config::Config;
use snowglobe::error::{Error, Result};
use snowglobe::host::Host;
use snowglobe::server::Server;
use snowglobe::wal::{self, HardState, SnapshotStore, Wal};
use tokio::sync::oneshot;

use super::cluster::Cluster;
use super::recorder::Recorder;
use crate::world::{Apart, Image};

/// The rule that is watched here.
const RULE: &str = "crash-states";

/// So often a member apart is asked whether it has applied what is committed, and so long it has in between.
const LOOKS_MAX: u32 = 100;
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A member that does not answer in time is not asked for its hash: it may stand still.
const HASH_PATIENCE_NS: u64 = 50_000_000;

/// See the module.
pub struct CrashStates {
    cluster: Cluster,
    recorder: Recorder,
    waiting: Vec<Instant>,
    /// Applied index → hash of all state there, and whose.
    hashes: BTreeMap<u64, (u64, String)>,
}

/// A member's disk at an instant.
struct Instant {
    member: usize,
    image: Image,
    states_max: usize,
}

/// What a start on a state came to.
struct Recovered {
    applied: u64,
    hash: u64,
    is_alone: bool,
}

impl CrashStates {
    /// Nothing is waiting to be examined.
    #[must_use]
    pub fn new(cluster: &Cluster, recorder: &Recorder) -> Self {
        let (cluster, recorder) = (cluster.clone(), recorder.clone());
        Self { cluster, recorder, waiting: Vec::new(), hashes: BTreeMap::new() }
    }

    /// Keeps a copy of a member's disk as it is now.
    pub fn keep(&mut self, member: usize, states_max: usize) {
        let disk = self.cluster.world.disk(self.cluster.node(member));
        if disk.is_damaged() || disk.image.has_dropped() {
            return self.recorder.met("crash_states_left_out", 1);
        }
        self.waiting.push(Instant { member, image: disk.image.copy(), states_max });
    }

    /// Asks the members that answer at once for their hashes, to compare with.
    pub async fn sample(&mut self) {
        for member in self.cluster.current() {
            let Some(handle) = self.cluster.way_in(member) else { continue };
            let told = tokio::select! {
                biased;
                told = handle.hash_all() => told.ok(),
                () = self.cluster.world.sleep(HASH_PATIENCE_NS) => None,
            };
            if let Some((applied, hash)) = told
                && let Some(sentence) =
                    self.compare(applied, hash, self.cluster.name(member).into())
            {
                self.recorder.broken(RULE, sentence);
            }
        }
    }

    /// Goes through all states of the disks that were kept.
    pub async fn examine(&mut self) {
        for instant in std::mem::take(&mut self.waiting) {
            if let Some(sentence) = self.examine_one(&instant).await {
                return self.recorder.broken(RULE, sentence);
            }
        }
    }

    /// What is wrong with one of the states, if anything.
    async fn examine_one(&mut self, instant: &Instant) -> Option<String> {
        let Instant { member, image, states_max } = instant;
        let config = self.cluster.config(*member)?;
        let name = self.cluster.name(*member).to_string();
        let promised = {
            let apart = self.apart(*member, image.after_all_data_lost());
            log_on(&apart, &config).await
        };
        let promised = match promised {
            Ok(promised) => promised,
            Err(error) => return Some(format!("the log of {name} cannot be read: {error}")),
        };
        for lost in image.ways_to_lose(*states_max) {
            let apart = self.apart(*member, image.after(&lost));
            let found = self.recover(&apart, &config, &name).await;
            drop(apart);
            let wrong = match found {
                Ok(found) => {
                    promised.as_ref().and_then(|promised| promised.broken_by(found.as_ref()))
                }
                Err(sentence) => Some(sentence),
            };
            if let Some(sentence) = wrong {
                let lost = image.describe(&lost);
                return Some(format!("{name}, where a power cut takes {lost}: {sentence}"));
            }
            self.recorder.met("crash_states", 1);
        }
        None
    }

    fn apart(&self, member: usize, image: Image) -> Apart {
        self.cluster.world.apart(self.cluster.node(member), image)
    }

    /// Starts the server on a state, and reads what its log holds after another power cut. Errors: what is wrong, as a
    /// sentence.
    async fn recover(
        &mut self,
        apart: &Apart,
        config: &Config,
        name: &str,
    ) -> std::result::Result<Option<Log>, String> {
        let (tell, told) = oneshot::channel();
        apart.spawn(start(apart.host(), config.clone(), tell));
        let recovered = told.await.map_err(|_| "the start was given up".to_string())?;
        let recovered = recovered.map_err(|error| format!("it does not start: {error}"))?;
        if let Some(Recovered { applied, hash, is_alone }) = recovered {
            let numbers = [("applied", applied), ("hash", hash)];
            self.cluster.world.note("crash-state", name, "", &numbers);
            let who = format!("{name} from such a state");
            if !is_alone && let Some(sentence) = self.compare(applied, hash, who) {
                return Err(sentence);
            }
        }
        apart.lose_power();
        let log = log_on(apart, config).await;
        log.map_err(|error| format!("started and cut off again, its log cannot be read: {error}"))
    }

    /// Remembers a hash; a sentence where another one is known of the same index.
    fn compare(&mut self, applied: u64, hash: u64, who: String) -> Option<String> {
        let Some((known, whose)) = self.hashes.get(&applied) else {
            self.hashes.insert(applied, (hash, who));
            return None;
        };
        self.recorder.met("crash_states_compared", 1);
        (*known != hash).then(|| {
            format!("at index {applied} the state of {who} has hash {hash:016x}, that of {whose} {known:016x}")
        })
    }
}

/// Starts a member, waits until it has applied what is committed, tells, and stays as it is.
async fn start(
    host: Arc<dyn Host>,
    config: Config,
    tell: oneshot::Sender<Result<Option<Recovered>>>,
) {
    let server = match Server::start(Arc::clone(&host), config).await {
        Ok(server) => server,
        // One that was never told who it is, and one that is none any more: both may say so.
        Err(Error::Config(why))
            if why.starts_with("cannot join the cluster")
                || why.contains("has been removed from cluster") =>
        {
            drop(tell.send(Ok(None)));
            return;
        }
        Err(error) => {
            drop(tell.send(Err(error)));
            return;
        }
    };
    let recovered = tokio::select! {
        biased;
        error = server.failed() => Err(error),
        recovered = settled(&*host, &server) => recovered,
    };
    drop(tell.send(recovered.map(Some)));
    // As with every process: whoever ends it takes it apart.
    std::future::pending::<()>().await;
    drop(server);
}

async fn settled(host: &dyn Host, server: &Server) -> Result<Recovered> {
    for _ in 0..LOOKS_MAX {
        let status = server.handle().status().await?;
        if status.applied >= status.commit {
            let (applied, hash) = server.handle().hash_all().await?;
            return Ok(Recovered { applied, hash, is_alone: status.voters.len() <= 1 });
        }
        host.clock().sleep(LOOK_EVERY).await;
    }
    Err(Error::Fatal("it does not apply what is committed".into()))
}

/// What a log holds.
#[derive(Debug, PartialEq, Eq)]
struct Log {
    hard_state: HardState,
    /// The index of the snapshot that it is read from.
    first: u64,
    /// The terms of the entries after that.
    terms: Vec<u64>,
}

impl Log {
    fn last(&self) -> u64 {
        self.first + self.terms.len() as u64
    }

    fn term_at(&self, index: u64) -> Option<u64> {
        let place = usize::try_from(index.checked_sub(self.first + 1)?).ok()?;
        self.terms.get(place).copied()
    }

    /// What this log had promised and `found`, read from the same disk after a power cut, does not keep.
    fn broken_by(&self, found: Option<&Self>) -> Option<String> {
        let Some(found) = found else {
            return Some(format!(
                "there is no log, but it had promised term {}",
                self.hard_state.term
            ));
        };
        let (before, after) = (self.hard_state, found.hard_state);
        if after.term < before.term {
            return Some(format!(
                "it is in term {}, but had promised term {}",
                after.term, before.term
            ));
        }
        if after.term == before.term && before.vote != 0 && after.vote != before.vote {
            let (term, vote) = (before.term, before.vote);
            return Some(format!("it had voted for {vote:x} in term {term}, and has forgotten it"));
        }
        if after.commit < before.commit {
            let (before, after) = (before.commit, after.commit);
            return Some(format!("it knew that {before} was committed, and knows of {after} now"));
        }
        for index in self.first + 1..=self.last() {
            let term = self.term_at(index)?;
            match found.term_at(index) {
                _ if index <= found.first => {}
                Some(there) if there == term => {}
                // A leader of a later term has replaced what was never committed, and all behind it.
                Some(there) if there > term && index > before.commit => return None,
                there => {
                    let there = there.map_or_else(
                        || format!("its log ends at {}", found.last()),
                        |there| format!("its log has one of term {there} there"),
                    );
                    return Some(format!(
                        "it had promised entry {index} of term {term}, but {there}"
                    ));
                }
            }
        }
        None
    }
}

/// Has a process on a machine apart read the log.
async fn log_on(apart: &Apart, config: &Config) -> Result<Option<Log>> {
    let (host, config) = (apart.host(), config.clone());
    let reading = apart.spawn(async move { read_log(&*host, &config).await });
    reading.await.expect("nobody ends it, and it does not panic")
}

/// Reads the log that a member left behind; `None` where it has none yet.
async fn read_log(host: &dyn Host, config: &Config) -> Result<Option<Log>> {
    let (disk, dir) = (host.disk(), config.wal_dir());
    if !Wal::exists(&*disk, &dir)? {
        return Ok(None);
    }
    let marks = Wal::marks(&disk, &dir).await?;
    let snapshots = SnapshotStore::new(Arc::clone(&disk), &config.snap_dir())?;
    let newest = snapshots.newest_usable(&marks)?;
    let mark = newest.file.map_or_else(wal::Mark::default, |file| file.meta.mark);
    let options = wal::Options { segment_bytes: config.limits.wal_segment_bytes };
    let (_, recovered) = Wal::open(disk, &dir, mark, options).await?;
    let terms = recovered.entries.iter().map(|entry| entry.term).collect();
    Ok(Some(Log { hard_state: recovered.hard_state, first: mark.index, terms }))
}

#[cfg(test)]
mod tests {
    use super::{HardState, Log};

    fn log(text: &str) -> Log {
        let numbers: Vec<u64> =
            text.split_whitespace().map(|it| it.parse().expect("a number")).collect();
        let [term, vote, commit, first, ref terms @ ..] = numbers[..] else { panic!("{text}") };
        Log { hard_state: HardState { term, vote, commit }, first, terms: terms.to_vec() }
    }

    /// What a log promised, what was found of it, and what is said; logs as term, vote, commit, first, terms.
    #[test]
    fn promises() {
        let check = |promised: &str, found: &str, said: &str| {
            let said_now = log(promised).broken_by(Some(&log(found))).unwrap_or_default();
            assert_eq!(said_now, said, "{promised} → {found}");
        };
        check("3 1 5 4  2 3 3", "3 1 5 4  2 3 3", "");
        check("3 1 5 4  2 3 3", "4 2 6 4  2 3 3 4", "");
        check("3 1 5 4  2 3 3", "3 1 6 6  3", "");
        check("3 1 5 4  2 3 3", "3 1 9 9", "");
        check("3 1 5 4  2 3 3", "4 1 5 4  2 4", "");
        check("3 1 5 4  2 3 3", "2 1 5 4  2 3 3", "it is in term 2, but had promised term 3");
        check(
            "3 1 5 4  2 3 3",
            "3 2 5 4  2 3 3",
            "it had voted for 1 in term 3, and has forgotten it",
        );
        check(
            "3 1 5 4  2 3 3",
            "3 1 4 4  2 3 3",
            "it knew that 5 was committed, and knows of 4 now",
        );
        check(
            "3 1 5 4  2 3 3",
            "3 1 5 4  2 3",
            "it had promised entry 7 of term 3, but its log ends at 6",
        );
        let other = "it had promised entry 5 of term 2, but its log has one of term 3 there";
        check("3 1 5 4  2 3 3", "3 1 5 4  3 3 3", other);
        let older = "it had promised entry 6 of term 3, but its log has one of term 2 there";
        check("3 1 5 4  2 3 3", "3 1 5 4  2 2 3", older);
        let none = log("3 1 5 4  2 3 3").broken_by(None).expect("it had promised something");
        assert_eq!(none, "there is no log, but it had promised term 3");
    }
}
