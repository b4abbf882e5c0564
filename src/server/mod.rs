//! Puts one member together from its parts and runs it until it is told to stop.
//!
//! Start: identity (a member that joins asks the others) → data folder (made, recognised, locked) → sockets bound → recovery and the loop
//! ([`raft::start`]) → connections accepted → name and client URLs published through the log. Stop
//! goes the other way round: nobody new is accepted, streams are ended, open connections finish what
//! they began, leadership is handed over, the rest is cut.
//!
//! Invariants:
//! * Nothing is accepted before recovery is complete.
//! * Runs on whatever runtime and [`Host`] it is given; holds no clock, thread or socket of its
//!   own.
//!
//! Not here: signals and exit codes (`main.rs`).

mod compactor;
mod connections;
mod corruption;
mod folder;
mod hello;
mod restore;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync;
use tonic::service::Routes;

use crate::config::{ClusterState, Config, Identity, Tls, Url};
use crate::error::{Error, Result};
use crate::host::tls::Acceptor;
use crate::host::{Clock, Host, Listener, Lock};
use crate::proto::etcdserverpb::{ClusterMemberAttrSetRequest, InternalRaftRequest};
use crate::{api, raft, watch};
use connections::{Connections, Phase};

pub use restore::restore;

/// One running member.
pub struct Server {
    handle: raft::Handle,
    clock: Arc<dyn Clock>,
    clients: Connections,
    peers: Connections,
    failed: sync::watch::Receiver<Option<Error>>,
    stop_drain: Duration,
    _lock: Box<dyn Lock>,
}

impl Server {
    /// Recovers the member from its data folder and serves clients and peers.
    ///
    /// # Errors
    /// [`Error::Config`] where the folder is another program's or in use, an address is taken, or a certificate
    /// cannot be used;
    /// [`Error::Corrupt`] and [`Error::Io`] where what is on disk cannot be used.
    pub async fn start(host: Arc<dyn Host>, config: Config) -> Result<Self> {
        config.validate()?;
        let jwt = api::Jwt::read(&*host.disk(), host.clock(), &config)?;
        let client_tls = acceptor(&*host, &config.client_tls, &config.listen_client_urls, &config)?;
        let peer_tls = acceptor(&*host, &config.peer_tls, &config.listen_peer_urls, &config)?;
        let (config, joined) = identify(&host, config).await?;
        let config = Arc::new(config);
        let lock = folder::claim(&*host.disk(), &config).await?;
        let client_listeners =
            listen(&*host, "--listen-client-urls", &config.listen_client_urls).await?;
        let peer_listeners = listen(&*host, "--listen-peer-urls", &config.listen_peer_urls).await?;

        let (handle, peer_service, mut member, changes) =
            raft::start(host.clone(), config.clone(), joined).await?;
        if config.initial_corrupt_check {
            corruption::check_at_start(&handle, &config).await?;
        }
        let peer_routes = Routes::new(peer_service.into_server()).prepare();
        let clients = Connections::new(host.clock(), &config);
        let peers = Connections::new(host.clock(), &config);
        let (watches, watching) = watch::start(&handle, changes, host.clock(), &config.limits);
        for (url, listener) in config.listen_client_urls.iter().zip(client_listeners) {
            let tls = client_tls.clone().filter(|_| url.is_tls());
            clients.accept(listener, tls, api::routes(&handle, &watches, &host, &config, &jwt));
        }
        for (url, listener) in config.listen_peer_urls.iter().zip(peer_listeners) {
            let tls = peer_tls.clone().filter(|_| url.is_tls());
            peers.accept(listener, tls, peer_routes.clone());
        }
        let (failure, failed) = sync::watch::channel(None);
        let failure = Arc::new(failure);
        let other = Arc::clone(&failure);
        tokio::spawn(async move {
            if let Err(error) = member.ended().await {
                let _ = failure.send(Some(error));
            }
        });
        tokio::spawn(async move {
            if let Err(error) = watching.ended().await {
                let _ = other.send(Some(error));
            }
        });
        tokio::spawn(corruption::watch(handle.clone(), config.clone(), host.clock()));
        tokio::spawn(compactor::run(handle.clone(), config.clone(), host.clock()));
        tokio::spawn(publish(handle.clone(), config.clone(), host.clock()));
        tracing::info!(
            "member {} ({:x}) of cluster {:x} serves clients on {} and peers on {}",
            config.name,
            config.member_id(),
            config.cluster_id(),
            words(&config.listen_client_urls),
            words(&config.listen_peer_urls),
        );
        let stop_drain = Duration::from_millis(config.limits.stop_drain_ms);
        Ok(Self { handle, clock: host.clock(), clients, peers, failed, stop_drain, _lock: lock })
    }

