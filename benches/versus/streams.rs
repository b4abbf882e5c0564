//! Rows whose clients hold streams: watchers, and leases that are kept alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use snowglobe::proto::etcdserverpb::kv_client::KvClient;
use snowglobe::proto::etcdserverpb::lease_client::LeaseClient;
use snowglobe::proto::etcdserverpb::watch_client::WatchClient;
use snowglobe::proto::etcdserverpb::watch_request::RequestUnion;
use snowglobe::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, PutRequest,
    WatchCreateRequest, WatchRequest, WatchResponse,
};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::cluster::{Cluster, Failure};
use crate::load::{CLIENTS_OF_CONNECTION, Client, Round, Times, closed_loop, micros};

/// Watchers, and those of them that share a stream and a connection, as the watchers of one etcd client do.
const WATCHERS: usize = 1000;
const WATCHERS_OF_STREAM: usize = 50;
const WATCHED: &[u8] = b"watched";
/// Length of a watched value: when it was sent, and which put it is.
const VALUE_BYTES: usize = 256;
/// The number of the put that ends a round.
const LAST: u64 = u64::MAX;
/// Longer than all rounds: no lease runs out.
const LEASE_TTL_S: i64 = 600;
/// After which an event or an answer on a stream counts as lost.
const LOST: Duration = Duration::from_secs(10);

/// How many events all watchers have been told, and who waits for them.
#[derive(Default)]
struct Told {
    events: AtomicU64,
    all: Notify,
}

/// One writer, a thousand watchers of its key. The writer goes on when all have been told. What is counted are events;
/// the time of each is from when its put was sent.
pub(crate) async fn watch(cluster: &Cluster, times: Times) -> Result<Round, Failure> {
    let (told, epoch) = (Arc::new(Told::default()), Instant::now());
    let mut watching = Vec::new();
    for channel in cluster.connections(WATCHERS / WATCHERS_OF_STREAM) {
        watching.push(Watching::open(channel, Arc::clone(&told), epoch).await?);
    }
    let begin = Instant::now() + times.warm_up;
    let window = (begin, begin + times.counted);
    let listening: Vec<_> =
        watching.into_iter().map(|each| tokio::spawn(each.listen(window))).collect();
    let kv = KvClient::new(cluster.leader());
    let mut last = Writer { kv: kv.clone(), told: Arc::clone(&told), epoch, puts: 0 };
    let writer = Writer { kv, told, epoch, puts: 0 };
    let mut round = closed_loop(vec![writer], times).await?;
    // From here on it is events that count.
    round.times_us.clear();
    round.acknowledged = 0;
    last.put(LAST).await?;
    round.revisions += 1;
    for each in listening {
        round.add(each.await?);
    }
    Ok(round)
}

struct Writer {
    kv: KvClient<Channel>,
    told: Arc<Told>,
    epoch: Instant,
    puts: u64,
}

impl Writer {
    async fn put(&mut self, number: u64) -> Result<(), Failure> {
        let mut value = vec![0; VALUE_BYTES];
        let sent = u64::try_from(self.epoch.elapsed().as_nanos()).expect("far below 600 years");
        value[..8].copy_from_slice(&sent.to_be_bytes());
        value[8..16].copy_from_slice(&number.to_be_bytes());
        let (key, value) = (WATCHED.into(), value.into());
        self.kv.put(PutRequest { key, value, ..PutRequest::default() }).await?;
        Ok(())
    }
}

impl Client for Writer {
    async fn operation(&mut self) -> Result<u64, Failure> {
        self.puts += 1;
        self.put(self.puts).await?;
        let all = self.puts * WATCHERS as u64;
        while self.told.events.load(Ordering::SeqCst) < all {
            let told = timeout(LOST, self.told.all.notified()).await;
            told.map_err(|_| format!("put {} did not reach all watchers", self.puts))?;
        }
        Ok(1)
    }
}

/// One stream and its watchers.
struct Watching {
    responses: Streaming<WatchResponse>,
    told: Arc<Told>,
    epoch: Instant,
    /// The put that each watcher must be told of next, by the watcher's id.
    next: Vec<u64>,
    /// The client's end of the stream.
    _requests: mpsc::Sender<WatchRequest>,
}

impl Watching {
    async fn open(channel: Channel, told: Arc<Told>, epoch: Instant) -> Result<Self, Failure> {
        let (requests, sent) = mpsc::channel(WATCHERS_OF_STREAM);
        for id in 1..=WATCHERS_OF_STREAM {
            let watch_id = i64::try_from(id)?;
            let create = WatchCreateRequest { key: WATCHED.into(), watch_id, ..Default::default() };
            let request_union = Some(RequestUnion::CreateRequest(create));
            requests.send(WatchRequest { request_union }).await?;
        }
        let mut client = WatchClient::new(channel);
        let mut responses = client.watch(ReceiverStream::new(sent)).await?.into_inner();
        for _ in 0..WATCHERS_OF_STREAM {
            let response = timeout(LOST, responses.message()).await??;
            if !response.is_some_and(|response| response.created && !response.canceled) {
                return Err("a watch was not created".into());
            }
        }
        let next = vec![1; WATCHERS_OF_STREAM + 1];
        Ok(Self { responses, told, epoch, next, _requests: requests })
    }

