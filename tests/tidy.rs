//! House rules that a look at the tree can tell, each as one test.
//!
//! Every rule names the file and the line, and says what to do instead.
//!
//! Not here: what clippy and rustfmt keep (`clippy.toml`, `rustfmt.toml`).

use std::path::{Path, PathBuf};

/// Longest file, in lines: past that, split it.
const FILE_LINES_MAX: usize = 600;
/// Longest line of code, in characters (rustfmt keeps 100 where it can break a line).
const LINE_LENGTH_MAX: usize = 120;

/// Who may import whom in `src/`: a layer may use itself and those named here.
const LAYERS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("error", &[]),
    ("config", &["error"]),
    ("host", &["error", "config"]),
    ("client", &["proto", "error", "config", "host"]),
    ("storage", &["proto", "error", "config", "host"]),
    ("wal", &["proto", "error", "config", "host"]),
    ("state", &["proto", "error", "config", "host", "storage"]),
    ("raft", &["proto", "error", "config", "host", "storage", "wal", "state"]),
    ("watch", &["proto", "error", "config", "host", "state", "raft"]),
    ("api", &["proto", "error", "config", "host", "state", "raft", "watch"]),
    (
        "server",
        &["proto", "error", "config", "host", "storage", "wal", "state", "raft", "watch", "api"],
    ),
];

/// One source file of the project.
struct Source {
    /// Path from the root of the project, with `/`.
    path: String,
    text: String,
}

/// Every Rust file below the named folders, sorted.
fn sources(folders: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in folders {
        collect(&root.join(folder), &mut paths);
    }
    paths.sort();
    assert!(!paths.is_empty(), "no source file found under {folders:?}");
    paths
        .into_iter()
        .map(|path| Source {
            text: std::fs::read_to_string(&path).expect("a source file is readable"),
            path: path.strip_prefix(root).expect("below the root").display().to_string(),
        })
        .collect()
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a folder entry is readable").path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Runs `rule` over every line of every file and fails with all that it says.
fn check(folders: &[&str], rule: impl Fn(&Source, usize, &str) -> Option<String>) {
    let mut complaints = Vec::new();
    for source in sources(folders) {
        for (index, line) in source.text.lines().enumerate() {
            if let Some(complaint) = rule(&source, index + 1, line) {
                complaints.push(format!("{}:{}: {complaint}", source.path, index + 1));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The code of a line, without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Every file opens with one sentence about itself.
#[test]
fn files_open_with_a_sentence() {
    check(&["src", "sim", "tests", "benches", "fuzz"], |_, number, line| {
        (number == 1 && !line.starts_with("//! "))
            .then(|| "open the file with `//! One sentence.`".into())
    });
}

/// No file grows past what a reader can hold.
#[test]
fn files_are_short() {
    check(&["src", "sim", "tests", "benches", "fuzz"], |_, number, _| {
        (number == FILE_LINES_MAX + 1)
            .then(|| format!("longer than {FILE_LINES_MAX} lines: split it"))
    });
}

/// Lines of code fit beside each other on a screen.
#[test]
fn lines_are_short() {
    check(&["src", "sim", "tests", "benches", "fuzz"], |_, _, line| {
        let text = line.contains('"') || line.contains("//");
        (line.chars().count() > LINE_LENGTH_MAX && !text)
            .then(|| format!("longer than {LINE_LENGTH_MAX} characters: break it"))
    });
}

/// Nothing is left half done on main.
#[test]
fn nothing_is_left_open() {
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    check(&["src", "sim", "tests", "benches", "fuzz"], |_, _, line| {
        let word = words.iter().find(|word| line.contains(**word))?;
        Some(format!("{word}: finish it or open an issue"))
    });
}

/// Law 1: the server does not know that it is simulated.
#[test]
fn the_server_does_not_know_that_it_is_simulated() {
    check(&["src"], |_, _, line| {
        (line.contains("cfg") && line.contains("madsim"))
            .then(|| "no build mode in src/: ask the host instead".into())
    });
}

/// `select!` without `biased;` draws from dice that no seed controls.
#[test]
fn every_select_is_biased() {
    let opening = concat!("select", "! {");
    let mut complaints = Vec::new();
    for source in sources(&["src", "sim"]) {
        let lines: Vec<&str> = source.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let next = lines.get(index + 1).copied().unwrap_or_default();
            if code(line).contains(opening) && next.trim() != "biased;" {
                complaints.push(format!("{}:{}: add `biased;`", source.path, index + 1));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Layers of `src/` import downwards only.
#[test]
fn layers_import_downwards() {
    check(&["src"], |source, _, line| {
        let layer = source.path.strip_prefix("src/")?.split(['/', '.']).next()?;
        let (_, allowed) = LAYERS.iter().find(|(name, _)| *name == layer)?;
        let other = imported(code(line))
            .into_iter()
            .find(|other| other != layer && !allowed.contains(&other.as_str()))?;
        Some(format!("{layer} -> {other}: {layer} may use {}", allowed.join(", ")))
    });
}

/// Names of the layers that a line of code reaches into.
fn imported(line: &str) -> Vec<String> {
    let first_word = |text: &str| {
        text.trim()
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    line.split("crate::")
        .skip(1)
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(group) => group.split(',').map(first_word).collect(),
            None => vec![first_word(rest)],
        })
        .filter(|name| LAYERS.iter().any(|(layer, _)| layer == name))
        .collect()
}

/// Law 11: the checker reads histories, and nothing of the server or of the world.
#[test]
fn the_checker_knows_histories_only() {
    check(&["sim/checker"], |_, _, line| {
        let code = code(line);
        let outside = code
            .split("crate::")
            .skip(1)
            .any(|rest| !rest.starts_with("history") && !rest.starts_with("checker"));
        (outside || code.contains("snowglobe::") || code.contains("madsim::"))
            .then(|| "the checker sees `crate::history` alone".into())
    });
}

/// raft-rs is named in one place.
#[test]
fn only_the_raft_layer_names_raft_rs() {
    check(&["src"], |source, _, line| {
        let code = code(line);
        let named =
            code.contains("eraftpb") || code.contains("::raft::") && code.contains("use ::");
        (!source.path.starts_with("src/raft/") && named)
            .then(|| "raft-rs belongs to src/raft alone".into())
    });
}

/// Scenarios say in one sentence what they are.
#[test]
fn scenarios_say_what_they_are() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("scenarios/ is there") {
        let path = entry.expect("a folder entry is readable").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&path).expect("a scenario is readable");
            let first = text.lines().next().unwrap_or_default();
            assert!(first.starts_with("about = \""), "{}: open with `about`", path.display());
            count += 1;
        }
    }
    assert!(count > 0, "no scenario found in {}", folder.display());
}
