//! The cases of etcd's own test of its watch validator, by their meaning, with what our rules say.

use super::watch_script::history;
use crate::checker::{check, render};

/// Checks that a history breaks this rule first, or none.
fn expect(name: &str, writes: &str, watches: &[(&str, &str)], rule: Option<&str>) {
    let operations = history(writes, watches);
    let report = check(&operations, None);
    let first = report.violations.first().map(|violation| violation.rule);
    assert_eq!(first, rule, "{name}\n{}", render::report(&report, &operations));
}

type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str);

/// Name, writes, watches, and the rule that is broken; empty for none.
const CASES: &[Case] = &[
    ("ordered: in one message", "x=1 y=2", &[("all", "c1 | x=1@2 y=2@3")], ""),
    ("reliable: a put refused for its lease makes no event", "!x=1", &[("x", "c1")], ""),
    ("ordered: in two messages", "x=1 y=2", &[("all", "c1 | x=1@2 | y=2@3")], ""),
    (
        "ordered: turned round in one message",
        "x=1 y=2",
        &[("all", "c1 | y=2@3 x=1@2")],
        "watch-ordered",
    ),
    (
        "ordered: turned round in two messages",
        "x=1 y=2",
        &[("all", "c1 | y=2@3 | x=1@2")],
        "watch-ordered",
    ),
    (
        "ordered: the later first, but in two watches",
        "x=1 y=2",
        &[("y", "c1 | y=2@3"), ("x", "c1 | x=1@2")],
        "",
    ),
    ("unique: twice in one message", "x=1", &[("x", "c1 | x=1@2 x=1@2")], "watch-unique"),
    ("unique: twice in two messages", "x=1", &[("x", "c1 | x=1@2 | x=1@2")], "watch-unique"),
    ("unique: twice, but in two watches", "x=1", &[("x", "c1 | x=1@2"), ("x", "c1 | x=1@2")], ""),
    (
        "unique, atomic: two keys of one revision in one message",
        "x=1,y=2",
        &[("all", "c1 | x=1@2 y=2@2")],
        "",
    ),
    (
        "unique: two keys of one revision in two watches",
        "x=1,y=2",
        &[("x", "c1 | x=1@2"), ("y", "c1 | y=2@2")],
        "",
    ),
    (
        "unique revision: a key claims the revision of another",
        "x=1 y=2",
        &[("all", "c1 | x=1@2 y=2@2")],
        "watch-reliable",
    ),
    (
        "unique revision: the same, up to a bookmark",
        "x=1 y=2",
        &[("all", "c1 | x=1@2 y=2@2 | ^2")],
        "watch-reliable",
    ),
    (
        "atomic: one revision in two messages",
        "x=1,y=2",
        &[("all", "c1 | x=1@2 | y=2@2")],
        "watch-atomic",
    ),
    (
        "bookmarkable: all from a revision, with a bookmark",
        "x=1 y=2 z=3",
        &[("all from=2", "c1 | x=1@2 y=2@3 z=3@4 | ^4")],
        "",
    ),
    (
        "bookmarkable: all between two bookmarks",
        "x=1 y=2 z=3",
        &[("all", "c1 | ^1 | x=1@2 y=2@3 z=3@4 | ^4")],
        "",
    ),
    (
        "bookmarkable: a bookmark first, nothing asked of the past",
        "x=1 y=2 z=3",
        &[("all", "c4 | ^4")],
        "",
    ),
    (
        "reliable: a bookmark instead of all that was asked for",
        "x=1 y=2 z=3",
        &[("all from=2", "c1 | ^4")],
        "watch-reliable",
    ),
    (
        "bookmarkable: nothing that matches",
        "x=1 y=2 z=3",
        &[("w from=2", "c1 | ^2 | ^3 | ^3 | ^4")],
        "",
    ),
    (
        "reliable: nothing between two bookmarks",
        "x=1 y=2 z=3",
        &[("all", "c1 | ^1 | ^4")],
        "watch-reliable",
    ),
    (
        "bookmarkable: nothing that matches between bookmarks",
        "x=1 y=2 z=3",
        &[("w", "c2 | ^2 | ^3 | ^3 | ^4")],
        "",
    ),
    (
        "bookmarkable: bookmarks and events in step",
        "x=1 y=2 z=3",
        &[("all", "c1 | ^1 | x=1@2 | ^2 | y=2@3 | ^3 | ^3 | z=3@4 | ^4")],
        "",
    ),
    (
        "bookmarkable: a bookmark behind its events",
        "x=1 y=2 z=3",
        &[("all", "c1 | x=1@2 y=2@3 z=3@4 | ^3")],
        "watch-bookmarkable",
    ),
    (
        "bookmarkable: an event behind its bookmark",
        "x=1 y=2 z=3",
        &[("all", "c1 | x=1@2 y=2@3 | ^4 | z=3@4")],
        "watch-bookmarkable",
    ),
    (
        "bookmarkable: a bookmark behind another",
        "x=1",
        &[("w", "c1 | ^2 | ^1")],
        "watch-bookmarkable",
    ),
    (
        "bookmarkable: a bookmark before the start that was asked for",
        "x=1",
        &[("all from=3", "c1 | ^2")],
        "",
    ),
    ("bookmarkable: an empty store", "", &[("all", "c1 | ^1 | ^1")], ""),
    (
        "reliable: the last event missing before a bookmark",
        "x=1 y=2 z=3",
        &[("all", "c1 | x=1@2 y=2@3 | ^4")],
        "watch-reliable",
    ),
    (
        "reliable: one of the key missing before a bookmark",
        "x=1 x=2 z=3",
        &[("x", "c1 | x=1@2 | ^4")],
        "watch-reliable",
    ),
    (
        "reliable: one of the prefix missing before a bookmark",
        "xa=1 xb=2 za=3",
        &[("x*", "c1 | xa=1@2 | ^4")],
        "watch-reliable",
    ),
    ("reliable: everything", "x=1 y=2 z=3", &[("all", "c1 | x=1@2 y=2@3 z=3@4")], ""),
    ("reliable: one revision", "x=1", &[("all", "c1 | x=1@2")], ""),
    ("reliable: one revision, asked for", "x=1", &[("all from=2", "c1 | x=1@2")], ""),
    ("reliable: nothing has come yet", "x=1", &[("all from=2", "c1")], ""),
    ("reliable: one revision and a bookmark", "x=1", &[("all", "c1 | x=1@2 | ^2")], ""),
    (
        "reliable: the one revision missing before a bookmark",
        "x=1",
        &[("all from=2", "c1 | ^2")],
        "watch-reliable",
    ),
    (
        "reliable: one missing in between",
        "x=1 y=2 z=3",
        &[("all", "c1 | x=1@2 z=3@4")],
        "watch-reliable",
    ),
    (
        "reliable: one in between is of another key",
        "x=1 xa=2 x=3",
        &[("x", "c1 | x=1@2 x=3@4")],
        "",
    ),
    (
        "reliable: one in between is of another prefix",
        "xa=1 yb=2 xc=3",
        &[("x*", "c1 | xa=1@2 xc=3@4")],
        "",
    ),
    (
        "reliable: the first came before the watch",
        "x=1 y=2 z=3",
        &[("all", "c2 | y=2@3 z=3@4")],
        "",
    ),
    ("reliable: the last has not come yet", "x=1 y=2 z=3", &[("all", "c1 | x=1@2 y=2@3")], ""),
    (
        "reliable: ended by a compaction",
        "x=1 y=2 z=3 x=4 x=5 cut:6",
        &[("all", "c1 | x=1@2 y=2@3 z=3@4 | cut:6")],
        "",
    ),
    ("resumable: from the middle", "x=1 y=2 z=3", &[("all from=3", "c1 | y=2@3 z=3@4")], ""),
    ("resumable: a key in the middle", "x=1 y=2 z=3", &[("y from=2", "c1 | y=2@3")], ""),
    (
        "resumable: a prefix in the middle",
        "x=1 yb=2 yc=3",
        &[("y* from=2", "c1 | yb=2@3 yc=3@4")],
        "",
    ),
    (
        "resumable: the first missing",
        "x=1 y=2 z=3",
        &[("all from=3", "c1 | z=3@4")],
        "watch-resumable",
    ),
    (
        "resumable: the first of a key missing",
        "x=1 y=2 y=3",
        &[("y from=2", "c1 | y=3@4")],
        "watch-resumable",
    ),
    (
        "resumable: the first of a prefix missing",
        "x=1 yb=2 yc=3",
        &[("y* from=2", "c1 | yc=3@4")],
        "watch-resumable",
    ),
    (
        "is-create: put, put, delete, put",
        "x=1 x=2 -x x=4",
        &[("x", "c1 | x=1@2 x=2@3 -x@4 x=4@5")],
        "",
    ),
    (
        "is-create: the second put claims to create",
        "x=1 x=2 -x x=4",
        &[("x", "c1 | x=1@2 x=2@3+ -x@4 x=4@5")],
        "watch-is-create",
    ),
    (
        "is-create: the put after the delete claims not to",
        "x=1 x=2 -x x=4",
        &[("x", "c1 | x=1@2 x=2@3 -x@4 x=4@5~")],
        "watch-is-create",
    ),
    (
        "prev-kv: none is shown after a compaction",
        "x=1 x=2 -x x=4 cut:5",
        &[("x prev", "c1 | x=1@2 x=2@3< -x@4< x=4@5")],
        "",
    ),
    ("prev-kv: all are shown", "x=1 x=2 -x x=4", &[("x prev", "c1 | x=1@2 x=2@3 -x@4 x=4@5")], ""),
    (
        "prev-kv: another value before a put",
        "x=1 x=2 -x x=4",
        &[("x prev", "c1 | x=1@2 x=2@3<2@2 -x@4 x=4@5")],
        "watch-prev-kv",
    ),
    (
        "prev-kv: another revision before a put",
        "x=1 x=2 -x x=4",
        &[("x prev", "c1 | x=1@2 x=2@3<1@3 -x@4 x=4@5")],
        "watch-prev-kv",
    ),
    (
        "prev-kv: another value before a delete",
        "x=1 x=2 -x x=4",
        &[("x prev", "c1 | x=1@2 x=2@3 -x@4<1@3 x=4@5")],
        "watch-prev-kv",
    ),
    (
        "prev-kv: another revision before a delete",
        "x=1 x=2 -x x=4",
        &[("all prev", "c1 | x=1@2 x=2@3 -x@4<2@2 x=4@5")],
        "watch-prev-kv",
    ),
    ("filter: another key", "x=1 y=2", &[("x", "c1 | x=1@2 y=2@3")], "watch-filter"),
    (
        "filter: another prefix",
        "xa=1 yb=2 xc=3",
        &[("x*", "c1 | xa=1@2 yb=2@3 xc=3@4")],
        "watch-filter",
    ),
];

