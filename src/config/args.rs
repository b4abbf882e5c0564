//! The command line: etcd's flag names, a help that teaches, and refusals of one line.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::tls::TlsArgs;
use super::{AuthToken, AutoCompaction, ClusterState, Config, Limits, Url, file};
use crate::error::{Error, Result};

/// What a command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Start a member; log what this filter (as in `info` or `snowglobe::raft=debug`) lets through.
    Serve(Box<Config>, String),
    /// Make a data folder from a snapshot.
    Restore {
        /// The member that the folder is for.
        config: Box<Config>,
        /// The snapshot.
        file: PathBuf,
        /// Whether its hash is not looked at.
        skip_hash_check: bool,
    },
    /// Print this text (help or version) and stop.
    Print(String),
}

/// An etcd-compatible key-value server.
#[derive(Parser)]
#[command(name = "snowglobe", version, about, arg_required_else_help = true)]
struct Program {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start one member of a cluster
    Serve(Box<ServeArgs>),
    /// Make a member's data folder from a file that `etcdctl snapshot save` wrote
    Restore(Box<RestoreArgs>),
}

/// The flags of `snowglobe restore`; names and defaults as etcd's.
#[derive(Args, Debug)]
struct RestoreArgs {
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The folder that is made [default: NAME.snowglobe]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// The member's own name, unique in the cluster
    #[arg(long, default_value = "default", value_name = "NAME")]
    name: String,
    /// All members of the new cluster, this one included, as n1=URL,n2=URL [default: this member alone]
    #[arg(long, value_name = "NAME=URL,…")]
    initial_cluster: Option<String>,
    /// A word that sets this cluster apart from others on the same URLs
    #[arg(long, default_value = "etcd-cluster", value_name = "WORD")]
    initial_cluster_token: String,
    /// Where the other members find this one
    #[arg(long, default_value = "http://localhost:2380", value_name = "URLS")]
    initial_advertise_peer_urls: String,
    /// Take the snapshot as it is, without a look at its hash
    #[arg(long)]
    skip_hash_check: bool,
}

impl RestoreArgs {
    /// What the member would be served with.
    fn into_command(self) -> Result<Command> {
        let mut args = vec![
            "serve".to_owned(),
            format!("--name={}", self.name),
            format!("--initial-cluster-token={}", self.initial_cluster_token),
            format!("--initial-advertise-peer-urls={}", self.initial_advertise_peer_urls),
        ];
        let Self { file, skip_hash_check, initial_cluster, data_dir, .. } = self;
        args.extend(initial_cluster.map(|cluster| format!("--initial-cluster={cluster}")));
        args.extend(data_dir.map(|folder| format!("--data-dir={}", folder.display())));
        let config = Box::new(Config::from_args(args)?);
        Ok(Command::Restore { config, file, skip_hash_check })
    }
}

