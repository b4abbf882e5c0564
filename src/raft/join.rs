//! Joining a cluster that runs: a new member learns from the others who it is.
//!
//! The id of a member that was added later cannot be worked out from flags. So the new one asks those that
//! `--initial-cluster` names who the members are, and finds itself by its peer URLs. It starts with that list and
//! an empty log; its first word from the leader is a snapshot, which replaces the list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::transport::Edges;
use crate::config::{Config, Url};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::proto::etcdserverpb as pb;
use crate::proto::peer::peer_client::PeerClient;
use crate::proto::peer::{MembersRequest, MembersResponse};
use crate::state::{Member, Members};

/// What a new member is told by the others.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The cluster.
    pub cluster_id: u64,
    /// The new member's own id.
    pub member_id: u64,
    /// All members, the new one included.
    pub members: Members,
}

/// Asks the other members who this one is, until one knows or it has taken too long.
///
/// # Errors
/// [`Error::Config`] with what was answered, and what to do about it.
pub async fn join(host: &Arc<dyn Host>, config: &Config) -> Result<Joined> {
    let clock = host.clock();
    let limits = &config.limits;
    let edges = Edges::new(&**host, config)?;
    let started = clock.monotonic();
    loop {
        let why = match ask_all(&edges, config).await {
            Ok(joined) => return Ok(joined),
            Err(why) => why,
        };
        if clock.monotonic().saturating_sub(started)
            >= Duration::from_millis(limits.join_timeout_ms)
        {
            return Err(Error::Config(format!("cannot join the cluster: {why}")));
        }
        tracing::info!("cannot join yet: {why}");
        clock.sleep(Duration::from_millis(limits.join_retry_ms)).await;
    }
}

/// One round: the first member that lists this one, or why there is none.
async fn ask_all(edges: &Edges, config: &Config) -> std::result::Result<Joined, String> {
    let mut why = "--initial-cluster names no other member".to_owned();
    for url in others(config) {
        let timeout =
            edges.clock.sleep(Duration::from_millis(edges.limits.peer_connect_timeout_ms));
        let answer = tokio::select! {
            biased;
            answer = ask(edges, &url) => answer,
            () = timeout => Err("no answer".to_owned()),
        };
        match answer.and_then(|answer| find(answer, config)) {
            Ok(joined) => return Ok(joined),
            Err(error) => why = format!("{url}: {error}"),
        }
    }
    Err(why)
}

fn others(config: &Config) -> Vec<Url> {
    let others = config.initial_cluster.iter().filter(|(name, _)| **name != config.name);
    others.filter_map(|(_, urls)| urls.first().cloned()).collect()
}

async fn ask(edges: &Edges, url: &Url) -> std::result::Result<MembersResponse, String> {
    let channel = edges.connect(url).map_err(|error| error.to_string())?;
    let answer = PeerClient::new(channel).members(MembersRequest {}).await;
    Ok(answer.map_err(|status| status.message().to_owned())?.into_inner())
}

/// Finds this member among those that another one has told.
fn find(answer: MembersResponse, config: &Config) -> std::result::Result<Joined, String> {
    let cluster_id = answer.cluster_id;
    let members: Members =
        decode(answer.members).into_iter().map(Member::from_message).collect::<BTreeMap<_, _>>();
    let own: BTreeSet<String> =
        config.initial_advertise_peer_urls.iter().map(Url::to_string).collect();
    let is_own = |member: &Member| member.peer_urls.iter().cloned().collect::<BTreeSet<_>>() == own;
    let found = members.iter().find(|(_, member)| is_own(member)).map(|(id, _)| *id);
    let member_id = found.ok_or_else(|| {
        let own = own.into_iter().collect::<Vec<_>>().join(",");
        format!("no member of cluster {cluster_id:x} is at {own}; add it first, with `etcdctl member add`")
    })?;
    // One that knows who it is still has its folder: it may have told its name and not heard back yet.
    if config.identity.is_none() && members.get(&member_id).is_some_and(Member::is_started) {
        return Err(format!(
            "member {member_id:x} of cluster {cluster_id:x} has run before, and its data folder is empty now: what \
             it had promised is lost; remove the member from the cluster and add it again"
        ));
    }
    Ok(Joined { cluster_id, member_id, members })
}

/// Members as they travel between members; what cannot be read is left out.
pub(super) fn decode(encoded: Vec<Bytes>) -> Vec<pb::Member> {
    encoded.into_iter().filter_map(|bytes| pb::Member::decode(bytes).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member finds itself by its peer URLs, in any order, and is told what to do where it is not there, or was
    /// there before.
    #[test]
    fn finds_itself() {
        let check = |name: &str, peer_urls: &[&str], expected: &str| {
            let name = name.to_owned();
            let peer_ur_ls = peer_urls.iter().map(|url| (*url).to_owned()).collect();
            let member = pb::Member { id: 0x2a, name, peer_ur_ls, ..pb::Member::default() };
            let members = vec![member.encode_to_vec().into()];
            let urls = ["http://10.0.0.4:2380", "http://10.0.0.4:2381"];
            let config = Config {
                initial_advertise_peer_urls: urls.map(|url| url.parse().unwrap()).to_vec(),
                ..Config::default()
            };
            let found = find(MembersResponse { cluster_id: 7, members }, &config);
            let found = found.map(|it| format!("{:x} of {:x}", it.member_id, it.cluster_id));
            assert_eq!(found.unwrap_or_else(|error| error), expected);
        };
        let both = ["http://10.0.0.4:2381", "http://10.0.0.4:2380"];
        check("", &both, "2a of 7");
        check(
            "n4",
            &both,
            "member 2a of cluster 7 has run before, and its data folder is empty now: what it had promised is \
             lost; remove the member from the cluster and add it again",
        );
        check(
            "",
            &["http://10.0.0.4:2380"],
            "no member of cluster 7 is at http://10.0.0.4:2380,http://10.0.0.4:2381; add it first, with \
             `etcdctl member add`",
        );
    }
}
