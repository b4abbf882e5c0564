//! Flags and limits of one member, as plain data.
//!
//! [`Config`] is what the rest of the server reads; [`Config::from_args`] fills it from a command
//! line and, where `--config-file` is given, from a file. A test world may also fill the fields
//! itself and call [`Config::validate`].
//!
//! Invariants:
//! * A `Config` that passed [`Config::validate`] can be served: later failures are the machine's,
//!   not the flags'.
//! * Every mistake is answered by one line that says what is wrong and how to mend it.
//! * Member and cluster ids follow etcd's arithmetic, so that they are the same on every member.

mod args;
mod auth_token;
mod client;
mod file;
mod limits;
mod tls;
mod url;

pub use args::{Command, ServeArgs, parse};
pub use auth_token::{AuthToken, JwtOptions};
pub use client::ClientLimits;
pub use limits::Limits;
pub use tls::{Tls, TlsVersion};
pub use url::Url;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::error::{Error, Result};

/// Everything that one member is told before it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The member's own name, unique in the cluster.
    pub name: String,
    /// The folder that holds everything the member must not forget.
    pub data_dir: PathBuf,
    /// The folder of the write-ahead log, where it is not inside `data_dir`.
    pub wal_dir: Option<PathBuf>,
    /// Where clients are listened for.
    pub listen_client_urls: Vec<Url>,
    /// Where clients are told to go.
    pub advertise_client_urls: Vec<Url>,
    /// Where other members are listened for.
    pub listen_peer_urls: Vec<Url>,
    /// Where other members find this one; must match `initial_cluster`.
    pub initial_advertise_peer_urls: Vec<Url>,
    /// The first members: name to peer URLs, this member included.
    pub initial_cluster: BTreeMap<String, Vec<Url>>,
    /// Sets apart clusters that were started from the same URLs.
    pub initial_cluster_token: String,
    /// Whether the cluster is being made or joined; read only while the data folder is empty.
    pub initial_cluster_state: ClusterState,
    /// Who this member is, where that was learnt from the others; else the flags say.
    pub identity: Option<Identity>,
    /// Whether this member goes on alone, whoever else was a member: for a cluster whose quorum is lost for good.
    pub force_new_cluster: bool,
    /// Whether changes of members are refused that could cost the cluster its quorum.
    pub strict_reconfig_check: bool,
    /// Time between two heartbeats of a leader; one raft tick.
    pub heartbeat_interval_ms: u64,
    /// Time without a leader after which a follower stands for election.
    pub election_timeout_ms: u64,
    /// Applied entries after which a snapshot is taken and the log is cut.
    pub snapshot_count: u64,
    /// Entries kept in memory behind a snapshot, for followers that are a little behind.
    pub snapshot_catchup_entries: u64,
    /// Largest request, encoded.
    pub max_request_bytes: usize,
    /// Most operations in one branch of a txn.
    pub max_txn_ops: usize,
    /// Most requests under way on one connection.
    pub max_concurrent_streams: u32,
    /// Time without a word on a connection after which the client is asked whether it is there.
    pub grpc_keepalive_interval_ms: u64,
    /// Time for its answer, after which the connection is closed.
    pub grpc_keepalive_timeout_ms: u64,
    /// Time above which it is logged that applying entries, or reading, has held up everything else.
    pub warning_apply_duration_ms: u64,
    /// Time above which a call that is no stream is logged as slow.
    pub warning_unary_request_duration_ms: u64,
    /// Whether a candidate asks first whether it could win (keeps a returning member from
    /// disturbing).
    pub pre_vote: bool,
    /// Most revisions that one step of a physical compaction removes.
    pub compaction_batch_limit: usize,
    /// Pause between two steps of a physical compaction.
    pub compaction_sleep_interval_ms: u64,
    /// Snapshot files kept.
    pub max_snapshots: usize,
    /// Bytes of the backend above which nothing more is taken in; 0 for etcd's 2 GiB, negative for no limit.
    pub quota_backend_bytes: i64,
    /// Whether this member compares its hash with the others' before it serves.
    pub initial_corrupt_check: bool,
    /// Time between two comparisons of all members' hashes by the leader; 0 for none.
    pub corrupt_check_time_ms: u64,
    /// What old revisions are removed by themselves.
    pub auto_compaction: AutoCompaction,
    /// What clients show instead of their password.
    pub auth_token: AuthToken,
    /// Seconds that a simple token stands for its user after it was used last.
    pub auth_token_ttl_s: u64,
    /// How hard a password is to try out: each step doubles the work of hashing it.
    pub bcrypt_cost: u32,
    /// Certificates towards clients.
    pub client_tls: Tls,
    /// Certificates towards the other members.
    pub peer_tls: Tls,
    /// Everything that has a bound and no flag.
    pub limits: Limits,
}

