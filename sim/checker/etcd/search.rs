//! Chooses owners for the holes that evidence leaves open, and chooses again where a choice led to a conflict.
//!
//! A conflict names the keys that it rests upon, or the choices that used up the operations it would need. It goes
//! back to the latest choice that could have touched one of those keys since it was last confirmed by an answer.
//! Choices that have nothing to do with it are not tried again, nor alternatives that touch none of the keys. If
//! nothing is left, the conflict is real: nothing that could have happened explains the answer.
//!
//! Not decided: conflicts found after the budget of [`SEARCH_STEPS`] is spent. They become doubts.

use std::collections::{BTreeMap, BTreeSet};

use super::History;
use super::evidence::{Evidence, Suspects, Unknown};
use super::exclude::{Branching, compared_keys};
use super::explain::Explain;
use super::judge::{Diff, Judge};
use super::lease::Accusation;
use super::order::Order;
use super::replay::Replay;
use super::timeline::Timeline;

/// How many revisions and candidates may be tried again in one history: about half a second.
const SEARCH_STEPS: u64 = 2_000_000;
/// Most doubts that are listed.
const DOUBTS_MAX: usize = 5;
/// Deletes of more keys than this are not listed under each key.
const WIDE_KEYS: usize = 256;

/// What a conflict rests upon.
#[derive(Clone, Debug, Default)]
pub(super) struct Blame {
    /// Keys, each with the revisions that matter to it: behind the one at which an answer last confirmed it, up to
    /// the last one that can have been there.
    pub(super) keys: BTreeMap<u32, (i64, i64)>,
    /// Revisions of the choices that used an operation which is needed now.
    pub(super) choices: BTreeSet<i64>,
}

impl Blame {
    fn merge(&mut self, other: &Self) {
        for (key, (since, until)) in &other.keys {
            self.add_up_to(*key, *since, *until);
        }
        self.choices.extend(&other.choices);
    }

    pub(super) fn add(&mut self, key: u32, since: i64) {
        self.add_up_to(key, since, i64::MAX);
    }

    pub(super) fn add_up_to(&mut self, key: u32, since: i64, until: i64) {
        let (first, last) = self.keys.entry(key).or_insert((since, until));
        (*first, *last) = (since.min(*first), until.max(*last));
    }

    /// Blames the choice made for a revision.
    pub(super) fn choose(&mut self, revision: i64) {
        self.choices.insert(revision);
    }

    fn concerns(&self, unknown: &Unknown<'_>) -> bool {
        self.keys.keys().any(|key| unknown.touches(*key))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.choices.is_empty()
    }
}

/// Something that cannot be with the choices as they are.
pub(super) struct Conflict<'a> {
    /// The operation whose answer differs; `None` if the hole has no owner left.
    pub(super) op: Option<u32>,
    /// What a lease is accused of, if it is about one.
    pub(super) lease: Option<Box<Accusation>>,
    pub(super) blame: Blame,
    pub(super) diffs: Vec<Diff<'a>>,
}

pub(super) struct Choice {
    pub(super) hole: usize,
    pub(super) revision: i64,
    /// Where the store's undo list stood before.
    mark: usize,
    tried: Vec<u32>,
    blame: Blame,
    /// Sets of keys of which a mending alternative must touch one.
    demanded: Vec<Vec<u32>>,
    unknown: u32,
    demand: Option<usize>,
}

impl Choice {
    /// Whether an operation could mend every conflict that the choice did not cause itself.
    pub(super) fn admits(&self, unknown: &Unknown<'_>) -> bool {
        self.demanded.iter().all(|keys| keys.iter().any(|key| unknown.touches(*key)))
    }
}

/// The state of the search.
pub(super) struct Search {
    choices: Vec<Choice>,
    /// For each unknown operation: the revision it was chosen for or settled on; 0 for none.
    pub(super) used: Vec<i64>,
    /// Unknown operations that could touch a key.
    pub(super) touching: BTreeMap<u32, Vec<u32>>,
    /// Those with wide deletes.
    pub(super) wide: Vec<u32>,
    confirmed: Vec<i64>,
    left: Vec<i64>,
    pub(super) branching: Vec<Branching>,
    /// Per key and kind (put or not): unused single writes less what all demands still need.
    surplus: Vec<[i64; 2]>,
    /// Demands that have begun: (until, number).
    active: BTreeSet<(i64, usize)>,
    next_demand: usize,
    reached: i64,
    pub(super) steps: u64,
    /// Keys about which a violation is already known.
    hopeless: BTreeSet<u32>,
    /// The first lease that did not fit although everything else did; until it is filed.
    first_lease: Option<Box<Accusation>>,
    pub(super) is_spent: bool,
}

