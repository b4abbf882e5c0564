//! What clients do with leases: grant, hang keys on them, keep them alive or let them go.
//!
//! Times to live are a few seconds, so that many a lease is due within a run, some of them while nobody can renew
//! them. Which lease is meant, the client says when it sends the request: one of those it was granted.

use super::Drawn;
use super::kv::Client;
use crate::dice::Dice;
use crate::history::{Bytes, Put, Request};
use crate::scenario::plan::Fill;

/// Some lease of the client, mostly the newest.
fn some_lease(dice: &mut Dice) -> Fill {
    let before = if dice.percent(70) { 0 } else { dice.below(4) as u32 };
    Fill { lease: Some(before), ..Fill::default() }
}

/// A grant; the id is the client's or the server's choice, and now and then one that is taken already.
pub fn grant(client: &mut Client<'_>, dice: &mut Dice) -> Drawn {
    let id = match dice.below(10) {
        0 => client.lease_id(false),
        1..=5 => client.lease_id(true),
        _ => 0,
    };
    // The least that the server grants, and a few seconds more.
    let ttl_s = dice.within(1, 8) as i64;
    (Request::LeaseGrant { id, ttl_s }, Fill::default())
}

/// A put of a key that hangs on a lease of the client.
pub fn put(client: &mut Client<'_>, dice: &mut Dice, key: Bytes) -> Drawn {
    let put = Put { lease: 1, ..client.put(dice, key) };
    (Request::Put(put), some_lease(dice))
}

/// One renewal.
pub fn keep_alive(dice: &mut Dice) -> Drawn {
    (Request::LeaseKeepAlive { id: 0 }, some_lease(dice))
}

/// An end before its time.
pub fn revoke(dice: &mut Dice) -> Drawn {
    (Request::LeaseRevoke { id: 0 }, some_lease(dice))
}

/// How long it has, and what hangs on it.
pub fn time_to_live(dice: &mut Dice) -> Drawn {
    (Request::LeaseTimeToLive { id: 0, keys: dice.percent(50) }, some_lease(dice))
}