/// What old revisions are removed by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// None.
    Off,
    /// Those older than so many milliseconds.
    Periodic {
        /// Milliseconds.
        retention_ms: u64,
    },
    /// All but so many.
    Revision {
        /// Revisions.
        retention: i64,
    },
}

/// etcd's default quota.
const QUOTA_DEFAULT_BYTES: u64 = 2 << 30;

/// Who a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The member's id.
    pub member_id: u64,
}

/// Whether a cluster is being made or joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ClusterState {
    /// All members start for the first time.
    #[default]
    New,
    /// The cluster runs already.
    Existing,
}

impl Default for Config {
    /// The defaults of the flags: one member called `default` on loopback.
    fn default() -> Self {
        let client = Url::new("localhost", 2379);
        let peer = Url::new("localhost", 2380);
        Self {
            name: "default".into(),
            data_dir: "default.snowglobe".into(),
            wal_dir: None,
            listen_client_urls: vec![client.clone()],
            advertise_client_urls: vec![client],
            listen_peer_urls: vec![peer.clone()],
            initial_advertise_peer_urls: vec![peer.clone()],
            initial_cluster: BTreeMap::from([("default".into(), vec![peer])]),
            initial_cluster_token: "etcd-cluster".into(),
            initial_cluster_state: ClusterState::New,
            identity: None,
            force_new_cluster: false,
            strict_reconfig_check: true,
            heartbeat_interval_ms: 100,
            election_timeout_ms: 1000,
            snapshot_count: 10_000,
            snapshot_catchup_entries: 5000,
            max_request_bytes: 1_572_864,
            max_txn_ops: 128,
            max_concurrent_streams: u32::MAX,
            grpc_keepalive_interval_ms: 7_200_000,
            grpc_keepalive_timeout_ms: 20_000,
            warning_apply_duration_ms: 100,
            warning_unary_request_duration_ms: 300,
            pre_vote: true,
            compaction_batch_limit: 1000,
            compaction_sleep_interval_ms: 10,
            max_snapshots: 5,
            quota_backend_bytes: 0,
            initial_corrupt_check: false,
            corrupt_check_time_ms: 0,
            auto_compaction: AutoCompaction::Off,
            auth_token: AuthToken::Simple,
            auth_token_ttl_s: 300,
            bcrypt_cost: 10,
            client_tls: Tls::new("--"),
            peer_tls: Tls::new("--peer-"),
            limits: Limits::default(),
        }
    }
}

/// What bcrypt can do.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=31;

/// The longest election timeout, as etcd's.
const ELECTION_TIMEOUT_MAX_MS: u64 = 50_000;

impl Config {
    /// The configuration that a command line (`serve` and its flags) asks for, validated. No file
    /// is read.
    ///
    /// # Errors
    /// [`Error::Config`] for a flag, a file or a combination that cannot be used.
    pub fn from_args<I, T>(args: I) -> Result<Self>
    where
        I: IntoIterator<Item = T>,
        T: Into<std::ffi::OsString> + Clone,
    {
        let args = args.into_iter().map(Into::into);
        let no_file = |_: &std::path::Path| Err(std::io::ErrorKind::Unsupported.into());
        match parse(std::iter::once("snowglobe".into()).chain(args), &no_file)? {
            Command::Serve(config, _) => Ok(*config),
            Command::Restore { config, .. } => Ok(*config),
            Command::Print(text) => Err(Error::Config(text)),
        }
    }

