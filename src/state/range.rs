//! Reading a range, with every option, and in etcd's order of doing things.

use std::cmp::Ordering;

use super::index::KeyRange;
use super::mvcc::header;
use super::{State, Verdict};
use crate::error::{Refusal, Result};
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse};
use crate::proto::mvccpb::KeyValue;

/// How many keys to fetch, and how to order them, from a request whose options are valid.
struct Order {
    target: SortTarget,
    order: SortOrder,
}

impl Order {
    fn of(request: &RangeRequest) -> Verdict<Self> {
        let target = SortTarget::try_from(request.sort_target);
        let order = SortOrder::try_from(request.sort_order);
        match (target, order) {
            (Ok(target), Ok(order)) => Ok(Self { target, order }),
            _ => Err(Refusal::InvalidSortOption),
        }
    }

    /// Whether etcd takes the order for the one that keys come in. That is not so for a target
    /// other than the key without an order: such keys are sorted after all, but only those within
    /// the limit (a quirk that clients see, so it is kept).
    fn passes_for_key_order(&self) -> bool {
        self.order == SortOrder::None
            || (self.target == SortTarget::Key && self.order == SortOrder::Ascend)
    }

    /// Sorts what was fetched; it comes in key order. Keys that are equal in the target stay in key
    /// order, which etcd leaves open.
    fn sort(&self, kvs: &mut [KeyValue]) {
        let by: fn(&KeyValue, &KeyValue) -> Ordering = match self.target {
            SortTarget::Key => |a, b| a.key.cmp(&b.key),
            SortTarget::Version => |a, b| a.version.cmp(&b.version),
            SortTarget::Create => |a, b| a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => |a, b| a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => |a, b| a.value.cmp(&b.value),
        };
        match (self.order, self.target) {
            (SortOrder::Descend, _) => kvs.sort_by(|a, b| by(b, a)),
            (_, SortTarget::Key) => {}
            _ => kvs.sort_by(by),
        }
    }
}

fn has_filters(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

/// Whether the filters let a key through; a filter of 0 is none.
fn passes_filters(request: &RangeRequest, kv: &KeyValue) -> bool {
    let within = |value, min, max| (min == 0 || value >= min) && (max == 0 || value <= max);
    within(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(kv.create_revision, request.min_create_revision, request.max_create_revision)
}

impl State {
    /// The revision that a range asks for, seen from the revision `current`.
    fn revision_of(&self, current: i64, request: &RangeRequest) -> Verdict<i64> {
        let revision = if request.revision <= 0 { current } else { request.revision };
        if revision > current {
            return Err(Refusal::FutureRevision);
        }
        if revision < self.compact_revision {
            return Err(Refusal::Compacted);
        }
        Ok(revision)
    }

    /// Answers a valid range, seen from the revision `current`.
    pub(super) fn range_at(&self, current: i64, request: &RangeRequest) -> Result<RangeResponse> {
        let revision = self.revision_of(current, request)?;
        let order = Order::of(request)?;
        let range = KeyRange::new(&request.key, &request.range_end);
        let mut response = RangeResponse { header: header(current), ..RangeResponse::default() };
        if request.count_only {
            self.index.visit(range, revision, |_, _| response.count += 1);
            return Ok(response);
        }
        // One more than asked for tells whether there are more.
        let pushed_down = order.passes_for_key_order() && !has_filters(request);
        let fetch = match usize::try_from(request.limit) {
            Ok(limit) if limit > 0 && pushed_down => limit.saturating_add(1),
            _ => usize::MAX,
        };
        let mut revisions = Vec::new();
        self.index.visit(range, revision, |_, found| {
            if revisions.len() < fetch {
                revisions.push(found.modified);
            }
            response.count += 1;
        });
        let mut kvs = revisions
            .into_iter()
            .map(|revision| self.read(revision))
            .filter(|kv| kv.as_ref().map_or(true, |kv| passes_filters(request, kv)))
            .collect::<Result<Vec<_>>>()?;
        order.sort(&mut kvs);
        if let Ok(limit) = usize::try_from(request.limit)
            && limit > 0
            && kvs.len() > limit
        {
            kvs.truncate(limit);
            response.more = true;
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        response.kvs = kvs;
        Ok(response)
    }
}
