//! A client: members taken in turns, fail-over, watches that go on, leases that are kept alive.
//!
//! It speaks to any etcd v3 cluster. Time, connections and dice are the [`Host`]'s, so that the same client runs in a
//! simulated world.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use snowglobe::client::{Client, Options};
//! use snowglobe::host::os::OsHost;
//! use snowglobe::proto::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let members = ["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"];
//! let client = Client::new(Arc::new(OsHost::new()), &members, Options::default())?;
//! let put = PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
//! let revision = client.put(put).await?.header.map_or(0, |header| header.revision);
//! let found = client.range(RangeRequest { key: "k".into(), ..Default::default() }).await?;
//! assert_eq!(found.kvs[0].value, "v");
//!
//! let from_there =
//!     WatchCreateRequest { key: "k".into(), start_revision: revision, ..Default::default() };
//! let mut watch = client.watch(from_there);
//! for event in watch.next().await?.events {
//!     println!("{event:?}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Invariants:
//! * A request that may have happened is sent again only where that makes no difference ([`Repeat`], as in etcd's
//!   client); else its [`Fate`] is told to be unknown. Leases are granted and revoked but once, which is stricter than
//!   etcd's client.
//! * Members take turns. One whose connection breaks, or that says it is unavailable, is passed over for a while.
//! * Every wait and every retry has a limit ([`ClientLimits`]).
//!
//! Not here: transactions by functions, locks and elections (the server has those as services: see
//! [`Client::call`]), a list of members that is kept up to date.

mod endpoints;
mod fate;
mod keep_alive;
mod login;
mod watch;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tonic::Status;
use tonic::service::interceptor::InterceptedService;

use crate::config::ClientLimits;
use crate::error;
use crate::host::{Clock, Host, Net};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::kv_client::KvClient;
use crate::proto::etcdserverpb::lease_client::LeaseClient;

pub use endpoints::Endpoints;
pub use fate::{Fate, NotConnected, Repeat};
pub use keep_alive::KeepAlive;
pub use login::{Login, Token, Way};
pub use watch::{Resume, Watch, WatchStream};

/// What a client is told before it starts.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Name and password of the user that it is, where the cluster wants to know.
    pub user: Option<(String, String)>,
    /// Bounds of its waits and retries.
    pub limits: ClientLimits,
}

/// A request that was not answered, and whether it may have happened nevertheless.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Whether it may have happened.
    pub fate: Fate,
    /// What a member said, or what has become of the way to it.
    pub status: Status,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self { fate: Fate::of(&status), status }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = match self.fate {
            Fate::NotDone => "",
            Fate::Unknown => "; it may have happened",
        };
        write!(f, "{} ({:?}){fate}", self.status.message(), self.status.code())
    }
}

impl std::error::Error for Failure {}

/// See the module. Clones share connections and turns.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    host: Arc<dyn Host>,
    options: Options,
    // Held between two awaits only.
    endpoints: Mutex<Endpoints>,
    login: Mutex<Login>,
}

fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one step: a panic leaves it whole.
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// A client of the members at these addresses (`host:port`). Connects when it is first needed.
    ///
    /// # Errors
    /// [`Error::Config`](crate::error::Error::Config): there is no address, or one is none.
    pub fn new<S: AsRef<str>>(
        host: Arc<dyn Host>,
        members: &[S],
        options: Options,
    ) -> error::Result<Self> {
        let net = host.net();
        Self::over(net, host, members, options)
    }

    /// As [`Client::new`], with connections by `net`, such as [`TlsNet`](crate::host::tls::TlsNet).
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn over<S: AsRef<str>>(
        net: Arc<dyn Net>,
        host: Arc<dyn Host>,
        members: &[S],
        options: Options,
    ) -> error::Result<Self> {
        let limit = Duration::from_millis(options.limits.connect_timeout_ms);
        let net = endpoints::Impatient { net, clock: host.clock(), limit };
        let endpoints = Mutex::new(Endpoints::new(Arc::new(net), members)?);
        Ok(Self(Arc::new(Inner { host, options, endpoints, login: Mutex::default() })))
    }

    /// Puts a key.
    ///
    /// # Errors
    /// As [`Client::call`], with [`Repeat::IfNeverSent`].
    pub async fn put(&self, request: pb::PutRequest) -> Result<pb::PutResponse, Failure> {
        self.send(
            Repeat::IfNeverSent,
            request,
            |way, request| async move { kv(way).put(request).await },
        )
        .await
    }

    /// Reads a range of keys.
    ///
    /// # Errors
    /// As [`Client::call`], with [`Repeat::Freely`].
    pub async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Failure> {
        self.send(
            Repeat::Freely,
            request,
            |way, request| async move { kv(way).range(request).await },
        )
        .await
    }

    /// Deletes a range of keys.
    ///
    /// # Errors
    /// As [`Client::call`], with [`Repeat::IfNeverSent`].
    pub async fn delete_range(
        &self,
        request: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, Failure> {
        self.send(Repeat::IfNeverSent, request, |way, request| async move {
            kv(way).delete_range(request).await
        })
        .await
    }

    /// Runs a txn. One that only reads is repeated no more than others, as in etcd's client.
    ///
    /// # Errors
    /// As [`Client::call`], with [`Repeat::IfNeverSent`].
    pub async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Failure> {
        self.send(
            Repeat::IfNeverSent,
            request,
            |way, request| async move { kv(way).txn(request).await },
        )
        .await
    }

    /// Forgets what was before a revision.
    ///
    /// # Errors
    /// As [`Client::call`], with [`Repeat::IfNeverSent`].
    pub async fn compact(
        &self,
        request: pb::CompactionRequest,
    ) -> Result<pb::CompactionResponse, Failure> {
        self.send(Repeat::IfNeverSent, request, |way, request| async move {
            kv(way).compact(request).await
        })
        .await
    }

    /// Grants a lease.
    ///
    /// # Errors
    /// As [`Client::call`], with [`Repeat::IfNeverSent`].
    pub async fn lease_grant(
        &self,
        request: pb::LeaseGrantRequest,
    ) -> Result<pb::LeaseGrantResponse, Failure> {
        self.send(Repeat::IfNeverSent, request, |way, request| async move {
            LeaseClient::new(way).lease_grant(request).await
        })
        .await
    }

    /// Revokes a lease, and its keys with it.
    ///
    /// # Errors
    /// As [`Client::call`], with [`Repeat::IfNeverSent`].
    pub async fn lease_revoke(
        &self,
        request: pb::LeaseRevokeRequest,
    ) -> Result<pb::LeaseRevokeResponse, Failure> {
        self.send(Repeat::IfNeverSent, request, |way, request| async move {
            LeaseClient::new(way).lease_revoke(request).await
        })
        .await
    }

    /// Says how long a lease has to live, and which keys it has.
    ///
    /// # Errors
    /// As [`Client::call`], with [`Repeat::Freely`].
    pub async fn lease_time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Failure> {
        self.send(Repeat::Freely, request, |way, request| async move {
            let mut client = LeaseClient::new(way).max_decoding_message_size(usize::MAX);
            client.lease_time_to_live(request).await
        })
        .await
    }

    /// Keeps a lease alive for as long as somebody waits for [`KeepAlive::next`].
    #[must_use]
    pub fn keep_alive(&self, lease: i64) -> KeepAlive {
        KeepAlive::new(self.clone(), lease)
    }

    /// Watches keys, from member to member. Nothing is asked for before [`Watch::next`] is waited for.
    #[must_use]
    pub fn watch(&self, create: pb::WatchCreateRequest) -> Watch {
        Watch::new(self.clone(), create)
    }

    async fn send<Q: Clone, A, F: Future<Output = Answer<A>>>(
        &self,
        repeat: Repeat,
        request: Q,
        send: impl Fn(Way, Q) -> F,
    ) -> Result<A, Failure> {
        self.call(repeat, |way| send(way, request.clone())).await
    }

    /// Makes any call of the API: `send` sends the request one way, and is called again for each further time that it
    /// is sent.
    ///
    /// # Errors
    /// What the last member said; that nobody could be reached; or that there was no answer in time.
    pub async fn call<A, F: Future<Output = Answer<A>>>(
        &self,
        repeat: Repeat,
        send: impl Fn(Way) -> F,
    ) -> Result<A, Failure> {
        let limit_ms = self.limits().request_timeout_ms;
        // The member that is asked when the time is over.
        let mut asked = None;
        let answer = tokio::select! {
            biased;
            answer = self.attempts(repeat, send, &mut asked) => Some(answer),
            () = self.clock().sleep(Duration::from_millis(limit_ms)) => None,
        };
        answer.unwrap_or_else(|| {
            // Nobody knows whether it was the member's fault; another one may be quicker.
            if let Some(member) = asked {
                self.failed(member);
            }
            let text = format!("the client gave up after {limit_ms} ms");
            Err(Failure { fate: Fate::Unknown, status: Status::deadline_exceeded(text) })
        })
    }

    async fn attempts<A, F: Future<Output = Answer<A>>>(
        &self,
        repeat: Repeat,
        send: impl Fn(Way) -> F,
        asked: &mut Option<usize>,
    ) -> Result<A, Failure> {
        let quorum = lock(&self.0.endpoints).count() / 2 + 1;
        let mut has_logged_in_again = false;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (repeats, failure) = match self.next_way().await {
                Ok((member, way)) => {
                    *asked = Some(member);
                    let answer = send(way).await;
                    *asked = None;
                    let status = match answer {
                        Ok(answer) => {
                            self.worked(member);
                            return Ok(answer.into_inner());
                        }
                        Err(status) => status,
                    };
                    if fate::is_refusal(&status) {
                        self.worked(member)
                    } else {
                        self.failed(member)
                    }
                    (repeat.allows(&status), Failure::from(status))
                }
                // The request itself was not sent.
                Err(status) => {
                    (Repeat::Freely.allows(&status), Failure { fate: Fate::NotDone, status })
                }
            };
            self.learn(&failure.status);
            let logs_in = !has_logged_in_again && self.may_log_in_again(&failure.status);
            has_logged_in_again |= logs_in;
            if attempt > self.limits().retries_max || !(repeats || logs_in) {
                return Err(failure);
            }
            if attempt % quorum == 0 {
                self.wait_before_retry().await;
            }
        }
    }

    /// A tenth more or less, so that those who failed together do not come again together.
    async fn wait_before_retry(&self) {
        let wait_us = self.limits().retry_wait_ms * 1000;
        let spread_us = (wait_us / 5).max(1);
        let wait_us = wait_us - spread_us / 2 + self.0.host.random_u64() % spread_us;
        self.clock().sleep(Duration::from_micros(wait_us)).await;
    }

    /// The way to the member whose turn it is, as the client's user.
    async fn next_way(&self) -> Result<(usize, Way), Status> {
        let (member, channel) = {
            let mut endpoints = lock(&self.0.endpoints);
            let member = endpoints.next(self.clock().monotonic());
            (member, endpoints.channel(member))
        };
        let is_unknown = matches!(*lock(&self.0.login), Login::Unknown);
        if let Some((name, password)) = self.0.options.user.as_ref().filter(|_| is_unknown) {
            match Login::ask(channel.clone(), name, password).await {
                Ok(login) => *lock(&self.0.login) = login,
                Err(status) => {
                    if !fate::is_refusal(&status) {
                        self.failed(member);
                    }
                    return Err(status);
                }
            }
        }
        let token = lock(&self.0.login).token();
        Ok((member, InterceptedService::new(channel, token)))
    }

    fn worked(&self, member: usize) {
        lock(&self.0.endpoints).worked(member);
    }

    fn failed(&self, member: usize) {
        let until = self.clock().monotonic() + Duration::from_millis(self.limits().rest_ms);
        let mut endpoints = lock(&self.0.endpoints);
        endpoints.failed(member);
        endpoints.rest(member, until);
    }

    /// Forgets a token that does not hold any more.
    fn learn(&self, status: &Status) {
        if Login::is_over(status.message()) {
            *lock(&self.0.login) = Login::Unknown;
        }
    }

    /// Whether the request was refused for want of a token that the client can ask for. It has not happened then.
    fn may_log_in_again(&self, status: &Status) -> bool {
        self.0.options.user.is_some() && Login::is_over(status.message())
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.0.host.clock()
    }

    fn limits(&self) -> &ClientLimits {
        &self.0.options.limits
    }
}

/// What comes of sending a request once.
type Answer<A> = Result<tonic::Response<A>, Status>;

fn kv(way: Way) -> KvClient<Way> {
    // Answers are bounded by what is stored.
    KvClient::new(way).max_decoding_message_size(usize::MAX)
}
