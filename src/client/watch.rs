//! One watch, kept up over members that fall silent and streams that break.
//!
//! Invariants:
//! * Every event from the start revision on is told once and in order, whatever happens to members and streams.
//! * All events of a revision are told together.
//! * What cannot be told any more, because it was compacted, is never passed over: it ends the watch.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use prost::Message as _;
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

use super::fate::is_refusal;
use super::login::{Login, Way};
use super::{Client, Failure};
use crate::error::Refusal;
use crate::proto::etcdserverpb::watch_client::WatchClient;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use crate::proto::mvccpb::Event;

/// Requests that wait for the connection: the watch itself, and one question for progress.
const REQUESTS_MAX: usize = 2;

/// A watch on a stream of its own, until that ends.
pub struct WatchStream {
    incoming: Streaming<WatchResponse>,
    requests: mpsc::Sender<WatchRequest>,
}

impl WatchStream {
    /// Asks a member for a watch. What the member thinks of it is said in the first message.
    ///
    /// # Errors
    /// The member cannot be reached, or serves no watches now.
    pub async fn open(way: Way, create: WatchCreateRequest) -> Result<Self, Status> {
        let (requests, outgoing) = mpsc::channel(REQUESTS_MAX);
        requests.try_send(request(RequestUnion::CreateRequest(create))).expect("it has room");
        let mut client = WatchClient::new(way).max_decoding_message_size(usize::MAX);
        let incoming = client.watch(Outgoing(outgoing)).await?.into_inner();
        Ok(Self { requests, incoming })
    }

    /// The next message; `None` where the member has ended the stream. Nothing is lost where the caller stops waiting.
    ///
    /// # Errors
    /// The stream broke, or the member says why it ends.
    pub async fn message(&mut self) -> Result<Option<WatchResponse>, Status> {
        self.incoming.message().await
    }

    /// Asks how far the member is; whether there was room for the question.
    pub fn ask_progress(&self) -> bool {
        let ask = request(RequestUnion::ProgressRequest(WatchProgressRequest {}));
        self.requests.try_send(ask).is_ok()
    }
}

fn request(union: RequestUnion) -> WatchRequest {
    WatchRequest { request_union: Some(union) }
}

/// The requests of one stream.
struct Outgoing(mpsc::Receiver<WatchRequest>);

impl tokio_stream::Stream for Outgoing {
    type Item = WatchRequest;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<WatchRequest>> {
        self.0.poll_recv(context)
    }
}

/// The revision at which a watch goes on after its stream has ended: the first of which not everything was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume(i64);

impl Resume {
    /// A watch that begins at `start_revision`; 0 for the revision after the one at which it is made.
    #[must_use]
    pub fn new(start_revision: i64) -> Self {
        Self(start_revision)
    }

    /// The start revision of the next stream.
    #[must_use]
    pub fn revision(self) -> i64 {
        self.0
    }

    /// Takes a message of the stream into account. After one that cancels the watch because of a compaction it goes on
    /// at the first revision that can still be told: what is before that is lost.
    pub fn take(&mut self, message: &WatchResponse) {
        let revision = message.header.as_ref().map_or(0, |header| header.revision);
        let told = message.events.last().map(mod_revision);
        let is_progress = told.is_none() && !message.created && !message.canceled;
        // Of a revision that comes in fragments, only the last one counts.
        let told = told.filter(|_| !message.fragment).or(is_progress.then_some(revision));
        if let Some(told) = told {
            self.0 = self.0.max(told + 1);
        }
        if message.created && self.0 == 0 {
            self.0 = revision + 1;
        }
        if message.canceled {
            self.0 = self.0.max(message.compact_revision);
        }
    }
}

fn mod_revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// See the module; made by [`Client::watch`].
pub struct Watch {
    client: Client,
    create: WatchCreateRequest,
    resume: Resume,
    stream: Option<Open>,
    /// Streams that have failed since the last message.
    failures: usize,
}

/// The stream of now.
struct Open {
    stream: WatchStream,
    member: usize,
    /// Whether nothing was heard for so long that the member was asked how far it is.
    is_asked: bool,
    /// Events of which the last fragment is still to come.
    fragments: Vec<Event>,
    fragments_bytes: usize,
}

