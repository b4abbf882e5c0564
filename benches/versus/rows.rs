//! What is measured: puts, ranges and txns by many clients. Streams are in `streams`.

use snowglobe::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use snowglobe::proto::etcdserverpb::kv_client::KvClient;
use snowglobe::proto::etcdserverpb::request_op::Request;
use snowglobe::proto::etcdserverpb::response_op::Response;
use snowglobe::proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RangeResponse, RequestOp, ResponseHeader, TxnRequest,
};
use tonic::transport::Channel;

use crate::cluster::{Cluster, Failure};
use crate::load::{CLIENTS_OF_CONNECTION, Client, Round, Times, closed_loop};
use crate::streams;

/// Keys that ranges read, with values of [`VALUE_BYTES`].
const KEYS: u64 = 1000;
/// Length of every value, as in etcd's published figures.
const VALUE_BYTES: usize = 256;
/// Keys of a long range.
const LONG: u64 = 100;
/// Keys that each client of a row of puts writes to by turns.
const KEYS_OF_CLIENT: u64 = 64;

/// What the clients of a row do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Put,
    Range { keys: u64, serializable: bool },
    Txn,
    Watch,
    KeepAlive,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) clients: usize,
    pub(crate) kind: Kind,
}

/// All rows, measured with one and with three members.
pub(crate) const ROWS: &[Row] = &[
    Row { name: "put", clients: 1, kind: Kind::Put },
    Row { name: "put", clients: 100, kind: Kind::Put },
    Row { name: "put", clients: 1000, kind: Kind::Put },
    Row {
        name: "range of a key",
        clients: 100,
        kind: Kind::Range { keys: 1, serializable: false },
    },
    Row {
        name: "range of 100 keys",
        clients: 100,
        kind: Kind::Range { keys: LONG, serializable: false },
    },
    Row {
        name: "serializable range",
        clients: 100,
        kind: Kind::Range { keys: 1, serializable: true },
    },
    Row { name: "txns, half write", clients: 100, kind: Kind::Txn },
    Row { name: "watch by 1,000", clients: 1, kind: Kind::Watch },
    Row { name: "lease keep-alive", clients: 100, kind: Kind::KeepAlive },
];

impl Row {
    /// Runs one round, and looks at what is left behind.
    pub(crate) async fn round(&self, cluster: &Cluster, times: Times) -> Result<Round, Failure> {
        let (before, cpu_before_s) = (revision(cluster).await?, cluster.cpu_s());
        let mut round = match self.kind {
            Kind::Put => closed_loop(self.clients(cluster, Putter::new), times).await?,
            Kind::Range { keys, serializable } => {
                let reader = |kv, number| Reader { kv, keys, serializable, dice: number, seen: 0 };
                closed_loop(self.clients(cluster, reader), times).await?
            }
            Kind::Txn => {
                let mut clients = self.clients(cluster, Transactor::new);
                for client in &mut clients {
                    client.learn().await?;
                }
                closed_loop(clients, times).await?
            }
            Kind::Watch => streams::watch(cluster, times).await?,
            Kind::KeepAlive => streams::keep_alive(cluster, self.clients, times).await?,
        };
        round.cpu_s = cluster.cpu_s() - cpu_before_s;
        let moved = (revision(cluster).await? - before).cast_unsigned();
        // Who got an error does not know whether it was written.
        let most = round.revisions + round.errors;
        if !(round.revisions..=most).contains(&moved) {
            round.fail(format!("{moved} revisions where {} were acknowledged", round.revisions));
        }
        Ok(round)
    }

    /// Clients on as few connections as hold them.
    fn clients<C>(
        &self,
        cluster: &Cluster,
        client: impl Fn(KvClient<Channel>, u64) -> C,
    ) -> Vec<C> {
        let connections = cluster.connections(self.clients.div_ceil(CLIENTS_OF_CONNECTION));
        let channels = connections.iter().cycle().take(self.clients);
        channels
            .zip(0..)
            .map(|(channel, number)| client(KvClient::new(channel.clone()), number))
            .collect()
    }
}

/// Fills a new cluster with what ranges read, on all members.
pub(crate) async fn fill(cluster: &Cluster) -> Result<(), Failure> {
    let mut kv = KvClient::new(cluster.leader());
    for number in 0..KEYS {
        let put = PutRequest { key: key(number), value: value(number), ..PutRequest::default() };
        kv.put(put).await?;
    }
    // A linearizable answer of each member: it has all of it.
    for channel in cluster.connections(cluster.urls().len()) {
        let all = range(key(0), key(KEYS), false);
        let count = KvClient::new(channel).range(all).await?.into_inner().count;
        if count.cast_unsigned() != KEYS {
            return Err(format!("{count} keys where {KEYS} were put").into());
        }
    }
    Ok(())
}

async fn revision(cluster: &Cluster) -> Result<i64, Failure> {
    let request = range("none".to_owned().into(), Vec::new().into(), false);
    let response = KvClient::new(cluster.leader()).range(request).await?;
    Ok(of(response.into_inner().header)?)
}

/// The revision in a header.
fn of(header: Option<ResponseHeader>) -> Result<i64, &'static str> {
    header.map(|header| header.revision).ok_or("an answer without a header")
}

fn key(number: u64) -> bytes::Bytes {
    format!("range/{number:08}").into()
}

