//! Finds scenarios by name: those in `scenarios/`, or any file by its path.
//!
//! The scenarios of this repository are compiled in, so that the program works from any folder;
//! a file in `./scenarios` wins over the one compiled in.

use std::path::Path;

use super::table::did_you_mean;
use super::{Scenario, file};

/// Name and text of every scenario compiled in, by name.
const BUILT_IN: &[(&str, &str)] = &[
    ("all-stand-still", include_str!("../../scenarios/all-stand-still.toml")),
    ("auth-through-faults", include_str!("../../scenarios/auth-through-faults.toml")),
    ("beyond-tolerance", include_str!("../../scenarios/beyond-tolerance.toml")),
    ("bit-rot", include_str!("../../scenarios/bit-rot.toml")),
    ("bridge-of-five", include_str!("../../scenarios/bridge-of-five.toml")),
    ("clients-cut-off", include_str!("../../scenarios/clients-cut-off.toml")),
    ("clocks-apart", include_str!("../../scenarios/clocks-apart.toml")),
    ("compaction-under-load", include_str!("../../scenarios/compaction-under-load.toml")),
    ("connects-fail", include_str!("../../scenarios/connects-fail.toml")),
    ("crash-follower", include_str!("../../scenarios/crash-follower.toml")),
    ("crash-states", include_str!("../../scenarios/crash-states.toml")),
    ("disk-errors", include_str!("../../scenarios/disk-errors.toml")),
    ("disk-full", include_str!("../../scenarios/disk-full.toml")),
    ("election-storm", include_str!("../../scenarios/election-storm.toml")),
    ("foreign-disk", include_str!("../../scenarios/foreign-disk.toml")),
    ("half-open", include_str!("../../scenarios/half-open.toml")),
    ("hung-disk", include_str!("../../scenarios/hung-disk.toml")),
    ("lease-through-faults", include_str!("../../scenarios/lease-through-faults.toml")),
    ("lock-through-faults", include_str!("../../scenarios/lock-through-faults.toml")),
    ("majority-gone", include_str!("../../scenarios/majority-gone.toml")),
    ("membership-through-faults", include_str!("../../scenarios/membership-through-faults.toml")),
    ("messages-corrupted", include_str!("../../scenarios/messages-corrupted.toml")),
    ("messages-late", include_str!("../../scenarios/messages-late.toml")),
    ("messages-lost", include_str!("../../scenarios/messages-lost.toml")),
    ("nine-members", include_str!("../../scenarios/nine-members.toml")),
    ("old-terms-return", include_str!("../../scenarios/old-terms-return.toml")),
    ("older-disk", include_str!("../../scenarios/older-disk.toml")),
    ("one-member", include_str!("../../scenarios/one-member.toml")),
    ("partition-halves", include_str!("../../scenarios/partition-halves.toml")),
    ("partition-leader", include_str!("../../scenarios/partition-leader.toml")),
    ("partition-one-way", include_str!("../../scenarios/partition-one-way.toml")),
    ("pause-leader", include_str!("../../scenarios/pause-leader.toml")),
    ("power-loss-all", include_str!("../../scenarios/power-loss-all.toml")),
    ("power-loss-one", include_str!("../../scenarios/power-loss-one.toml")),
    ("power-loss-snapshot", include_str!("../../scenarios/power-loss-snapshot.toml")),
    ("restart-storm", include_str!("../../scenarios/restart-storm.toml")),
    ("ring-of-seven", include_str!("../../scenarios/ring-of-seven.toml")),
    ("slow-links", include_str!("../../scenarios/slow-links.toml")),
    ("slow-node", include_str!("../../scenarios/slow-node.toml")),
    ("smoke", include_str!("../../scenarios/smoke.toml")),
    ("snapshots-in-pieces", include_str!("../../scenarios/snapshots-in-pieces.toml")),
    ("stall-and-burst", include_str!("../../scenarios/stall-and-burst.toml")),
    ("struck-mid-write", include_str!("../../scenarios/struck-mid-write.toml")),
    ("swarm", include_str!("../../scenarios/swarm.toml")),
    ("swizzle", include_str!("../../scenarios/swizzle.toml")),
    ("sync-fails", include_str!("../../scenarios/sync-fails.toml")),
    ("votes-lost", include_str!("../../scenarios/votes-lost.toml")),
    ("watch-through-faults", include_str!("../../scenarios/watch-through-faults.toml")),
    ("writes-astray", include_str!("../../scenarios/writes-astray.toml")),
];

/// The scenarios' names, sorted.
#[must_use]
pub fn names() -> Vec<&'static str> {
    BUILT_IN.iter().map(|row| row.0).collect()
}

/// Finds a scenario by name or by path, and reads it. Errors: what is wrong, to print.
pub fn find(wanted: &str) -> Result<Scenario, String> {
    if wanted.ends_with(".toml") || wanted.contains('/') {
        return read_file(Path::new(wanted));
    }
    let local = Path::new("scenarios").join(format!("{wanted}.toml"));
    if local.is_file() {
        return read_file(&local);
    }
    match BUILT_IN.iter().find(|row| row.0 == wanted) {
        Some((name, source)) => file::parse(name, &format!("scenarios/{name}.toml"), source),
        None => {
            let help = did_you_mean(wanted, names()).unwrap_or_default();
            Err(format!("there is no scenario `{wanted}`: {help}\n"))
        }
    }
}

/// Reads one file.
fn read_file(path: &Path) -> Result<Scenario, String> {
    let shown = path.display().to_string();
    let source =
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}\n"))?;
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    file::parse(&name, &shown, &source)
}

#[cfg(test)]
mod tests {
    use super::{BUILT_IN, names};
    use crate::scenario::file;

    /// Every scenario compiled in can be read, and every file in the folder is compiled in.
    #[test]
    fn all_are_readable() {
        for (name, source) in BUILT_IN {
            file::parse(name, name, source).unwrap_or_else(|error| panic!("{name}:\n{error}"));
        }
        let mut files: Vec<String> = std::fs::read_dir("scenarios")
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".toml").map(str::to_string))
            .collect();
        files.sort();
        assert_eq!(files, names());
    }
}
