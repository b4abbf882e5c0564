//! Every legal durable state of a disk at one instant, up to a bound.
//!
//! A power cut may take, each by itself, every unsynced change of a folder, the new length of every file, and every
//! sector that was written since the file's last sync; what it takes together is bound only by the rules of
//! [`image`](super::image). Where all ways of taking are few they are all enumerated; else nothing, everything, each
//! file or name missing, each alone, each pair missing, and then the same for single sectors, up to the bound: what a
//! forgotten sync costs shows when one thing is missing and the rest is there.
//!
//! Invariants:
//! * The disk itself stays as it is: states are made on copies.
//! * No two of the states are equal, and each is one that a power cut could have left.
//!
//! Not enumerated: versions of a sector between the last sync and now, lengths between, writes torn at another place
//! than a sector.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use super::content::Change;
use super::image::{Dir, DirRef, Entry, FileRef, Image, lock};

/// Something that a power cut may take, by the number of its folder or file in the order of [`Nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pending {
    /// A folder's change, by its place among those that were not synced.
    Name(usize, u64),
    /// A file's new length.
    Length(usize),
    /// What was written to a sector of a file.
    Sector(usize, u64),
}

/// Subsets of so many things are all enumerated.
const ALL_SUBSETS_OF_MAX: usize = 6;

/// All folders and files of an image, in an order that copies share.
#[derive(Default)]
struct Nodes {
    dirs: Vec<(String, DirRef)>,
    files: Vec<(String, FileRef)>,
}

impl Nodes {
    fn of(image: &Image) -> Self {
        let mut nodes = Self::default();
        nodes.visit("", &Entry::Dir(Arc::clone(&image.root)));
        nodes
    }

    fn visit(&mut self, path: &str, entry: &Entry) {
        match entry {
            Entry::File(file) => {
                if self.files.iter().all(|(_, known)| !Arc::ptr_eq(known, file)) {
                    self.files.push((path.to_owned(), Arc::clone(file)));
                }
            }
            Entry::Dir(dir) => {
                if self.dirs.iter().any(|(_, known)| Arc::ptr_eq(known, dir)) {
                    return;
                }
                self.dirs.push((path.to_owned(), Arc::clone(dir)));
                let (present, past): (Vec<_>, Vec<_>) = {
                    let dir = lock(dir);
                    let past = dir.journal.iter().flatten();
                    let past = past.filter_map(|(name, old)| Some((name.clone(), old.clone()?)));
                    let present = dir.entries.iter();
                    (
                        present.map(|(name, entry)| (name.clone(), entry.clone())).collect(),
                        past.collect(),
                    )
                };
                for (name, entry) in present.iter().chain(&past) {
                    self.visit(&format!("{path}/{name}"), entry);
                }
            }
        }
    }
}

/// Copies that were made, by the address of the original.
#[derive(Default)]
struct Copies {
    dirs: BTreeMap<usize, DirRef>,
    files: BTreeMap<usize, FileRef>,
}

impl Copies {
    fn entry(&mut self, entry: &Entry) -> Entry {
        match entry {
            Entry::File(file) => {
                let address = Arc::as_ptr(file) as usize;
                let copy = self.files.entry(address);
                Entry::File(Arc::clone(
                    copy.or_insert_with(|| Arc::new(Mutex::new(lock(file).clone()))),
                ))
            }
            Entry::Dir(dir) => Entry::Dir(self.dir(dir)),
        }
    }

    fn dir(&mut self, dir: &DirRef) -> DirRef {
        let address = Arc::as_ptr(dir) as usize;
        if let Some(copy) = self.dirs.get(&address) {
            return Arc::clone(copy);
        }
        let copy = DirRef::default();
        self.dirs.insert(address, Arc::clone(&copy));
        let original = lock(dir);
        let entries = original.entries.iter();
        let entries: BTreeMap<String, Entry> =
            entries.map(|(name, entry)| (name.clone(), self.entry(entry))).collect();
        let mut journal = VecDeque::new();
        for change in &original.journal {
            let change = change.iter();
            let change =
                change.map(|(name, old)| (name.clone(), old.as_ref().map(|it| self.entry(it))));
            journal.push_back(change.collect());
        }
        *lock(&copy) = Dir { entries, journal, synced: original.synced };
        copy
    }
}

impl Image {
    /// The same disk once more, synced or not.
    pub(crate) fn copy(&self) -> Self {
        Self { root: Copies::default().dir(&self.root) }
    }