    /// Listens until all watchers were told of the last put.
    async fn listen(mut self, window: (Instant, Instant)) -> Round {
        let mut round = Round::default();
        let mut open = WATCHERS_OF_STREAM;
        while open > 0 {
            let response = match timeout(LOST, self.responses.message()).await {
                Ok(Ok(Some(response))) => response,
                Ok(Ok(None)) => {
                    round.fail("a watch stream ended");
                    break;
                }
                Ok(Err(status)) => {
                    round.fail(status);
                    break;
                }
                Err(_) => {
                    round.fail("a watch stream fell silent");
                    break;
                }
            };
            match self.take(&response, window, &mut round) {
                Ok(ended) => open -= ended,
                Err(error) => round.fail(error),
            }
        }
        round
    }

    /// Looks at events; how many of them were the last ones of their watchers.
    fn take(
        &mut self,
        response: &WatchResponse,
        (begin, end): (Instant, Instant),
        round: &mut Round,
    ) -> Result<usize, Failure> {
        let mut ended = 0;
        let next = usize::try_from(response.watch_id).ok().and_then(|id| self.next.get_mut(id));
        let next = next.ok_or("news for a watcher that is none")?;
        for event in &response.events {
            let kv = event.kv.as_ref().filter(|kv| kv.key == WATCHED).ok_or("another key")?;
            let number = |at: usize| kv.value.get(at..at + 8)?.try_into().ok();
            let (Some(sent), Some(number)) = (number(0), number(8)) else {
                return Err("another value".into());
            };
            let (sent, number) = (u64::from_be_bytes(sent), u64::from_be_bytes(number));
            if number == LAST {
                ended += 1;
                continue;
            }
            if number != *next {
                return Err(format!("told of put {number} where {next} comes next").into());
            }
            *next += 1;
            round.acknowledged += 1;
            let now = Instant::now();
            if now >= begin && now < end {
                round.times_us.push(micros(now - (self.epoch + Duration::from_nanos(sent))));
            }
            let events = self.told.events.fetch_add(1, Ordering::SeqCst) + 1;
            if events.is_multiple_of(WATCHERS as u64) {
                self.told.all.notify_one();
            }
        }
        Ok(ended)
    }
}

/// Clients that keep one lease alive, each on a stream of its own.
pub(crate) async fn keep_alive(
    cluster: &Cluster,
    clients: usize,
    times: Times,
) -> Result<Round, Failure> {
    let connections = cluster.connections(clients.div_ceil(CLIENTS_OF_CONNECTION));
    let mut keepers = Vec::new();
    for channel in connections.iter().cycle().take(clients) {
        keepers.push(Keeper::open(channel.clone()).await?);
    }
    let granted = keepers.len() as u64;
    let round = closed_loop(keepers, times).await?;
    if round.acknowledged < granted {
        return Err("a client got no answer at all".into());
    }
    Ok(round)
}

struct Keeper {
    id: i64,
    requests: mpsc::Sender<LeaseKeepAliveRequest>,
    responses: Streaming<LeaseKeepAliveResponse>,
}

impl Keeper {
    async fn open(channel: Channel) -> Result<Self, Failure> {
        let mut client = LeaseClient::new(channel);
        let grant = LeaseGrantRequest { ttl: LEASE_TTL_S, id: 0 };
        let id = client.lease_grant(grant).await?.into_inner().id;
        let (requests, sent) = mpsc::channel(1);
        // etcd opens its side of the stream with the first answer.
        requests.send(LeaseKeepAliveRequest { id }).await?;
        let responses = client.lease_keep_alive(ReceiverStream::new(sent)).await?.into_inner();
        let mut keeper = Self { id, requests, responses };
        keeper.answer().await?;
        Ok(keeper)
    }

    async fn answer(&mut self) -> Result<(), Failure> {
        let answer = timeout(LOST, self.responses.message()).await??;
        let answer = answer.ok_or("a keep-alive stream ended")?;
        if (answer.id, answer.ttl) != (self.id, LEASE_TTL_S) {
            return Err(format!("lease {} has {} s left", answer.id, answer.ttl).into());
        }
        Ok(())
    }
}

impl Client for Keeper {
    async fn operation(&mut self) -> Result<u64, Failure> {
        self.requests.send(LeaseKeepAliveRequest { id: self.id }).await?;
        self.answer().await?;
        Ok(0)
    }
}
