//! Ranges of keys, and which of them hold a key: a balanced tree that knows how far each branch reaches.
//!
//! A treap: ordered by where ranges begin (and end), balanced by a hash of that, so that its shape is
//! the same on every member and in every run. Each node knows the furthest end below it; a branch that
//! ends before a key is not looked at.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use bytes::Bytes;

/// Where a range ends: before a key, or nowhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    is_open: bool,
    key: Bytes,
}

impl End {
    /// Before this key.
    pub(super) fn before(key: Bytes) -> Self {
        Self { is_open: false, key }
    }

    /// Nowhere.
    pub(super) fn open() -> Self {
        Self { is_open: true, key: Bytes::new() }
    }

    /// Whether a key lies before it.
    pub(super) fn is_behind(&self, key: &[u8]) -> bool {
        self.is_open || key < &self.key[..]
    }
}

/// Ranges with who is interested in each.
#[derive(Debug, Default)]
pub(super) struct Intervals {
    root: Tree,
}

type Tree = Option<Box<Node>>;

#[derive(Debug)]
struct Node {
    start: Bytes,
    end: End,
    priority: u64,
    /// The furthest end in this branch.
    reach: End,
    watchers: BTreeSet<u64>,
    left: Tree,
    right: Tree,
}

impl Intervals {
    /// Adds a watcher of a range.
    pub(super) fn insert(&mut self, start: &Bytes, end: &End, watcher: u64) {
        let root = self.root.take();
        self.root = Some(insert(root, start, end, watcher));
    }

    /// Removes a watcher of a range.
    pub(super) fn remove(&mut self, start: &Bytes, end: &End, watcher: u64) {
        let root = self.root.take();
        self.root = remove(root, start, end, watcher);
    }

    /// Visits the watchers of all ranges that hold `key`.
    pub(super) fn visit(&self, key: &[u8], visit: &mut impl FnMut(u64)) {
        look(self.root.as_deref(), key, visit);
    }
}

fn insert(tree: Tree, start: &Bytes, end: &End, watcher: u64) -> Box<Node> {
    let Some(mut node) = tree else {
        return Box::new(Node {
            start: start.clone(),
            end: end.clone(),
            priority: priority(start, end),
            reach: end.clone(),
            watchers: BTreeSet::from([watcher]),
            left: None,
            right: None,
        });
    };
    match order(&node, start, end) {
        Ordering::Equal => {
            node.watchers.insert(watcher);
            return node;
        }
        Ordering::Less => {
            node.left = Some(insert(node.left.take(), start, end, watcher));
            if is_above(node.left.as_deref(), &node) {
                return turn_right(node);
            }
        }
        Ordering::Greater => {
            node.right = Some(insert(node.right.take(), start, end, watcher));
            if is_above(node.right.as_deref(), &node) {
                return turn_left(node);
            }
        }
    }
    node.measure();
    node
}

fn remove(tree: Tree, start: &Bytes, end: &End, watcher: u64) -> Tree {
    let mut node = tree?;
    match order(&node, start, end) {
        Ordering::Equal => {
            node.watchers.remove(&watcher);
            if node.watchers.is_empty() {
                return join(node.left.take(), node.right.take());
            }
        }
        Ordering::Less => node.left = remove(node.left.take(), start, end, watcher),
        Ordering::Greater => node.right = remove(node.right.take(), start, end, watcher),
    }
    node.measure();
    Some(node)
}

/// One tree of two, of which the first lies before the second.
fn join(left: Tree, right: Tree) -> Tree {
    match (left, right) {
        (None, tree) | (tree, None) => tree,
        (Some(mut left), Some(mut right)) => {
            if left.priority >= right.priority {
                left.right = join(left.right.take(), Some(right));
                left.measure();
                Some(left)
            } else {
                right.left = join(Some(left), right.left.take());
                right.measure();
                Some(right)
            }
        }
    }
}

fn look(tree: Option<&Node>, key: &[u8], visit: &mut impl FnMut(u64)) {
    let Some(node) = tree else { return };
    if !node.reach.is_behind(key) {
        return;
    }
    look(node.left.as_deref(), key, visit);
    if &node.start[..] <= key {
        if node.end.is_behind(key) {
            node.watchers.iter().for_each(|watcher| visit(*watcher));
        }
        look(node.right.as_deref(), key, visit);
    }
}

