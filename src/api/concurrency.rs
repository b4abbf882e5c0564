//! What locks and elections are made of: keys that hang on leases, the oldest of which owns.
//!
//! As etcd's recipes (`client/v3/concurrency`), run by the member on behalf of a client: on the store's
//! own keys, leases and watches, which is why any client can see what they do.
//!
//! Invariants:
//! * A claim is the key `<name>/<lease in hex>`. The owner is the one with the lowest create revision
//!   under `<name>/`.
//! * Who waits, waits for the newest claim that is older than his own: a release wakes one waiter.
//! * Nothing is won with a key that is gone: after a wait the claim is read once more.
//! * Who gives up waiting, or goes away while waiting, takes his own claim back, and no other one.
//! * How many wait at once is bounded.
//!
//! Not promised, as by etcd: that a lease is still alive when its owner acts. Guard writes by the claim's
//! create revision.

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use super::Api;
use super::gate::Credentials;
use crate::error::Refusal;
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::request_op::Request as Op;
use crate::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest, PutRequest, RangeRequest,
    RangeResponse, RequestOp, ResponseHeader, TxnRequest, TxnResponse,
};
use crate::proto::mvccpb::KeyValue;
use crate::state::{self, Caller};
use crate::watch::{Keys, News, Spec, Stream};

/// How long a lease lives that a lock or election makes for itself, in seconds, as etcd's.
const SESSION_TTL_S: i64 = 60;

/// Why something failed, as etcd's recipes say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// One of the requests that it is made of was refused.
    Refused(Refusal),
    /// The recipe's own words.
    Said(&'static str),
}

impl Failure {
    /// The lease of one who waited is over.
    pub(super) const EXPIRED: Self = Self::Said("mutex: session is expired");
    /// The leadership is not, or no longer, the one that is spoken of.
    pub(super) const NOT_LEADER: Self = Self::Said("election: not leader");
    /// Nobody leads.
    pub(super) const NO_LEADER: Self = Self::Said("election: no leader");
    /// The state machine's answer is to another kind of request.
    const WRONG_KIND: Self = Self::Said("etcdserver: the answer is not of the request's kind");
    /// A request about a leadership that names none.
    pub(super) const NO_LEADER_KEY: Self = Self::Said("\"leader\" field must be provided");
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Failure> for Status {
    /// etcd's recipes are clients of their own server; their errors lose the code on the way out.
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => Self::unknown(refusal.text()),
            Failure::Said(text) => Self::unknown(text),
        }
    }
}

/// Where an answer goes, for as long as somebody waits for it.
pub(super) type Answer<T> = oneshot::Sender<Result<T, Failure>>;

/// One that owns, or waits to.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) key: Bytes,
    /// All claims of the same lock or election.
    prefix: Bytes,
    /// The create revision: it orders claims.
    pub(super) revision: i64,
}

/// What claiming has found.
pub(super) struct Claimed {
    pub(super) claim: Claim,
    pub(super) lease: i64,
    pub(super) header: Option<ResponseHeader>,
    /// The claim that was there already, where it was.
    pub(super) before: Option<KeyValue>,
    /// The owner's create revision.
    pub(super) owner: i64,
}

/// The store, as one client's recipes use it.
#[derive(Clone)]
pub(super) struct Store {
    api: Api,
    credentials: Credentials,
}

/// All keys that begin with a name and a slash.
pub(super) fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The first key behind all of a prefix that [`prefix`] made.
fn prefix_end(prefix: &[u8]) -> Bytes {
    let (name, _) = prefix.split_at(prefix.len() - 1);
    // What follows a slash.
    [name, b"0"].concat().into()
}