impl Search {
    pub(super) fn new(history: &History<'_>, evidence: &Evidence<'_>, timeline: &Timeline) -> Self {
        let mut search = Self {
            choices: Vec::new(),
            used: vec![0; evidence.unknowns.len()],
            touching: BTreeMap::new(),
            wide: Vec::new(),
            confirmed: Vec::new(),
            left: timeline.demands.iter().map(|demand| demand.left).collect(),
            branching: Vec::new(),
            surplus: Vec::new(),
            active: BTreeSet::new(),
            next_demand: 0,
            reached: 0,
            steps: 0,
            hopeless: BTreeSet::new(),
            first_lease: None,
            is_spent: false,
        };
        for (number, hole) in evidence.reserved.iter().enumerate() {
            if let Some(hole) = hole {
                search.used[number] = evidence.holes[*hole as usize].revision;
            }
        }
        if timeline.is_open.is_empty() {
            return search;
        }
        search.branching = Branching::list(history, evidence);
        search.confirmed = vec![0; history.keys.len()];
        search.surplus = vec![[0; 2]; history.keys.len()];
        for (number, unknown) in evidence.unknowns.iter().enumerate() {
            if evidence.reserved[number].is_some() {
                continue;
            }
            search.spare(unknown, 1);
            let mut keys: BTreeSet<u32> = unknown.puts.iter().map(|put| put.key).collect();
            for span in &unknown.deletes {
                if span.len() <= WIDE_KEYS {
                    keys.extend(span.clone());
                } else {
                    search.wide.push(number as u32);
                }
            }
            for key in keys {
                search.touching.entry(key).or_default().push(number as u32);
            }
        }
        for demand in &timeline.demands {
            search.surplus[demand.key as usize][usize::from(demand.is_put)] -= demand.left;
        }
        search
    }

    /// Adds to the surplus of what the operation does.
    fn spare(&mut self, unknown: &Unknown<'_>, more: i64) {
        if let Some((key, is_put)) = kind(unknown) {
            self.surplus[key as usize][usize::from(is_put)] += more;
        }
    }

    pub(super) fn has_choices(&self) -> bool {
        !self.choices.is_empty()
    }

    pub(super) fn count_step(&mut self, at: i64) {
        if at <= self.reached {
            self.steps += 1;
        }
        self.reached = self.reached.max(at);
    }

    /// An answer at `at` agreed with everything held of the key.
    pub(super) fn confirm(&mut self, key: u32, at: i64) {
        if let Some(confirmed) = self.confirmed.get_mut(key as usize) {
            *confirmed = at;
        }
    }

    /// The open ones among `keys`, each with its last confirmation before `at`.
    pub(super) fn blame(
        &self,
        timeline: &Timeline,
        keys: impl Iterator<Item = u32>,
        at: i64,
    ) -> Blame {
        let mut blame = Blame::default();
        if !self.choices.is_empty() {
            let is_open =
                |key: &u32| timeline.is_open[*key as usize] && !self.hopeless.contains(key);
            for key in keys.filter(is_open) {
                blame.add(key, self.confirmed_before(key, at));
            }
            self.spread(timeline, &mut blame);
        }
        blame
    }

    /// A confirmation from a later revision is left over from before a step back.
    pub(super) fn confirmed_before(&self, key: u32, at: i64) -> i64 {
        Some(self.confirmed[key as usize]).filter(|confirmed| *confirmed < at).unwrap_or(0)
    }

    /// The latest choice with an alternative that touches a blamed key after its confirmation.
    pub(super) fn latest_choice(
        &self,
        evidence: &Evidence<'_>,
        order: &Order,
        blame: &Blame,
    ) -> Option<usize> {
        (0..self.choices.len()).rev().find(|number| {
            let choice = &self.choices[*number];
            blame.choices.contains(&choice.revision)
                || blame.keys.iter().any(|(key, (since, until))| {
                    (since + 1..=*until).contains(&choice.revision)
                        && self.could_touch(evidence, order, choice, *key)
                })
        })
    }

