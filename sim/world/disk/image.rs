//! The folders of one simulated disk, with a journal of unsynced creations, renames and removals.
//!
//! As with [`Content`], the page cache is the one copy, and each folder's journal can take changes back.
//!
//! Invariants:
//! * A creation, rename or removal is durable only once its folder was synced.
//! * Of unsynced changes a power cut leaves any part, but for this: of changes to one name, none without those before
//!   it. Folders are independent of each other.
//! * A rename is one change: the name is never missing at both ends.
//!
//! Not modelled: renames between folders (refused), hard links, permissions, the order that a journal shared by all
//! folders would keep; syncs of folders that fail leave the changes to the next sync (a journal that cannot be written
//! stops a real file system altogether).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard};

use super::content::Content;
use super::loss::{Loss, Survival};
use crate::dice::Dice;

/// A file shared by its folder entries and its open handles.
pub(crate) type FileRef = Arc<Mutex<Content>>;
/// A folder shared in the same way.
pub(crate) type DirRef = Arc<Mutex<Dir>>;

/// Locks a file or folder; no lock is ever held across a panic or an await.
pub(crate) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().expect("one thread, no panic inside")
}

/// What a name stands for.
#[derive(Clone)]
pub(crate) enum Entry {
    /// A file.
    File(FileRef),
    /// A folder.
    Dir(DirRef),
}

/// One folder.
#[derive(Default)]
pub(crate) struct Dir {
    pub(super) entries: BTreeMap<String, Entry>,
    /// Unsynced changes: what each name that changed stood for before.
    pub(super) journal: VecDeque<Vec<(String, Option<Entry>)>>,
    pub(super) synced: u64,
}

impl Dir {
    /// Changes what names stand for, as one change.
    fn change(&mut self, names: Vec<(String, Option<Entry>)>) {
        let before = names.into_iter().map(|(name, entry)| {
            let old = match entry {
                Some(entry) => self.entries.insert(name.clone(), entry),
                None => self.entries.remove(&name),
            };
            (name, old)
        });
        let before = before.collect();
        self.journal.push_back(before);
    }

    /// What it holds, each with its path, in the order of names.
    fn paths(&self, above: &str) -> Vec<(String, Entry)> {
        let entries = self.entries.iter();
        entries.map(|(name, entry)| (format!("{above}/{name}"), entry.clone())).collect()
    }

    /// As [`Content::mark`].
    pub(crate) fn mark(&self) -> u64 {
        self.synced + self.journal.len() as u64
    }

    /// As [`Content::commit`].
    pub(crate) fn commit(&mut self, mark: u64) {
        let count = mark.saturating_sub(self.synced);
        let drained =
            usize::try_from(count).expect("below the size of memory").min(self.journal.len());
        self.journal.drain(..drained);
        self.synced += count;
    }

    fn power_loss(&mut self, survival: Survival, dice: &mut Dice) -> u64 {
        let count = self.journal.len() as u64;
        // Each change by itself, or the first so many.
        let percent = match survival {
            Survival::Part if dice.percent(50) => Some(*dice.pick(&[10, 50, 90])),
            _ => None,
        };
        let kept = match survival {
            Survival::Nothing => 0,
            Survival::Everything => count,
            Survival::Part => dice.below(count + 1),
        };
        self.keep(|nth| percent.map_or(nth < kept, |percent| dice.percent(percent)))
    }

    /// Undoes the unsynced changes that `keep` does not keep, asked from the last to the first; what is left is
    /// durable. How many are gone.
    pub(super) fn keep(&mut self, mut keep: impl FnMut(u64) -> bool) -> u64 {
        let count = self.journal.len() as u64;
        let (mut lost, mut survivors) = (0, BTreeSet::new());
        for nth in (0..count).rev() {
            let change = self.journal.pop_back().expect("counted");
            // What survives rests on what was done to the same names before.
            let is_needed = change.iter().any(|(name, _)| survivors.contains(name));
            let is_kept = keep(nth);
            if is_needed || is_kept {
                survivors.extend(change.into_iter().map(|(name, _)| name));
                continue;
            }
            for (name, old) in change.into_iter().rev() {
                match old {
                    Some(entry) => self.entries.insert(name, entry),
                    None => self.entries.remove(&name),
                };
            }
            lost += 1;
        }
        self.synced += count;
        lost
    }
}

/// All folders and files of one disk.
#[derive(Default)]
pub struct Image {
    pub(super) root: DirRef,
}

fn error(kind: io::ErrorKind, path: &Path, what: &str) -> io::Error {
    io::Error::new(kind, format!("{}: {what}", path.display()))
}

