//! Whether members that have applied the same hold the same: asked at the start, and by the leader now and then.
//!
//! Two hashes are compared only where revision and compact revision are equal. At the start a member that differs
//! from another one does not serve. Later on it is the leader that looks, and raises a CORRUPT alarm for whoever
//! differs from it; then nothing is read or written any more until somebody has looked after it.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::error::{Error, Refusal, Result};
use crate::host::Clock;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{AlarmRequest, AlarmType, InternalRaftRequest};
use crate::raft;

/// Refuses where this member and another one differ; those that cannot be asked are passed over.
///
/// # Errors
/// [`Error::Corrupt`] with both hashes.
pub(super) async fn check_at_start(handle: &raft::Handle, config: &Config) -> Result<()> {
    let (own, differing) = match differing(handle).await {
        Ok(found) => found,
        Err(refusal) => {
            tracing::info!("hashes are not compared: {}", refusal.text());
            return Ok(());
        }
    };
    let Some((peer, theirs)) = differing.first() else { return Ok(()) };
    let reason = format!(
        "at revision {} this member has hash {:08x} and member {peer:x} has {theirs:08x}; remove this member's data \
         folder and let it rejoin",
        own.revision, own.hash
    );
    Err(Error::corrupt(config.backend_dir(), 0, reason))
}

/// Compares now and then while this member leads, until it stops.
pub(super) async fn watch(handle: raft::Handle, config: Arc<Config>, clock: Arc<dyn Clock>) {
    if config.corrupt_check_time_ms == 0 {
        return;
    }
    loop {
        tokio::select! {
            biased;
            () = handle.ending() => return,
            () = clock.sleep(Duration::from_millis(config.corrupt_check_time_ms)) => {}
        }
        if !handle.leads() {
            continue;
        }
        match differing(&handle).await {
            Ok((own, differing)) => {
                for (peer, theirs) in differing {
                    tracing::error!(
                        "at revision {} member {peer:x} has hash {theirs:08x}, and this one has {:08x}",
                        own.revision,
                        own.hash
                    );
                    raise(&handle, peer).await;
                }
            }
            Err(refusal) => tracing::debug!("hashes are not compared: {}", refusal.text()),
        }
    }
}

/// This member's hash at its current revision, and the members that have another one there.
async fn differing(
    handle: &raft::Handle,
) -> std::result::Result<(raft::KvHash, Vec<(u64, u32)>), Refusal> {
    let own = handle.own_hash(0).await?;
    let mut differing = Vec::new();
    for peer in handle.peers() {
        match handle.peer_hash(peer, own.revision).await {
            Some(theirs) if theirs.compact_revision == own.compact_revision => {
                if theirs.hash != own.hash {
                    differing.push((peer, theirs.hash));
                }
            }
            _ => tracing::debug!("member {peer:x} has no hash to compare at {}", own.revision),
        }
    }
    Ok((own, differing))
}

async fn raise(handle: &raft::Handle, member_id: u64) {
    let (action, alarm) = (AlarmAction::Activate.into(), AlarmType::Corrupt.into());
    let alarm = Some(AlarmRequest { action, member_id, alarm });
    let request = InternalRaftRequest { alarm, ..Default::default() };
    if let Err(refusal) = handle.propose(request).await {
        // The next look finds it again.
        tracing::info!("no alarm raised: {}", refusal.text());
    }
}
