//! The life of one key that etcd's own tests use, looked at and compacted at every revision.

use super::*;

fn at(main: i64) -> Revision {
    Revision { main, sub: 0 }
}

/// `[2 4 6†] [8 10 12†] [14 15 16†]`, where 14, 15 and 16 are changes of 14, 14 and 16.
fn history() -> History {
    let mut history = History::default();
    history.put(at(2));
    history.put(at(4));
    history.tombstone(at(6));
    history.put(at(8));
    history.put(at(10));
    history.tombstone(at(12));
    history.put(at(14));
    history.put(Revision { main: 14, sub: 1 });
    history.tombstone(at(16));
    history
}

/// A key is what its last change at or before a revision made of it.
#[test]
fn key_at_every_revision() {
    let check = |main, expected: Option<(Revision, i64, i64)>| {
        let found = history().at(main);
        let found = found.map(|found| (found.modified, found.created.main, found.version));
        assert_eq!(found, expected, "at {main}");
    };
    check(1, None);
    check(2, Some((at(2), 2, 1)));
    check(3, Some((at(2), 2, 1)));
    check(4, Some((at(4), 2, 2)));
    check(5, Some((at(4), 2, 2)));
    check(6, None);
    check(7, None);
    check(8, Some((at(8), 8, 1)));
    check(11, Some((at(10), 8, 2)));
    check(12, None);
    check(14, Some((Revision { main: 14, sub: 1 }, 14, 2)));
    check(15, Some((Revision { main: 14, sub: 1 }, 14, 2)));
    check(16, None);
    check(99, None);
}

/// A compaction leaves answers at and above it as they were, whatever the size of its steps, and
/// drops exactly what it says it keeps not.
#[test]
fn compaction_at_every_revision() {
    for main in 0..20 {
        let kept: Vec<_> = history().kept_all(main).collect();
        for limit in [1, 2, 100] {
            let mut compacted = history();
            let mut dropped = Vec::new();
            while compacted.compact(main, limit, |revision, _| dropped.push(revision)) == limit {}
            for later in main..20 {
                assert_eq!(compacted.at(later), history().at(later), "at {later} after {main}");
            }
            assert!(dropped.is_sorted(), "old ones first: {dropped:?}");
            let left = compacted.generations().flat_map(|(revisions, _)| revisions.to_vec());
            let left: Vec<_> = left.filter(|revision| revision.main <= main).collect();
            assert_eq!(left, kept, "after {main}");
            let all = history();
            let all = all.generations().flat_map(|(revisions, _)| revisions.to_vec());
            let gone: Vec<_> = all.filter(|revision| !left.contains(revision)).collect();
            let gone: Vec<_> = gone.into_iter().filter(|revision| revision.main <= main).collect();
            assert_eq!(dropped, gone, "after {main}");
        }
    }
}

/// A tombstone at the compact revision stays, one before it goes with all of its generation (etcd's
/// examples).
#[test]
fn tombstones() {
    let check = |main, expected: &str| {
        let mut history = history();
        history.compact(main, usize::MAX, |_, _| ());
        let left = history.generations().map(|(revisions, closed)| {
            let mains: Vec<_> =
                revisions.iter().map(|revision| revision.main.to_string()).collect();
            format!("[{}{}]", mains.join(" "), if closed { "†" } else { "" })
        });
        assert_eq!(left.collect::<Vec<_>>().join(" "), expected, "at {main}");
    };
    check(1, "[2 4 6†] [8 10 12†] [14 14 16†]");
    check(2, "[2 4 6†] [8 10 12†] [14 14 16†]");
    check(3, "[2 4 6†] [8 10 12†] [14 14 16†]");
    check(4, "[4 6†] [8 10 12†] [14 14 16†]");
    check(6, "[6†] [8 10 12†] [14 14 16†]");
    check(7, "[8 10 12†] [14 14 16†]");
    check(11, "[10 12†] [14 14 16†]");
    check(12, "[12†] [14 14 16†]");
    check(13, "[14 14 16†]");
    check(14, "[14 16†]");
    check(16, "[16†]");
    check(17, "");
}
