//! Bounds of a client, each with its reason.

/// Bounds of a client's waits and retries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Time for an answer, all retries included: longer than a server waits for its own quorum, so that it is the server
    /// who says that it took too long.
    pub request_timeout_ms: u64,
    /// Time for a connection to come up, after which another member is asked.
    pub connect_timeout_ms: u64,
    /// Times that a request is sent again, as etcd's client: with the waits between them about a second.
    pub retries_max: usize,
    /// Wait after a quorum of members was tried in vain, as etcd's client, give or take a tenth.
    pub retry_wait_ms: u64,
    /// Time for which a member that failed is asked only where no other is left, as in gRPC's first wait.
    pub rest_ms: u64,
    /// Time without a word on a watch's stream after which the member is asked how far it is; after as long again it is
    /// given up.
    pub watch_silence_ms: u64,
    /// Streams of one watch that may fail one after the other before the watch ends: with the waits between them as
    /// long as an operator needs to start a cluster again.
    pub watch_retries_max: usize,
    /// Wait before a watch goes on elsewhere.
    pub watch_retry_wait_ms: u64,
    /// Bytes of events kept until the last fragment of their revision is there.
    pub watch_fragments_bytes_max: usize,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            request_timeout_ms: 10_000,
            connect_timeout_ms: 2000,
            retries_max: 100,
            retry_wait_ms: 25,
            rest_ms: 1000,
            watch_silence_ms: 5000,
            watch_retries_max: 600,
            watch_retry_wait_ms: 100,
            watch_fragments_bytes_max: 64 << 20,
        }
    }
}