    /// Where the write-ahead log is.
    #[must_use]
    pub fn wal_dir(&self) -> PathBuf {
        self.wal_dir.clone().unwrap_or_else(|| self.member_dir().join("wal"))
    }

    /// Where snapshot files are.
    #[must_use]
    pub fn snap_dir(&self) -> PathBuf {
        self.member_dir().join("snap")
    }

    /// Where RocksDB keeps its files.
    #[must_use]
    pub fn backend_dir(&self) -> PathBuf {
        self.member_dir().join("backend")
    }

    /// The folder of everything that belongs to this member.
    #[must_use]
    pub fn member_dir(&self) -> PathBuf {
        self.data_dir.join("member")
    }

    /// The file whose lock says that a process uses the data folder.
    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        self.data_dir.join("lock")
    }

    /// This member's id.
    #[must_use]
    pub fn member_id(&self) -> u64 {
        let computed = || member_id(&self.initial_advertise_peer_urls, &self.initial_cluster_token);
        self.identity.map_or_else(computed, |identity| identity.member_id)
    }

    /// The cluster's id: a hash of the ids of its first members.
    #[must_use]
    pub fn cluster_id(&self) -> u64 {
        if let Some(identity) = self.identity {
            return identity.cluster_id;
        }
        let ids: Vec<u8> = self.initial_members().keys().flat_map(|id| id.to_be_bytes()).collect();
        hash(&ids)
    }

    /// The first members: id to name and peer URLs.
    #[must_use]
    pub fn initial_members(&self) -> BTreeMap<u64, (String, Vec<Url>)> {
        self.initial_cluster
            .iter()
            .map(|(name, urls)| {
                (member_id(urls, &self.initial_cluster_token), (name.clone(), urls.clone()))
            })
            .collect()
    }

    /// Raft ticks (heartbeat intervals) in an election timeout.
    #[must_use]
    pub fn election_ticks(&self) -> usize {
        usize::try_from(self.election_timeout_ms / self.heartbeat_interval_ms.max(1))
            .unwrap_or(usize::MAX)
    }

    /// Bytes of the backend above which nothing more is taken in; `None` for no limit.
    #[must_use]
    pub fn quota_bytes(&self) -> Option<u64> {
        match self.quota_backend_bytes {
            0 => Some(QUOTA_DEFAULT_BYTES),
            bytes => u64::try_from(bytes).ok(),
        }
    }

    /// How long a request may take: the disk's worst time plus two elections, as etcd's.
    #[must_use]
    pub fn request_timeout_ms(&self) -> u64 {
        self.limits.request_timeout_base_ms + 2 * self.election_timeout_ms
    }

    /// The shortest time to live of a lease, as etcd's: one and a half election timeouts, so that a
    /// lease outlives the election in which it cannot be renewed.
    #[must_use]
    pub fn lease_ttl_min_s(&self) -> i64 {
        let ticks = 3 * self.election_ticks() as u64 / 2;
        i64::try_from((ticks * self.heartbeat_interval_ms).div_ceil(1000)).unwrap_or(i64::MAX)
    }

    /// The largest gRPC frame taken in: the request plus room for what surrounds it, as etcd's.
    #[must_use]
    pub fn max_frame_bytes(&self) -> usize {
        self.max_request_bytes + self.limits.request_overhead_bytes
    }

    /// The largest JSON object that the gateway takes in.
    #[must_use]
    pub fn max_json_bytes(&self) -> usize {
        self.max_frame_bytes().saturating_mul(self.limits.gateway_json_factor)
    }

    /// Checks what can be checked without touching the machine.
    ///
    /// # Errors
    /// [`Error::Config`] with one line that says what is wrong and how to mend it.
    pub fn validate(&self) -> Result<()> {
        self.validate_times()?;
        self.validate_limits()?;
        self.validate_cluster()?;
        for url in self.listen_client_urls.iter().chain(&self.listen_peer_urls) {
            url.socket_address()?;
        }
        self.client_tls.validate("--listen-client-urls", &self.listen_client_urls)?;
        self.peer_tls.validate("--listen-peer-urls", &self.listen_peer_urls)
    }

    fn validate_times(&self) -> Result<()> {
        let (heartbeat_ms, election_ms) = (self.heartbeat_interval_ms, self.election_timeout_ms);
        if heartbeat_ms == 0 {
            return refuse("--heartbeat-interval is 0; give it milliseconds, such as 100");
        }
        if election_ms < 5 * heartbeat_ms {
            return refuse(format!(
                "--election-timeout {election_ms} is below five times --heartbeat-interval \
                 {heartbeat_ms}; set it to at least {}",
                5 * heartbeat_ms
            ));
        }
        if election_ms > ELECTION_TIMEOUT_MAX_MS {
            return refuse(format!(
                "--election-timeout {election_ms} is too long; set it to at most \
                 {ELECTION_TIMEOUT_MAX_MS}"
            ));
        }
        Ok(())
    }

    fn validate_limits(&self) -> Result<()> {
        let positive = [
            ("--snapshot-count", self.snapshot_count),
            ("--max-request-bytes", self.max_request_bytes as u64),
            ("--max-txn-ops", self.max_txn_ops as u64),
            ("--max-concurrent-streams", u64::from(self.max_concurrent_streams)),
            ("--grpc-keepalive-interval", self.grpc_keepalive_interval_ms),
            ("--grpc-keepalive-timeout", self.grpc_keepalive_timeout_ms),
            ("--compaction-batch-limit", self.compaction_batch_limit as u64),
            ("--max-snapshots", self.max_snapshots as u64),
            ("--auth-token-ttl", self.auth_token_ttl_s),
        ];
        for (flag, value) in positive {
            if value == 0 {
                return refuse(format!("{flag} is 0; set it to at least 1"));
            }
        }
        if !BCRYPT_COSTS.contains(&self.bcrypt_cost) {
            let (cost, low, high) = (self.bcrypt_cost, BCRYPT_COSTS.start(), BCRYPT_COSTS.end());
            return refuse(format!("--bcrypt-cost {cost} must be from {low} to {high}"));
        }
        Ok(())
    }

    fn validate_cluster(&self) -> Result<()> {
        let flags: [(&str, &[Url]); 4] = [
            ("--listen-client-urls", &self.listen_client_urls),
            ("--advertise-client-urls", &self.advertise_client_urls),
            ("--listen-peer-urls", &self.listen_peer_urls),
            ("--initial-advertise-peer-urls", &self.initial_advertise_peer_urls),
        ];
        for (flag, urls) in flags {
            if urls.is_empty() {
                return refuse(format!("{flag} is empty; give it at least one URL"));
            }
        }
        let name = &self.name;
        let Some(listed) = self.initial_cluster.get(name) else {
            let known: Vec<&str> = self.initial_cluster.keys().map(String::as_str).collect();
            return refuse(format!(
                "--name {name} is not in --initial-cluster ({}); add {name}={} to it",
                known.join(", "),
                url::join(&self.initial_advertise_peer_urls)
            ));
        };
        let (here, there) = (sorted(&self.initial_advertise_peer_urls), sorted(listed));
        if here != there {
            return refuse(format!(
                "--initial-cluster says {name}={}, but --initial-advertise-peer-urls is {}; \
                 make them equal",
                url::join(listed),
                url::join(&self.initial_advertise_peer_urls)
            ));
        }
        let mut seen = BTreeSet::new();
        for url in self.initial_cluster.values().flatten() {
            if !seen.insert(url) {
                return refuse(format!(
                    "--initial-cluster names {url} twice; give each member its own URL"
                ));
            }
        }
        Ok(())
    }
}