fn missing(path: &Path) -> io::Error {
    error(io::ErrorKind::NotFound, path, "no such file or directory")
}

/// The names along a path; relative paths start at the root.
fn names(path: &Path) -> Vec<&str> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                names.push(name.to_str().expect("simulated paths are UTF-8"))
            }
            Component::ParentDir => drop(names.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    names
}

impl Image {
    /// What `path` stands for.
    pub(crate) fn find(&self, path: &Path) -> io::Result<Entry> {
        let mut at = Entry::Dir(Arc::clone(&self.root));
        for name in names(path) {
            let Entry::Dir(dir) = &at else { return Err(missing(path)) };
            let next = lock(dir).entries.get(name).cloned();
            at = next.ok_or_else(|| missing(path))?;
        }
        Ok(at)
    }

    /// The folder at `path`.
    pub(crate) fn dir(&self, path: &Path) -> io::Result<DirRef> {
        match self.find(path)? {
            Entry::Dir(dir) => Ok(dir),
            Entry::File(_) => Err(error(io::ErrorKind::NotADirectory, path, "not a directory")),
        }
    }

    /// The file at `path`.
    pub(crate) fn file(&self, path: &Path) -> io::Result<FileRef> {
        match self.find(path)? {
            Entry::File(file) => Ok(file),
            Entry::Dir(_) => Err(error(io::ErrorKind::IsADirectory, path, "is a directory")),
        }
    }

    /// The folder that holds `path`, and the name there.
    fn parent(&self, path: &Path) -> io::Result<(DirRef, String)> {
        let names = names(path);
        let (last, above) = names
            .split_last()
            .ok_or_else(|| error(io::ErrorKind::InvalidInput, path, "the root"))?;
        let above: std::path::PathBuf = above.iter().collect();
        Ok((self.dir(&above).map_err(|_| missing(path))?, (*last).to_owned()))
    }

    /// Names in a folder, sorted.
    pub(crate) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        Ok(lock(&*self.dir(path)?).entries.keys().cloned().collect())
    }

    /// Makes one folder. Errors: it is there, or the folder above is not.
    pub(crate) fn create_dir(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let mut parent = lock(&parent);
        if parent.entries.contains_key(&name) {
            return Err(error(io::ErrorKind::AlreadyExists, path, "file exists"));
        }
        parent.change(vec![(name, Some(Entry::Dir(DirRef::default())))]);
        Ok(())
    }

    /// Makes a folder and those above it.
    pub(crate) fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut at = std::path::PathBuf::from("/");
        for name in names(path) {
            at.push(name);
            match self.find(&at) {
                Ok(Entry::Dir(_)) => {}
                Ok(Entry::File(_)) => {
                    return Err(error(io::ErrorKind::NotADirectory, &at, "not a directory"));
                }
                Err(_) => self.create_dir(&at)?,
            }
        }
        Ok(())
    }

    /// Opens a file, making it where it is missing.
    pub(crate) fn create(&self, path: &Path) -> io::Result<FileRef> {
        let (parent, name) = self.parent(path)?;
        let mut parent = lock(&parent);
        match parent.entries.get(&name) {
            Some(Entry::File(file)) => Ok(Arc::clone(file)),
            Some(Entry::Dir(_)) => Err(error(io::ErrorKind::IsADirectory, path, "is a directory")),
            None => {
                let file = FileRef::default();
                parent.change(vec![(name, Some(Entry::File(Arc::clone(&file))))]);
                Ok(file)
            }
        }
    }

    /// Renames within one folder, replacing a file at `to`.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        if !Arc::ptr_eq(&from_dir, &to_dir) {
            return Err(error(
                io::ErrorKind::CrossesDevices,
                to,
                "renames between folders are not modelled",
            ));
        }
        let mut dir = lock(&from_dir);
        let entry = dir.entries.get(&from_name).cloned().ok_or_else(|| missing(from))?;
        if from_name == to_name {
            return Ok(());
        }
        if let Some(Entry::Dir(old)) = dir.entries.get(&to_name)
            && !(matches!(entry, Entry::Dir(_)) && lock(old).entries.is_empty())
        {
            return Err(error(io::ErrorKind::DirectoryNotEmpty, to, "a folder is in the way"));
        }
        dir.change(vec![(from_name, None), (to_name, Some(entry))]);
        Ok(())
    }

    /// Removes a file.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        let (parent, name) = self.parent(path)?;
        lock(&parent).change(vec![(name, None)]);
        Ok(())
    }

    /// Removes an empty folder.
    pub(crate) fn remove_dir(&self, path: &Path) -> io::Result<()> {
        if !lock(&*self.dir(path)?).entries.is_empty() {
            return Err(error(io::ErrorKind::DirectoryNotEmpty, path, "directory not empty"));
        }
        let (parent, name) = self.parent(path)?;
        lock(&parent).change(vec![(name, None)]);
        Ok(())
    }

    /// Removes a folder and all in it, innermost first, as the real thing does.
    pub(crate) fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        for name in self.list(path)? {
            let inner = path.join(&name);
            match self.find(&inner)? {
                Entry::File(_) => self.remove(&inner)?,
                Entry::Dir(_) => self.remove_dir_all(&inner)?,
            }
        }
        self.remove_dir(path)
    }

    /// Forgets what was not synced. `Part` is drawn for each file and folder, with both ends likely.
    /// What was lost, by the paths of files and folders that lost something.
    pub(crate) fn power_loss(&self, survival: Survival, dice: &mut Dice) -> Vec<(String, Loss)> {
        let mut losses = Vec::new();
        power_loss(&self.root, "", survival, dice, &mut losses);
        losses
    }

    /// The paths of files and folders of which something is not durable.
    pub(crate) fn unsynced(&self) -> Vec<String> {
        let mut paths = Vec::new();
        unsynced(&self.root, "", &mut paths);
        paths
    }

    /// Takes over what `other` holds, which is empty then; hands back what it held.
    pub(super) fn exchange(&self, other: &Self) -> Self {
        let theirs = std::mem::take(&mut *lock(&other.root));
        let ours = std::mem::replace(&mut *lock(&self.root), theirs);
        Self { root: Arc::new(Mutex::new(ours)) }
    }

    /// All reachable files with their paths, in the order of names.
    pub(crate) fn files(&self) -> Vec<(String, FileRef)> {
        let mut files = Vec::new();
        collect(&self.root, "", &mut files);
        files
    }

    /// Bytes of memory in reachable files.
    pub(crate) fn memory(&self) -> u64 {
        memory(&self.root)
    }
}

