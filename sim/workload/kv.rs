//! The key-value workload: a few keys, unique values, every kind of read and write.
//!
//! Keys are `k0` … `k7`: few enough that clients meet on them all the time. A value names its client and its number
//! (`v2.17`), so that no two writes are alike and a checker can tell whose write a read has seen.

use super::{Drawn, Workload, lease, plain, watch};
use crate::dice::Dice;
use crate::history::{
    Bytes, Compare, CompareResult, CompareTarget, DeleteRange, Put, Range, Request, SortOrder,
    SortTarget, Txn,
};
use crate::scenario::plan::{Fill, Seen};

/// The kinds of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Read one key, linearizable.
    Get,
    /// Read one key, perhaps stale.
    GetStale,
    /// Read all keys, linearizable.
    List,
    /// Read all keys, perhaps stale.
    ListStale,
    /// Read some keys with limit, order, filters, only keys or only a count.
    ListSome,
    /// Read at an earlier revision.
    GetOld,
    /// Write one key.
    Put,
    /// Delete one key, or some.
    Delete,
    /// Read a key, then write it if nobody else has.
    CompareAndSwap,
    /// Several reads and writes under conditions.
    Txn,
    /// Forget the past.
    Compact,
    /// What must be refused.
    Refused,
    /// Ask for a lease.
    LeaseGrant,
    /// Renew a lease.
    LeaseKeepAlive,
    /// End a lease.
    LeaseRevoke,
    /// Ask how long a lease has, and for its keys.
    LeaseTimeToLive,
    /// List all leases.
    LeaseList,
    /// Write one key that hangs on a lease.
    PutLease,
    /// Watch some keys for a while.
    Watch,
}

impl Kind {
    /// Each with its name in files and its usual weight.
    pub const ALL: &[(Kind, &str, u64)] = &[
        (Self::Get, "get", 16),
        (Self::GetStale, "get-stale", 8),
        (Self::List, "list", 8),
        (Self::ListStale, "list-stale", 6),
        (Self::ListSome, "list-some", 6),
        (Self::GetOld, "get-old", 6),
        (Self::Put, "put", 24),
        (Self::Delete, "delete", 6),
        (Self::CompareAndSwap, "compare-and-swap", 8),
        (Self::Txn, "txn", 8),
        (Self::Compact, "compact", 2),
        (Self::Refused, "refused", 1),
        // Only where a scenario asks for them.
        (Self::LeaseGrant, "lease-grant", 0),
        (Self::LeaseKeepAlive, "lease-keep-alive", 0),
        (Self::LeaseRevoke, "lease-revoke", 0),
        (Self::LeaseTimeToLive, "lease-time-to-live", 0),
        (Self::LeaseList, "lease-list", 0),
        (Self::PutLease, "put-lease", 0),
        (Self::Watch, "watch", 0),
    ];
}

/// One client while its list is drawn.
pub struct Client<'a> {
    workload: &'a Workload,
    name: u32,
    values: u64,
    leases: i64,
}

impl<'a> Client<'a> {
    /// The client numbered `name`.
    #[must_use]
    pub fn new(workload: &'a Workload, name: u32) -> Self {
        Self { workload, name, values: 0, leases: 0 }
    }

    /// The next step: mostly one operation, two for a read that a write depends on.
    pub fn draw(&mut self, dice: &mut Dice) -> Vec<Drawn> {
        let kind = Kind::ALL[dice.weighted(&self.workload.mix)].0;
        let key = self.key(dice);
        match kind {
            Kind::Get => vec![plain(Request::Range(Range { key, ..Range::default() }))],
            Kind::GetStale => {
                vec![plain(Request::Range(Range { key, serializable: true, ..Range::default() }))]
            }
            Kind::List => vec![plain(Request::Range(everything(false)))],
            Kind::ListStale => vec![plain(Request::Range(everything(true)))],
            Kind::ListSome => vec![self.list_some(dice)],
            Kind::GetOld => vec![self.get_old(dice, key)],
            Kind::Put => vec![plain(Request::Put(self.put_or_keep(dice, key)))],
            Kind::Delete => vec![plain(Request::DeleteRange(self.delete(dice, key)))],
            Kind::CompareAndSwap => self.compare_and_swap(dice, key),
            Kind::Txn => vec![self.txn(dice)],
            Kind::Compact => vec![compact(dice)],
            Kind::Refused => vec![refused(dice, key)],
            Kind::LeaseGrant => vec![lease::grant(self, dice)],
            Kind::LeaseKeepAlive => vec![lease::keep_alive(dice)],
            Kind::LeaseRevoke => vec![lease::revoke(dice)],
            Kind::LeaseTimeToLive => vec![lease::time_to_live(dice)],
            Kind::LeaseList => vec![plain(Request::LeaseLeases {})],
            Kind::PutLease => vec![lease::put(self, dice, key)],
            Kind::Watch => vec![watch::watch(self, dice, key)],
        }
    }

    fn key(&self, dice: &mut Dice) -> Bytes {
        Bytes::from(format!("k{}", dice.below(self.workload.keys)).as_str())
    }

