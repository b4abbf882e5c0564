//! What is written down while a run goes on: the history, and what the runner itself has noticed.
//!
//! Survives a panic of the run: what was seen until then is still judged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::checker::watch::Rest;
use crate::grid::Count;
use crate::history::{Failure, Operation, Outcome, Request, Response};
use crate::world::World;

/// Operations that are still under way are among the last so many, but for watches.
const UNDER_WAY_MAX: usize = 50;

/// Shared by all tasks of one run.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Notes>>);

/// What was written down.
#[derive(Default)]
pub struct Notes {
    /// The world, to ask for its trace and counters in the end.
    pub world: Option<World>,
    /// What clients saw.
    pub history: Vec<Operation>,
    /// Faults that were done, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Situations that occurred, by name.
    pub met: BTreeMap<String, u64>,
    /// Disk faults by kind, role of the member and class of file.
    pub disk_faults: BTreeMap<String, Count>,
    /// Members that died of themselves: name and last words.
    pub deaths: Vec<(String, String)>,
    /// Whether the cluster may stop: its disks are damaged beyond what it can do without.
    pub may_stop: bool,
    /// The last words of members that ended because their disks failed them, and have not served since.
    pub last_words: BTreeMap<String, String>,
    /// Rules that the runner watches itself, broken: rule and sentence.
    pub broken: Vec<(&'static str, String)>,
    /// Why the healed cluster has not recovered.
    pub stuck: Option<String>,
    /// When everything had come to rest in the end; absent if it did not.
    pub rest: Option<Rest>,
    /// Virtual time of the last event.
    pub now_ns: u64,
}

impl Recorder {
    /// The notes, for reading or adding.
    pub fn notes(&self) -> MutexGuard<'_, Notes> {
        // A panic while the notes were held leaves them whole: every change is one step.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes everything out.
    #[must_use]
    pub fn take(&self) -> Notes {
        std::mem::take(&mut *self.notes())
    }

    /// An operation begins: its number.
    pub fn called(&self, client: u32, member: &str, request: &Request, now_ns: u64) -> u64 {
        self.called_by(client, None, member, request, now_ns)
    }

    /// An operation of a client that says who it is begins: its number.
    pub fn called_by(
        &self,
        client: u32,
        user: Option<&str>,
        member: &str,
        request: &Request,
        now_ns: u64,
    ) -> u64 {
        let mut notes = self.notes();
        let op = notes.history.len() as u64;
        notes.history.push(Operation {
            op,
            client,
            user: user.map(str::to_owned),
            member: member.to_string(),
            call: now_ns,
            returned: None,
            request: request.clone(),
            response: None,
            outcome: Outcome::Unknown,
            error: None,
        });
        notes.now_ns = now_ns;
        op
    }

    /// An operation ends.
    pub fn returned(&self, op: u64, result: Result<Response, (Outcome, Failure)>, now_ns: u64) {
        let mut notes = self.notes();
        notes.now_ns = now_ns;
        let operation = &mut notes.history[usize::try_from(op).expect("numbers are indices")];
        operation.returned = Some(now_ns);
        match result {
            Ok(response) => {
                operation.outcome = Outcome::Ok;
                operation.response = Some(response);
            }
            Err((outcome, failure)) => {
                operation.outcome = outcome;
                operation.error = Some(failure);
            }
        }
    }

    /// Whether some client waits for the answer to a write.
    #[must_use]
    pub fn awaits_a_write(&self) -> bool {
        let is_write = |request: &Request| {
            matches!(request, Request::Put(_) | Request::DeleteRange(_) | Request::Txn(_))
        };
        let notes = self.notes();
        let latest = notes.history.iter().rev().take(UNDER_WAY_MAX);
        latest.filter(|it| it.returned.is_none()).any(|it| is_write(&it.request))
    }

    /// Counts a fault that was done.
    pub fn fault(&self, kind: &str) {
        *self.notes().faults.entry(kind.to_string()).or_default() += 1;
    }

    /// Counts a situation that occurred.
    pub fn met(&self, name: &str, more: u64) {
        if more > 0 {
            *self.notes().met.entry(name.to_string()).or_default() += more;
        }
    }

    /// A member died of itself.
    pub fn died(&self, member: &str, words: String) {
        self.notes().deaths.push((member.to_string(), words));
    }

    /// A member ended because its disk failed it, or disks of others may have.
    pub fn ended(&self, member: &str, words: String) {
        self.notes().last_words.insert(member.to_string(), words);
    }

    /// A member serves.
    pub fn serves(&self, member: &str) {
        self.notes().last_words.remove(member);
    }

    /// Whether the cluster may stop.
    #[must_use]
    pub fn may_stop(&self) -> bool {
        self.notes().may_stop
    }

    /// A rule that the runner watches was broken; only the first time counts.
    pub fn broken(&self, rule: &'static str, sentence: String) {
        let mut notes = self.notes();
        if notes.broken.iter().all(|(known, _)| *known != rule) {
            notes.broken.push((rule, sentence));
        }
    }

    /// Whether nothing that follows could change the verdict for the better.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let notes = self.notes();
        !notes.deaths.is_empty() || !notes.broken.is_empty()
    }
}
