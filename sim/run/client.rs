//! One client: a node of the world with real gRPC channels to the members.
//!
//! Invariants:
//! * At most one operation under way, watches apart; each is sent once, to one member. Nothing is ever sent again.
//! * Every operation is in the history from its call on, and gets exactly one outcome.
//! * After a failure the client turns to the next member in the operation's order.

use std::sync::Arc;
use std::time::Duration;

use snowglobe::error::Refusal;
use snowglobe::host::{self, BoxFuture, Host, Listener, Stream, channel};
use snowglobe::proto::etcdserverpb as pb;
use snowglobe::proto::etcdserverpb::kv_client::KvClient;
use tokio::task::JoinHandle;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::classify::{NotConnected, classify, gave_up};
use super::cluster::Cluster;
use super::convert::{self, Token, Way};
use super::recorder::Recorder;
use super::watcher::{Goal, Watcher};
use crate::history::{Failure, Outcome, Request, Response, Watch};
use crate::scenario::plan;
use crate::workload::auth::ROOT;
use crate::workload::seen::Seen;

/// One client.
pub struct Client {
    number: u32,
    host: Arc<dyn Host>,
    cluster: Cluster,
    recorder: Recorder,
    channels: Vec<Option<Channel>>,
    seen: Seen,
    /// Watches, each in a task of its own.
    watching: Vec<JoinHandle<bool>>,
    /// The member that failed last, until another one works.
    shunned: Option<usize>,
    login: Login,
}

/// What a client knows of its standing with the cluster.
enum Login {
    /// Nothing.
    Unknown,
    /// Nobody wants to know who it is.
    NotWanted,
    /// This token stands for its user.
    Token(AsciiMetadataValue),
}

fn is_error(answer: &Answer, refusal: Refusal) -> bool {
    answer.as_ref().is_err_and(|(_, failure)| failure.message == refusal.text())
}

/// What became of an operation.
pub type Answer = Result<Response, (Outcome, Failure)>;

impl Client {
    /// The client numbered `number`, on the machine `host`.
    #[must_use]
    pub fn new(number: u32, host: Arc<dyn Host>, cluster: &Cluster, recorder: &Recorder) -> Self {
        Self {
            number,
            host,
            cluster: cluster.clone(),
            recorder: recorder.clone(),
            channels: vec![None; cluster.count()],
            seen: Seen::default(),
            watching: Vec::new(),
            shunned: None,
            login: Login::Unknown,
        }
    }

    /// Does all operations, each not before its time. What a client that was kept waiting has not begun by
    /// `until_us` is left out.
    pub async fn work(&mut self, operations: &[plan::Operation], until_us: u64) {
        for operation in operations {
            if self.cluster.world.now_ns() >= until_us * 1000 {
                break;
            }
            let wait_ns = (operation.at_us * 1000).saturating_sub(self.cluster.world.now_ns());
            if wait_ns > 0 {
                self.cluster.world.sleep(wait_ns).await;
            }
            let request = self.seen.fill(&operation.request, &operation.fill);
            if let Request::Watch(watch) = request {
                self.watch(watch, operation, until_us);
                continue;
            }
            let mut order = operation.members.iter().map(|index| *index as usize);
            let liked = order.clone().find(|index| Some(*index) != self.shunned);
            let member = liked.or_else(|| order.next_back());
            // Its answer is in the history.
            let user = operation.user.as_deref();
            let _ = self.call_as(user, member.unwrap_or(0), &request, operation.timeout_us).await;
        }
        for watching in std::mem::take(&mut self.watching) {
            watching.await.expect("watchers are neither killed nor do they panic");
        }
    }

    /// Begins a watch that goes on beside everything else, until its time or that of the operations is over.
    fn watch(&mut self, watch: Watch, operation: &plan::Operation, until_us: u64) {
        let members: Vec<usize> = operation.members.iter().map(|index| *index as usize).collect();
        let until_ns = 1000 * until_us;
        let lasts_ns = 1000 * operation.timeout_us;
        let goal = Goal {
            until_ns: until_ns.min(self.cluster.world.now_ns() + lasts_ns),
            revision: i64::MAX,
            pace_ns: 1000 * operation.pace_us,
        };
        let watcher = self.watcher();
        self.watching.push(tokio::spawn(async move { watcher.keep(watch, &members, goal).await }));
    }

    /// This client's way to watch.
    #[must_use]
    pub fn watcher(&self) -> Watcher {
        Watcher {
            number: self.number,
            host: Arc::clone(&self.host),
            cluster: self.cluster.clone(),
            recorder: self.recorder.clone(),
        }
    }

    /// Sends one request to one member and writes down what comes of it. Where that member wants to know who asks,
    /// although nobody should have to say any more, authentication is switched off once more: some request from
    /// before to switch it on took effect late.
    pub async fn call(&mut self, member: usize, request: &Request, timeout_us: u64) -> Answer {
        let answer = self.call_as(None, member, request, timeout_us).await;
        if is_error(&answer, Refusal::UserEmpty) {
            let off = Request::AuthDisable {};
            let _ = self.call_as(Some(ROOT), member, &off, timeout_us).await;
        }
        answer
    }