/// A claim's key. Hexadecimal as Go writes it: a sign, then digits.
fn key(prefix: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    [prefix, format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
}

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// A condition: the key was created by this revision; 0 for a key that is not there.
fn created_by(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

/// The oldest claim under a prefix.
fn oldest(prefix: &Bytes) -> RangeRequest {
    RangeRequest {
        key: prefix.clone(),
        range_end: prefix_end(prefix),
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..RangeRequest::default()
    }
}

/// The keys that the answer to one operation of a txn holds.
fn found(txn: &TxnResponse, place: usize) -> &[KeyValue] {
    use crate::proto::etcdserverpb::response_op::Response;
    match txn.responses.get(place).and_then(|op| op.response.as_ref()) {
        Some(Response::ResponseRange(range)) => &range.kvs,
        _ => &[],
    }
}

fn revision(header: Option<&ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

impl Api {
    /// The store, as recipes use it for whoever sends a request.
    pub(super) fn store<T>(&self, request: &Request<T>) -> Store {
        Store { api: self.clone(), credentials: Credentials::of(request) }
    }
}

/// Does `work` in a task of its own, so that what it began it also ends, even for a client that has gone.
pub(super) async fn attended<T, F>(work: impl FnOnce(Answer<T>) -> F) -> Result<Response<T>, Status>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (answer, answered) = oneshot::channel();
    tokio::spawn(work(answer));
    let result = answered.await.unwrap_or(Err(Failure::Refused(Refusal::Stopped)));
    Ok(Response::new(result?))
}

impl Store {
    /// Who it is for, now: what its credentials stand for may change while its client waits.
    async fn caller(&self) -> Result<Caller, Failure> {
        Ok(self.api.bearer(&self.credentials).await?)
    }

    async fn propose(&self, request: InternalRaftRequest) -> Result<state::Response, Failure> {
        let caller = self.caller().await?;
        Ok(self.api.handle.propose_as(&caller, request).await?)
    }

    pub(super) async fn range(&self, range: RangeRequest) -> Result<RangeResponse, Failure> {
        let caller = self.caller().await?;
        let (mut response, _) = self.api.handle.range(caller, range).await?;
        self.api.complete(&mut response.header);
        Ok(response)
    }

    pub(super) async fn txn(&self, txn: TxnRequest) -> Result<TxnResponse, Failure> {
        let request = InternalRaftRequest { txn: Some(txn), ..Default::default() };
        match self.propose(request).await? {
            state::Response::Txn(mut response) => {
                self.api.complete(&mut response.header);
                Ok(response)
            }
            _ => Err(Failure::WRONG_KIND),
        }
    }

    /// The lease to claim with: the client's, or where it names none, a new one that nobody renews.
    pub(super) async fn lease(&self, asked: i64) -> Result<i64, Failure> {
        if asked != 0 {
            return Ok(asked);
        }
        let id = self.api.handle.lease_id();
        let ttl = SESSION_TTL_S.max(self.api.config.lease_ttl_min_s());
        let lease_grant = Some(LeaseGrantRequest { id, ttl });
        if self.caller().await?.is_nobody() && self.api.handle.auth_enabled() {
            return Err(Failure::Refused(Refusal::UserEmpty));
        }
        self.propose(InternalRaftRequest { lease_grant, ..Default::default() }).await?;
        Ok(id)
    }

    /// Puts a claim, unless there is one of the same lease already; and says who owns. A lease of 0: a
    /// new one.
    pub(super) async fn claim(
        &self,
        name: &[u8],
        lease: i64,
        value: Bytes,
    ) -> Result<Claimed, Failure> {
        let lease = self.lease(lease).await?;
        let prefix = prefix(name);
        let key = key(&prefix, lease);
        let put = PutRequest { key: key.clone(), value, lease, ..PutRequest::default() };
        let get = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        let owner = op(Op::RequestRange(oldest(&prefix)));
        let txn = TxnRequest {
            compare: vec![created_by(&key, 0)],
            success: vec![op(Op::RequestPut(put)), owner.clone()],
            failure: vec![op(Op::RequestRange(get)), owner],
        };
        let response = self.txn(txn).await?;
        let before = found(&response, 0).first().cloned();
        let own = before.as_ref().map(|kv| kv.create_revision);
        let revision = own.unwrap_or_else(|| revision(response.header.as_ref()));
        let owner = found(&response, 1).first().map_or(revision, |kv| kv.create_revision);
        let claim = Claim { key, prefix, revision };
        Ok(Claimed { claim, lease, header: response.header, before, owner })
    }

    /// A place among those that wait.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let place = std::sync::Arc::clone(&self.api.waits).try_acquire_owned();
        place.map_err(|_| Failure::Refused(Refusal::TooManyRequests))
    }

    /// Returns once no claim is older; with the header that the claim was last seen with.
    pub(super) async fn wait(&self, claim: &Claim) -> Result<Option<ResponseHeader>, Failure> {
        let _place = self.place()?;
        tokio::select! {
            biased;
            () = self.api.handle.ending() => Err(Failure::Refused(Refusal::Stopped)),
            waited = self.wait_for_older(claim) => waited,
        }
    }

    async fn wait_for_older(&self, claim: &Claim) -> Result<Option<ResponseHeader>, Failure> {
        let older = RangeRequest {
            sort_order: SortOrder::Descend.into(),
            max_create_revision: claim.revision - 1,
            ..oldest(&claim.prefix)
        };
        loop {
            let found = self.range(older.clone()).await?;
            let Some(next) = found.kvs.first() else { break };
            let from = revision(found.header.as_ref()) + 1;
            self.wait_for_delete(&next.key, &claim.key, from).await?;
            self.still_there(claim).await?;
        }
        self.still_there(claim).await
    }

    /// Returns once either key may have been deleted, from a revision on.
    async fn wait_for_delete(&self, key: &[u8], own: &[u8], from: i64) -> Result<(), Failure> {
        let only = |key: &[u8]| Keys::new(key, b"").expect("a single key is never empty");
        let mut stream = self.watch(only(key), from, true).await?;
        stream.create(spec(only(own), from, true)).await?;
        loop {
            match stream.next().await {
                None => return Err(Failure::Refused(Refusal::Stopped)),
                // Only deletes are told. What is compacted is looked at anew.
                Some(News::Events { .. } | News::Compacted { .. }) => return Ok(()),
                Some(News::Progress { .. } | News::AllProgress { .. }) => {}
            }
        }
    }

    /// Watches keys from a revision on; with or without puts.
    pub(super) async fn watch(
        &self,
        keys: Keys,
        from: i64,
        no_put: bool,
    ) -> Result<Stream, Failure> {
        let stream = self.api.watches.open().await?;
        stream.create(spec(keys, from, no_put)).await?;
        Ok(stream)
    }

    async fn still_there(&self, claim: &Claim) -> Result<Option<ResponseHeader>, Failure> {
        let get = RangeRequest { key: claim.key.clone(), ..RangeRequest::default() };
        let found = self.range(get).await?;
        let is_there = found.kvs.first().is_some_and(|kv| kv.create_revision == claim.revision);
        if is_there { Ok(found.header) } else { Err(Failure::EXPIRED) }
    }

    /// Takes a claim back, if it is still the same one.
    pub(super) async fn release(&self, claim: &Claim) -> Result<Option<ResponseHeader>, Failure> {
        let delete = DeleteRangeRequest { key: claim.key.clone(), ..Default::default() };
        let txn = TxnRequest {
            compare: vec![created_by(&claim.key, claim.revision)],
            success: vec![op(Op::RequestDeleteRange(delete))],
            failure: Vec::new(),
        };
        Ok(self.txn(txn).await?.header)
    }

    /// Gives a claim another value, if it is still the same one.
    pub(super) async fn update(
        &self,
        claim: &Claim,
        value: Bytes,
        lease: i64,
    ) -> Result<Option<ResponseHeader>, Failure> {
        let put = PutRequest { key: claim.key.clone(), value, lease, ..PutRequest::default() };
        let txn = TxnRequest {
            compare: vec![created_by(&claim.key, claim.revision)],
            success: vec![op(Op::RequestPut(put))],
            failure: Vec::new(),
        };
        let response = self.txn(txn).await?;
        if response.succeeded { Ok(response.header) } else { Err(Failure::NOT_LEADER) }
    }

    /// Deletes a key, whosever it is.
    pub(super) async fn delete(&self, key: Bytes) -> Result<Option<ResponseHeader>, Failure> {
        let delete_range = Some(DeleteRangeRequest { key, ..Default::default() });
        let request = InternalRaftRequest { delete_range, ..Default::default() };
        match self.propose(request).await? {
            state::Response::DeleteRange(mut response) => {
                self.api.complete(&mut response.header);
                Ok(response.header)
            }
            _ => Err(Failure::WRONG_KIND),
        }
    }

    /// The oldest claim of a name, and the header that it was read with.
    pub(super) async fn owner(&self, name: &[u8]) -> Result<RangeResponse, Failure> {
        self.range(oldest(&prefix(name))).await
    }

    /// Completes once the member is about to stop.
    pub(super) async fn ending(&self) {
        self.api.handle.ending().await;
    }
}

impl Claim {
    /// The claim that a client was told of, in its words.
    pub(super) fn of(name: &[u8], key: Bytes, revision: i64) -> Self {
        Self { key, prefix: prefix(name), revision }
    }
}

/// All keys of a name, to watch.
pub(super) fn claims(name: &[u8]) -> Keys {
    let prefix = prefix(name);
    Keys::new(&prefix, &prefix_end(&prefix)).expect("a prefix ends behind its start")
}

fn spec(keys: Keys, start_revision: i64, no_put: bool) -> Spec {
    Spec { keys, start_revision, no_put, no_delete: false, progress_notify: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys are those of etcd's recipes, letter by letter.
    #[test]
    fn keys() {
        let check = |name: &str, lease: i64, expected: &str, end: &str| {
            let prefix = prefix(name.as_bytes());
            assert_eq!(key(&prefix, lease), expected.as_bytes());
            assert_eq!(prefix_end(&prefix), end.as_bytes());
        };
        check("job", 0x694d_7e2a, "job/694d7e2a", "job0");
        check("a/b", i64::MAX, "a/b/7fffffffffffffff", "a/b0");
        check("", -31, "/-1f", "0");
    }
}
