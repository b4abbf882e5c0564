//! Bounds without a flag, each with its reason.

/// Bounds of queues, loops, retries and waits (law 8: nothing in the server is unbounded).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Part of the request timeout that stands for slow disks and networks, as etcd's 5 s.
    pub request_timeout_base_ms: u64,
    /// Room in a gRPC frame around a request of the largest size, as etcd's 512 KiB.
    pub request_overhead_bytes: usize,
    /// Bytes of JSON that the gateway takes in for each byte of the largest gRPC frame: base64 makes four of three,
    /// names and quotes come on top.
    pub gateway_json_factor: usize,
    /// Committed but not yet applied entries above which proposals are refused, as etcd's 5000.
    pub commit_apply_gap_max: u64,
    /// Requests waiting for the loop. Together with the largest request this bounds memory; a full
    /// queue answers "too many requests".
    pub loop_queue_requests: usize,
    /// Proposals without an answer yet. More would only wait longer.
    pub proposals_in_flight_max: usize,
    /// Linearizable reads that may wait for one ReadIndex round.
    pub reads_waiting_max: usize,
    /// Bytes of answers that clients have not taken yet: ranges are read whole, and who does not read must not fill the
    /// memory. Beyond it reads are refused as too many requests.
    pub answers_bytes_max: usize,
    /// Bytes up to which an answer is small, and refused only at twice that bound.
    pub answer_small_bytes: usize,
    /// Time after which an unanswered ReadIndex is asked again, as etcd's 500 ms: raft drops them
    /// silently.
    pub read_index_retry_ms: u64,
    /// Largest raft append message (a single larger entry still travels alone), as etcd's 1 MiB:
    /// below a heartbeat interval on a gigabit link, so that no heartbeat is stuck behind it for
    /// long.
    pub raft_message_bytes_max: u64,
    /// Unacknowledged append messages to one follower, as etcd's 512: small requests come one to a
    /// message, and at 10,000 a second the window covers a round trip of 50 ms.
    pub raft_inflight_messages_max: usize,
    /// Bytes of entries proposed and not yet committed; more are refused as too many requests, so
    /// that a leader without its quorum does not fill its memory until it steps down.
    pub raft_uncommitted_bytes_max: u64,
    /// Bytes of committed entries applied in one turn of the loop: larger backlogs (after a
    /// restart) are applied in slices, between which heartbeats are answered.
    pub raft_apply_bytes_max: u64,
    /// Peer messages taken into one turn of the loop, so that requests get their turn under a
    /// flood.
    pub loop_turn_events: usize,
    /// Client requests taken into one turn of the loop, so that peer messages and ticks get theirs.
    pub loop_turn_requests: usize,
    /// Bytes of proposals taken into one turn of the loop: one write and one sync of the log each
    /// turn.
    pub loop_turn_bytes_max: usize,
    /// Ticks that may wait for a busy loop. Not more: a loop that was stuck reads the messages that
    /// piled up before it concludes from missed ticks that the leader is gone.
    pub loop_queue_ticks: usize,
    /// Messages from peers waiting for the loop. When full, their streams are not read on: the
    /// sender notices and drops.
    pub loop_queue_events: usize,
    /// Messages queued for one peer; a full queue drops, raft repeats.
    pub peer_queue_messages: usize,
    /// Bytes of raft messages packed into one frame.
    pub peer_frame_bytes_max: usize,
    /// Shortest wait before a lost peer is connected again.
    pub peer_reconnect_min_ms: u64,
    /// Longest wait before a lost peer is connected again: below an election timeout, so that a
    /// healed link is used before another election is needed.
    pub peer_reconnect_max_ms: u64,
    /// Time for a connection to a peer to come up before it is given up.
    pub peer_connect_timeout_ms: u64,
    /// Time without a word from a peer that is being spoken to, after which both streams with it
    /// are opened anew: a half-open connection looks like this. Three election timeouts, so that a
    /// slow peer is spared.
    pub peer_silence_ms: u64,
    /// Bytes of state in one chunk of a snapshot.
    pub snapshot_chunk_bytes: usize,
    /// Time without progress after which sending or receiving a snapshot is given up and raft is
    /// told.
    pub snapshot_stall_ms: u64,
    /// Snapshots being sent at once by one member.
    pub snapshot_sends_max: usize,
    /// Revocations of leases that are due, proposed in a second, as etcd's 1000: a storm of them must
    /// leave room for requests.
    pub lease_revokes_per_s: u64,
    /// Time after which a revocation that was not applied is proposed again, as etcd's 3 s.
    pub lease_revoke_retry_ms: u64,
    /// Time between two checkpoints of what is left of a lease, as etcd's 5 minutes: a lease that is
    /// shorter has none. What a change of leader adds to a lease's life at most.
    pub lease_checkpoint_interval_ms: u64,
    /// Time for another member to work out its hash.
    pub peer_hash_timeout_ms: u64,
    /// Time between two looks at the revision, where all but so many revisions are to be removed, as etcd's 5
    /// minutes.
    pub auto_compaction_look_ms: u64,
    /// Time between two looks at how large the backend is, and between two tries to raise an alarm.
    pub quota_check_ms: u64,
    /// Changes of members that wait for the one that is under way.
    pub member_changes_waiting_max: usize,
    /// Time for which a member must have been heard of without a break to count as healthy when members are
    /// changed, as etcd's 5 s.
    pub member_health_ms: u64,
    /// Time after which a member that was removed stops, as etcd's 1 s: what it has queued for others still
    /// leaves.
    pub removed_linger_ms: u64,
    /// Time for a new member to learn from the others who it is.
    pub join_timeout_ms: u64,
    /// Wait before the others are asked again.
    pub join_retry_ms: u64,
    /// Leases in one entry of checkpoints, as etcd's 1000.
    pub lease_checkpoints_max: usize,
    /// Renewals that wait for an entry about their lease.
    pub lease_renewals_waiting_max: usize,
    /// Time for the leader to answer what a member asks it about a lease, before it is asked again:
    /// one election, so that a leader that is gone is not waited for.
    pub lease_forward_timeout_ms: u64,
    /// Wait before the leader is asked again, as etcd's 50 ms.
    pub lease_forward_retry_ms: u64,
    /// Renewals under way at once on one keep-alive stream.
    pub lease_stream_renewals_max: usize,
    /// Slices of changes on their way from the loop to the watchers. When they are full the watchers
    /// read from the database what they were not told.
    pub watch_feed_slices: usize,
    /// Bytes of keys and values in those slices.
    pub watch_feed_bytes_max: usize,
    /// Requests of watch streams that wait for their turn.
    pub watch_queue_commands: usize,
    /// Commands and slices that the watchers' task takes in between two pieces of history.
    pub watch_turn_events: usize,
    /// Pieces of news queued for one watch stream, as etcd's 128. Who is slower is set aside and later
    /// reads from the database.
    pub watch_stream_news: usize,
    /// Bytes of keys and values queued for one watch stream.
    pub watch_stream_bytes_max: usize,
    /// Watches on one stream; more are refused. Bounds what one client can make the member keep.
    pub watch_stream_watches_max: usize,
    /// Answers ready to be taken by the connection of one watch stream.
    pub watch_stream_answers: usize,
    /// Watchers that catch up together, as etcd's 512.
    pub watch_catch_up_watchers: usize,
    /// Changes in one piece of history: a piece takes about a millisecond.
    pub watch_piece_changes: usize,
    /// Bytes of keys and values in one piece of history.
    pub watch_piece_bytes: usize,
    /// Earlier values asked of the loop at once, for watchers that want them.
    pub watch_previous_keys: usize,
    /// Wait before the loop is asked again for history or earlier values that it was too busy for.
    pub watch_retry_ms: u64,
    /// Time between two progress notifications of a quiet watcher, as etcd's 10 minutes.
    pub watch_progress_interval_ms: u64,
    /// Tokens of users that a member knows at once; the one that ends first makes room.
    pub auth_tokens_max: usize,
    /// Time that a token waits for the entry that made it to be applied here.
    pub auth_token_wait_ms: u64,
    /// Wait before it is looked again whether that entry is applied.
    pub auth_token_retry_ms: u64,
    /// Times that a password is checked anew because users have changed meanwhile.
    pub auth_retries_max: usize,
    /// Passwords hashed or compared at once: each keeps a processor busy for tens of milliseconds, and
    /// heartbeats must not wait for one.
    pub auth_hashes_max: usize,
    /// Locks and elections that clients wait for through this member: each wait is a watch of its own.
    pub lock_waits_max: usize,
    /// Size at which a segment of the log is cut, as etcd's 64 MB.
    pub wal_segment_bytes: u64,
    /// Memory of one RocksDB write buffer: what a power cut may take from the backend, and what
    /// replay at start must do again.
    pub backend_write_buffer_bytes: usize,
    /// Connections served at once on one listening socket: one file descriptor each, well under the
    /// usual limit of descriptors.
    pub connections_max: usize,
    /// Time for a new connection to say which protocol it speaks: who stays silent, or ends half-way, gives the place
    /// back.
    pub connection_hello_ms: u64,
    /// Time for the rest of an HTTP/1 request's head once it was waited for, and for the next one on the same
    /// connection.
    pub http1_head_ms: u64,
    /// Time for open connections to finish their requests when the member stops.
    pub stop_drain_ms: u64,
    /// Wait before this member's name is proposed again, after a try that failed.
    pub publish_retry_ms: u64,
    /// Wait after a failed accept (such as "too many open files") before the next.
    pub accept_retry_ms: u64,
    /// Time for a TLS handshake: two round trips and two signatures. Who is silent gives its place back then.
    pub tls_handshake_ms: u64,
    /// Largest file with certificates or a key: they are read into memory at each handshake.
    pub tls_file_bytes_max: usize,
}