/// The flags of `snowglobe serve`; names and defaults as etcd's.
#[derive(Args, Debug)]
#[command(
    args_override_self = true,
    after_help = "Times without a unit are milliseconds. \nThree members on this machine: make cluster\n"
)]
pub struct ServeArgs {
    /// The member's own name, unique in the cluster
    #[arg(long, default_value = "default", value_name = "NAME")]
    name: String,
    /// The folder for everything the member must not forget [default: NAME.snowglobe]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// A folder of its own for the write-ahead log, best on another disk [default: in --data-dir]
    #[arg(long, value_name = "FOLDER")]
    wal_dir: Option<PathBuf>,
    /// Where to listen for clients
    #[arg(long, default_value = "http://localhost:2379", value_name = "URLS")]
    listen_client_urls: UrlList,
    /// Where clients are told to go [default: --listen-client-urls]
    #[arg(long, value_name = "URLS")]
    advertise_client_urls: Option<UrlList>,
    /// Where to listen for the other members
    #[arg(long, default_value = "http://localhost:2380", value_name = "URLS")]
    listen_peer_urls: UrlList,
    /// Where the other members find this one [default: --listen-peer-urls]
    #[arg(long, value_name = "URLS")]
    initial_advertise_peer_urls: Option<UrlList>,
    /// All first members, this one included, as n1=URL,n2=URL [default: this member alone]
    #[arg(long, value_name = "NAME=URL,…")]
    initial_cluster: Option<InitialCluster>,
    /// Whether the cluster is being made or joined; only read while the data folder is empty
    #[arg(long, default_value = "new", value_name = "STATE")]
    initial_cluster_state: ClusterState,
    /// A word that sets this cluster apart from others on the same URLs
    #[arg(long, default_value = "etcd-cluster", value_name = "WORD")]
    initial_cluster_token: String,
    /// Go on alone with what this member has, after the others are lost for good; give it once
    #[arg(long)]
    force_new_cluster: bool,
    /// Refuse changes of members that could cost the cluster its quorum
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL")]
    strict_reconfig_check: bool,
    /// Milliseconds between two heartbeats of the leader
    #[arg(long, default_value_t = 100, value_name = "MS")]
    heartbeat_interval: u64,
    /// Milliseconds without a leader before an election; at least five heartbeats, at most 50000
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    election_timeout: u64,
    /// Applied entries after which a snapshot is taken and the log is cut
    #[arg(long, default_value_t = 10_000, value_name = "COUNT")]
    snapshot_count: u64,
    /// Log entries kept behind a snapshot for members that are a little behind
    #[arg(long, default_value_t = 5000, value_name = "COUNT")]
    snapshot_catchup_entries: u64,
    /// Largest request in bytes
    #[arg(long, default_value_t = 1_572_864, value_name = "BYTES")]
    max_request_bytes: usize,
    /// Most operations in one branch of a txn
    #[arg(long, default_value_t = 128, value_name = "COUNT")]
    max_txn_ops: usize,
    /// Most requests under way on one connection
    #[arg(long, default_value_t = u32::MAX, value_name = "COUNT")]
    max_concurrent_streams: u32,
    /// Time without a word after which a client is asked whether it is there
    #[arg(long, default_value = "2h", value_name = "TIME", value_parser = milliseconds)]
    grpc_keepalive_interval: u64,
    /// Time for the answer, after which the connection is closed
    #[arg(long, default_value = "20s", value_name = "TIME", value_parser = milliseconds)]
    grpc_keepalive_timeout: u64,
    /// Time above which it is logged that applying entries, or reading, was slow
    #[arg(long, default_value = "100ms", value_name = "TIME", value_parser = milliseconds)]
    warning_apply_duration: u64,
    /// Time above which a request is logged as slow
    #[arg(long, default_value = "300ms", value_name = "TIME", value_parser = milliseconds)]
    warning_unary_request_duration: u64,
    /// Ask whether an election could be won before disturbing the cluster with it
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL")]
    pre_vote: bool,
    /// Most revisions removed in one step of a compaction
    #[arg(long, default_value_t = 1000, value_name = "COUNT")]
    compaction_batch_limit: usize,
    /// Pause between two steps of a compaction, such as 10ms or 1s
    #[arg(long, default_value = "10ms", value_name = "TIME", value_parser = milliseconds)]
    compaction_sleep_interval: u64,
    /// Snapshot files kept
    #[arg(long, default_value_t = 5, value_name = "COUNT")]
    max_snapshots: usize,
    /// Bytes of the database above which puts are refused; 0 for 2 GiB, negative for no limit
    #[arg(long, default_value_t = 0, value_name = "BYTES", allow_negative_numbers = true)]
    quota_backend_bytes: i64,
    /// Compare this member's hash with the others' before it serves
    #[arg(long)]
    initial_corrupt_check: bool,
    /// Time between two comparisons of all members' hashes, such as 10m; 0 for none
    #[arg(long, default_value = "0", value_name = "TIME", value_parser = milliseconds)]
    corrupt_check_time: u64,
    /// What --auto-compaction-retention counts: time or revisions
    #[arg(long, default_value = "periodic", value_name = "MODE")]
    auto_compaction_mode: CompactionMode,
    /// History that is kept: hours or a time such as 30m, or a number of revisions; 0 keeps all
    #[arg(long, default_value = "0", value_name = "AMOUNT")]
    auto_compaction_retention: String,
    /// What clients show instead of their password: simple, or as in
    /// jwt,sign-method=RS256,priv-key=FILE,pub-key=FILE,ttl=5m; the last two may be left out
    #[arg(long, default_value = "simple", value_name = "KIND[,OPTIONS]")]
    auth_token: AuthToken,
    /// Seconds that a client with a simple token may stay silent before it must authenticate anew
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    auth_token_ttl: u64,
    /// How hard a password is to try out, from 4 to 31: each step doubles the work
    #[arg(long, default_value_t = 10, value_name = "COST")]
    bcrypt_cost: u32,
    #[command(flatten)]
    tls: TlsArgs,
    /// What is logged: error, warn, info, debug, trace, or a filter such as
    /// info,snowglobe::raft=debug
    #[arg(long, default_value = "info", value_name = "FILTER")]
    log_level: String,
    /// A TOML file whose keys are these flags' names; flags given on the command line win
    #[arg(long, value_name = "FILE")]
    config_file: Option<PathBuf>,
}

