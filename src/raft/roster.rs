//! Who the members are, as the tasks beside the loop see it: a copy that the loop renews.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Url;
use crate::state::Members;

/// The members at some applied index.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    pub(super) members: Members,
    pub(super) removed: BTreeSet<u64>,
}

impl Roster {
    /// Where a member is reached by the others: the first of its peer URLs.
    pub(super) fn url(&self, id: u64) -> Option<Url> {
        self.members.get(&id)?.peer_urls.first()?.parse().ok()
    }

    /// Where all members but `own` are reached.
    pub(super) fn peers(&self, own: u64) -> BTreeMap<u64, Url> {
        let others = self.members.keys().filter(|id| **id != own);
        others.filter_map(|id| Some((*id, self.url(*id)?))).collect()
    }
}
