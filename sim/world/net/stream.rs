//! One end of a connection as a process holds it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::conn::EndState;
use super::{Net, State};
use crate::world::base::Life;

/// A byte stream; closes when dropped.
pub(crate) struct NetStream {
    net: Arc<Net>,
    conn: u64,
    side: usize,
    life: Life,
}

impl NetStream {
    pub(super) fn new(net: Arc<Net>, conn: u64, side: usize, life: Life) -> Self {
        Self { net, conn, side, life }
    }

    /// An error where the end is not the process's any more.
    fn check(&self, state: &State) -> io::Result<()> {
        self.life.check()?;
        match state.conns.get(&self.conn) {
            Some(conn) if conn.ends[self.side].state == EndState::Open => Ok(()),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl AsyncRead for NetStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.net.lock();
        self.check(&state)?;
        let conn = state.conns.get_mut(&self.conn).expect("just checked");
        let (end, pipe) = (&conn.ends[self.side], &mut conn.pipes[1 - self.side]);
        let mut count = 0;
        while let Some(piece) = pipe.arrived.front().filter(|_| buffer.remaining() > 0) {
            let unread = &piece[pipe.arrived_read..];
            let taken = unread.len().min(buffer.remaining());
            buffer.put_slice(&unread[..taken]);
            count += taken;
            pipe.arrived_read += taken;
            if pipe.arrived_read == piece.len() {
                pipe.arrived.pop_front();
                pipe.arrived_read = 0;
            }
        }
        if count > 0 {
            state.credit(&self.net, self.conn, 1 - self.side, count);
            return Poll::Ready(Ok(()));
        }
        if buffer.remaining() == 0 || pipe.end_arrived {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = end.error {
            return Poll::Ready(Err(error.into()));
        }
        if !pipe.reader.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            pipe.reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl AsyncWrite for NetStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.net.lock();
        self.check(&state)?;
        let conn = &state.conns[&self.conn];
        if let Some(error) = conn.ends[self.side].error {
            return Poll::Ready(Err(error.into()));
        }
        if conn.pipes[self.side].end_written {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = state.write(&self.net, self.conn, self.side, parts);
        if count == 0 && parts.iter().any(|part| !part.is_empty()) {
            state.await_room(&self.net, self.conn, self.side, cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.net.lock();
        self.check(&state)?;
        if state.conns[&self.conn].ends[self.side].error.is_none() {
            state.shut_down(&self.net, self.conn, self.side);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for NetStream {
    fn drop(&mut self) {
        if self.life.is_over() {
            return; // the kernel closed it when the process died
        }
        self.net.lock().close(&self.net, self.conn, self.side);
    }
}