/// Reads a command line; the first argument is the program's name. `read` gets the text of
/// `--config-file`.
///
/// # Errors
/// [`Error::Config`] with one line that says what is wrong and how to mend it.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Command> {
    let args: Vec<OsString> = args.into_iter().collect();
    let program = match program(&args) {
        Ok(program) => program,
        Err(error) if asks_for_text(error.kind()) => return Ok(Command::Print(error.to_string())),
        Err(error) => return Err(one_line(&error)),
    };
    let mut serve = match program.verb {
        Verb::Serve(serve) => serve,
        Verb::Restore(restore) => return restore.into_command(),
    };
    if let Some(path) = serve.config_file.take() {
        let text = read(&path).map_err(|cause| {
            Error::Config(format!("cannot read --config-file {}: {cause}", path.display()))
        })?;
        // The file's flags come first, so that those of the command line override them.
        let mut all = vec![args[0].clone(), "serve".into()];
        all.extend(file::arguments(&path, &text, &flag_names())?);
        let verb = args.iter().position(|arg| arg == "serve").expect("parsed above");
        all.extend_from_slice(&args[verb + 1..]);
        if let Verb::Serve(all) = program_of(&all)?.verb {
            serve = all;
        }
    }
    let log_filter = serve.log_level.clone();
    let config = serve.into_config()?;
    config.validate()?;
    Ok(Command::Serve(Box::new(config), log_filter))
}

fn program(args: &[OsString]) -> std::result::Result<Program, clap::Error> {
    let matches = Program::command().try_get_matches_from(args)?;
    Program::from_arg_matches(&matches)
}

fn program_of(args: &[OsString]) -> Result<Program> {
    program(args).map_err(|error| one_line(&error))
}

/// The long names of the flags of `serve`, without dashes.
fn flag_names() -> Vec<String> {
    let program = Program::command();
    let serve = program.find_subcommand("serve").expect("`serve` is declared above");
    serve.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)).collect()
}

fn asks_for_text(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
}

/// clap's first sentence and its tips, without the usage block.
fn one_line(error: &clap::Error) -> Error {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Error::Config(
            "no command given; try `snowglobe serve` or `snowglobe --help`".into(),
        );
    }
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let kept: Vec<&str> = lines
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .map(|line| line.trim_start_matches("error: ").trim_start_matches("tip: "))
        .collect();
    Error::Config(format!("{}; see `snowglobe serve --help`", kept.join("; ")))
}

