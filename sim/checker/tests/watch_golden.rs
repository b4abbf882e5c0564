//! One small history per rule about watches, and the explanation a reader gets.

use insta::assert_snapshot;

use super::watch_script::history;
use crate::checker::watch::Rest;
use crate::checker::{check, render};

/// The report on a history of these writes and one watch.
fn explain(writes: &str, asked: &str, messages: &str) -> String {
    let operations = history(writes, &[(asked, messages)]);
    render::report(&check(&operations, None), &operations)
}

/// A key that was not asked for.
#[test]
fn filter() {
    assert_snapshot!(explain("x=1 y=2", "x", "c1 | x=1@2 y=2@3"));
}

/// Two changes in the wrong order.
#[test]
fn ordered() {
    assert_snapshot!(explain("x=1 y=2", "all", "c1 | y=2@3 | x=1@2"));
}

/// One change twice.
#[test]
fn unique() {
    assert_snapshot!(explain("x=1 x=2", "x", "c1 | x=1@2 | x=1@2 x=2@3"));
}

/// A change left out.
#[test]
fn reliable() {
    assert_snapshot!(explain("x=1 y=2 z=3", "all", "c1 | x=1@2 | ^4"));
}

/// A change that did not happen.
#[test]
fn reliable_made_up() {
    assert_snapshot!(explain("x=1 y=2", "all", "c1 | x=1@2 x=9@3"));
}

/// One revision in two messages.
#[test]
fn atomic() {
    assert_snapshot!(explain("x=1,y=2", "all", "c1 | x=1@2 | y=2@2"));
}

/// The first change at or after the start left out.
#[test]
fn resumable() {
    assert_snapshot!(explain("x=1 y=2 z=3", "all from=3", "c1 | z=3@4"));
}

/// A start in the future, and a change from before it.
#[test]
fn resumable_future() {
    assert_snapshot!(explain("x=1 y=2 z=3", "all from=4", "c2 | y=2@3 z=3@4"));
}

/// A change behind the notification that had promised it.
#[test]
fn bookmarkable() {
    assert_snapshot!(explain("x=1 y=2", "all", "c1 | x=1@2 | ^3 | y=2@3"));
}

/// A change that claims to create what was there.
#[test]
fn is_create() {
    assert_snapshot!(explain("x=1 x=2", "x", "c1 | x=1@2 x=2@3+"));
}

/// Another state before than there was.
#[test]
fn prev_kv() {
    assert_snapshot!(explain("x=1 x=2 x=3", "x prev", "c1 | x=1@2 x=2@3 x=3@4<1@2"));
}

/// Another value than was written.
#[test]
fn content() {
    assert_snapshot!(explain("x=1 y=2", "x", "c1 | x=2@2"));
}

/// A header from before its events.
#[test]
fn header() {
    assert_snapshot!(explain("x=1 x=2", "x", "c1 | h2 x=1@2 x=2@3"));
}

/// A change told before its writer asked for it.
#[test]
fn future() {
    assert_snapshot!(explain("x=1 x=2", "x", "0us c1 | 5us x=1@2 x=2@3"));
}

/// The server ends a watch for no reason, and for one that does not hold.
#[test]
fn canceled() {
    assert_snapshot!(explain("x=1", "x", "c1 | x=1@2 | end:"));
    assert_snapshot!(explain("x=1 x=2 cut:3", "x from=3", "c1 | cut:3"));
}

/// At rest, and still not told.
#[test]
fn tail() {
    let operations = history("x=1 x=2", &[("x", "c1 | x=1@2")]);
    let rest = Rest { healed_ns: 0, quiet_ns: 500_000, told_by_ns: 1_000_000 };
    assert_snapshot!(render::report(&check(&operations, Some(&rest)), &operations));
}

/// A write that timed out, and that a watch alone was told of.
#[test]
fn evidence() {
    let operations = history("x=1 ?x=2 ?y=3", &[("all", "c1 | x=1@2 x=2@3 | y=3@4")]);
    let report = check(&operations, None);
    let ledger: Vec<&str> = report.ledger.iter().map(|one| one.sentence.as_str()).collect();
    assert_snapshot!(format!("{}{}", render::report(&report, &operations), ledger.join("\n")));
}