fn drawn(survival: Survival, dice: &mut Dice) -> Survival {
    match survival {
        Survival::Part => match dice.below(4) {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            _ => Survival::Part,
        },
        whole => whole,
    }
}

fn power_loss(
    dir: &DirRef,
    above: &str,
    survival: Survival,
    dice: &mut Dice,
    losses: &mut Vec<(String, Loss)>,
) {
    let fate = drawn(survival, dice);
    let entries = lock(dir).power_loss(fate, dice);
    if entries > 0 {
        losses.push((above.to_owned(), Loss { entries, ..Loss::default() }));
    }
    for (path, entry) in lock(dir).paths(above) {
        match entry {
            Entry::Dir(inner) => power_loss(&inner, &path, survival, dice, losses),
            Entry::File(file) => {
                let fate = drawn(survival, dice);
                let loss = lock(&file).power_loss(fate, dice);
                if loss != Loss::default() {
                    losses.push((path, loss));
                }
            }
        }
    }
}

fn unsynced(dir: &DirRef, above: &str, paths: &mut Vec<String>) {
    if !lock(dir).journal.is_empty() {
        paths.push(above.to_owned());
    }
    for (path, entry) in lock(dir).paths(above) {
        match entry {
            Entry::Dir(inner) => unsynced(&inner, &path, paths),
            Entry::File(file) if lock(&file).is_unsynced() => paths.push(path),
            Entry::File(_) => {}
        }
    }
}

fn collect(dir: &DirRef, above: &str, files: &mut Vec<(String, FileRef)>) {
    for (path, entry) in lock(dir).paths(above) {
        match entry {
            Entry::File(file) => files.push((path, file)),
            Entry::Dir(inner) => collect(&inner, &path, files),
        }
    }
}

