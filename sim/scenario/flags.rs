//! The server's flags and limits, as scenarios may set them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use clap::Args as _;
use snowglobe::config::{Config, Limits, ServeArgs};

/// Flags that the simulator sets itself, for each member.
const OURS: &[&str] = &[
    "name",
    "data-dir",
    "wal-dir",
    "listen-client-urls",
    "advertise-client-urls",
    "listen-peer-urls",
    "initial-advertise-peer-urls",
    "initial-cluster",
    "initial-cluster-state",
    "initial-cluster-token",
    "log-level",
    "config-file",
];

/// The flags that a scenario may set, without their dashes.
#[must_use]
pub fn known() -> Vec<String> {
    ServeArgs::augment_args(clap::Command::new("serve"))
        .get_arguments()
        .filter_map(|argument| argument.get_long().map(str::to_string))
        .filter(|flag| !OURS.contains(&flag.as_str()))
        .collect()
}

/// Tries flags on the server's own command line. Errors: the server's words, one line.
pub fn try_out(flags: &BTreeMap<String, String>) -> Result<(), String> {
    let args = flags.iter().map(|(flag, value)| format!("--{flag}={value}"));
    let args: Vec<String> = std::iter::once("serve".to_string()).chain(args).collect();
    Config::from_args(args).map(|_| ()).map_err(|error| error.to_string())
}

/// The port that members serve clients on.
pub const CLIENT_PORT: u16 = 2379;
/// The port that members serve each other on.
pub const PEER_PORT: u16 = 2380;

/// The configuration of the member `name`, one of `members`. Errors: the server's words, one line.
pub fn config(
    name: &str,
    members: &[(String, IpAddr)],
    flags: &BTreeMap<String, String>,
    limits: &BTreeMap<String, u64>,
) -> Result<Config, String> {
    let ip = members
        .iter()
        .find(|member| member.0 == name)
        .ok_or_else(|| format!("no member {name}"))?
        .1;
    let cluster: Vec<String> =
        members.iter().map(|(name, ip)| format!("{name}=http://{ip}:{PEER_PORT}")).collect();
    let mut args = vec![
        "serve".to_string(),
        format!("--name={name}"),
        format!("--data-dir=/{name}"),
        format!("--listen-client-urls=http://{ip}:{CLIENT_PORT}"),
        format!("--listen-peer-urls=http://{ip}:{PEER_PORT}"),
        format!("--initial-cluster={}", cluster.join(",")),
    ];
    args.extend(flags.iter().map(|(flag, value)| format!("--{flag}={value}")));
    let mut config = Config::from_args(args).map_err(|error| error.to_string())?;
    for (limit, value) in limits {
        set_limit(&mut config.limits, limit, *value)?;
    }
    Ok(config)
}

/// The limits that have no flag: each name, and how it is set.
macro_rules! limits {
    ($($name:ident),* $(,)?) => {
        /// The names of the limits that a scenario may set.
        pub const LIMITS: &[&str] = &[$(stringify!($name),)*];

        /// Sets one limit by name. Errors: there is none of that name, or the value does not fit.
        pub fn set_limit(limits: &mut Limits, name: &str, value: u64) -> Result<(), String> {
            match name {
                $(stringify!($name) => {
                    limits.$name = value.try_into().map_err(|_| format!("{value} is too large for {name}"))?;
                })*
                _ => return Err(format!("the server has no limit `{name}`")),
            }
            Ok(())
        }
    };
}

limits!(
    request_timeout_base_ms,
    request_overhead_bytes,
    gateway_json_factor,
    commit_apply_gap_max,
    loop_queue_requests,
    proposals_in_flight_max,
    reads_waiting_max,
    read_index_retry_ms,
    raft_message_bytes_max,
    raft_inflight_messages_max,
    raft_uncommitted_bytes_max,
    raft_apply_bytes_max,
    loop_turn_events,
    loop_turn_requests,
    loop_turn_bytes_max,
    loop_queue_ticks,
    loop_queue_events,
    peer_queue_messages,
    peer_frame_bytes_max,
    peer_reconnect_min_ms,
    peer_reconnect_max_ms,
    peer_connect_timeout_ms,
    peer_silence_ms,
    snapshot_chunk_bytes,
    snapshot_stall_ms,
    snapshot_sends_max,
    lease_revokes_per_s,
    lease_revoke_retry_ms,
    lease_checkpoint_interval_ms,
    peer_hash_timeout_ms,
    auto_compaction_look_ms,
    quota_check_ms,
    member_changes_waiting_max,
    member_health_ms,
    removed_linger_ms,
    join_timeout_ms,
    join_retry_ms,
    lease_checkpoints_max,
    lease_renewals_waiting_max,
    lease_forward_timeout_ms,
    lease_forward_retry_ms,
    lease_stream_renewals_max,
    watch_feed_slices,
    watch_feed_bytes_max,
    watch_queue_commands,
    watch_turn_events,
    watch_stream_news,
    watch_stream_bytes_max,
    watch_stream_watches_max,
    watch_stream_answers,
    watch_catch_up_watchers,
    watch_piece_changes,
    watch_piece_bytes,
    watch_previous_keys,
    watch_retry_ms,
    watch_progress_interval_ms,
    auth_tokens_max,
    auth_token_wait_ms,
    auth_token_retry_ms,
    auth_retries_max,
    auth_hashes_max,
    lock_waits_max,
    wal_segment_bytes,
    backend_write_buffer_bytes,
    connections_max,
    stop_drain_ms,
    accept_retry_ms,
);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{config, known, try_out};

    /// A scenario may set the server's own flags, but not those that place a member in the world.
    #[test]
    fn known_flags() {
        let known = known();
        assert!(known.iter().any(|flag| flag == "snapshot-count"));
        assert!(!known.iter().any(|flag| flag == "data-dir"));
    }

    /// The server itself judges flags, and its words are passed on.
    #[test]
    fn the_server_judges() {
        let flags =
            |value: &str| BTreeMap::from([("election-timeout".to_string(), value.to_string())]);
        assert_eq!(try_out(&flags("2000")), Ok(()));
        assert!(
            try_out(&flags("20"))
                .unwrap_err()
                .contains("--election-timeout 20 is below five times")
        );
    }

    /// A member's configuration carries its place in the world, the flags and the limits.
    #[test]
    fn members_are_configured() {
        let members =
            [("n1".to_string(), [10, 0, 0, 1].into()), ("n2".to_string(), [10, 0, 0, 2].into())];
        let flags = BTreeMap::from([("snapshot-count".to_string(), "50".to_string())]);
        let limits = BTreeMap::from([("wal_segment_bytes".to_string(), 16_384)]);
        let config = config("n2", &members, &flags, &limits).unwrap();
        assert_eq!(config.name, "n2");
        assert_eq!(config.initial_cluster.len(), 2);
        assert_eq!((config.snapshot_count, config.limits.wal_segment_bytes), (50, 16_384));
    }
}
