//! One client: a node of the world with real gRPC channels to the members, by the parts of the client that is shipped.
//!
//! Invariants:
//! * At most one operation under way, watches apart; each is sent once, to one member. Nothing is ever sent again.
//! * Every operation is in the history from its call on, and gets exactly one outcome.
//! * After a failure the client turns to the next member in the operation's order.

use std::sync::Arc;
use std::time::Duration;

use snowglobe::client::{Endpoints, Login, Token, Way};
use snowglobe::error::Refusal;
use snowglobe::host::Host;
use snowglobe::proto::etcdserverpb as pb;
use snowglobe::proto::etcdserverpb::kv_client::KvClient;
use tokio::task::JoinHandle;
use tonic::service::interceptor::InterceptedService;

use super::classify::{classify, gave_up};
use super::cluster::Cluster;
use super::convert;
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
    endpoints: Endpoints,
    seen: Seen,
    /// Watches, each in a task of its own.
    watching: Vec<JoinHandle<bool>>,
    login: Login,
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
            endpoints: endpoints(&host, cluster),
            host,
            cluster: cluster.clone(),
            recorder: recorder.clone(),
            seen: Seen::default(),
            watching: Vec::new(),
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
            let order: Vec<usize> = operation.members.iter().map(|index| *index as usize).collect();
            let member = self.endpoints.choose(&order).unwrap_or(0);
            // Its answer is in the history.
            let user = operation.user.as_deref();
            let _ = self.call_as(user, member, &request, operation.timeout_us).await;
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
            endpoints: Arc::new(endpoints(&self.host, &self.cluster)),
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
        // A user's password is the user's name.
        let channel = self.endpoints.channel(member);
        let answer = tokio::select! {
            biased;
            answer = Login::ask(channel, user, user) => answer,
            () = self.host.clock().sleep(Duration::from_micros(timeout_us)) => return,
        };
        // Whoever is not told so asks again next time.
        if let Ok(login) = answer {
            self.recorder.met("logins", u64::from(matches!(login, Login::Known(_))));
            self.login = login;
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
            token = self.login.token();
        }
        let name = self.cluster.name(member);
        let op = self.recorder.called_by(self.number, user, name, request, world.now_ns());
        let numbers = [("op", op), ("client", u64::from(self.number))];
        world.note("client.call", "", self.cluster.name(member), &numbers);
        let way = InterceptedService::new(self.endpoints.channel(member), token);
        let answer = tokio::select! {
            biased;
            result = send(way, request) => result.map_err(|status| classify(&status)),
            () = self.host.clock().sleep(Duration::from_micros(timeout_us)) => Err(gave_up(timeout_us)),
        };
        match &answer {
            Ok(response) => {
                self.seen.learn(request, response);
                self.endpoints.worked(member);
            }
            // A refusal is an answer: the member is well.
            Err((Outcome::Failed, failure)) if failure.message.starts_with("etcdserver: ") => {
                self.endpoints.worked(member);
            }
            Err(_) => self.endpoints.failed(member),
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
}

/// The members, as a client on the machine `host` reaches them.
fn endpoints(host: &Arc<dyn Host>, cluster: &Cluster) -> Endpoints {
    let authorities: Vec<String> =
        (0..cluster.count()).map(|member| cluster.client_authority(member)).collect();
    Endpoints::new(host.net(), &authorities).expect("members' addresses are well formed")
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
