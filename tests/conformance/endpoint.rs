//! Who is asked: a member started for the occasion, or somebody's endpoint.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use prost_reflect::DescriptorPool;
use tonic::transport::Channel;

use crate::call::pool;
use crate::perform::is_serving;

/// Whose answers they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This project's server.
    Snowglobe,
    /// Anybody else.
    Other,
}

/// Where cases are asked.
pub(crate) struct Endpoint {
    pub(crate) kind: Kind,
    pub(crate) channel: Channel,
    pub(crate) pool: DescriptorPool,
    started: Option<(Child, PathBuf)>,
}

impl Endpoint {
    /// Somebody's endpoint.
    pub(crate) fn at(url: &str) -> Self {
        let endpoint = tonic::transport::Endpoint::from_shared(url.to_owned()).unwrap();
        let channel = endpoint.timeout(Duration::from_secs(10)).connect_lazy();
        Self { kind: Kind::Other, channel, pool: pool(), started: None }
    }

    /// A member of this build.
    pub(crate) async fn snowglobe() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_snowglobe"));
        command.arg("serve").env_remove("RUST_LOG");
        let mut endpoint = Self::start(command).await;
        endpoint.kind = Kind::Snowglobe;
        endpoint
    }

    /// An etcd, if one is installed.
    pub(crate) async fn etcd() -> Option<Self> {
        let named = std::env::var("CONFORMANCE_ETCD");
        let program = named.clone().unwrap_or_else(|_| "etcd".to_owned());
        let version = Command::new(&program).arg("--version").stdout(Stdio::null()).status();
        match (version, named) {
            (Ok(_), _) => Some(Self::start(Command::new(program)).await),
            (Err(_), Err(_)) => None,
            (Err(error), Ok(program)) => panic!("CONFORMANCE_ETCD={program}: {error}"),
        }
    }

    async fn start(mut command: Command) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("snowglobe-conformance-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let ports: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let url = |at: usize| format!("http://{}", ports[at].local_addr().unwrap());
        let (client, peer) = (url(0), url(1));
        drop(ports);
        command
            .args(["--name=n1", "--max-txn-ops=128"])
            .arg(format!("--data-dir={}", folder.display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=n1={peer}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let mut endpoint = Self::at(&client);
        endpoint.started = Some((child, folder));
        for _ in 0..600 {
            if is_serving(&endpoint).await {
                return endpoint;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{command:?} does not serve");
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some((child, folder)) = &mut self.started {
            let _ = child.kill();
            let _ = child.wait();
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}
