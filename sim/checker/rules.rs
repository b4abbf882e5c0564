//! The rules of the etcd checker: what is promised, and where.

use serde::Serialize;

/// A promise that the checker keeps watch over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Stable name, as in verdicts and scenario files.
    pub id: &'static str,
    /// The promise, in one sentence.
    pub promise: &'static str,
    /// Where etcd makes it.
    pub source: &'static str,
}

const GUARANTEES: &str = "etcd API guarantees, KV: strict serializability";
const RANGE: &str = "etcd API reference, RangeRequest";
const WATCH: &str = "etcd API guarantees, watch APIs";
const WATCH_API: &str = "etcd API reference, WatchRequest and WatchResponse";
const LEASE: &str = "etcd API guarantees, leases; API reference, LeaseGrant and LeaseRevoke";
const DATA_MODEL: &str =
    "etcd data model, logical view: one revision for each change, counted without gaps";

/// All rules, in the order in which `sim list` shows them.
pub const RULES: &[Rule] = &[
    Rule {
        id: "stale-read",
        promise: "A linearizable read sees every write acknowledged, and every revision seen, before it began.",
        source: GUARANTEES,
    },
    Rule {
        id: "revision-went-back",
        promise: "A write that begins after a revision was seen gets a higher one.",
        source: GUARANTEES,
    },
    Rule {
        id: "future-read",
        promise: "Nobody sees a revision, or a value, before its writer asked for it.",
        source: GUARANTEES,
    },
    Rule {
        id: "duplicate-revision",
        promise: "Two writes never share a revision.",
        source: DATA_MODEL,
    },
    Rule {
        id: "unexplained-revision",
        promise: "Each revision was created by a write that some client asked for.",
        source: DATA_MODEL,
    },
    Rule {
        id: "lost-write",
        promise: "An acknowledged write is seen by every read at its revision or later, until it is overwritten.",
        source: "etcd API guarantees, durability: any completed operations are durable",
    },
    Rule {
        id: "phantom-value",
        promise: "Every key and value read was written by some client.",
        source: GUARANTEES,
    },
    Rule {
        id: "failed-took-effect",
        promise: "A write that was refused with a definite error changed nothing.",
        source: "etcd API reference, errors: a definite error means that nothing was applied",
    },
    Rule {
        id: "applied-twice",
        promise: "A request takes effect at most once.",
        source: "etcd API guarantees, atomicity: an operation completes entirely or not at all",
    },
    Rule {
        id: "wrong-content",
        promise: "Every field of an answer is what the store held at its revision.",
        source: RANGE,
    },
    Rule {
        id: "serializable-content",
        promise: "A serializable read may be old, but shows the store exactly as it was at the revision it names.",
        source: RANGE,
    },
    Rule {
        id: "compaction",
        promise: "Revisions below a compaction are refused from then on, and only those.",
        source: "etcd API reference, CompactionRequest; errors ErrCompacted",
    },
    Rule {
        id: "lease-expired-early",
        promise: "A lease that nobody revoked lives for its TTL after its grant and after each renewal that succeeded.",
        source: LEASE,
    },
    Rule {
        id: "lease-kept-keys",
        promise: "When a lease ends, exactly the keys attached to it are deleted, all in one revision.",
        source: LEASE,
    },
    Rule { id: "lease-revived", promise: "A lease that has ended is not renewed.", source: LEASE },
    Rule {
        id: "lease-content",
        promise: "Ids, times to live and keys of leases are told as they are.",
        source: LEASE,
    },
    Rule {
        id: "lease-refusal",
        promise: "What names a lease is done if the lease is there, and is refused as such only if it is not.",
        source: "etcd API reference, rpctypes errors ErrLeaseNotFound and ErrLeaseExist",
    },
    Rule {
        id: "refusal",
        promise: "What had to be refused was refused, and every refusal was right.",
        source: "etcd API reference, rpctypes errors",
    },
    Rule {
        id: "watch-filter",
        promise: "A watch is told only of the keys and the kinds of change that it asked for.",
        source: WATCH_API,
    },
    Rule {
        id: "watch-ordered",
        promise: "A watch is told of changes in the order of their revisions.",
        source: WATCH,
    },
    Rule { id: "watch-unique", promise: "A watch is told of a change once.", source: WATCH },
    Rule {
        id: "watch-reliable",
        promise: "A watch is told of every change up to the last one it is told of, and of nothing that did not happen.",
        source: WATCH,
    },
    Rule {
        id: "watch-atomic",
        promise: "All changes of one revision come in one message.",
        source: WATCH,
    },
    Rule {
        id: "watch-resumable",
        promise: "A watch that starts at a revision is first told of the first change at it or later.",
        source: WATCH,
    },
    Rule {
        id: "watch-bookmarkable",
        promise: "A notification of progress says that everything up to its revision has been told.",
        source: WATCH,
    },
    Rule {
        id: "watch-is-create",
        promise: "An event says that its key is new exactly if the key did not exist just before.",
        source: WATCH_API,
    },
    Rule {
        id: "watch-prev-kv",
        promise: "An event shows what was there before exactly if that was asked for, as it was, unless it is compacted.",
        source: WATCH_API,
    },
    Rule {
        id: "watch-content",
        promise: "The value, version, revisions and lease of an event are those that were written.",
        source: WATCH_API,
    },
    Rule {
        id: "watch-header",
        promise: "The revision in a message's header is that of its last event, or later.",
        source: WATCH_API,
    },
    Rule {
        id: "watch-future",
        promise: "Nobody is told of a change before its writer asked for it.",
        source: GUARANTEES,
    },
    Rule {
        id: "watch-canceled",
        promise: "A watch is created once, ends once, and the server ends it only for a reason that holds.",
        source: WATCH_API,
    },
    Rule {
        id: "watch-tail",
        promise: "Once nothing is broken any more, a watch is told of everything in bounded time.",
        source: WATCH,
    },
    Rule {
        id: "state-hash",
        promise: "Members that have applied the same entries hold the same state.",
        source: "Raft, state machine safety",
    },
    Rule {
        id: "hash-kv",
        promise: "Members hash the same keys, compacted to the same revision, to the same value.",
        source: "etcd API reference, HashKVRequest; data corruption: checks",
    },
    Rule {
        id: "lock-owner",
        promise: "Whoever is given a lock has the oldest key under its name, at the revision of the answer.",
        source: "etcd API reference, concurrency: LockResponse.key; recipes, locks",
    },
    Rule {
        id: "election-leader",
        promise: "Whoever is shown as leader has the oldest key of the election, as it was last put.",
        source: "etcd API reference, concurrency: LeaderResponse.kv",
    },
    Rule {
        id: "election-fenced",
        promise: "Once somebody has won an election, no leadership of an older revision wins, proclaims or is shown.",
        source: "etcd API reference, concurrency: LeaderKey.rev orders ownership",
    },
    Rule {
        id: "election-revision",
        promise: "Each leadership has a revision of its own.",
        source: "etcd API reference, concurrency: LeaderKey.rev",
    },
    Rule {
        id: "member-list",
        promise: "A linearizable answer about members shows every change acknowledged before it, and no other.",
        source: "etcd API reference, Cluster service",
    },
    Rule {
        id: "member-id",
        promise: "The id of a member is never given again.",
        source: "etcd runtime reconfiguration: member ids",
    },
    Rule {
        id: "learner-limit",
        promise: "There is one learner at a time, unless more are configured.",
        source: "etcd learner design: --max-learners",
    },
    Rule {
        id: "auth-forbidden",
        promise: "Nothing is done that no possible state of the permissions allows.",
        source: "etcd role-based access control",
    },
    Rule {
        id: "auth-denied",
        promise: "Nothing is denied that every possible state of the permissions allows.",
        source: "etcd role-based access control",
    },
    Rule {
        id: "linearizability",
        promise: "Some order of all operations, each between its call and its return, explains every answer.",
        source: "Herlihy and Wing 1990; the rule of histories of other objects than etcd",
    },
];

/// The rule with this id.
pub fn find(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}