    /// Makes sure that the client is known to be `user`, as far as anybody wants to know.
    async fn log_in(&mut self, user: &str, member: usize, timeout_us: u64) {
        if !matches!(self.login, Login::Unknown) {
            return;
        }
        let way = InterceptedService::new(self.channel(member), Token::default());
        let answer = tokio::select! {
            biased;
            answer = convert::auth::log_in(way, user) => answer.map_err(|status| classify(&status)),
            () = self.host.clock().sleep(Duration::from_micros(timeout_us)) => Err(gave_up(timeout_us)),
        };
        match answer {
            Ok(token) => {
                self.recorder.met("logins", 1);
                self.login = Login::Token(token.parse().expect("tokens are letters and digits"));
            }
            Err((_, failure)) if failure.message == Refusal::AuthNotEnabled.text() => {
                self.login = Login::NotWanted;
            }
            Err(_) => {}
        }
    }

    /// [`Client::call`], as a user or as nobody.
    pub async fn call_as(
        &mut self,
        user: Option<&str>,
        member: usize,
        request: &Request,
        timeout_us: u64,
    ) -> Answer {
        let world = self.cluster.world.clone();
        let mut token = Token::default();
        if let Some(user) = user {
            self.log_in(user, member, timeout_us).await;
            if let Login::Token(known) = &self.login {
                token = Token(Some(known.clone()));
            }
        }
        let name = self.cluster.name(member);
        let op = self.recorder.called_by(self.number, user, name, request, world.now_ns());
        let numbers = [("op", op), ("client", u64::from(self.number))];
        world.note("client.call", "", self.cluster.name(member), &numbers);
        let way = InterceptedService::new(self.channel(member), token);
        let answer = tokio::select! {
            biased;
            result = send(way, request) => result.map_err(|status| classify(&status)),
            () = self.host.clock().sleep(Duration::from_micros(timeout_us)) => Err(gave_up(timeout_us)),
        };
        match &answer {
            Ok(response) => {
                self.seen.learn(request, response);
                self.shunned = None;
            }
            // A refusal is an answer: the member is well.
            Err((Outcome::Failed, failure)) if failure.message.starts_with("etcdserver: ") => {
                self.shunned = None
            }
            Err(_) => {
                self.channels[member] = None;
                self.shunned = Some(member);
            }
        }
        self.note_auth(request, &answer);
        let revision = answer.as_ref().map_or(0, |response| response.revision.unsigned_abs());
        let numbers = [("op", op), ("ok", u64::from(answer.is_ok())), ("revision", revision)];
        world.note("client.return", "", self.cluster.name(member), &numbers);
        self.recorder.returned(op, answer.clone(), world.now_ns());
        answer
    }

    /// What an answer says about who has to say who it is.
    fn note_auth(&mut self, request: &Request, answer: &Answer) {
        if is_error(answer, Refusal::PermissionDenied) {
            self.recorder.met("denied", 1);
        }
        if is_error(answer, Refusal::InvalidAuthToken) {
            self.recorder.met("tokens_forgotten", 1);
            self.login = Login::Unknown;
        }
        if is_error(answer, Refusal::UserEmpty) {
            self.login = Login::Unknown;
        }
        if answer.is_ok() && matches!(request, Request::AuthEnable {}) {
            self.recorder.met("auth_enabled", 1);
            self.login = Login::Unknown;
        }
    }

    fn channel(&mut self, member: usize) -> Channel {
        if let Some(channel) = &self.channels[member] {
            return channel.clone();
        }
        let net = Arc::new(Marked(self.host.net()));
        let authority = self.cluster.client_authority(member);
        let channel =
            channel::connect(net, &authority).expect("members' addresses are well formed");
        self.channels[member] = Some(channel.clone());
        channel
    }
}

async fn send(way: Way, request: &Request) -> Result<Response, tonic::Status> {
    if matches!(
        request,
        Request::LeaseGrant { .. }
            | Request::LeaseRevoke { .. }
            | Request::LeaseKeepAlive { .. }
            | Request::LeaseTimeToLive { .. }
            | Request::LeaseLeases {}
    ) {
        return convert::lease::send(way, request).await;
    }
    if request.is_about_members() {
        return convert::member::send(way, request).await;
    }
    if convert::lock::is_about(request) {
        return convert::lock::send(way, request).await;
    }
    if request.is_about_users() {
        return convert::auth::send(way, request).await;
    }
    let mut kv = KvClient::new(way);
    Ok(match request {
        Request::Range(it) => {
            convert::range_answer(kv.range(convert::range(it)).await?.into_inner())
        }
        Request::Put(it) => convert::put_answer(kv.put(convert::put(it)).await?.into_inner()),
        Request::DeleteRange(it) => convert::delete_range_answer(
            kv.delete_range(convert::delete_range(it)).await?.into_inner(),
        ),
        Request::Txn(it) => convert::txn_answer(kv.txn(convert::txn(it)?).await?.into_inner()),
        Request::Compact { revision, physical } => {
            let request = pb::CompactionRequest { revision: *revision, physical: *physical };
            convert::compact_answer(kv.compact(request).await?.into_inner())
        }
        other => return Err(convert::no_way(other)),
    })
}

/// Marks failed connects, so that they can be told from connections that broke later.
pub struct Marked(pub Arc<dyn host::Net>);

impl host::Net for Marked {
    fn listen(
        &self,
        address: std::net::SocketAddr,
    ) -> BoxFuture<'_, std::io::Result<Box<dyn Listener>>> {
        self.0.listen(address)
    }

    fn connect<'a>(
        &'a self,
        authority: &'a str,
    ) -> BoxFuture<'a, std::io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            self.0
                .connect(authority)
                .await
                .map_err(|error| std::io::Error::new(error.kind(), NotConnected(error)))
        })
    }
}
