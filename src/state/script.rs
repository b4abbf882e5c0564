//! Runs the golden scripts in `tests/scripts`: commands, and below each what it prints.
//!
//! The first line of a script says in a sentence what it shows. A line that begins with `>` is a
//! command, the lines up to the next command or empty line are its output. `UPDATE_SCRIPTS=1 cargo
//! test script` writes the output anew; read the difference before you commit it. The commands are
//! in [`Runner::command`], the notation of requests in `parse`.
#![allow(clippy::disallowed_methods, reason = "scripts are the operating system's files")]

mod auth;
mod parse;
mod print;

use std::path::{Path, PathBuf};

use super::testing::{Folder, apply, entry, open};
use super::{Entry, Response, State, Verdict, is_read_only, validate};
use crate::error::{Error, Result};
use crate::proto::etcdserverpb::RequestHeader;

/// A state that commands are run on.
struct Runner {
    folder: Folder,
    /// `None` only while it is exchanged.
    state: Option<State>,
    last: Option<Entry>,
    batch: usize,
}

impl Runner {
    fn new() -> Self {
        let folder = Folder::new();
        let batch = 2;
        let state = Some(open(&folder, batch));
        Self { folder, state, last: None, batch }
    }

    fn state(&mut self) -> &mut State {
        self.state.as_mut().expect("a state is always put back")
    }

    /// Runs one command and gives its output.
    fn command(&mut self, line: &str) -> String {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        match name {
            // Requests; those that only read do not go through the log.
            "put" | "del" | "get" | "txn" | "compact" | "member" | "grant" | "revoke"
            | "checkpoint" | "empty" | "auth" | "add" | "remove" | "update" | "promote"
            | "alarm" => self.request(line),
            // Any request, by a user: `as ann 3 put a 1`.
            "as" => {
                let request = parse::request(line);
                print::verdict(apply(self.state(), request).map(print::response))
            }
            // What the last request means for tokens.
            "tokens" => auth::changes(self.state().take_auth_changes()),
            // One slice of several requests, all through the log: `slice put a 1 | get a`.
            "slice" => self.slice(rest),
            // The last request once more, at its old place in the log.
            "again" => {
                let last = self.last.clone().expect("a request went before");
                format!("{} applied", self.state().apply(&[last]).expect("no failure").len())
            }
            // What the api would say of a txn, with a limit on operations: `check 2 txn …`.
            "check" => {
                let (limit, request) = rest.split_once(' ').expect("a limit and a request");
                let request = parse::request(request).txn.expect("a txn");
                let verdict = validate::txn(&request, limit.parse().expect("a number"));
                print::verdict(verdict.map(|()| "valid".to_owned()))
            }
            // Looks into the state.
            "state" => print::state(self.state()),
            "rows" => print::rows(self.state()),
            "index" => print::index(self.state()),
            "leases" => print::leases(self.state()),
            // What the last request changed, and everything since a revision.
            "changes" => print::changes(self.state()),
            "history" => print::history(self.state(), rest.parse().expect("a revision")),
            // The key before a revision: `previous a 5`.
            "previous" => {
                let (key, main) = rest.split_once(' ').expect("a key and a revision");
                let main = main.parse().expect("a revision");
                let previous = self.state().previous(key.as_bytes(), main).expect("no failure");
                previous.map_or("none".to_owned(), |kv| print::key_value(&kv))
            }
            // A request that was meant for this term: the log of a script is of term 1.
            "in_term" => self.in_term(rest),
            "hash" => print::hash(self.state().hash_kv(rest.parse().expect("a revision"))),
            // One step of the compaction, or all of it.
            "step" => print::more(self.state().compact_step().expect("no failure")),
            "steps" => {
                while self.state().compact_step().expect("no failure") {}
                print::more(false)
            }
            // Steps that remove this many revisions, or look at this many keys, from now on.
            "batch" => {
                self.batch = rest.parse().expect("a number");
                self.reopen()
            }
            "reopen" => self.reopen(),
            "transfer" => self.transfer(),
            _ => panic!("no such command: {line}"),
        }
    }

