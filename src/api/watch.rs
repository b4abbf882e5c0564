//! The Watch service: one task for each stream, which makes responses of what the stream is told.
//!
//! Invariants:
//! * The response that says "created" comes before everything else of a watch, and nothing comes after
//!   the one that says "canceled".
//! * Progress is told only where it holds for every watch that the client knows of by then.
//! * A client that does not read is waited for here, by its own task, and nowhere else.
//! * A response holds whole revisions, unless the watch was asked for in fragments.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::gate::Credentials;
use super::{Api, status};
use crate::error::Refusal;
use crate::proto::etcdserverpb::watch_create_request::FilterType;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::etcdserverpb::watch_server::Watch;
use crate::proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use crate::proto::mvccpb::{Event, event::EventType};
use crate::raft::May;
use crate::watch::{Batch, Keys, News, Spec, Stream};

/// The id of no watch: of a watch that was not made, and of progress of all watches of a stream.
const NO_WATCH: i64 = -1;

/// etcd's words for a range whose end is not behind its start.
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";

/// etcd's words for an id that is another watch's.
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

#[tonic::async_trait]
impl Watch for Api {
    type WatchStream = Responses;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let stream = self.watches.open().await.map_err(status)?;
        let (sender, responses) = mpsc::channel(self.config.limits.watch_stream_answers);
        let session = Session {
            api: self.clone(),
            credentials: Credentials::of(&request),
            stream,
            responses: sender,
            watches: BTreeMap::new(),
            ids: BTreeMap::new(),
            next_id: 0,
        };
        tokio::spawn(session.run(request.into_inner()));
        Ok(Response::new(Responses(responses)))
    }
}

/// The responses of one stream.
pub(super) struct Responses(mpsc::Receiver<Result<WatchResponse, Status>>);

impl tokio_stream::Stream for Responses {
    type Item = Result<WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

/// How the client wants to be told.
#[derive(Clone, Copy)]
struct Manner {
    /// The id that the client knows it by.
    id: i64,
    prev_kv: bool,
    fragment: bool,
}

/// One stream of one client.
struct Session {
    api: Api,
    /// Looked up anew for each watch: whom they stand for may change.
    credentials: Credentials,
    stream: Stream,
    responses: mpsc::Sender<Result<WatchResponse, Status>>,
    /// By the watcher's number. One that has ended is not here: what is still queued for it is dropped.
    watches: BTreeMap<u64, Manner>,
    /// The client's ids.
    ids: BTreeMap<i64, u64>,
    next_id: i64,
}

/// Why a session ends: with a word to the client, or because the client has gone.
enum Over {
    Said(Status),
    Gone,
}

impl From<Refusal> for Over {
    fn from(refusal: Refusal) -> Self {
        Self::Said(status(refusal))
    }
}

impl Session {
    async fn run(mut self, requests: Streaming<WatchRequest>) {
        if let Err(Over::Said(status)) = self.serve(requests).await {
            // The client may have gone in this moment.
            let _ = self.responses.send(Err(status)).await;
        }
    }

    async fn serve(&mut self, mut requests: Streaming<WatchRequest>) -> Result<(), Over> {
        // A client that has said all it wants to say may still want to hear.
        let mut speaks = true;
        loop {
            tokio::select! {
                biased;
                () = self.responses.closed() => return Err(Over::Gone),
                request = requests.message(), if speaks => match request {
                    Ok(Some(request)) => self.on_request(request).await?,
                    Ok(None) => speaks = false,
                    // Such as one that is no message at all.
                    Err(status) => return Err(Over::Said(super::not_received_on(status))),
                },
                news = self.stream.next() => match news {
                    Some(news) => self.on_news(news).await?,
                    None => return Err(Refusal::Stopped.into()),
                },
            }
        }
    }

