//! Hashes that agree are kept; one that differs is caught and named, with both members.

use insta::assert_snapshot;

use super::cluster::Dice;
use super::golden::parse;
use super::kept::at_least;
use crate::checker::{Verdict, check, render};
use crate::history::{Body, Operation};

/// The rules that are broken here.
pub(super) const BROKEN: [&str; 2] = ["state-hash", "hash-kv"];

/// What the members of a good cluster answer: each hash is a function of what was hashed.
fn asked(seed: u64) -> Vec<Operation> {
    let mut dice = Dice(seed);
    let mut lines = String::new();
    for number in 0..12 {
        let (call, client) = (number * 100, dice.below(3));
        let (index, compacted, revision) = (dice.below(4), dice.below(2), 1);
        let (state, keys) = (index * 977, compacted * 1_009 + 5);
        lines += &if dice.chance(50) {
            format!(
                "{client} {call}..{} {{\"state_hash\":{{}}}} → {{\"revision\":0,\"state_hash\":\
                 {{\"applied_index\":{index},\"hash\":{state}}}}}\n",
                call + 50
            )
        } else {
            format!(
                "{client} {call}..{} {{\"hash_kv\":{{}}}} → {{\"revision\":{revision},\"hash_kv\":{{\"hash\":{keys},\
                 \"compact_revision\":{compacted},\"hash_revision\":{revision}}}}}\n",
                call + 50
            )
        };
    }
    parse(&lines)
}

/// Good answers are kept; with one hash changed, the rule of that kind of hash is named.
#[test]
fn a_changed_hash_is_caught_and_named() {
    let mut score = [(0, 0); 2];
    for seed in 0..at_least(400) {
        let good = asked(seed);
        assert_eq!(check(&good, None).verdict, Verdict::Kept, "seed {seed}");
        for at in 0..good.len() {
            let mut broken = good.clone();
            let Some(response) = &mut broken[at].response else { continue };
            let before = response.body.clone();
            let (hash, rule, kind) = match &mut response.body {
                Body::StateHash { hash, .. } => (hash, "state-hash", 0),
                Body::HashKv { hash, .. } => (hash, "hash-kv", 1),
                _ => continue,
            };
            *hash += 1;
            let same = |one: &Operation| one.response.as_ref().is_some_and(|it| it.body == before);
            if good.iter().filter(|one| same(one)).count() < 2 {
                continue;
            }
            let report = check(&broken, None);
            score[kind].0 += 1;
            score[kind].1 += u32::from(report.violations.iter().any(|it| it.rule == rule));
        }
    }
    for (kind, (made, named)) in score.iter().enumerate() {
        println!("{named:4} of {made:4} caught and named {}: another hash", BROKEN[kind]);
        assert!(*made >= 20 && named == made);
    }
}

/// The state of two members after the same entries.
#[test]
fn state() {
    let operations = parse(
        r#"
        0 0..10 {"state_hash":{}} → {"revision":0,"state_hash":{"applied_index":120,"hash":43981}}
        1 0..10 {"state_hash":{}} → {"revision":0,"state_hash":{"applied_index":119,"hash":1}}
        2 0..10 {"state_hash":{}} → {"revision":0,"state_hash":{"applied_index":120,"hash":51966}}
        "#,
    );
    assert_snapshot!(render::report(&check(&operations, None), &operations));
}

/// The keys of two members at one revision.
#[test]
fn keys() {
    let operations = parse(
        r#"
        1 0..10 {"put":{"key":"a","value":"1"}} → {"revision":2,"put":{}}
        0 20..30 {"hash_kv":{}} → {"revision":2,"hash_kv":{"hash":43981,"compact_revision":-1,"hash_revision":2}}
        1 20..30 {"hash_kv":{}} → {"revision":2,"hash_kv":{"hash":51966,"compact_revision":-1,"hash_revision":2}}
        "#,
    );
    assert_snapshot!(render::report(&check(&operations, None), &operations));
}
