//! The size of the backend: looked at now and then, and an alarm raised where it has reached its quota.
//!
//! Requests are refused by whoever takes them in, by the size that was seen last (`handle.rs`). The first of them
//! makes the member raise an alarm through the log, which every member then heeds.

use std::sync::atomic::Ordering;

use prost::Message as _;

use super::node::Node;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{AlarmRequest, AlarmType, InternalRaftRequest, RequestHeader};

impl Node {
    /// Time passes: looks at the size, and raises the alarm that a refused request asks for.
    pub(super) fn tick_quota(&mut self) {
        let pause = super::ticks_of(self.config.limits.quota_check_ms, &self.config);
        if self.config.quota_bytes().is_none() || !self.tick.is_multiple_of(pause) {
            return;
        }
        // Where the size cannot be told, whatever comes next will fail, too.
        if let Ok((total, _)) = self.state.db_size() {
            self.shared.db_size.store(total, Ordering::Relaxed);
        }
        let is_wanted = self.shared.out_of_space.swap(false, Ordering::Relaxed);
        if !is_wanted || self.state.has_alarm(AlarmType::Nospace) || !self.can_propose() {
            return;
        }
        tracing::warn!("the database has reached its quota: nothing more is taken in");
        let alarm = Some(AlarmRequest {
            action: AlarmAction::Activate.into(),
            member_id: self.shared.member_id,
            alarm: AlarmType::Nospace.into(),
        });
        let header = Some(RequestHeader::default());
        let request = InternalRaftRequest { header, alarm, ..Default::default() };
        if let Err(error) = self.raw.propose(Vec::new(), request.encode_to_vec()) {
            tracing::debug!("raft refused an alarm: {error}");
        }
    }
}
