//! What the fuzzer calls: three parts that read what anybody may have written, each as a function of bytes.
//!
//! A function that returns has found nothing; one that panics has. The programs around them are in `fuzz/`, and each
//! of them keeps its inputs there: `fuzz/corpus` holds those that reach much of the code, `fuzz/found` those that once
//! found a bug, which are never deleted. All of them are tests here.

pub use crate::api::fuzz_requests as requests;
pub use crate::state::fuzz_index as index;
pub use crate::wal::fuzz_log as log;

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    /// Every input that is kept for a target, with its name.
    #[allow(clippy::disallowed_methods, reason = "a test's own files, not a member's")]
    fn kept(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let folders = ["corpus", "found"].map(|kind| root.join(kind).join(target));
        let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    fn check(target: &str, run: fn(&[u8])) {
        let inputs = kept(target);
        assert!(inputs.len() > 10, "no inputs are kept for {target}");
        for (path, bytes) in inputs {
            // Which one it was, where it panics: a test's output is shown only then.
            println!("{}", path.display());
            run(&bytes);
        }
    }

    /// No input that is kept for the log's reader finds anything.
    #[test]
    fn log() {
        check("log", super::log);
    }

    /// No input that is kept for the requests finds anything.
    #[test]
    fn requests() {
        check("requests", super::requests);
    }

    /// No input that is kept for the key index finds anything.
    #[test]
    fn index() {
        check("index", super::index);
    }
}