    async fn on_request(&mut self, request: WatchRequest) -> Result<(), Over> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => self.create(request).await,
            Some(RequestUnion::CancelRequest(request)) => {
                let Some(watcher) = self.ids.remove(&request.watch_id) else { return Ok(()) };
                self.watches.remove(&watcher);
                let revision = self.stream.cancel(watcher).await?;
                let mut response = self.response(request.watch_id, revision);
                response.canceled = true;
                self.send(response).await
            }
            Some(RequestUnion::ProgressRequest(_)) => Ok(self.stream.ask_progress().await?),
            // etcd takes no notice of a request that says nothing, either.
            None => Ok(()),
        }
    }

    async fn create(&mut self, request: WatchCreateRequest) -> Result<(), Over> {
        let keys = match self.keys(&request) {
            Ok(keys) => keys,
            Err(reason) => return self.refuse(reason).await,
        };
        if let Err(refusal) = self.permit(&request).await {
            // etcd shows the whole error of its gRPC library here.
            let code = status(refusal).code();
            let reason = format!("rpc error: code = {code:?} desc = {}", refusal.text());
            return self.refuse(&reason).await;
        }
        let filters = |filter: FilterType| request.filters.contains(&filter.into());
        let spec = Spec {
            keys,
            start_revision: request.start_revision,
            no_put: filters(FilterType::Noput),
            no_delete: filters(FilterType::Nodelete),
            progress_notify: request.progress_notify,
        };
        let created = self.stream.create(spec).await?;
        let id = self.free_id(request.watch_id);
        let manner = Manner { id, prev_kv: request.prev_kv, fragment: request.fragment };
        self.ids.insert(id, created.watcher);
        self.watches.insert(created.watcher, manner);
        let mut response = self.response(id, created.revision);
        response.created = true;
        self.send(response).await
    }

    /// Whether the client may watch what it wants to. Asked once: a watch outlives what its client may.
    async fn permit(&self, request: &WatchCreateRequest) -> Result<(), Refusal> {
        let handle = &self.api.handle;
        let caller = self.api.bearer(&self.credentials).await?;
        // No key at all means the first there can be.
        let key =
            if request.key.is_empty() { Bytes::from_static(&[0]) } else { request.key.clone() };
        let what = May::Read { key, range_end: request.range_end.clone() };
        match handle.may(&caller, what).await {
            // Those that etcd tells apart; a user who is gone may do nothing.
            Err(Refusal::UserNotFound) => Err(Refusal::PermissionDenied),
            verdict => verdict,
        }
    }

    /// What a request wants to watch, or why it cannot be.
    fn keys(&self, request: &WatchCreateRequest) -> Result<Keys, &'static str> {
        if request.start_revision < 0 {
            return Err(Refusal::Compacted.text());
        }
        let keys = Keys::new(&request.key, &request.range_end).ok_or(EMPTY_RANGE)?;
        if request.watch_id != 0 && self.ids.contains_key(&request.watch_id) {
            return Err(DUPLICATE_ID);
        }
        if self.ids.len() >= self.api.config.limits.watch_stream_watches_max {
            return Err(Refusal::TooManyRequests.text());
        }
        Ok(keys)
    }

    /// The id that a client has chosen, or where it has not, the next one that is free.
    fn free_id(&mut self, chosen: i64) -> i64 {
        if chosen != 0 {
            return chosen;
        }
        while self.ids.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    async fn refuse(&mut self, reason: &str) -> Result<(), Over> {
        let mut response = self.response(NO_WATCH, self.api.handle.revision());
        (response.created, response.canceled) = (true, true);
        response.cancel_reason = reason.to_owned();
        self.send(response).await
    }

    async fn on_news(&mut self, news: News) -> Result<(), Over> {
        match news {
            News::Events { watcher, batch, picks, revision } => {
                let Some(manner) = self.watches.get(&watcher).copied() else { return Ok(()) };
                let mut response = self.response(manner.id, revision);
                response.events = self.events(manner, &batch, &picks).await?;
                let bytes_max = self.api.config.max_frame_bytes();
                if manner.fragment {
                    for fragment in fragments(response, bytes_max) {
                        self.send(fragment).await?;
                    }
                    return Ok(());
                }
                self.send(response).await
            }
            // For a watch that was made since this was said, it may not hold.
            News::AllProgress { before, .. } if self.watches.range(before..).next().is_some() => {
                Ok(self.stream.ask_progress().await?)
            }
            News::AllProgress { revision, .. } => {
                self.send(self.response(NO_WATCH, revision)).await
            }
            News::Progress { watcher, revision } => {
                let Some(manner) = self.watches.get(&watcher) else { return Ok(()) };
                self.send(self.response(manner.id, revision)).await
            }
            News::Compacted { watcher, compact_revision, revision } => {
                let Some(manner) = self.watches.remove(&watcher) else { return Ok(()) };
                self.ids.remove(&manner.id);
                let mut response = self.response(manner.id, revision);
                (response.canceled, response.compact_revision) = (true, compact_revision);
                response.cancel_reason = Refusal::Compacted.text().to_owned();
                self.send(response).await
            }
        }
    }

    async fn events(
        &self,
        manner: Manner,
        batch: &Batch,
        picks: &[u32],
    ) -> Result<Vec<Event>, Over> {
        let previous = if manner.prev_kv { Some(self.previous(batch).await?) } else { None };
        let event = |pick: &u32| {
            let place = *pick as usize;
            let change = &batch.changes()[place];
            let kind = if change.is_delete { EventType::Delete } else { EventType::Put };
            Event {
                r#type: kind.into(),
                kv: Some(change.kv.clone()),
                prev_kv: previous.and_then(|previous| previous[place].clone()),
            }
        };
        Ok(picks.iter().map(event).collect())
    }

    /// The keys as they were before. A loop that is busy is asked again: to leave them out would say
    /// that there was nothing before.
    async fn previous<'a>(
        &self,
        batch: &'a Batch,
    ) -> Result<&'a [Option<crate::proto::mvccpb::KeyValue>], Over> {
        let limits = &self.api.config.limits;
        loop {
            match batch.previous(&self.api.handle, limits.watch_previous_keys).await {
                Ok(previous) => return Ok(previous),
                Err(Refusal::Stopped) => return Err(Refusal::Stopped.into()),
                Err(refusal) => tracing::debug!("no earlier values now: {}", refusal.text()),
            }
            let pause = Duration::from_millis(limits.watch_retry_ms);
            self.api.handle.sleep(pause).await;
        }
    }

    fn response(&self, watch_id: i64, revision: i64) -> WatchResponse {
        let header = self.api.header(revision);
        WatchResponse { header, watch_id, ..WatchResponse::default() }
    }

    async fn send(&self, response: WatchResponse) -> Result<(), Over> {
        self.responses.send(Ok(response)).await.map_err(|_| Over::Gone)
    }
}