/// Where a range lies, seen from a node.
fn order(node: &Node, start: &Bytes, end: &End) -> Ordering {
    (start, end).cmp(&(&node.start, &node.end))
}

fn is_above(child: Option<&Node>, parent: &Node) -> bool {
    child.is_some_and(|child| child.priority > parent.priority)
}

fn turn_right(mut node: Box<Node>) -> Box<Node> {
    let mut top = node.left.take().expect("a branch that lies above is there");
    node.left = top.right.take();
    node.measure();
    top.right = Some(node);
    top.measure();
    top
}

fn turn_left(mut node: Box<Node>) -> Box<Node> {
    let mut top = node.right.take().expect("a branch that lies above is there");
    node.right = top.left.take();
    node.measure();
    top.left = Some(node);
    top.measure();
    top
}

impl Node {
    /// How far the branch reaches, from what its branches say.
    fn measure(&mut self) {
        let branches = [&self.left, &self.right].into_iter().flatten().map(|branch| &branch.reach);
        self.reach = branches.chain([&self.end]).max().expect("there is one").clone();
    }
}

/// FNV-1a, finished so that similar ranges are far apart.
fn priority(start: &Bytes, end: &End) -> u64 {
    let open = [u8::from(end.is_open)];
    let bytes = start.iter().chain(&open).chain(&end.key);
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngSeed};

    use super::*;

    fn depth(tree: Option<&Node>) -> usize {
        let Some(node) = tree else { return 0 };
        1 + depth(node.left.as_deref()).max(depth(node.right.as_deref()))
    }

    fn end(number: u8) -> End {
        if number == 20 { End::open() } else { End::before(Bytes::copy_from_slice(&[number])) }
    }

    /// Ranges that begin one after the other, as sorted prefixes do, do not make a list of the tree.
    #[test]
    fn stays_shallow() {
        let mut intervals = Intervals::default();
        for number in 0..10_000_u64 {
            let start = Bytes::from(format!("/registry/{number:05}/"));
            let end = End::before(Bytes::from(format!("/registry/{number:05}0")));
            intervals.insert(&start, &end, number);
        }
        assert!(depth(intervals.root.as_deref()) < 60, "{}", depth(intervals.root.as_deref()));
        let mut found = Vec::new();
        intervals.visit(b"/registry/04711/pod", &mut |watcher| found.push(watcher));
        assert_eq!(found, [4711]);
    }

    proptest! {
        #![proptest_config(Config {
            cases: 200,
            rng_seed: RngSeed::Fixed(1),
            failure_persistence: None,
            ..Config::default()
        })]

        /// Whoever watches a key is found, and nobody else, whatever came and went before.
        #[test]
        fn finds_what_a_list_finds(
            steps in prop::collection::vec((any::<bool>(), 0..8_u8, 1..21_u8, 0..3_u64), 1..80),
        ) {
            let mut intervals = Intervals::default();
            let mut list: BTreeSet<(u8, u8, u64)> = BTreeSet::new();
            for (adds, start, stop, watcher) in steps {
                let from = Bytes::copy_from_slice(&[start]);
                if adds {
                    intervals.insert(&from, &end(stop), watcher);
                    list.insert((start, stop, watcher));
                } else {
                    intervals.remove(&from, &end(stop), watcher);
                    list.remove(&(start, stop, watcher));
                }
                for key in 0..22 {
                    let mut found = Vec::new();
                    intervals.visit(&[key], &mut |watcher| found.push(watcher));
                    let holds = |start: u8, stop: u8| start <= key && (key < stop || stop == 20);
                    let mut expected: Vec<u64> = list
                        .iter()
                        .filter(|(start, stop, _)| holds(*start, *stop))
                        .map(|row| row.2)
                        .collect();
                    found.sort_unstable();
                    expected.sort_unstable();
                    prop_assert_eq!(found, expected, "key {}", key);
                }
            }
        }
    }
}