/// What comes of waiting for a stream.
enum Heard {
    Message(WatchResponse),
    Silence,
}

impl Watch {
    pub(super) fn new(client: Client, create: WatchCreateRequest) -> Self {
        let resume = Resume::new(create.start_revision);
        Self { client, create, resume, stream: None, failures: 0 }
    }

    /// The revision from which on nothing was told yet; 0 where the watch was not made yet and begins with the next
    /// change.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.resume.revision()
    }

    /// The next events, or where [`WatchCreateRequest::progress_notify`] was asked for, how far the member is. Nothing
    /// is lost where the caller stops waiting.
    ///
    /// # Errors
    /// The watch has ended: the member has cancelled it, with `OutOfRange` where what comes next was compacted; or too
    /// many streams failed one after the other.
    pub async fn next(&mut self) -> Result<WatchResponse, Failure> {
        loop {
            let failed = match self.hear().await {
                Ok(message) => {
                    self.failures = 0;
                    match self.take(message)? {
                        Some(told) => return Ok(told),
                        None => continue,
                    }
                }
                Err(status) => status,
            };
            self.give_up_stream(&failed);
            self.failures += 1;
            let is_too_often = self.failures > self.client.limits().watch_retries_max;
            if is_too_often || is_refusal(&failed) && !self.client.may_log_in_again(&failed) {
                return Err(failed.into());
            }
            let wait = Duration::from_millis(self.client.limits().watch_retry_wait_ms);
            self.client.clock().sleep(wait).await;
        }
    }

    /// The next message of the stream, which is opened if there is none.
    async fn hear(&mut self) -> Result<WatchResponse, Status> {
        let silence = Duration::from_millis(self.client.limits().watch_silence_ms);
        if self.stream.is_none() {
            let patience = self.client.clock().sleep(silence);
            let opened = tokio::select! {
                biased;
                opened = self.open() => opened?,
                () = patience => return Err(Status::deadline_exceeded("no stream in time")),
            };
            self.stream = Some(opened);
        }
        loop {
            let patience = self.client.clock().sleep(silence);
            let open = self.stream.as_mut().expect("opened above");
            let heard = tokio::select! {
                biased;
                message = open.stream.message() => match message? {
                    Some(message) => Heard::Message(message),
                    None => return Err(Status::unavailable("the member has ended the stream")),
                },
                () = patience => Heard::Silence,
            };
            match heard {
                Heard::Message(message) => {
                    open.is_asked = false;
                    let refusal = message.canceled.then(|| ended(&message));
                    return match refusal.filter(|status| Login::is_over(status.message())) {
                        Some(status) => Err(status),
                        None => Ok(message),
                    };
                }
                Heard::Silence if open.is_asked => {
                    return Err(Status::deadline_exceeded("the member has fallen silent"));
                }
                Heard::Silence => {
                    open.is_asked = true;
                    open.stream.ask_progress();
                }
            }
        }
    }

    async fn open(&self) -> Result<Open, Status> {
        let (member, way) = self.client.next_way().await?;
        let create =
            WatchCreateRequest { start_revision: self.resume.revision(), ..self.create.clone() };
        match WatchStream::open(way, create).await {
            Ok(stream) => {
                let (fragments, fragments_bytes) = (Vec::new(), 0);
                Ok(Open { stream, member, is_asked: false, fragments, fragments_bytes })
            }
            Err(status) => {
                self.client.failed(member);
                Err(status)
            }
        }
    }

    fn give_up_stream(&mut self, status: &Status) {
        if let Some(open) = self.stream.take() {
            self.client.failed(open.member);
        }
        self.client.learn(status);
    }

    /// Takes a message in; what of it is told.
    fn take(&mut self, mut message: WatchResponse) -> Result<Option<WatchResponse>, Failure> {
        let open = self.stream.as_mut().expect("it came from there");
        if message.canceled {
            self.stream = None;
            return Err(ended(&message).into());
        }
        self.resume.take(&message);
        if message.created {
            self.client.worked(open.member);
            return Ok(None);
        }
        if message.fragment {
            open.fragments_bytes += message.encoded_len();
            open.fragments.append(&mut message.events);
            if open.fragments_bytes > self.client.limits().watch_fragments_bytes_max {
                return Err(Status::resource_exhausted("a revision is too large to be told").into());
            }
            return Ok(None);
        }
        if !open.fragments.is_empty() {
            let last = std::mem::take(&mut message.events);
            message.events = std::mem::take(&mut open.fragments);
            message.events.extend(last);
            open.fragments_bytes = 0;
        }
        // Progress that only this side has asked for is of no interest to the caller.
        let is_told = !message.events.is_empty() || self.create.progress_notify;
        Ok(is_told.then_some(message))
    }
}