fn memory(dir: &DirRef) -> u64 {
    let of = |entry: &Entry| match entry {
        Entry::File(file) => lock(file).memory(),
        Entry::Dir(inner) => memory(inner),
    };
    lock(dir).entries.values().map(of).sum()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Runs a script of operations on a fresh disk.
    ///
    /// `write F TEXT`, `sync F`, `syncdir D`, `mkdir D`, `mv A B`, `rm F`, `rmall D`.
    pub(in super::super) fn run(script: &str) -> Image {
        let image = Image::default();
        for line in script.split(';').map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let path = Path::new(words[1]);
            match words[0] {
                "write" => {
                    let file = image.create(path).expect(line);
                    let end = lock(&file).length();
                    lock(&file).write(words[2].as_bytes(), end);
                }
                "sync" => {
                    let file = image.file(path).expect(line);
                    let mark = lock(&file).mark();
                    lock(&file).commit(mark);
                }
                "syncdir" => {
                    let dir = image.dir(path).expect(line);
                    let mark = lock(&dir).mark();
                    lock(&dir).commit(mark);
                }
                "mkdir" => image.create_dir_all(path).expect(line),
                "mv" => image.rename(path, Path::new(words[2])).expect(line),
                "rm" => image.remove(path).expect(line),
                "rmall" => image.remove_dir_all(path).expect(line),
                other => panic!("no such operation: {other}"),
            }
        }
        image
    }

    /// Runs a script, cuts the power, and compares what is left.
    fn check(survival: Survival, script: &str, left: &str) {
        let image = run(script);
        image.power_loss(survival, &mut Dice::new(1, "disk"));
        assert_eq!(show(&image, "/"), left, "after: {script}");
    }

    /// Files as name and text, folders in parentheses.
    pub(in super::super) fn show(image: &Image, path: &str) -> String {
        let shown = image.list(Path::new(path)).expect("a folder").into_iter().map(|name| {
            let inner = format!("{}/{name}", path.trim_end_matches('/'));
            match image.find(Path::new(&inner)).expect("listed") {
                Entry::Dir(_) => format!("{name}/({})", show(image, &inner)),
                Entry::File(file) => {
                    let mut text = vec![0; 99];
                    let got = lock(&file).read(&mut text, 0);
                    format!("{name}={}", String::from_utf8_lossy(&text[..got]))
                }
            }
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    /// The table of what a power cut leaves when nothing unsynced survives.
    #[test]
    fn nothing_unsynced_survives() {
        let table = [
            ("write a 1", ""),
            ("write a 1; sync a", ""),
            ("write a 1; syncdir /", "a="),
            ("write a 1; sync a; syncdir /", "a=1"),
            ("write a 1; sync a; syncdir /; write a 2", "a=1"),
            ("write a 1; sync a; syncdir /; rm a", "a=1"),
            ("write a 1; sync a; syncdir /; rm a; syncdir /", ""),
            ("write a 1; sync a; mv a b; syncdir /", "b=1"),
            ("write a 1; sync a; syncdir /; mv a b", "a=1"),
            ("write a 1; write b 2; sync a; sync b; syncdir /; mv a b", "a=1 b=2"),
            ("write a 1; write b 2; sync a; sync b; syncdir /; mv a b; syncdir /", "b=1"),
            ("mkdir d/e; syncdir d", ""),
            ("mkdir d/e; syncdir /", "d/()"),
            ("mkdir d; syncdir /; write d/a 1; sync d/a", "d/()"),
            ("mkdir d; syncdir /; write d/a 1; sync d/a; syncdir d; rmall d", "d/(a=1)"),
            ("mkdir d; write d/a 1; sync d/a; syncdir d; syncdir /; rmall d; syncdir /", ""),
        ];
        for (script, left) in table {
            check(Survival::Nothing, script, left);
        }
    }

    /// And when all of it survives, the sync calls make no difference.
    #[test]
    fn everything_survives() {
        check(
            Survival::Everything,
            "mkdir d; write d/a 1; mv d/a d/b; write d/b 2; write c 3; rm c",
            "d/(b=12)",
        );
    }

    /// Unsynced folder changes survive each by itself, but not without those of the same names that came before.
    #[test]
    fn folder_changes_survive_in_parts() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..400 {
            let image = Image::default();
            image.create(Path::new("a")).expect("fresh");
            image.rename(Path::new("a"), Path::new("b")).expect("there");
            image.create(Path::new("c")).expect("fresh");
            image.power_loss(Survival::Part, &mut Dice::new(seed, "disk"));
            seen.insert(show(&image, "/"));
        }
        let legal = ["", "a=", "a= c=", "b=", "b= c=", "c="];
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), legal);
    }

    /// A rename between folders is refused in words, and so is one over a folder.
    #[test]
    fn refuses_what_it_does_not_model() {
        let image = Image::default();
        image.create_dir_all(Path::new("d")).expect("fresh");
        image.create(Path::new("a")).expect("fresh");
        let error = image.rename(Path::new("a"), Path::new("d/a")).expect_err("another folder");
        assert_eq!(error.to_string(), "d/a: renames between folders are not modelled");
        let error = image.rename(Path::new("a"), Path::new("d")).expect_err("a folder there");
        assert_eq!(error.to_string(), "d: a folder is in the way");
    }
}
