//! A stream whose other side must begin to speak before a deadline.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::host::{BoxFuture, Stream};

/// What HTTP/2 begins with: the preface, and the head of the frame that must follow it. A whole request of HTTP/1 is
/// rarely shorter.
const HELLO_BYTES: usize = 24 + 9;

/// See the module. Reads fail once the deadline has passed before enough was read.
pub(super) struct Hello<S> {
    stream: S,
    missing: usize,
    deadline: Option<BoxFuture<'static, ()>>,
}

impl<S: Stream> Hello<S> {
    pub(super) fn new(stream: S, deadline: BoxFuture<'static, ()>) -> Self {
        Self { stream, missing: HELLO_BYTES, deadline: Some(deadline) }
    }
}

impl<S: Stream> AsyncRead for Hello<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(deadline) = &mut self.deadline else { return read };
        if read.is_pending() {
            let silent = || io::Error::new(io::ErrorKind::TimedOut, "silent since it was opened");
            return deadline.as_mut().poll(context).map(|()| Err(silent()));
        }
        self.missing = self.missing.saturating_sub(buffer.filled().len() - before);
        if self.missing == 0 {
            self.deadline = None;
        }
        read
    }
}

impl<S: Stream> AsyncWrite for Hello<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