    /// A value that nobody else writes, padded to a drawn length.
    fn value(&mut self, dice: &mut Dice) -> Bytes {
        self.values += 1;
        let mut value = format!("v{}.{}", self.name, self.values).into_bytes();
        let length =
            dice.within(self.workload.value_bytes.min, self.workload.value_bytes.max) as usize;
        if value.len() < length {
            value.resize(length, b'.');
        }
        Bytes(value)
    }

    /// A lease's id that only this client chooses: a new one, or the last one again.
    pub(super) fn lease_id(&mut self, new: bool) -> i64 {
        self.leases += i64::from(new || self.leases == 0);
        1 + i64::from(self.name) * 10_000 + self.leases
    }

    pub(super) fn put(&mut self, dice: &mut Dice, key: Bytes) -> Put {
        Put { key, value: self.value(dice), prev_kv: dice.percent(30), ..Put::default() }
    }

    /// A put; now and then one that keeps the value or the lease, and is refused where there is no key.
    fn put_or_keep(&mut self, dice: &mut Dice, key: Bytes) -> Put {
        match dice.below(16) {
            0 => Put {
                key,
                ignore_value: true,
                ignore_lease: dice.percent(30),
                prev_kv: dice.percent(30),
                ..Put::default()
            },
            1 => Put { ignore_lease: true, ..self.put(dice, key) },
            _ => self.put(dice, key),
        }
    }

    /// From the key to some key behind it, to the end of all keys, or just the key.
    pub(super) fn range_end(&self, dice: &mut Dice, key: &Bytes) -> Bytes {
        match dice.below(4) {
            0 => Bytes::from("\0"),
            1 => Bytes::default(),
            _ => self.key(dice).max(Bytes([key.0.as_slice(), b"\0"].concat())),
        }
    }

    fn delete(&mut self, dice: &mut Dice, key: Bytes) -> DeleteRange {
        let range_end =
            if dice.percent(25) { self.range_end(dice, &key) } else { Bytes::default() };
        DeleteRange { key, range_end, prev_kv: dice.percent(40) }
    }

    fn list_some(&mut self, dice: &mut Dice) -> Drawn {
        let key = self.key(dice);
        let mut fill = Fill::default();
        let range = Range {
            range_end: self.range_end(dice, &key),
            key,
            limit: dice.below(self.workload.keys) as i64,
            sort_order: *dice.pick(&[SortOrder::None, SortOrder::Ascend, SortOrder::Descend]),
            sort_target: *dice.pick(&[
                SortTarget::Key,
                SortTarget::Version,
                SortTarget::Create,
                SortTarget::Mod,
                SortTarget::Value,
            ]),
            serializable: dice.percent(30),
            keys_only: dice.percent(20),
            count_only: dice.percent(15),
            ..Range::default()
        };
        let near = |dice: &mut Dice| Some(Seen(dice.within(0, 20) as i64 - 16));
        match dice.below(8) {
            0 => fill.min_mod_revision = near(dice),
            1 => fill.max_mod_revision = near(dice),
            2 => fill.min_create_revision = near(dice),
            3 => fill.max_create_revision = near(dice),
            _ => {}
        }
        (Request::Range(range), fill)
    }

    fn get_old(&mut self, dice: &mut Dice, key: Bytes) -> Drawn {
        let range_end =
            if dice.percent(50) { self.range_end(dice, &key) } else { Bytes::default() };
        // Mostly the near past; sometimes far enough back to be compacted away.
        let back = if dice.percent(80) { dice.within(0, 8) } else { dice.within(8, 200) };
        let range = Range { key, range_end, serializable: dice.percent(40), ..Range::default() };
        (Request::Range(range), Fill { revision: Some(Seen(-(back as i64))), ..Fill::default() })
    }

    fn compare_and_swap(&mut self, dice: &mut Dice, key: Bytes) -> Vec<Drawn> {
        let target = match dice.below(4) {
            0 => CompareTarget::Version(0),
            1 => CompareTarget::Create(0),
            2 => CompareTarget::Value(Bytes::default()),
            _ => CompareTarget::Mod(0),
        };
        let compare = Compare {
            key: key.clone(),
            range_end: Bytes::default(),
            result: CompareResult::Equal,
            target,
        };
        let read = Request::Range(Range { key: key.clone(), ..Range::default() });
        let swap = Txn {
            compare: vec![compare],
            success: vec![Request::Put(self.put(dice, key))],
            failure: vec![read.clone()],
        };
        vec![plain(read), (Request::Txn(swap), Fill { compare: true, ..Fill::default() })]
    }

    fn txn(&mut self, dice: &mut Dice) -> Drawn {
        let compare = (0..dice.below(3))
            .map(|_| {
                let key = self.key(dice);
                self.compare(dice, key)
            })
            .collect();
        // Now and then nothing but conditions: these read, too.
        let only_conditions = dice.percent(12);
        let txn = if only_conditions {
            Txn { compare, ..Txn::default() }
        } else {
            Txn { compare, success: self.branch(dice), failure: self.branch(dice) }
        };
        // Where the past is read, mostly the near one: a txn that asks for too much does nothing at all.
        let back = if dice.percent(85) { dice.within(0, 10) } else { dice.within(10, 80) };
        let fill = Fill {
            compare: dice.percent(60),
            revision: reads_the_past(&txn).then_some(Seen(-(back as i64))),
            ..Fill::default()
        };
        (Request::Txn(txn), fill)
    }