impl ServeArgs {
    fn into_config(self) -> Result<Config> {
        let peers = self.initial_advertise_peer_urls.as_ref().unwrap_or(&self.listen_peer_urls);
        let clients = self.advertise_client_urls.as_ref().unwrap_or(&self.listen_client_urls);
        refuse_wildcard("--advertise-client-urls", &clients.0)?;
        refuse_wildcard("--initial-advertise-peer-urls", &peers.0)?;
        let initial_cluster = match self.initial_cluster {
            Some(cluster) => cluster.0,
            None => BTreeMap::from([(self.name.clone(), peers.0.clone())]),
        };
        let (client_tls, peer_tls) = self.tls.into_config();
        Ok(Config {
            data_dir: self.data_dir.unwrap_or_else(|| format!("{}.snowglobe", self.name).into()),
            wal_dir: self.wal_dir,
            advertise_client_urls: clients.0.clone(),
            initial_advertise_peer_urls: peers.0.clone(),
            name: self.name,
            listen_client_urls: self.listen_client_urls.0,
            listen_peer_urls: self.listen_peer_urls.0,
            initial_cluster,
            initial_cluster_token: self.initial_cluster_token,
            initial_cluster_state: self.initial_cluster_state,
            identity: None,
            force_new_cluster: self.force_new_cluster,
            strict_reconfig_check: self.strict_reconfig_check,
            heartbeat_interval_ms: self.heartbeat_interval,
            election_timeout_ms: self.election_timeout,
            snapshot_count: self.snapshot_count,
            snapshot_catchup_entries: self.snapshot_catchup_entries,
            max_request_bytes: self.max_request_bytes,
            max_txn_ops: self.max_txn_ops,
            max_concurrent_streams: self.max_concurrent_streams,
            grpc_keepalive_interval_ms: self.grpc_keepalive_interval,
            grpc_keepalive_timeout_ms: self.grpc_keepalive_timeout,
            warning_apply_duration_ms: self.warning_apply_duration,
            warning_unary_request_duration_ms: self.warning_unary_request_duration,
            pre_vote: self.pre_vote,
            compaction_batch_limit: self.compaction_batch_limit,
            compaction_sleep_interval_ms: self.compaction_sleep_interval,
            max_snapshots: self.max_snapshots,
            quota_backend_bytes: self.quota_backend_bytes,
            initial_corrupt_check: self.initial_corrupt_check,
            corrupt_check_time_ms: self.corrupt_check_time,
            auto_compaction: retention(self.auto_compaction_mode, &self.auto_compaction_retention)
                .map_err(|why| Error::Config(format!("--auto-compaction-retention: {why}")))?,
            auth_token: self.auth_token,
            auth_token_ttl_s: self.auth_token_ttl,
            bcrypt_cost: self.bcrypt_cost,
            client_tls,
            peer_tls,
            limits: Limits::default(),
        })
    }
}

/// What `--auto-compaction-retention` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum CompactionMode {
    /// Time.
    Periodic,
    /// Revisions.
    Revision,
}

/// What is to be kept; a bare number is hours, as etcd reads it.
fn retention(mode: CompactionMode, text: &str) -> std::result::Result<AutoCompaction, String> {
    if text == "0" {
        return Ok(AutoCompaction::Off);
    }
    let number = text.parse::<u64>();
    Ok(match mode {
        CompactionMode::Revision => {
            let retention = number.ok().and_then(|number| i64::try_from(number).ok());
            let retention =
                retention.ok_or_else(|| format!("`{text}` is not a number of revisions"))?;
            AutoCompaction::Revision { retention }
        }
        CompactionMode::Periodic => {
            let hours = number.map(|hours| format!("{hours}h"));
            let retention_ms = milliseconds(hours.as_deref().unwrap_or(text))?;
            AutoCompaction::Periodic { retention_ms }
        }
    })
}

/// An address that means "all of mine" tells others nothing.
fn refuse_wildcard(flag: &str, urls: &[Url]) -> Result<()> {
    match urls.iter().find(|url| matches!(url.host(), "0.0.0.0" | "[::]")) {
        Some(url) => Err(Error::Config(format!(
            "{flag} would be {url}, which others cannot reach; give it the address they should use"
        ))),
        None => Ok(()),
    }
}

/// URLs separated by commas.
#[derive(Clone, Debug)]
struct UrlList(Vec<Url>);

impl std::str::FromStr for UrlList {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        text.split(',')
            .map(|part| part.trim().parse())
            .collect::<std::result::Result<_, _>>()
            .map(Self)
    }
}

/// `n1=URL,n2=URL`; a member with several URLs is named several times, as in etcd.
#[derive(Clone, Debug)]
struct InitialCluster(BTreeMap<String, Vec<Url>>);

impl std::str::FromStr for InitialCluster {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut members: BTreeMap<String, Vec<Url>> = BTreeMap::new();
        for part in text.split(',').map(str::trim) {
            let Some((name, url)) = part.split_once('=').filter(|(name, _)| !name.is_empty())
            else {
                return Err(format!("`{part}` is not NAME=URL"));
            };
            members.entry(name.to_owned()).or_default().push(url.parse()?);
        }
        Ok(Self(members))
    }
}

