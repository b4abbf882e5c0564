//! The Election service: the leader is the oldest key under the election's name ([`super::concurrency`]).

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::Api;
use super::concurrency::{Answer, Claim, Failure, Store, attended, claims};
use crate::error::Refusal;
use crate::proto::mvccpb::KeyValue;
use crate::proto::v3electionpb::election_server::Election;
use crate::proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use crate::watch::{Keys, News, Stream};

#[tonic::async_trait]
impl Election for Api {
    type ObserveStream = Leaders;

    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        let store = self.store(&request);
        attended(|answer| stand(store, request.into_inner(), answer)).await
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        let store = self.store(&request);
        let ProclaimRequest { leader, value } = request.into_inner();
        let leader = leader.ok_or(Failure::NO_LEADER_KEY)?;
        let lease = store.lease(leader.lease).await?;
        let header = store.update(&claim(leader), value, lease).await?;
        Ok(Response::new(ProclaimResponse { header }))
    }

    async fn leader(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<LeaderResponse>, Status> {
        let store = self.store(&request);
        let found = store.owner(&request.into_inner().name).await?;
        let kv = found.kvs.into_iter().next().ok_or(Failure::NO_LEADER)?;
        Ok(Response::new(LeaderResponse { header: found.header, kv: Some(kv) }))
    }

    async fn observe(&self, request: Request<LeaderRequest>) -> Result<Response<Leaders>, Status> {
        let (sender, leaders) = mpsc::channel(self.config.limits.watch_stream_answers);
        let observer = Observer { api: self.clone(), store: self.store(&request), leaders: sender };
        tokio::spawn(observer.run(request.into_inner().name));
        Ok(Response::new(Leaders(leaders)))
    }

    async fn resign(
        &self,
        request: Request<ResignRequest>,
    ) -> Result<Response<ResignResponse>, Status> {
        let store = self.store(&request);
        let leader = request.into_inner().leader.ok_or(Failure::NO_LEADER_KEY)?;
        let header = store.release(&claim(leader)).await?;
        Ok(Response::new(ResignResponse { header }))
    }
}

fn claim(leader: LeaderKey) -> Claim {
    Claim::of(&leader.name, leader.key, leader.rev)
}

/// Stands for election until it is won, or takes the claim back if the client does not wait to the end.
async fn stand(store: Store, request: CampaignRequest, mut answer: Answer<CampaignResponse>) {
    let CampaignRequest { name, lease, value } = request;
    let claimed = match store.claim(&name, lease, value.clone()).await {
        Ok(claimed) => claimed,
        Err(failure) => return drop(answer.send(Err(failure))),
    };
    let (claim, lease) = (claimed.claim, claimed.lease);
    let is_new_value = claimed.before.is_some_and(|kv| kv.value != value);
    let win = async {
        if is_new_value {
            store.update(&claim, value, lease).await?;
        }
        if claimed.owner != claim.revision {
            // Whose key is gone has not won, whatever is left of older ones. (etcd does not look.)
            store.wait(&claim).await.map_err(|failure| match failure {
                Failure::EXPIRED => Failure::NOT_LEADER,
                failure => failure,
            })?;
        }
        Ok(())
    };
    let won = tokio::select! {
        biased;
        won = win => won,
        () = answer.closed() => Err(Failure::Said("the client has gone")),
    };
    if won.is_err() {
        // What fails here is left to the lease.
        let _ = store.release(&claim).await;
    }
    let Claim { key, revision: rev, .. } = claim;
    let leader = Some(LeaderKey { name, key, rev, lease });
    drop(answer.send(won.map(|()| CampaignResponse { header: claimed.header, leader })));
}

/// The answers of one observer.
pub(super) struct Leaders(mpsc::Receiver<Result<LeaderResponse, Status>>);

impl tokio_stream::Stream for Leaders {
    type Item = Result<LeaderResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

/// One client that is told of leaders.
struct Observer {
    api: Api,
    store: Store,
    leaders: mpsc::Sender<Result<LeaderResponse, Status>>,
}

/// The client has gone.
struct Gone;

impl Observer {
    async fn run(self, name: bytes::Bytes) {
        let told = tokio::select! {
            biased;
            () = self.leaders.closed() => return,
            () = self.store.ending() => Err(Failure::Refused(Refusal::Stopped)),
            told = self.tell(&name) => told,
        };
        if let Err(failure) = told {
            let _ = self.leaders.send(Err(failure.into())).await;
        }
    }

    /// One leader after the other, until the client goes.
    async fn tell(&self, name: &[u8]) -> Result<(), Failure> {
        let _place = self.store.place()?;
        loop {
            let found = self.store.owner(name).await?;
            let now = found.header.as_ref().map_or(0, |header| header.revision);
            let (kv, revision) = match found.kvs.into_iter().next() {
                Some(kv) => (kv, now),
                None => match self.first(name, now + 1).await? {
                    Some(kv) => {
                        let revision = kv.mod_revision;
                        (kv, revision)
                    }
                    // Compacted meanwhile.
                    None => continue,
                },
            };
            let key = kv.key.clone();
            if self.send(kv, revision).await.is_err() {
                return Ok(());
            }
            let keys = Keys::new(&key, b"").expect("a single key is never empty");
            let stream = self.store.watch(keys, revision + 1, false).await?;
            if self.follow(stream).await.is_err() {
                return Ok(());
            }
        }
    }

    /// The first claim from a revision on; `None` where the past is compacted.
    async fn first(&self, name: &[u8], from: i64) -> Result<Option<KeyValue>, Failure> {
        let mut stream = self.store.watch(claims(name), from, false).await?;
        loop {
            match stream.next().await {
                None => return Err(Failure::Refused(Refusal::Stopped)),
                Some(News::Compacted { .. }) => return Ok(None),
                Some(News::Events { batch, picks, .. }) => {
                    let changes = picks.iter().map(|pick| &batch.changes()[*pick as usize]);
                    if let Some(put) = changes.into_iter().find(|change| !change.is_delete) {
                        return Ok(Some(put.kv.clone()));
                    }
                }
                Some(News::Progress { .. } | News::AllProgress { .. }) => {}
            }
        }
    }

    /// What one leader proclaims, until its key is gone or the past is compacted.
    async fn follow(&self, mut stream: Stream) -> Result<(), Gone> {
        loop {
            let Some(news) = stream.next().await else { return Ok(()) };
            match news {
                News::Compacted { .. } => return Ok(()),
                News::Events { batch, picks, revision, .. } => {
                    for pick in picks {
                        let change = &batch.changes()[pick as usize];
                        if change.is_delete {
                            return Ok(());
                        }
                        self.send(change.kv.clone(), revision).await?;
                    }
                }
                News::Progress { .. } | News::AllProgress { .. } => {}
            }
        }
    }

    async fn send(&self, kv: KeyValue, revision: i64) -> Result<(), Gone> {
        let response = LeaderResponse { header: self.api.header(revision), kv: Some(kv) };
        self.leaders.send(Ok(response)).await.map_err(|_| Gone)
    }
}