    fn compare(&mut self, dice: &mut Dice, key: Bytes) -> Compare {
        let result = *dice.pick(&[
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
        ]);
        let target = match dice.below(5) {
            0 => CompareTarget::Version(dice.below(3) as i64),
            1 => CompareTarget::Create(dice.below(40) as i64),
            2 => CompareTarget::Mod(dice.below(80) as i64),
            3 => CompareTarget::Value(Bytes::from(
                format!("v{}.{}", dice.below(5), dice.below(20)).as_str(),
            )),
            _ => CompareTarget::Lease(0),
        };
        let range_end =
            if dice.percent(20) { self.range_end(dice, &key) } else { Bytes::default() };
        Compare { key, range_end, result, target }
    }

    /// One branch of a txn: each key is written at most once, as etcd demands; now and then a txn inside.
    fn branch(&mut self, dice: &mut Dice) -> Vec<Request> {
        let mut written: Vec<Bytes> = Vec::new();
        let mut requests = Vec::new();
        for _ in 0..dice.below(4) {
            let key = self.key(dice);
            let fresh = !written.contains(&key);
            requests.push(match dice.below(10) {
                0..=3 if fresh => {
                    written.push(key.clone());
                    Request::Put(self.put(dice, key))
                }
                4 if fresh => {
                    written.push(key.clone());
                    Request::DeleteRange(DeleteRange {
                        key,
                        prev_kv: dice.percent(40),
                        ..DeleteRange::default()
                    })
                }
                5 => self.inner_txn(dice, key, &mut written),
                6 => Request::Range(everything(false)),
                _ => Request::Range(self.inner_range(dice, key)),
            });
        }
        requests
    }

    /// A txn inside a txn. Its condition, often on a key that was just written, is about the time before.
    fn inner_txn(&mut self, dice: &mut Dice, key: Bytes, written: &mut Vec<Bytes>) -> Request {
        let about = written.last().filter(|_| dice.percent(60)).cloned();
        let compare = vec![self.compare(dice, about.unwrap_or_else(|| key.clone()))];
        let read = Request::Range(Range { key: key.clone(), ..Range::default() });
        let success = if written.contains(&key) || dice.percent(50) {
            vec![read.clone()]
        } else {
            written.push(key.clone());
            vec![Request::Put(self.put(dice, key)), read]
        };
        let failure = vec![Request::Range(everything(false))];
        Request::Txn(Txn { compare, success, failure })
    }

    /// A read inside a txn, with every option that has a meaning there.
    fn inner_range(&self, dice: &mut Dice, key: Bytes) -> Range {
        let plain = Range { key, ..Range::default() };
        match dice.below(8) {
            // Which revision this is, the client says when it sends it.
            0 => Range { revision: 1, ..plain },
            1 => Range {
                range_end: self.range_end(dice, &plain.key),
                limit: dice.below(4) as i64,
                sort_order: *dice.pick(&[SortOrder::None, SortOrder::Ascend, SortOrder::Descend]),
                sort_target: *dice.pick(&[SortTarget::Key, SortTarget::Version, SortTarget::Mod]),
                keys_only: dice.percent(20),
                count_only: dice.percent(20),
                ..plain
            },
            2 => Range { serializable: true, ..plain },
            _ => plain,
        }
    }
}

/// Whether a range somewhere in it names a revision.
fn reads_the_past(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|request| match request {
        Request::Range(range) => range.revision != 0,
        Request::Txn(inner) => reads_the_past(inner),
        _ => false,
    })
}

/// Every key there is.
#[must_use]
pub fn everything(serializable: bool) -> Range {
    Range { key: Bytes::from("\0"), range_end: Bytes::from("\0"), serializable, ..Range::default() }
}

fn compact(dice: &mut Dice) -> Drawn {
    // Often the newest change of all is what it ends at: a delete there is a case of its own.
    let back = if dice.percent(25) { dice.below(3) } else { dice.within(0, 60) };
    let fill = Fill { revision: Some(Seen(-(back as i64))), ..Fill::default() };
    (Request::Compact { revision: 0, physical: dice.percent(30) }, fill)
}

/// Requests that etcd refuses: a future revision, no key, a duplicate key, a value where none may be.
fn refused(dice: &mut Dice, key: Bytes) -> Drawn {
    let put = Put { key: key.clone(), value: Bytes::from("refused"), ..Put::default() };
    match dice.below(4) {
        0 => {
            let fill = Fill { revision: Some(Seen(100_000)), ..Fill::default() };
            (Request::Range(Range { key, ..Range::default() }), fill)
        }
        1 => plain(Request::Put(Put { key: Bytes::default(), ..put })),
        2 => plain(Request::Txn(Txn {
            success: vec![Request::Put(put.clone()), Request::Put(put)],
            ..Txn::default()
        })),
        _ => plain(Request::Put(Put { ignore_value: true, ..put })),
    }
}
