//! Hashes of the key space, of this member and of others, to compare them by.

use std::time::Duration;

use super::handle::{Handle, Shared};
use crate::error::Refusal;
use crate::proto::peer::peer_client::PeerClient;
use crate::proto::peer::{HashKvRequest, HashKvResponse};
use crate::state::KeysHash;

/// A hash of all keys up to a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// The hash.
    pub hash: u32,
    /// The revision up to which history is gone; hashes compare only where it is the same.
    pub compact_revision: i64,
    /// The revision that the hash is of.
    pub revision: i64,
}

impl Handle {
    /// This member's hash at `revision`; 0 is the current one.
    ///
    /// # Errors
    /// As [`Handle::hash_kv`].
    pub async fn own_hash(&self, revision: i64) -> Result<KvHash, Refusal> {
        let KeysHash { hash, compact_revision, hash_revision, .. } = self.hash_kv(revision).await?;
        Ok(KvHash { hash, compact_revision, revision: hash_revision })
    }

    /// The ids of the other members.
    #[must_use]
    pub fn peers(&self) -> Vec<u64> {
        let own = self.shared().member_id;
        self.shared().roster().members.keys().copied().filter(|id| *id != own).collect()
    }

    /// Another member's hash at `revision`; `None` where it cannot be reached in time or has none.
    pub async fn peer_hash(&self, to: u64, revision: i64) -> Option<KvHash> {
        let Shared { cluster_id, member_id: from, .. } = *self.shared();
        let edges = &self.forward().edges;
        let channel = edges.connect(&self.shared().roster().url(to)?).ok()?;
        let mut client = PeerClient::new(channel);
        let asking = client.hash_kv(HashKvRequest { cluster_id, from, to, revision });
        let timeout = Duration::from_millis(edges.limits.peer_hash_timeout_ms);
        let answer = tokio::select! {
            biased;
            answer = asking => answer.ok()?.into_inner(),
            () = edges.clock.sleep(timeout) => return None,
        };
        let HashKvResponse { hash, compact_revision, revision } = answer;
        Some(KvHash { hash, compact_revision, revision })
    }
}