fn value(number: u64) -> bytes::Bytes {
    let mut value = vec![b'v'; VALUE_BYTES];
    value[..8].copy_from_slice(&number.to_be_bytes());
    value.into()
}

fn range(key: bytes::Bytes, range_end: bytes::Bytes, serializable: bool) -> RangeRequest {
    RangeRequest { key, range_end, serializable, ..RangeRequest::default() }
}

/// Moves on what a client has seen; going back is an error.
fn advance(seen: &mut i64, revision: i64, least: i64) -> Result<(), Failure> {
    if revision < *seen + least {
        return Err(format!("revision {revision} after revision {seen}").into());
    }
    *seen = revision;
    Ok(())
}

/// Puts one key after the other.
struct Putter {
    kv: KvClient<Channel>,
    number: u64,
    count: u64,
    seen: i64,
}

impl Putter {
    fn new(kv: KvClient<Channel>, number: u64) -> Self {
        Self { kv, number, count: 0, seen: 0 }
    }
}

impl Client for Putter {
    async fn operation(&mut self) -> Result<u64, Failure> {
        self.count += 1;
        let key = format!("put/{:04}/{:02}", self.number, self.count % KEYS_OF_CLIENT).into();
        let put = PutRequest { key, value: value(self.count), ..PutRequest::default() };
        let response = self.kv.put(put).await?.into_inner();
        advance(&mut self.seen, of(response.header)?, 1)?;
        Ok(1)
    }
}

/// Reads at places that look random.
struct Reader {
    kv: KvClient<Channel>,
    keys: u64,
    serializable: bool,
    dice: u64,
    seen: i64,
}

impl Client for Reader {
    async fn operation(&mut self) -> Result<u64, Failure> {
        // Knuth's constants.
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let first = (self.dice >> 33) % (KEYS - self.keys + 1);
        let end = if self.keys == 1 { bytes::Bytes::new() } else { key(first + self.keys) };
        let response = self.kv.range(range(key(first), end, self.serializable)).await?.into_inner();
        check_range(&response, first, self.keys)?;
        advance(&mut self.seen, of(response.header)?, 0)?;
        Ok(0)
    }
}

fn check_range(response: &RangeResponse, first: u64, keys: u64) -> Result<(), Failure> {
    let is_right = response.count.cast_unsigned() == keys
        && response.kvs.len() as u64 == keys
        && (first..).zip(&response.kvs).all(|(number, kv)| {
            kv.key == key(number)
                && kv.value.len() == VALUE_BYTES
                && kv.value.starts_with(&number.to_be_bytes())
        });
    if is_right { Ok(()) } else { Err(format!("a wrong range of {keys} from {first}").into()) }
}

/// Compares and puts a key of its own, then reads it and another one, by turns.
struct Transactor {
    kv: KvClient<Channel>,
    key: bytes::Bytes,
    number: u64,
    /// When its key was last put.
    modified: i64,
    count: u64,
}

impl Transactor {
    fn new(kv: KvClient<Channel>, number: u64) -> Self {
        let key = format!("txn/{number:04}").into();
        Self { kv, key, number, modified: 0, count: 0 }
    }

    /// Looks when its key was put by an earlier round.
    async fn learn(&mut self) -> Result<(), Failure> {
        let request = range(self.key.clone(), bytes::Bytes::new(), false);
        let response = self.kv.range(request).await?.into_inner();
        self.modified = response.kvs.first().map_or(0, |kv| kv.mod_revision);
        Ok(())
    }

    fn request(&self, writes: bool) -> TxnRequest {
        let operation = |request| RequestOp { request: Some(request) };
        let own = if writes {
            let (key, value) = (self.key.clone(), value(self.count));
            Request::RequestPut(PutRequest { key, value, ..PutRequest::default() })
        } else {
            Request::RequestRange(range(self.key.clone(), bytes::Bytes::new(), false))
        };
        let other = range(key(self.number % KEYS), bytes::Bytes::new(), false);
        let compare = Compare {
            key: self.key.clone(),
            target: CompareTarget::Mod.into(),
            result: CompareResult::Equal.into(),
            target_union: Some(TargetUnion::ModRevision(self.modified)),
            ..Compare::default()
        };
        let success = vec![operation(own), operation(Request::RequestRange(other))];
        TxnRequest { compare: vec![compare], success, failure: Vec::new() }
    }
}

impl Client for Transactor {
    async fn operation(&mut self) -> Result<u64, Failure> {
        self.count += 1;
        let writes = self.count % 2 == 1;
        let response = self.kv.txn(self.request(writes)).await?.into_inner();
        if !response.succeeded {
            return Err("a txn did not find what was put before it".into());
        }
        let [Some(own), Some(Response::ResponseRange(other))] =
            [0, 1].map(|place: usize| response.responses.get(place)?.response.as_ref())
        else {
            return Err("a txn without the answers to its operations".into());
        };
        check_range(other, self.number % KEYS, 1)?;
        match own {
            Response::ResponsePut(_) if writes => {
                advance(&mut self.modified, of(response.header)?, 1)?;
                Ok(1)
            }
            Response::ResponseRange(own) if !writes => {
                let found = own.kvs.first().map(|kv| kv.mod_revision);
                if found == Some(self.modified) { Ok(0) } else { Err("a txn read the past".into()) }
            }
            _ => Err("a txn with the wrong answer".into()),
        }
    }
}