impl Default for Limits {
    #[allow(clippy::too_many_lines, reason = "a table: one line for each limit")]
    fn default() -> Self {
        Self {
            request_timeout_base_ms: 5000,
            request_overhead_bytes: 512 * 1024,
            gateway_json_factor: 2,
            commit_apply_gap_max: 5000,
            loop_queue_requests: 4096,
            proposals_in_flight_max: 4096,
            reads_waiting_max: 16_384,
            answers_bytes_max: 512 * 1024 * 1024,
            answer_small_bytes: 64 * 1024,
            read_index_retry_ms: 500,
            raft_message_bytes_max: 1024 * 1024,
            raft_inflight_messages_max: 512,
            raft_uncommitted_bytes_max: 64 * 1024 * 1024,
            raft_apply_bytes_max: 4 * 1024 * 1024,
            loop_turn_events: 256,
            loop_turn_requests: 256,
            loop_turn_bytes_max: 1024 * 1024,
            loop_queue_ticks: 2,
            loop_queue_events: 1024,
            peer_queue_messages: 4096,
            peer_frame_bytes_max: 1024 * 1024,
            peer_reconnect_min_ms: 50,
            peer_reconnect_max_ms: 500,
            peer_connect_timeout_ms: 1000,
            peer_silence_ms: 3000,
            snapshot_chunk_bytes: 64 * 1024,
            snapshot_stall_ms: 10_000,
            snapshot_sends_max: 2,
            lease_revokes_per_s: 1000,
            lease_revoke_retry_ms: 3000,
            lease_checkpoint_interval_ms: 300_000,
            peer_hash_timeout_ms: 10_000,
            auto_compaction_look_ms: 300_000,
            quota_check_ms: 1000,
            member_changes_waiting_max: 64,
            member_health_ms: 5000,
            removed_linger_ms: 1000,
            join_timeout_ms: 10_000,
            join_retry_ms: 500,
            lease_checkpoints_max: 1000,
            lease_renewals_waiting_max: 4096,
            lease_forward_timeout_ms: 1000,
            lease_forward_retry_ms: 50,
            lease_stream_renewals_max: 64,
            watch_feed_slices: 1024,
            watch_feed_bytes_max: 64 * 1024 * 1024,
            watch_queue_commands: 1024,
            watch_turn_events: 64,
            watch_stream_news: 128,
            watch_stream_bytes_max: 16 * 1024 * 1024,
            watch_stream_watches_max: 100_000,
            watch_stream_answers: 4,
            watch_catch_up_watchers: 512,
            watch_piece_changes: 1000,
            watch_piece_bytes: 1024 * 1024,
            watch_previous_keys: 256,
            watch_retry_ms: 10,
            watch_progress_interval_ms: 600_000,
            auth_tokens_max: 65_536,
            auth_token_wait_ms: 1000,
            auth_token_retry_ms: 10,
            auth_retries_max: 10,
            auth_hashes_max: 1,
            lock_waits_max: 4096,
            wal_segment_bytes: 64_000_000,
            backend_write_buffer_bytes: 8 * 1024 * 1024,
            connections_max: 10_000,
            connection_hello_ms: 10_000,
            http1_head_ms: 30_000,
            stop_drain_ms: 2000,
            publish_retry_ms: 500,
            accept_retry_ms: 100,
            tls_handshake_ms: 5000,
            tls_file_bytes_max: 1024 * 1024,
        }
    }
}
