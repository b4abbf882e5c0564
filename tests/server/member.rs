//! A member as a process, and clients to it.

use std::fs;
use std::future::Future;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use snowglobe::proto::etcdserverpb::cluster_client::ClusterClient;
use snowglobe::proto::etcdserverpb::kv_client::KvClient;
use snowglobe::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use snowglobe::proto::etcdserverpb::{StatusRequest, StatusResponse};
use tonic::transport::{Channel, Endpoint};

use crate::certificates;

/// Long enough for a loaded machine; a condition that holds ends the wait at once.
const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A folder of its own for one test, removed at the end unless the test failed.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("snowglobe-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// One member: its flags, and its process while it runs.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) flags: Vec<String>,
    /// What its clients speak TLS by, where they do.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    client_port: u16,
    peer_port: u16,
    pub(crate) log: PathBuf,
    child: Option<Child>,
}

impl Member {
    /// The members of one cluster on free ports, not started yet.
    pub(crate) fn cluster(folder: &Path, count: usize, extra: &[&str]) -> Vec<Self> {
        Self::cluster_and_spares(folder, count, 0, extra)
    }

    /// As [`Member::cluster`], started and ready to serve.
    pub(crate) async fn serving(folder: &Path, count: usize, extra: &[&str]) -> Vec<Self> {
        let mut members = Self::cluster(folder, count, extra);
        members.iter_mut().for_each(Self::start);
        for member in &members {
            member.ready().await;
        }
        members
    }

    /// As [`Member::cluster`], and `spares` behind them that can join it later.
    pub(crate) fn cluster_and_spares(
        folder: &Path,
        first: usize,
        spares: usize,
        extra: &[&str],
    ) -> Vec<Self> {
        let count = first + spares;
        // All sockets are held until all ports are known, so that no port is given out twice.
        let sockets: Vec<_> =
            (0..2 * count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = sockets.iter().map(|s| s.local_addr().unwrap().port()).collect();
        let (clients, peers) = ports.split_at(count);
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let all: Vec<String> =
            (0..count).map(|i| format!("n{}={}", i + 1, url(peers[i]))).collect();
        let member = |i: usize| {
            let name = format!("n{}", i + 1);
            let known = if i < first { &all[..first] } else { &all[..] };
            let mut flags = vec![
                format!("--name={name}"),
                format!("--data-dir={}", folder.join(&name).display()),
                format!("--listen-client-urls={}", url(clients[i])),
                format!("--listen-peer-urls={}", url(peers[i])),
                format!("--initial-cluster={}", known.join(",")),
            ];
            if i >= first {
                flags.push("--initial-cluster-state=existing".to_owned());
            }
            flags.extend(extra.iter().map(|flag| (*flag).to_owned()));
            let log = folder.join(format!("{name}.log"));
            let (client_port, peer_port) = (clients[i], peers[i]);
            Self { name, flags, tls: None, client_port, peer_port, log, child: None }
        };
        (0..count).map(member).collect()
    }

    pub(crate) fn flags(&self) -> &[String] {
        &self.flags
    }

    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let child = snowglobe().args(["serve"]).args(&self.flags).stderr(log).spawn().unwrap();
        self.child = Some(child);
    }

    /// SIGKILL: the process gets no chance to tidy up.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("running");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and how the process ended.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("running");
        let kill = Command::new("kill").arg(child.id().to_string()).status().unwrap();
        assert!(kill.success());
        child.wait().unwrap()
    }

    /// How the process ended, which it does by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = std::cell::RefCell::new(self.child.take().expect("running"));
        until(&format!("{} ends, see {}", self.name, self.log.display()), || async {
            child.borrow_mut().try_wait().unwrap()
        })
        .await
    }

    pub(crate) fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    pub(crate) fn client_port(&self) -> u16 {
        self.client_port
    }

    /// Bytes of memory that the running process holds.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let id = self.child.as_ref().expect("running").id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kilobytes << 10
    }

    pub(crate) fn peer_port(&self) -> u16 {
        self.peer_port
    }

    /// What the member has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn channel(&self) -> Channel {
        let url = format!("http://127.0.0.1:{}", self.client_port);
        let endpoint = Endpoint::from_shared(url).unwrap().timeout(Duration::from_secs(10));
        match &self.tls {
            Some(tls) => certificates::channel(&endpoint, self.client_port, Arc::clone(tls)),
            None => endpoint.connect_lazy(),
        }
    }

    pub(crate) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel())
    }

    pub(crate) fn cluster_client(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel())
    }

    pub(crate) fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel())
    }

    /// Waits until the member serves and knows a leader.
    pub(crate) async fn ready(&self) -> StatusResponse {
        until(&format!("{} ready, see {}", self.name, self.log.display()), || async {
            let status = self.maintenance().status(StatusRequest {}).await.ok()?.into_inner();
            (status.leader != 0).then_some(status)
        })
        .await
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

/// The program under test.
pub(crate) fn snowglobe() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_snowglobe"));
    command.stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

/// Waits until `condition` gives a value.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let polls = DEADLINE.as_millis() / POLL.as_millis();
    for _ in 0..polls {
        if let Some(value) = condition().await {
            return value;
        }
        pause().await;
    }
    panic!("waited in vain: {what}");
}

pub(crate) async fn pause() {
    tokio::time::sleep(POLL).await;
}