    fn request(&mut self, line: &str) -> String {
        let request = parse::request(line);
        if let Some(range) = &request.range {
            return print::verdict(refusal(self.state().range(range)).map(print::range));
        }
        if let Some(txn) = request.txn.as_ref().filter(|txn| is_read_only(txn)) {
            return print::verdict(refusal(self.state().txn_read_only(txn)).map(print::txn));
        }
        let (index, _) = self.state().applied();
        self.last = Some(entry(index + 1, request.clone()));
        print::verdict(apply(self.state(), request).map(print::response))
    }

    fn in_term(&mut self, rest: &str) -> String {
        let (term, request) = rest.split_once(' ').expect("a term and a request");
        let mut request = parse::request(request);
        let only_in_term = term.parse().expect("a number");
        request.header = Some(RequestHeader { only_in_term, ..RequestHeader::default() });
        let (index, _) = self.state().applied();
        let applied = self.state().apply(&[entry(index + 1, request)]).expect("no failure");
        let answers = applied.into_iter().map(|applied| answer(applied.result));
        answers.last().unwrap_or_else(|| "void".to_owned())
    }

    fn slice(&mut self, rest: &str) -> String {
        let (mut index, _) = self.state().applied();
        let entry = |request: &str| -> Entry {
            index += 1;
            entry(index, parse::request(request))
        };
        let entries: Vec<_> = rest.split(" | ").map(entry).collect();
        let applied = self.state().apply(&entries).expect("no failure");
        let answers = applied.into_iter().map(|applied| answer(applied.result));
        answers.collect::<Vec<_>>().join("\n")
    }

    fn reopen(&mut self) -> String {
        self.state = None;
        self.state = Some(open(&self.folder, self.batch));
        String::new()
    }

    /// Into another folder, through a stream in pieces of a few bytes.
    fn transfer(&mut self) -> String {
        let mut export = self.state().export().expect("no failure");
        let (index, term) = export.applied();
        let folder = Folder::new();
        let mut import = open(&folder, self.batch).import_begin(index, term).expect("no failure");
        while let Some(chunk) = export.next_chunk(64).expect("no failure") {
            chunk.chunks(7).for_each(|piece| import.chunk(piece).expect("no failure"));
        }
        drop(export);
        self.state = Some(import.finish().expect("a whole stream"));
        self.folder = folder;
        String::new()
    }
}

fn answer(result: Verdict<Response>) -> String {
    print::verdict(result.map(print::response))
}

/// The verdict in a result that is no failure.
fn refusal<T>(result: Result<T>) -> Verdict<T> {
    match result {
        Ok(answer) => Ok(answer),
        Err(Error::Refused(refusal)) => Err(refusal),
        Err(error) => panic!("{error}"),
    }
}

/// A script with the output that its commands have now.
fn run(script: &str) -> String {
    let mut runner = Runner::new();
    let mut output = String::new();
    let mut in_output = false;
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            in_output = true;
            output.push_str(&format!("{line}\n{}", runner.command(command)));
            if !output.ends_with('\n') {
                output.push('\n');
            }
        } else if line.is_empty() || !in_output {
            in_output = false;
            output.push_str(&format!("{line}\n"));
        }
    }
    output
}

fn scripts(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("scripts are there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths
        .into_iter()
        .flat_map(|path| if path.is_dir() { scripts(&path) } else { vec![path] })
        .collect()
}

/// Every script prints what it printed when somebody last agreed with it.
#[test]
fn scripts_print_what_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut wrong = Vec::new();
    let kinds =
        ["mvcc", "range", "txn", "compaction", "lease", "members", "alarm", "changes", "auth"];
    for kind in kinds {
        for path in scripts(&folder.join(kind)) {
            let script = std::fs::read_to_string(&path).expect("readable");
            let first = script.lines().next().unwrap_or_default();
            assert!(first.ends_with('.'), "{}: the first line is a sentence", path.display());
            let output = run(&script);
            if output == script {
                continue;
            }
            if std::env::var_os("UPDATE_SCRIPTS").is_some() {
                std::fs::write(&path, output).expect("writable");
            } else {
                wrong.push(format!("{}\n{}", path.display(), print::difference(&script, &output)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
