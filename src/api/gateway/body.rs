//! The body of a request: JSON objects that stand one behind the other, each taken as soon as it is whole.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use hyper::body::Body;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tonic::Status;

use super::codec;

/// The messages of a body.
pub(super) struct Messages<B> {
    body: B,
    kind: MessageDescriptor,
    objects: Objects,
    has_ended: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Messages<B> {
    /// Messages of one kind, none of them from more than so many bytes of JSON.
    pub(super) fn new(body: B, kind: MessageDescriptor, bytes_max: usize) -> Self {
        let objects = Objects::new(bytes_max);
        Self { body, kind, objects, has_ended: false }
    }

    /// The messages for a call that knows no wrong ones, and a way to hear of the first that is wrong.
    pub(super) fn accepted(self) -> (Accepted<B>, oneshot::Receiver<Status>) {
        let (refusal, refused) = oneshot::channel();
        (Accepted { messages: self, refusal: Some(refusal) }, refused)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Stream for Messages<B> {
    type Item = Result<DynamicMessage, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(object) = this.objects.take()? {
                return Poll::Ready(Some(codec::from_json(this.kind.clone(), &object)));
            }
            if this.has_ended {
                return Poll::Ready(this.objects.rest().map(Err));
            }
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    this.objects.push(&frame.into_data().unwrap_or_default());
                }
                Some(Err(_)) => {
                    this.has_ended = true;
                    return Poll::Ready(Some(Err(Status::cancelled("the request broke off"))));
                }
                None => this.has_ended = true,
            }
        }
    }
}

/// The messages of a body up to the first that is wrong; of that one, somebody else is told.
pub(super) struct Accepted<B> {
    messages: Messages<B>,
    /// There until a message was wrong.
    refusal: Option<oneshot::Sender<Status>>,
}

impl<B: Body<Data = Bytes> + Unpin> Stream for Accepted<B> {
    type Item = DynamicMessage;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<DynamicMessage>> {
        let this = self.get_mut();
        if this.refusal.is_none() {
            return Poll::Ready(None);
        }
        match ready!(Pin::new(&mut this.messages).poll_next(context)) {
            Some(Ok(message)) => Poll::Ready(Some(message)),
            Some(Err(status)) => {
                // Whoever waits for the answers may have gone.
                let _ = this.refusal.take().map(|refusal| refusal.send(status));
                Poll::Ready(None)
            }
            None => Poll::Ready(None),
        }
    }
}

/// Cuts text between objects without a look at what is in them, so that each byte is looked at once, however
/// small the pieces are in which it comes.
#[derive(Default)]
pub(super) struct Objects {
    buffer: BytesMut,
    bytes_max: usize,
    /// Bytes of the buffer that were looked at.
    scanned: usize,
    /// Braces that are open.
    depth: usize,
    is_in_text: bool,
    is_escaped: bool,
}

impl Objects {
    /// No text yet; no object may be larger than so many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// More of the text.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next object, once it is whole.
    pub(super) fn take(&mut self) -> Result<Option<Bytes>, Status> {
        if self.scanned == 0 {
            let spaces = self.buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.buffer.advance(spaces);
            if self.buffer.first().is_some_and(|byte| *byte != b'{') {
                return Err(Status::invalid_argument("a JSON object is expected"));
            }
        }
        while let Some(byte) = self.buffer.get(self.scanned).copied() {
            if self.scanned == self.bytes_max {
                let text = format!("a JSON object is larger than max ({} bytes)", self.bytes_max);
                return Err(Status::resource_exhausted(text));
            }
            self.scanned += 1;
            self.step(byte);
            if self.depth == 0 {
                let whole = std::mem::take(&mut self.scanned);
                return Ok(Some(self.buffer.split_to(whole).freeze()));
            }
        }
        Ok(None)
    }

    fn step(&mut self, byte: u8) {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' if self.is_in_text => self.is_escaped = true,
            b'"' => self.is_in_text = !self.is_in_text,
            b'{' if !self.is_in_text => self.depth += 1,
            b'}' if !self.is_in_text => self.depth -= 1,
            _ => {}
        }
    }

    /// What is wrong with what is left when the body has ended.
    pub(super) fn rest(&mut self) -> Option<Status> {
        let is_whole = self.buffer.is_empty();
        self.buffer.clear();
        (!is_whole).then(|| Status::invalid_argument("unexpected EOF"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is taken from a text that comes in pieces of so many bytes, and what is said about the rest.
    fn cut(text: &str, piece_bytes: usize) -> String {
        let mut objects = Objects::new(30);
        let mut taken = Vec::new();
        for piece in text.as_bytes().chunks(piece_bytes) {
            objects.push(piece);
            loop {
                match objects.take() {
                    Ok(Some(object)) => taken.push(String::from_utf8(object.to_vec()).unwrap()),
                    Ok(None) => break,
                    Err(status) => return format!("{}, {}", taken.join(" "), status.message()),
                }
            }
        }
        taken.extend(objects.rest().map(|status| status.message().to_owned()));
        taken.join(" ")
    }

    /// Objects are told apart by their braces, in whatever pieces they come.
    #[test]
    fn objects() {
        let check = |text: &str, expected: &str| {
            for piece_bytes in 1..=text.len().max(1) {
                assert_eq!(cut(text, piece_bytes), expected, "{text} by {piece_bytes}");
            }
        };
        check("", "");
        check(" \n", "");
        check("{}", "{}");
        check(r#"{"a":{}}{"b":1} "#, r#"{"a":{}} {"b":1}"#);
        check(r#"{"}":"\"}\\"}"#, r#"{"}":"\"}\\"}"#);
        check("{}x", "{}, a JSON object is expected");
        check(r#"{} {"a""#, "{} unexpected EOF");
        check("{\"a\":\"0123456789012345678901\"}", "{\"a\":\"0123456789012345678901\"}");
        check(
            "{\"a\":\"01234567890123456789012\"}",
            ", a JSON object is larger than max (30 bytes)",
        );
    }
}