/// What we ask beyond that.
const STRICTER: &[Case] = &[
    (
        "nothing older than a start in the future",
        "x=1 y=2 z=3",
        &[("all from=4", "c2 | y=2@3 z=3@4")],
        "watch-resumable",
    ),
    (
        "nothing older than the creation",
        "x=1 y=2",
        &[("all", "c2 | x=1@2 y=2@3")],
        "watch-resumable",
    ),
    (
        "no previous value where none was asked for",
        "x=1 x=2",
        &[("x", "c1 | x=1@2 x=2@3<1@2")],
        "watch-prev-kv",
    ),
    (
        "the previous value is shown while it is there",
        "x=1 x=2",
        &[("x prev", "c1 | x=1@2 x=2@3<")],
        "watch-prev-kv",
    ),
    (
        "puts and deletes can be left out",
        "x=1 -x x=3",
        &[("x no-put", "c1 | -x@3 | ^4"), ("x no-delete", "c1 | x=1@2 x=3@4")],
        "",
    ),
    ("puts that were to be left out", "x=1 -x", &[("x no-put", "c1 | x=1@2 -x@3")], "watch-filter"),
    (
        "pieces of one message are one message",
        "x=1,y=2",
        &[("all fragment", "c1 | x=1@2 & | y=2@2")],
        "",
    ),
    ("pieces that did not all arrive", "x=1,y=2", &[("all fragment", "c1 | x=1@2 &")], ""),
    ("another value", "x=1", &[("x", "c1 | x=9@2")], "watch-content"),
    ("a put told as a delete", "x=1", &[("x", "c1 | -x@2")], "watch-reliable"),
    (
        "an event of a revision that nobody made",
        "x=1",
        &[("x", "c1 | x=1@2 | h3 x=2@3")],
        "phantom-value",
    ),
    ("a header behind its events", "x=1 x=2", &[("x", "c1 | h2 x=1@2 x=2@3")], "watch-header"),
    (
        "told before it was asked for",
        "x=1 x=2",
        &[("x", "0us c1 | 5us x=1@2 x=2@3")],
        "watch-future",
    ),
    ("canceled without a reason", "x=1", &[("x", "c1 | x=1@2 | end:")], "watch-canceled"),
    ("canceled with a reason", "x=1", &[("x", "c1 | x=1@2 | end:permission-denied")], ""),
    (
        "canceled by a compaction that keeps all",
        "x=1 x=2 cut:3",
        &[("x from=3", "c1 | cut:3")],
        "watch-canceled",
    ),
    ("told something after the end", "x=1", &[("x", "c1 | end:reason | x=1@2")], "watch-canceled"),
    (
        "a watch is the only witness of a write",
        "x=1 ?x=2 x=3",
        &[("x", "c1 | x=1@2 x=2@3 x=3@4")],
        "",
    ),
    (
        "a watch is the only witness of a delete",
        "x=1 ?-x x=3",
        &[("x", "c1 | x=1@2 -x@3 x=3@4")],
        "",
    ),
    (
        "one watch saw what another missed",
        "x=1 ?y=2 x=3",
        &[("all", "c1 | x=1@2 y=2@3 x=3@4"), ("all", "c1 | x=1@2 x=3@4")],
        "watch-reliable",
    ),
];

/// Every case says what it should.
#[test]
fn cases() {
    assert_eq!(CASES.len(), 59, "as many as etcd has");
    for (name, writes, watches, rule) in CASES.iter().chain(STRICTER) {
        expect(name, writes, watches, (!rule.is_empty()).then_some(rule));
    }
}
