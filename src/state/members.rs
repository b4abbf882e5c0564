//! What members publish about themselves: their name, and where clients find them.

use prost::Message;

use super::{State, meta};
use crate::error::Result;
use crate::proto::etcdserverpb::ClusterMemberAttrSetRequest;

/// A member that has started at least once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Where clients find it.
    pub client_urls: Vec<String>,
}

impl State {
    /// Keeps what a member published; no revision of its own.
    pub(super) fn set_member(&mut self, request: &ClusterMemberAttrSetRequest) {
        let member =
            Member { name: request.name.clone(), client_urls: request.client_urls.clone() };
        meta::put_member(&mut self.pending.batch, request.member_id, &request.encode_to_vec());
        self.members.insert(request.member_id, member);
    }

    /// Reads all members back.
    pub(super) fn restore_members(&mut self) -> Result<()> {
        let storage = self.storage.clone();
        meta::read_members(&storage, |id, encoded| {
            let request = ClusterMemberAttrSetRequest::decode(encoded)
                .map_err(|cause| self.corrupt(format!("the record of member {id:x}: {cause}")))?;
            let member = Member { name: request.name, client_urls: request.client_urls };
            self.members.insert(id, member);
            Ok(())
        })
    }
}
