//! The size of the backend: looked at now and then, and an alarm raised where it has reached its quota.
//!
//! Requests are refused by whoever takes them in, by the size that was seen last. Before a client is told, the member
//! raises an alarm through the log, as etcd does: every member heeds it, and whoever was refused can take it back.

use std::sync::atomic::Ordering;

use super::handle::Handle;
use super::node::Node;
use crate::error::Refusal;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{AlarmRequest, AlarmType, InternalRaftRequest};
use crate::state::{self, Caller};

impl Node {
    /// Time passes: looks at the size.
    pub(super) fn tick_quota(&mut self) {
        let pause = super::ticks_of(self.config.limits.quota_check_ms, &self.config);
        if self.config.quota_bytes().is_some() && self.tick.is_multiple_of(pause) {
            self.look_at_size();
        }
    }

    /// Notes how large the backend is.
    pub(super) fn look_at_size(&self) {
        // Where the size cannot be told, whatever comes next will fail, too.
        if let Ok((total, _)) = self.state.db_size() {
            self.shared.db_size.store(total, Ordering::Relaxed);
        }
    }
}

impl Handle {
    /// Whether there is room for a request; where there is not, an alarm is raised.
    ///
    /// # Errors
    /// [`Refusal::NoSpace`].
    pub(super) async fn check_quota(&self, request: &InternalRaftRequest) -> Result<(), Refusal> {
        let Some(quota) = self.quota_bytes() else { return Ok(()) };
        let cost = state::cost(request) as u64;
        if cost == 0 || self.shared().db_size.load(Ordering::Relaxed) + cost <= quota {
            return Ok(());
        }
        if let Err(refusal) = self.raise_no_space().await {
            tracing::debug!("raising an alarm: {}", refusal.text());
        }
        Err(Refusal::NoSpace)
    }

    /// Raises the alarm, unless it is raised already.
    async fn raise_no_space(&self) -> Result<(), Refusal> {
        let raised = AlarmType::Nospace;
        if self.status().await?.alarms.iter().any(|alarm| alarm.alarm() == raised) {
            return Ok(());
        }
        tracing::warn!("the database has reached its quota: nothing more is taken in");
        let alarm = Some(AlarmRequest {
            action: AlarmAction::Activate.into(),
            member_id: self.header().member_id,
            alarm: raised.into(),
        });
        let request = InternalRaftRequest { alarm, ..Default::default() };
        self.propose_unchecked(&Caller::root(), request).await.map(drop)
    }
}
