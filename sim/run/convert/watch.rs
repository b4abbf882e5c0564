//! Watches: as they are asked for, and what comes back.

use snowglobe::proto::{etcdserverpb as pb, mvccpb};

use super::key_value;
use crate::history::{Event, EventKind, Watch, WatchMessage};

/// The request that creates a watch.
#[must_use]
pub fn create(watch: &Watch) -> pb::WatchCreateRequest {
    use pb::watch_create_request::FilterType;
    let filters = [(watch.no_put, FilterType::Noput), (watch.no_delete, FilterType::Nodelete)];
    let filters = filters.into_iter().filter(|row| row.0).map(|row| row.1.into()).collect();
    pb::WatchCreateRequest {
        key: watch.key.0.clone().into(),
        range_end: watch.range_end.0.clone().into(),
        start_revision: watch.start_revision,
        progress_notify: watch.progress_notify,
        filters,
        prev_kv: watch.prev_kv,
        watch_id: 0,
        fragment: watch.fragment,
    }
}

/// A response of a watch stream, received at `at` of virtual time.
#[must_use]
pub fn message(response: pb::WatchResponse, at: u64) -> WatchMessage {
    let header = response.header.unwrap_or_default();
    WatchMessage {
        at,
        revision: header.revision,
        created: response.created,
        canceled: response.canceled,
        compact_revision: response.compact_revision,
        cancel_reason: response.cancel_reason,
        fragment: response.fragment,
        events: response.events.into_iter().map(event).collect(),
    }
}

fn event(event: mvccpb::Event) -> Event {
    Event {
        kind: match event.r#type() {
            mvccpb::event::EventType::Put => EventKind::Put,
            mvccpb::event::EventType::Delete => EventKind::Delete,
        },
        kv: key_value(event.kv.unwrap_or_default()),
        prev_kv: event.prev_kv.map(key_value),
    }
}