/// A time as Go writes it (`10ms`, `1s`, `2m`), or a bare number of milliseconds.
pub(super) fn milliseconds(text: &str) -> std::result::Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_ms = match &text[digits.len()..] {
        "" | "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        unit => return Err(format!("unit `{unit}` is not one of ms, s, m, h")),
    };
    let number: u64 = digits.parse().map_err(|_| "write a time such as 10ms or 1s".to_owned())?;
    number.checked_mul(unit_ms).ok_or_else(|| "too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str, file: &str) -> String {
        let args = line.split_whitespace().map(OsString::from);
        let read = |path: &Path| match path.to_str() {
            Some("there.toml") => Ok(file.to_owned()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        match parse(args, &read) {
            Ok(Command::Serve(config, filter)) => format!(
                "{} {}ms {}ms pre_vote={} {filter}",
                config.name,
                config.heartbeat_interval_ms,
                config.compaction_sleep_interval_ms,
                config.pre_vote
            ),
            Ok(Command::Restore { config, file, .. }) => {
                format!("{} from {}", config.name, file.display())
            }
            Ok(Command::Print(text)) => text,
            Err(error) => error.to_string(),
        }
    }

    /// Without flags, the defaults of the flags are the defaults of the plain data.
    #[test]
    fn defaults_agree() {
        assert_eq!(Config::from_args::<_, OsString>(["serve".into()]).unwrap(), Config::default());
    }

    /// Flags are read as etcd reads them, those of a file come second.
    #[test]
    fn flags_and_file() {
        let check = |line: &str, file: &str, expected: &str| {
            assert_eq!(run(line, file), expected, "{line}");
        };
        check("snowglobe serve", "", "default 100ms 10ms pre_vote=true info");
        check("snowglobe serve --pre-vote=false", "", "default 100ms 10ms pre_vote=false info");
        check("snowglobe serve --pre-vote", "", "default 100ms 10ms pre_vote=true info");
        check(
            "snowglobe serve --compaction-sleep-interval=2s",
            "",
            "default 100ms 2000ms pre_vote=true info",
        );
        let file = "name = 'f'\nheartbeat-interval = 50\npre-vote = false\nlog-level = 'debug'\n\
                    listen-client-urls = ['http://127.0.0.1:1', 'http://127.0.0.1:2']";
        check("snowglobe serve --config-file there.toml", file, "f 50ms 10ms pre_vote=false debug");
        check(
            "snowglobe serve --name x --config-file there.toml --heartbeat-interval 60",
            file,
            "x 60ms 10ms pre_vote=false debug",
        );
        check("snowglobe restore a.db --name x", "", "x from a.db");
        check("snowglobe --version", "", concat!("snowglobe ", env!("CARGO_PKG_VERSION"), "\n"));
    }

    /// Each mistake is answered by one line: what is wrong, and how to mend it.
    #[test]
    fn mistakes() {
        let check = |line: &str, expected: &str| {
            let got = run(line, "");
            assert_eq!(got, expected, "{line}");
            assert_eq!(got.lines().count(), 1, "{line}");
        };
        check("snowglobe", "no command given; try `snowglobe serve` or `snowglobe --help`");
        check(
            "snowglobe serve --nam x",
            "unexpected argument '--nam' found; a similar argument exists: '--name'; \
             see `snowglobe serve --help`",
        );
        check(
            "snowglobe serve --election-timeout=100",
            "--election-timeout 100 is below five times --heartbeat-interval 100; set it to at least 500",
        );
        check(
            "snowglobe serve --listen-client-urls=https://localhost:1",
            "--listen-client-urls has https://localhost:1, which needs --cert-file and --key-file; \
             give both, or write http://",
        );
        check(
            "snowglobe serve --listen-client-urls=http://0.0.0.0:1",
            "--advertise-client-urls would be http://0.0.0.0:1, which others cannot reach; \
             give it the address they should use",
        );
        check(
            "snowglobe serve --config-file missing.toml",
            "cannot read --config-file missing.toml: entity not found",
        );
    }
}
