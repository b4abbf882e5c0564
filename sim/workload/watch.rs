//! What clients watch: a key, some keys, all of them; from now on, or from some revision near by.

use super::Drawn;
use super::kv::Client;
use crate::dice::Dice;
use crate::history::{Bytes, Request, Watch};
use crate::scenario::plan::{Fill, Seen};

/// A watch of every key there is, from a revision on.
#[must_use]
pub fn everything(start_revision: i64) -> Watch {
    let (key, range_end) = (Bytes::from("\0"), Bytes::from("\0"));
    Watch { key, range_end, start_revision, ..Watch::default() }
}

/// One watch, with any of its options. How long it lasts is the operation's time.
pub fn watch(client: &Client<'_>, dice: &mut Dice, key: Bytes) -> Drawn {
    let (key, range_end) = match dice.below(4) {
        0 => (key, Bytes::default()),
        1 => (Bytes::from("k"), Bytes::from("l")),
        2 => (Bytes::from("\0"), Bytes::from("\0")),
        _ => {
            let range_end = client.range_end(dice, &key);
            (key, range_end)
        }
    };
    let filter = dice.below(8);
    let watch = Watch {
        key,
        range_end,
        start_revision: 0,
        prev_kv: dice.percent(50),
        progress_notify: dice.percent(50),
        fragment: dice.percent(30),
        no_put: filter == 0,
        no_delete: filter == 1,
    };
    // From now on, from the near past, from the future, from what may be compacted.
    let revision = match dice.below(8) {
        0..=2 => None,
        3..=5 => Some(Seen(-(dice.within(0, 20) as i64))),
        6 => Some(Seen(dice.within(1, 40) as i64)),
        _ => Some(Seen(-(dice.within(20, 400) as i64))),
    };
    (Request::Watch(watch), Fill { revision, ..Fill::default() })
}