    /// The same disk with everything durable and its first folder called `name`, as whoever copies whole disks makes it.
    pub(crate) fn image_of(&self, name: &str) -> Self {
        let copy = self.after(&BTreeSet::new());
        {
            let root = &mut lock(&copy.root).entries;
            let folders: Vec<Entry> = std::mem::take(root).into_values().collect();
            root.extend(folders.into_iter().map(|folder| (name.to_owned(), folder)));
        }
        copy
    }

    /// Whether a failed sync has dropped something of a file, which is as good as lost.
    pub(crate) fn has_dropped(&self) -> bool {
        Nodes::of(self).files.iter().any(|(_, file)| lock(file).has_dropped())
    }

    /// What a power cut may take now; names first, then file by file.
    fn pending(&self) -> Vec<Pending> {
        let nodes = Nodes::of(self);
        let mut pending = Vec::new();
        for (number, (_, dir)) in nodes.dirs.iter().enumerate() {
            let count = lock(dir).journal.len() as u64;
            pending.extend((0..count).map(|nth| Pending::Name(number, nth)));
        }
        for (number, (_, file)) in nodes.files.iter().enumerate() {
            let file = lock(file);
            let sectors: BTreeSet<u64> = file.journal.iter().flat_map(Change::sectors).collect();
            if file.has_new_length() {
                pending.push(Pending::Length(number));
            }
            pending.extend(sectors.into_iter().map(|sector| Pending::Sector(number, sector)));
        }
        pending
    }

    /// The disk after a power cut that took `lost`, and with each name what came later to the same name.
    pub(crate) fn after(&self, lost: &BTreeSet<Pending>) -> Self {
        let copy = self.copy();
        let nodes = Nodes::of(&copy);
        for (number, (_, dir)) in nodes.dirs.iter().enumerate() {
            lock(dir).keep(|nth| !lost.contains(&Pending::Name(number, nth)));
        }
        for (number, (_, file)) in nodes.files.iter().enumerate() {
            let keeps_length = !lost.contains(&Pending::Length(number));
            lock(file)
                .keep(keeps_length, |sector| !lost.contains(&Pending::Sector(number, sector)));
        }
        copy
    }

    /// The disk after a power cut that took all that was written to files, and no name.
    pub(crate) fn after_all_data_lost(&self) -> Self {
        let pending = self.pending().into_iter();
        self.after(&pending.filter(|it| !matches!(it, Pending::Name(..))).collect())
    }

    /// What power cuts could take now, at most `bound` ways of it, all different.
    pub(crate) fn ways_to_lose(&self, bound: usize) -> Vec<BTreeSet<Pending>> {
        let pending = self.pending();
        let mut ways = Ways { bound, all: Vec::new(), nodes: Nodes::of(self) };
        let singles: Vec<Vec<Pending>> = pending.iter().map(|it| vec![*it]).collect();
        if singles.len() <= ALL_SUBSETS_OF_MAX {
            ways.all_subsets(&singles);
        } else {
            let groups = groups(&pending);
            ways.sparse(&groups);
            ways.sparse(&singles);
        }
        ways.all
    }

    /// `lost` in words: which names, and of which files how many sectors.
    pub(crate) fn describe(&self, lost: &BTreeSet<Pending>) -> String {
        let nodes = Nodes::of(self);
        let mut words: BTreeMap<String, u64> = BTreeMap::new();
        for it in lost {
            let what = match it {
                Pending::Name(dir, nth) => nodes.describe_name(*dir, *nth),
                Pending::Length(file) => format!("the new length of {}", nodes.files[*file].0),
                Pending::Sector(file, _) => format!("sectors of {}", nodes.files[*file].0),
            };
            *words.entry(what).or_default() += 1;
        }
        if words.is_empty() {
            return "nothing".into();
        }
        let words = words.into_iter();
        let words =
            words.map(|(what, count)| if count > 1 { format!("{count} {what}") } else { what });
        words.collect::<Vec<_>>().join(", ")
    }
}

impl Nodes {
    fn describe_name(&self, dir: usize, nth: u64) -> String {
        let (path, dir) = &self.dirs[dir];
        let dir = lock(dir);
        let change = usize::try_from(nth).ok().and_then(|nth| dir.journal.get(nth));
        let names = change.into_iter().flatten().map(|(name, _)| name.as_str());
        format!("the change of {path}/{}", names.collect::<Vec<_>>().join(" and "))
    }

    /// `lost`, with what must go as well: of changes to one name, none is kept without those before it.
    fn close(&self, mut lost: BTreeSet<Pending>) -> BTreeSet<Pending> {
        for (number, (_, dir)) in self.dirs.iter().enumerate() {
            let mut gone: BTreeSet<String> = BTreeSet::new();
            for (nth, change) in (0..).zip(&lock(dir).journal) {
                let is_lost = lost.contains(&Pending::Name(number, nth));
                if is_lost || change.iter().any(|(name, _)| gone.contains(name)) {
                    gone.extend(change.iter().map(|(name, _)| name.clone()));
                    lost.insert(Pending::Name(number, nth));
                }
            }
        }
        lost
    }
}

