//! `--force-new-cluster`: a member goes on alone after the others are lost for good.
//!
//! As in etcd: what was not known to be committed is thrown away, and behind what was, entries are put into the
//! member's own log that remove everybody else, as if they had been committed. They are applied like any others.
//! What the others had acknowledged and this member had not heard of is lost; that is the price.

use std::collections::BTreeSet;

use prost::Message as _;
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeV2, Entry, EntryType};

use super::changes;
use super::log::LogStore;
use super::ready::records;
use crate::error::{Error, Result};
use crate::proto::etcdserverpb::member_change::Kind;
use crate::proto::etcdserverpb::{InternalRaftRequest, MemberChange};
use crate::state::State;
use crate::wal::{HardState, Wal};

/// The entries that leave `own` alone, to be put behind what is committed.
pub(super) fn entries(
    state: &State,
    log: &LogStore,
    hard_state: HardState,
    own: u64,
) -> Result<Vec<Entry>> {
    let Some(member) = state.members().get(&own) else {
        let text = format!("--force-new-cluster: member {own:x} is not in its own cluster");
        return Err(Error::Config(text));
    };
    let mut others: BTreeSet<u64> = state.members().keys().copied().collect();
    others.extend(log.unapplied(hard_state.commit).filter_map(added));
    others.remove(&own);
    let change = |kind: Kind, id| MemberChange { kind: kind.into(), id, ..Default::default() };
    let vote = member.is_learner.then(|| change(Kind::Promote, own));
    let removals = others.into_iter().map(|id| change(Kind::Remove, id));
    let mut index = hard_state.commit;
    let entries = vote.into_iter().chain(removals).map(|change| {
        index += 1;
        let mut entry = changes::entry(0, &change);
        (entry.index, entry.term) = (index, hard_state.term);
        entry
    });
    Ok(entries.collect())
}

/// The member that a committed entry adds, if it does; whether it may is not asked.
fn added(entry: &Entry) -> Option<u64> {
    if entry.get_entry_type() != EntryType::EntryConfChangeV2 {
        return None;
    }
    let change = ConfChangeV2::parse_from_carllerche_bytes(&entry.data).ok()?;
    let request = InternalRaftRequest::decode(change.context).ok()?;
    request.member_change.filter(|change| change.kind() == Kind::Add).map(|change| change.id)
}

/// Puts `entries` behind what is committed, durably, as committed ones.
pub(super) async fn force(
    wal: &mut Wal,
    log: &mut LogStore,
    hard_state: HardState,
    entries: Vec<Entry>,
) -> Result<HardState> {
    let Some(last) = entries.last().map(|entry| entry.index) else { return Ok(hard_state) };
    let thrown_away = log.last() - hard_state.commit;
    tracing::warn!(
        "going on alone: {thrown_away} entries that were not committed are thrown away, {} members removed",
        entries.len()
    );
    let hard_state = HardState { commit: last, ..hard_state };
    wal.append(&records(&entries)?, Some(hard_state))?;
    wal.sync().await?;
    log.append(entries);
    log.set_hard_state(hard_state);
    Ok(hard_state)
}