    fn could_touch(
        &self,
        evidence: &Evidence<'_>,
        order: &Order,
        choice: &Choice,
        key: u32,
    ) -> bool {
        let deadline = order.deadline[choice.revision as usize];
        // An operation that an earlier choice used counts too: it could be free.
        let could = |number: &u32| {
            let unknown = &evidence.unknowns[*number as usize];
            unknown.call <= deadline && unknown.fits(choice.revision) && unknown.touches(key)
        };
        match &evidence.holes[choice.hole].suspects {
            Suspects::Some(list) => list.iter().any(could),
            _ => {
                let listed = self.touching.get(&key).into_iter().flatten();
                listed.chain(&self.wide).any(could)
            }
        }
    }

    fn begin_demands(&mut self, timeline: &Timeline, revision: i64) {
        while let Some(demand) = timeline.demands.get(self.next_demand)
            && demand.after < revision
        {
            self.active.insert((demand.until, self.next_demand));
            self.next_demand += 1;
        }
    }
}

impl<'a> Replay<'_, 'a> {
    /// Opens a choice for a hole.
    pub(super) fn choose(&mut self, number: usize) -> Result<(), Conflict<'a>> {
        let revision = self.evidence.holes[number].revision;
        self.search.begin_demands(&self.timeline, revision);
        self.search.choices.push(Choice {
            hole: number,
            revision,
            mark: self.store.mark(),
            tried: Vec::new(),
            blame: Blame::default(),
            demanded: Vec::new(),
            unknown: 0,
            demand: None,
        });
        if self.choose_next() {
            return Ok(());
        }
        let choice = self.search.choices.pop().expect("just pushed");
        let mut blame = Blame::default();
        self.exclude(&choice, &mut blame);
        if self.search.is_spent
            || self.search.latest_choice(self.evidence, self.order, &blame).is_some()
        {
            return Err(Conflict { op: None, lease: None, blame, diffs: Vec::new() });
        }
        if self.fill_by_lone_end(number) {
            return Ok(());
        }
        self.report_vacant(number);
        self.patch(number);
        Ok(())
    }

    pub(super) fn report_vacant(&mut self, number: usize) {
        let at = self.evidence.holes[number].revision as usize;
        let violation = self.wrong_end(number).unwrap_or_else(|| {
            Explain(self.history).unexplained(self.evidence, self.order, number)
        });
        self.found.add(self.order.deadline[at], self.order.deadline_by[at], violation);
        self.vacant.insert(at as i64);
    }

    /// A hole with one possible owner.
    pub(super) fn fill_settled(&mut self, number: usize, unknown: u32) -> Result<(), Conflict<'a>> {
        if self.try_owner(number, unknown, false) {
            return Ok(());
        }
        let owner = &self.evidence.unknowns[unknown as usize];
        let request = owner.request;
        let keys = compared_keys(self.history, request).into_iter();
        let deleted = owner.deletes.iter().cloned().flatten();
        let keys = keys.chain(owner.puts.iter().map(|put| put.key)).chain(deleted);
        let blame = self.search.blame(&self.timeline, keys, self.evidence.holes[number].revision);
        if self.search.is_spent
            || self.search.latest_choice(self.evidence, self.order, &blame).is_some()
        {
            return Err(Conflict { op: None, lease: None, blame, diffs: Vec::new() });
        }
        self.search.used[unknown as usize] = 0;
        self.report_vacant(number);
        self.patch(number);
        Ok(())
    }

    /// Moves the last choice on to its next candidate; false when there is none.
    fn choose_next(&mut self) -> bool {
        let choice = self.search.choices.last().expect("a choice is open");
        let (number, revision) = (choice.hole, choice.revision);
        if let Suspects::Some(list) = &self.evidence.holes[number].suspects {
            return list.clone().into_iter().any(|unknown| self.attempt(unknown, None));
        }
        let revocations = self.evidence.revocations.get(&revision).cloned().unwrap_or_default();
        if revocations.into_iter().any(|unknown| self.attempt(unknown, None)) {
            return true;
        }
        let demands: Vec<usize> =
            self.search.active.range((revision, 0)..).map(|(_, demand)| *demand).collect();
        for demand in demands {
            let wanted = self.timeline.demands[demand];
            if wanted.after >= revision || self.search.left[demand] == 0 {
                continue;
            }
            let list = self.search.touching.get(&wanted.key).cloned().unwrap_or_default();
            for unknown in list {
                let owner = &self.evidence.unknowns[unknown as usize];
                let is_kind = owner.puts.iter().any(|put| put.key == wanted.key) == wanted.is_put;
                if is_kind && self.attempt(unknown, Some(demand)) {
                    return true;
                }
            }
        }
        let deadline = self.order.deadline[revision as usize];
        let in_time = self.evidence.unknowns.partition_point(|unknown| unknown.call <= deadline);
        for (is_spare, is_free) in [(true, true), (true, false), (false, true), (false, false)] {
            for unknown in 0..in_time as u32 {
                if self.search.used[unknown as usize] == 0
                    && self.is_spare(unknown) == is_spare
                    && self.is_unobserved(unknown, revision) == is_free
                    && self.attempt(unknown, None)
                {
                    return true;
                }
            }
        }
        false
    }

    /// Whether no demand will need the operation.
    fn is_spare(&self, unknown: u32) -> bool {
        let kind = kind(&self.evidence.unknowns[unknown as usize]);
        kind.is_some_and(|(key, put)| self.search.surplus[key as usize][usize::from(put)] > 0)
    }

    /// Whether nobody looked at what the operation could touch from this revision on.
    fn is_unobserved(&self, unknown: u32, revision: i64) -> bool {
        let unknown = &self.evidence.unknowns[unknown as usize];
        unknown.deletes.iter().all(|span| span.len() == 1)
            && unknown
                .puts
                .iter()
                .map(|put| put.key)
                .chain(unknown.deletes.iter().map(|span| span.start))
                .all(|key| self.timeline.next_seen(key, revision).is_none())
    }

    /// Tries one operation for the last choice's hole.
    fn attempt(&mut self, unknown: u32, demand: Option<usize>) -> bool {
        let owner = &self.evidence.unknowns[unknown as usize];
        let choice = self.search.choices.last().expect("a choice is open");
        let (number, revision) = (choice.hole, choice.revision);
        if self.search.used[unknown as usize] != 0
            || owner.call > self.order.deadline[revision as usize]
            || !owner.fits(revision)
            || choice.tried.contains(&owner.group)
            || !choice.admits(owner)
            || !self.lease_allows(owner, revision)
        {
            return false;
        }
        let choice = self.search.choices.last_mut().expect("a choice is open");
        choice.tried.push(owner.group);
        if !self.try_owner(number, unknown, true) {
            return false;
        }
        let choice = self.search.choices.last_mut().expect("a choice is open");
        choice.unknown = unknown;
        choice.demand = demand;
        self.search.used[unknown as usize] = revision;
        // What meets a demand takes from both sides.
        if let Some(demand) = demand {
            self.search.left[demand] -= 1;
        } else {
            self.search.spare(owner, -1);
        }
        true
    }

    /// Lets an unknown operation make a hole's revision; undoes it and says false if it cannot have.
    pub(super) fn try_owner(&mut self, number: usize, unknown: u32, look_ahead: bool) -> bool {
        self.search.steps += u64::from(look_ahead);
        let hole = &self.evidence.holes[number];
        let Unknown { op, request, .. } = self.evidence.unknowns[unknown as usize];
        let mark = self.store.mark();
        let mut judge = Judge::new(&self.history.keys, &mut self.store, hole.revision, op);
        judge.run(request, None);
        let is_shown = hole.sightings.iter().all(|sighting| {
            let slot = self.store.get(sighting.key);
            let is_put = slot.is_alive() != sighting.is_gone && slot.modified == hole.revision;
            is_put && sighting.value.is_none_or(|value| slot.value == value)
        });
        let fits = self.store.mark() > mark
            && is_shown
            && (!look_ahead
                || self.store.touched(mark).all(|key| self.fits_ahead(key, hole.revision)));
        if !fits {
            self.store.back_to(mark);
        }
        fits
    }

    /// Whether the next sighting of a key allows what the store holds after `revision`.
    pub(super) fn fits_ahead(&self, key: u32, revision: i64) -> bool {
        let slot = self.store.get(key);
        let Some(seen) = self.timeline.next_seen(key, revision) else { return true };
        match seen.numbers() {
            None => seen.at > revision || !slot.is_alive(),
            Some((create, modified, version)) => {
                modified >= revision
                    && (create > revision
                        || (slot.is_alive() && slot.create == create && slot.version <= version))
            }
        }
    }

    /// Goes back to the latest choice that could mend a conflict. Says where to go on, and whether that
    /// revision has already been made.
    pub(super) fn resolve(&mut self, at: i64, conflict: Conflict<'a>) -> (i64, bool) {
        if self.search.steps > SEARCH_STEPS {
            self.give_up(at, &conflict);
            return (at, true);
        }
        let mut blame = conflict.blame.clone();
        self.search.first_lease = self.search.first_lease.take().or(conflict.lease);
        let mut restart = at;
        while let Some(number) = self.search.latest_choice(self.evidence, self.order, &blame) {
            self.rewind(number);
            let choice = self.search.choices.last_mut().expect("rewound to it");
            restart = choice.revision;
            choice.blame.merge(&blame);
            let current = &self.evidence.unknowns[choice.unknown as usize];
            if !blame.choices.contains(&choice.revision) && !blame.concerns(current) {
                choice.demanded.push(blame.keys.keys().copied().collect());
            }
            if self.choose_next() {
                return (restart, true);
            }
            let choice = self.search.choices.pop().expect("still open");
            blame.merge(&choice.blame);
            self.exclude(&choice, &mut blame);
            blame.choices.remove(&choice.revision);
        }
        // Everything failed: the conflict is real. Go on from where the store stands, and look no more.
        if let Some(accusation) = self.search.first_lease.take() {
            // Leases are judged last, so all else had been explained; what failed since are attempts to mend it.
            self.accuse_lease(*accusation);
            return (restart, false);
        }
        self.search.hopeless.extend(conflict.blame.keys.keys().copied());
        match conflict.op {
            Some(op) => self.accuse(op, at, &conflict.diffs),
            None => {
                self.report_vacant(self.evidence.hole(at).expect("the conflict is about a hole"))
            }
        }
        (restart, false)
    }

    /// Takes back everything from a choice on; the choice itself stays, without an owner.
    fn rewind(&mut self, number: usize) {
        for at in number..self.search.choices.len() {
            let (unknown, demand) =
                (self.search.choices[at].unknown, self.search.choices[at].demand);
            self.search.used[unknown as usize] = 0;
            match demand {
                Some(demand) => self.search.left[demand] += 1,
                None => self.search.spare(&self.evidence.unknowns[unknown as usize], 1),
            }
        }
        self.search.choices.truncate(number + 1);
        self.store.back_to(self.search.choices[number].mark);
    }

    fn give_up(&mut self, at: i64, conflict: &Conflict<'a>) {
        self.search.is_spent = true;
        if self.found.doubts.len() < DOUBTS_MAX {
            let at = at.min(self.order.last);
            let doubt = Explain(self.history).doubt(self.evidence, self.order, at, conflict.op);
            self.found.doubts.push(doubt);
        }
        match (conflict.op, &conflict.lease) {
            (Some(op), _) => {
                self.forgiven.insert(op);
            }
            (None, Some(accusation)) => self.forget_lease(accusation.lease),
            (None, None) => {
                self.vacant.insert(at);
            }
        }
    }

    /// How many holes needed a choice.
    pub(super) fn choices(&self) -> usize {
        self.search.choices.len()
    }
}

/// Key and kind (put or not) of an operation that does one thing to one key.
fn kind(unknown: &Unknown<'_>) -> Option<(u32, bool)> {
    if unknown.ends.is_some() {
        return None;
    }
    match (unknown.puts.as_slice(), unknown.deletes.as_slice()) {
        ([put], []) => Some((put.key, true)),
        ([], [span]) if span.len() == 1 => Some((span.start, false)),
        _ => None,
    }
}
