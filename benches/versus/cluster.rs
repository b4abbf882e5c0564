//! Clusters of either server, as processes.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use snowglobe::proto::etcdserverpb::StatusRequest;
use snowglobe::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use tonic::transport::{Channel, Endpoint};

/// Why something could not be measured, or was not right.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Time for a cluster to elect a leader.
const START_TRIES: u32 = 600;
const START_PAUSE: Duration = Duration::from_millis(50);

/// What the kernel counts processor time in, on every Linux there is.
const TICKS_PER_S: f64 = 100.0;

/// A server that can be started.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    path: PathBuf,
    verb: Option<&'static str>,
}

impl Program {
    /// The server of this build, or the one that `$SNOWGLOBE` names.
    pub(crate) fn snowglobe() -> Self {
        let built = || env!("CARGO_BIN_EXE_snowglobe").into();
        let path = PathBuf::from(std::env::var_os("SNOWGLOBE").unwrap_or_else(built));
        Self { name: "snowglobe", path, verb: Some("serve") }
    }

    /// The etcd that `$ETCD` names or that is in `PATH`, and what it says of its version.
    ///
    /// # Errors
    /// `$ETCD` names something else.
    pub(crate) fn etcd() -> Result<Option<(Self, String)>, Failure> {
        let named = std::env::var_os("ETCD");
        let path = PathBuf::from(named.clone().unwrap_or_else(|| "etcd".into()));
        match Command::new(&path).arg("--version").output() {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let version = text.lines().next().unwrap_or_default().to_owned();
                Ok(Some((Self { name: "etcd", path, verb: None }, version)))
            }
            Err(_) if named.is_none() => Ok(None),
            Err(error) => Err(format!("ETCD={}: {error}", path.display()).into()),
        }
    }
}

/// Running members; they end with it, and their data with them.
pub(crate) struct Cluster {
    folder: PathBuf,
    children: Vec<Child>,
    /// Where clients are served, the leader first.
    urls: Vec<String>,
}

impl Cluster {
    /// Starts so many members with data below `folder`, and waits until all of them know one leader.
    pub(crate) async fn start(
        program: &Program,
        count: usize,
        folder: &Path,
    ) -> Result<Self, Failure> {
        let folder = folder.join(format!("{}-{count}", program.name));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let (clients, peers) = ports(count)?;
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let all: Vec<String> = (0..count).map(|i| format!("n{i}={}", url(peers[i]))).collect();
        let mut cluster = Self { folder, children: Vec::new(), urls: Vec::new() };
        for i in 0..count {
            let (client, peer) = (url(clients[i]), url(peers[i]));
            let log = File::create(cluster.folder.join(format!("n{i}.log")))?;
            let child = Command::new(&program.path)
                .args(program.verb)
                .arg(format!("--name=n{i}"))
                .arg(format!("--data-dir={}", cluster.folder.join(format!("n{i}")).display()))
                .arg(format!("--listen-client-urls={client}"))
                .arg(format!("--advertise-client-urls={client}"))
                .arg(format!("--listen-peer-urls={peer}"))
                .arg(format!("--initial-advertise-peer-urls={peer}"))
                .arg(format!("--initial-cluster={}", all.join(",")))
                .arg("--log-level=error")
                .env_remove("RUST_LOG")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()?;
            cluster.children.push(child);
            cluster.urls.push(client);
        }
        cluster.elect().await?;
        Ok(cluster)
    }

    /// Waits for the leader, and puts it first.
    async fn elect(&mut self) -> Result<(), Failure> {
        for _ in 0..START_TRIES {
            let mut leaders = Vec::new();
            let mut members = Vec::new();
            for url in &self.urls {
                let mut client = MaintenanceClient::new(channel(url));
                let Ok(status) = client.status(StatusRequest {}).await else { break };
                let status = status.into_inner();
                members.push(status.header.unwrap_or_default().member_id);
                leaders.push(status.leader);
            }
            let one = leaders.iter().all(|leader| *leader != 0 && *leader == leaders[0]);
            if leaders.len() == self.urls.len() && one {
                let place = members.iter().position(|member| *member == leaders[0]);
                self.urls.swap(0, place.ok_or("the leader is no member")?);
                return Ok(());
            }
            tokio::time::sleep(START_PAUSE).await;
        }
        Err(format!("no leader; see the logs in {}", self.folder.display()).into())
    }

    /// Where clients are served, the leader first.
    pub(crate) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Processor time that all members have taken so far, in seconds; 0 where the kernel does not tell.
    pub(crate) fn cpu_s(&self) -> f64 {
        self.children.iter().filter_map(|child| cpu_ticks(child.id())).sum::<u64>() as f64
            / TICKS_PER_S
    }

    /// So many connections, spread over the members; the first one is to the leader.
    pub(crate) fn connections(&self, count: usize) -> Vec<Channel> {
        self.urls.iter().cycle().take(count).map(|url| channel(url)).collect()
    }

    /// One connection to the leader.
    pub(crate) fn leader(&self) -> Channel {
        channel(&self.urls[0])
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn channel(url: &str) -> Channel {
    Endpoint::from_shared(url.to_owned()).expect("a URL of ours").connect_lazy()
}

/// Processor time of a process, in user and kernel.
fn cpu_ticks(id: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name before it may have spaces in it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks = |place| fields.split(' ').nth(place)?.parse::<u64>().ok();
    Some(ticks(11)? + ticks(12)?)
}

/// Free ports: those for clients, and those for peers.
fn ports(count: usize) -> Result<(Vec<u16>, Vec<u16>), Failure> {
    // All sockets are held until all ports are known, so that no port is given out twice.
    let sockets: Vec<_> =
        (0..2 * count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let port = |socket: &TcpListener| socket.local_addr().map(|address| address.port());
    let mut clients = sockets.iter().map(port).collect::<Result<Vec<_>, _>>()?;
    let peers = clients.split_off(count);
    Ok((clients, peers))
}