/// Splits a response that is too large into several, as few as fit; all but the last are marked. One
/// event is never split.
fn fragments(response: WatchResponse, bytes_max: usize) -> Vec<WatchResponse> {
    if response.events.len() < 2 || response.encoded_len() < bytes_max {
        return vec![response];
    }
    let WatchResponse { events, .. } = response;
    let blank = WatchResponse { events: Vec::new(), ..response };
    let mut fragments: Vec<WatchResponse> = Vec::new();
    let mut current = WatchResponse { fragment: true, ..blank.clone() };
    let mut bytes = current.encoded_len();
    for event in events {
        // The field's tag, the length, the event.
        let length = event.encoded_len();
        let more = 1 + prost::length_delimiter_len(length) + length;
        if !current.events.is_empty() && bytes + more >= bytes_max {
            let next = WatchResponse { fragment: true, ..blank.clone() };
            bytes = next.encoded_len();
            fragments.push(std::mem::replace(&mut current, next));
        }
        bytes += more;
        current.events.push(event);
    }
    current.fragment = false;
    fragments.push(current);
    fragments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::mvccpb::KeyValue;

    /// Fragments hold all events in order, none is larger than allowed unless it is one event, and only
    /// the last is not marked.
    #[test]
    fn fragmented() {
        let check = |lengths: &[usize], bytes_max: usize, expected: &[usize]| {
            let event = |length: &usize| Event {
                kv: Some(KeyValue { value: vec![1; *length].into(), ..KeyValue::default() }),
                ..Event::default()
            };
            let events: Vec<Event> = lengths.iter().map(event).collect();
            let whole = WatchResponse { watch_id: 3, events: events.clone(), ..Default::default() };
            let parts = fragments(whole, bytes_max);
            let counts: Vec<usize> = parts.iter().map(|part| part.events.len()).collect();
            assert_eq!(counts, expected, "{lengths:?} in {bytes_max}");
            let marks: Vec<bool> = parts.iter().map(|part| part.fragment).collect();
            assert_eq!(marks.iter().filter(|mark| !**mark).count(), 1);
            assert_eq!(marks.last(), Some(&false));
            for part in &parts {
                assert!(part.events.len() == 1 || part.encoded_len() < bytes_max);
            }
            let all: Vec<Event> = parts.into_iter().flat_map(|part| part.events).collect();
            assert_eq!(all, events);
        };
        check(&[100, 100, 100], 1000, &[3]);
        check(&[100, 100, 100], 260, &[2, 1]);
        check(&[100, 100, 100], 150, &[1, 1, 1]);
        check(&[500, 1, 1, 500], 300, &[1, 2, 1]);
        check(&[500], 10, &[1]);
        check(&[], 10, &[0]);
    }
}