fn refuse<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::Config(text.into()))
}

fn sorted(urls: &[Url]) -> Vec<String> {
    let mut texts: Vec<String> = urls.iter().map(Url::to_string).collect();
    texts.sort();
    texts
}

/// The id of a member of the first cluster: etcd's hash of its sorted peer URLs and the cluster's
/// token.
#[must_use]
pub fn member_id(peer_urls: &[Url], token: &str) -> u64 {
    let mut text = sorted(peer_urls).concat();
    text.push_str(token);
    hash(text.as_bytes())
}

/// The id of a member that is added later: a nonce takes part, so that the same URLs give another id each time.
#[must_use]
pub fn added_member_id(peer_urls: &[Url], token: &str, nonce: u64) -> u64 {
    member_id(peer_urls, &format!("{token}{nonce:x}"))
}

/// The first eight bytes of SHA-1, as a big-endian number.
fn hash(bytes: &[u8]) -> u64 {
    let digest = sha1_smol::Sha1::from(bytes).digest().bytes();
    let first: [u8; 8] = digest[..8].try_into().expect("a SHA-1 digest has 20 bytes");
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids are etcd's own, so that its documents and tools speak of the same numbers.
    #[test]
    fn ids_are_those_of_etcd() {
        let config = Config::default();
        assert_eq!(format!("{:x}", config.member_id()), "8e9e05c52164694d");
        assert_eq!(format!("{:x}", config.cluster_id()), "cdf818194e3a8c32");
    }

    /// The order of URLs and members in flags does not change ids.
    #[test]
    fn ids_do_not_depend_on_order() {
        let (a, b) = (Url::new("10.0.0.1", 2380), Url::new("10.0.0.1", 2381));
        assert_eq!(
            member_id(&[a.clone(), b.clone()], "t"),
            member_id(&[b.clone(), a.clone()], "t")
        );
        assert_ne!(member_id(&[a.clone(), b.clone()], "t"), member_id(&[a, b], "u"));
    }

    /// The defaults can be served.
    #[test]
    fn defaults_are_valid() {
        Config::default().validate().unwrap();
    }

    /// Each impossible combination is refused with the flag's name and the way out.
    #[test]
    fn impossible_combinations() {
        let check = |change: fn(&mut Config), expected: &str| {
            let mut config = Config::default();
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().to_string(), expected);
        };
        check(
            |c| c.election_timeout_ms = 499,
            "--election-timeout 499 is below five times --heartbeat-interval 100; set it to at least 500",
        );
        check(
            |c| c.election_timeout_ms = 50_001,
            "--election-timeout 50001 is too long; set it to at most 50000",
        );
        check(
            |c| c.heartbeat_interval_ms = 0,
            "--heartbeat-interval is 0; give it milliseconds, such as 100",
        );
        check(|c| c.bcrypt_cost = 3, "--bcrypt-cost 3 must be from 4 to 31");
        check(|c| c.max_txn_ops = 0, "--max-txn-ops is 0; set it to at least 1");
        check(
            |c| c.name = "n1".into(),
            "--name n1 is not in --initial-cluster (default); add n1=http://localhost:2380 to it",
        );
        check(
            |c| c.initial_advertise_peer_urls = vec![Url::new("10.0.0.1", 2380)],
            "--initial-cluster says default=http://localhost:2380, but --initial-advertise-peer-urls \
             is http://10.0.0.1:2380; make them equal",
        );
        check(
            |c| {
                let _ = c.initial_cluster.insert("n2".into(), vec![Url::new("localhost", 2380)]);
            },
            "--initial-cluster names http://localhost:2380 twice; give each member its own URL",
        );
        check(
            |c| c.listen_client_urls = vec![Url::new("example.com", 2379)],
            "cannot listen on http://example.com:2379: a listen URL needs an IP address; use 0.0.0.0 for all",
        );
        check(
            |c| c.listen_peer_urls.clear(),
            "--listen-peer-urls is empty; give it at least one URL",
        );
    }
}