/// Why a member has cancelled a watch.
fn ended(message: &WatchResponse) -> Status {
    let reason = &message.cancel_reason;
    // A refusal is shown as etcd's gRPC library shows errors.
    let words = reason.split_once(" desc = ").map_or(&reason[..], |(_, words)| words);
    if message.compact_revision > 0 {
        return Status::out_of_range(Refusal::Compacted.text());
    }
    let known = Refusal::ALL.iter().find(|refusal| refusal.text() == words);
    let code = known.map_or(Code::FailedPrecondition, |it| Code::from(it.code() as i32));
    Status::new(code, words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::ResponseHeader;
    use crate::proto::mvccpb::KeyValue;

    fn at(revision: i64, mod_revisions: &[i64]) -> WatchResponse {
        let event = |mod_revision: &i64| Event {
            kv: Some(KeyValue { mod_revision: *mod_revision, ..KeyValue::default() }),
            ..Event::default()
        };
        WatchResponse {
            header: Some(ResponseHeader { revision, ..ResponseHeader::default() }),
            events: mod_revisions.iter().map(event).collect(),
            ..WatchResponse::default()
        }
    }

    /// Where a watch that began at `start` goes on after these messages.
    fn check(start: i64, messages: &[WatchResponse], expected: i64) {
        let mut resume = Resume::new(start);
        messages.iter().for_each(|message| resume.take(message));
        assert_eq!(resume.revision(), expected, "{messages:?}");
    }

    /// A watch goes on behind the last revision that was told whole.
    #[test]
    fn resumes_behind_what_was_told() {
        let created = |revision| WatchResponse { created: true, ..at(revision, &[]) };
        let fragment = |message| WatchResponse { fragment: true, ..message };
        check(0, &[], 0);
        check(0, &[created(7)], 8);
        check(3, &[created(7)], 3);
        check(3, &[created(7), at(9, &[4, 5, 5])], 6);
        check(3, &[at(9, &[4]), at(9, &[])], 10);
        check(3, &[at(9, &[4]), fragment(at(9, &[5]))], 5);
        check(3, &[at(9, &[4]), fragment(at(9, &[5])), at(9, &[5])], 6);
        check(9, &[at(5, &[])], 9);
    }

    /// Whatever a member says about the end of a watch has a code.
    #[test]
    fn reasons() {
        let check = |reason: &str, compact_revision: i64, code: Code, text: &str| {
            let cancel_reason = reason.to_owned();
            let message = WatchResponse { cancel_reason, compact_revision, ..at(9, &[]) };
            let status = ended(&message);
            assert_eq!((status.code(), status.message()), (code, text), "{reason}");
        };
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        check("", 7, Code::OutOfRange, compacted);
        check(compacted, 0, Code::OutOfRange, compacted);
        check(
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
            0,
            Code::PermissionDenied,
            "etcdserver: permission denied",
        );
        let empty = "mvcc: watcher range is empty";
        check(empty, 0, Code::FailedPrecondition, empty);
    }

    /// A watch that is cancelled because of a compaction could only go on behind it; one that is refused goes on where
    /// it was.
    #[test]
    fn compacted_and_refused() {
        let cancelled = WatchResponse { canceled: true, ..at(9, &[]) };
        check(3, &[WatchResponse { compact_revision: 7, ..cancelled.clone() }], 7);
        check(0, &[WatchResponse { created: true, ..cancelled.clone() }], 10);
        check(3, &[cancelled], 3);
    }
}
