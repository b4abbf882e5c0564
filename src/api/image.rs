//! A snapshot for clients: the whole state as a file that `snowglobe restore` reads.
//!
//! ```text
//! "snowglobe snapshot 1\n" · index and term (8 bytes each, little endian, as all numbers) · pieces: length (4 bytes), bytes · a piece of length 0
//! · zeros up to a multiple of 512 bytes · SHA-256 of all that
//! ```
//!
//! The pieces put together are the stream of [`StateExport`]. Clients of etcd know a whole snapshot by its length:
//! so many blocks of 512 bytes, and 32 bytes more.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};
use tonic::Status;

use crate::proto::etcdserverpb::{ResponseHeader, SnapshotResponse};
use crate::state::StateExport;

/// What a snapshot begins with.
pub(crate) const MAGIC: &[u8] = b"snowglobe snapshot 1\n";

/// What its length without the hash is a multiple of.
const BLOCK_BYTES: usize = 512;

/// See the module.
pub(crate) struct Image {
    export: StateExport,
    header: Option<ResponseHeader>,
    chunk_bytes: usize,
    hash: Sha256,
    bytes: usize,
    ended: bool,
}

impl Image {
    pub(super) fn new(
        export: StateExport,
        header: Option<ResponseHeader>,
        chunk_bytes: usize,
    ) -> Self {
        Self { export, header, chunk_bytes, hash: Sha256::new(), bytes: 0, ended: false }
    }

    fn next(&mut self) -> Result<Bytes, Status> {
        let piece = self.export.next_chunk(self.chunk_bytes);
        let piece = piece.map_err(|error| Status::data_loss(error.to_string()))?;
        let mut blob = BytesMut::new();
        if self.bytes == 0 {
            blob.put_slice(MAGIC);
            let (index, term) = self.export.applied();
            blob.put_u64_le(index);
            blob.put_u64_le(term);
        }
        let content = piece.as_deref().unwrap_or_default();
        let length = u32::try_from(content.len());
        blob.put_u32_le(length.map_err(|_| Status::data_loss("a piece of 4 GiB"))?);
        blob.put_slice(content);
        if piece.is_none() {
            let bytes = self.bytes + blob.len();
            blob.put_bytes(0, bytes.next_multiple_of(BLOCK_BYTES) - bytes);
        }
        self.bytes += blob.len();
        self.hash.update(&blob);
        if piece.is_none() {
            self.ended = true;
            blob.put_slice(&self.hash.finalize_reset());
        }
        Ok(blob.freeze())
    }
}

impl tokio_stream::Stream for Image {
    type Item = Result<SnapshotResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let blob = self.next();
        self.ended |= blob.is_err();
        let (header, version) = (self.header, super::maintenance::ETCD_VERSION.to_owned());
        // How much is left is not known before it is read; 0 says that this was the last.
        let remaining_bytes = u64::from(!self.ended);
        Poll::Ready(Some(blob.map(|blob| SnapshotResponse {
            header,
            remaining_bytes,
            blob,
            version,
        })))
    }
}