/// Each name by itself, and what was written to each file.
fn groups(pending: &[Pending]) -> Vec<Vec<Pending>> {
    let mut groups: BTreeMap<(bool, usize, u64), Vec<Pending>> = BTreeMap::new();
    for it in pending {
        let key = match it {
            Pending::Name(dir, nth) => (false, *dir, *nth),
            Pending::Length(file) | Pending::Sector(file, _) => (true, *file, 0),
        };
        groups.entry(key).or_default().push(*it);
    }
    groups.into_values().collect()
}

/// Ways to lose something, as they are collected.
struct Ways {
    bound: usize,
    all: Vec<BTreeSet<Pending>>,
    nodes: Nodes,
}

impl Ways {
    fn add<'a>(&mut self, lost: impl IntoIterator<Item = &'a Vec<Pending>>) {
        if self.all.len() >= self.bound {
            return;
        }
        let lost = self.nodes.close(lost.into_iter().flatten().copied().collect());
        if !self.all.contains(&lost) {
            self.all.push(lost);
        }
    }

    fn all_subsets(&mut self, groups: &[Vec<Pending>]) {
        for bits in 0..1_usize << groups.len() {
            self.add(
                groups.iter().enumerate().filter(|(nth, _)| bits >> nth & 1 == 1).map(|it| it.1),
            );
        }
    }

    fn sparse(&mut self, groups: &[Vec<Pending>]) {
        self.add([]);
        self.add(groups);
        for one in groups {
            self.add([one]);
        }
        for kept in 0..groups.len() {
            self.add(groups.iter().enumerate().filter(|(nth, _)| *nth != kept).map(|it| it.1));
        }
        for (nth, one) in groups.iter().enumerate() {
            for other in &groups[nth + 1..] {
                self.add([one, other]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::image::tests::{run, show};
    use super::*;

    /// Runs a script; what the states that power cuts could leave look like, sorted.
    fn check(script: &str, states: &[&str]) {
        let image = run(script);
        let before = show(&image, "/");
        let ways = image.ways_to_lose(64);
        let mut found: Vec<String> =
            ways.iter().map(|lost| show(&image.after(lost), "/")).collect();
        found.sort();
        found.dedup();
        assert_eq!(found, states, "after: {script}");
        assert_eq!(show(&image, "/"), before, "the disk itself was changed");
    }

    /// The table of what a power cut may leave: nothing that was synced is missing, and of the rest any part, but no
    /// later change of a name without the earlier one.
    #[test]
    fn all_states() {
        check("write a 1; sync a; syncdir /", &["a=1"]);
        check("write a 1; sync a", &["", "a=1"]);
        check("write a 1; syncdir /", &["a=", "a=\0", "a=1"]);
        check("write a 1; sync a; syncdir /; mv a b", &["a=1", "b=1"]);
        check("write a 1; sync a; mv a b", &["", "a=1", "b=1"]);
        check(
            "write a 1; sync a; write b 2; sync b; syncdir /; rm a; rm b",
            &["", "a=1", "a=1 b=2", "b=2"],
        );
        check("mkdir d; syncdir /; write d/a 1; sync d/a", &["d/()", "d/(a=1)"]);
    }

    /// A name that is only in the past of a folder still leads to its file, with what that has not synced.
    #[test]
    fn files_of_the_past() {
        check("write a 1; sync a; syncdir /; write a 2; rm a", &["", "a=1", "a=1\0", "a=12"]);
    }

    /// Beyond the bound it is nothing, everything, each alone and each missing first; never more than the bound, and no
    /// state twice.
    #[test]
    fn bounded() {
        let files = (0..9).map(|n| format!("write f{n} x; sync f{n}"));
        let image = run(&files.collect::<Vec<_>>().join("; "));
        let ways = image.ways_to_lose(20);
        let counts: Vec<usize> = ways.iter().map(BTreeSet::len).collect();
        let expected = [vec![0, 9], vec![1; 9], vec![8; 9]].concat();
        assert_eq!(counts, expected);
        let many = image.ways_to_lose(1000);
        assert_eq!(many.iter().collect::<BTreeSet<_>>().len(), many.len());
        // And pairs: those of nine.
        assert_eq!(many.len(), 20 + 36);
        assert_eq!(image.describe(&many[2]), "the change of /f0");
    }
}