    /// The way to the loop, for whoever embeds the server.
    #[must_use]
    pub fn handle(&self) -> &raft::Handle {
        &self.handle
    }

    /// Completes with the error that killed the member; stays pending while it lives, and after a
    /// clean stop.
    pub async fn failed(&self) -> Error {
        let mut failed = self.failed.clone();
        if let Ok(error) = failed.wait_for(Option::is_some).await {
            return error.clone().expect("waited for it to be there");
        }
        std::future::pending().await
    }

    /// Stops the member. `graceful`: requests under way are answered and leadership is handed over,
    /// both within bounds; otherwise everything is cut at once.
    pub async fn stop(self, graceful: bool) {
        if graceful {
            self.clients.enter(Phase::Draining);
            self.handle.end_streams();
            let drained = self.clients.ended();
            let enough = self.clock.sleep(self.stop_drain);
            tokio::select! {
                biased;
                () = drained => {}
                () = enough => tracing::warn!("some requests were still under way when the member stopped"),
            }
            self.handle.stop().await;
        }
        for connections in [&self.clients, &self.peers] {
            connections.enter(Phase::Closed);
            connections.ended().await;
        }
    }
}

/// Finds out who this member is: its folder says so, or the flags do, or the members that it joins.
async fn identify(host: &Arc<dyn Host>, config: Config) -> Result<(Config, Option<raft::Joined>)> {
    if config.initial_cluster_state == ClusterState::New {
        return Ok((config, None));
    }
    if let Some(identity) = folder::identity_of(&*host.disk(), &config)? {
        return Ok((Config { identity: Some(identity), ..config }, None));
    }
    let joined = raft::join(host, &config).await?;
    let raft::Joined { cluster_id, member_id, .. } = joined;
    let identity = Some(Identity { cluster_id, member_id });
    Ok((Config { identity, ..config }, Some(joined)))
}

/// What shakes hands on the `https` URLs among `urls`, where there are any.
fn acceptor(
    host: &dyn Host,
    tls: &Tls,
    urls: &[Url],
    config: &Config,
) -> Result<Option<Arc<Acceptor>>> {
    let plain = urls.iter().find(|url| !url.is_tls());
    if let (Some(url), Some(_)) = (plain, &tls.cert_file) {
        tracing::warn!("{} is not used on {url}, which is not https://", tls.flag("cert-file"));
    }
    if !urls.iter().any(Url::is_tls) {
        return Ok(None);
    }
    Ok(Some(Arc::new(Acceptor::new(host, tls, &config.limits)?)))
}

async fn listen(host: &dyn Host, flag: &str, urls: &[Url]) -> Result<Vec<Box<dyn Listener>>> {
    let mut listeners = Vec::new();
    for url in urls {
        let listener = host.net().listen(url.socket_address()?).await.map_err(|cause| {
            let remedy = match cause.kind() {
                io::ErrorKind::AddrInUse => "stop the program that uses it, or change",
                _ => "check the address in",
            };
            Error::Config(format!("cannot listen on {url}: {cause}; {remedy} {flag}"))
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Tells the cluster this member's name and client URLs, through the log; repeats until it is done.
async fn publish(handle: raft::Handle, config: Arc<Config>, clock: Arc<dyn Clock>) {
    let attributes = ClusterMemberAttrSetRequest {
        member_id: config.member_id(),
        name: config.name.clone(),
        client_urls: config.advertise_client_urls.iter().map(Url::to_string).collect(),
    };
    if let Ok(status) = handle.status().await
        && let Some(member) = status.members.get(&attributes.member_id)
        && member.name == attributes.name
        && member.client_urls == attributes.client_urls
    {
        return;
    }
    let request =
        InternalRaftRequest { cluster_member_attr_set: Some(attributes), ..Default::default() };
    // Each try is bounded by the request timeout; it ends with success or with the member.
    loop {
        match handle.propose(request.clone()).await {
            Ok(_) | Err(crate::error::Refusal::Stopped) => return,
            Err(refusal) => tracing::debug!("publishing this member: {}", refusal.text()),
        }
        clock.sleep(Duration::from_millis(config.limits.publish_retry_ms)).await;
    }
}

fn words(urls: &[Url]) -> String {
    urls.iter().map(Url::to_string).collect::<Vec<_>>().join(", ")
}
