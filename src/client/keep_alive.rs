//! A lease, renewed through whichever member answers.

use std::time::Duration;

use tonic::Status;

use super::{Client, Failure, Repeat};
use crate::error::Refusal;
use crate::proto::etcdserverpb::lease_client::LeaseClient;
use crate::proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};

/// A lease is renewed after this part of its time, as etcd's client does: two renewals may fail.
const RENEWED_AFTER: u32 = 3;

/// See the module; made by [`Client::keep_alive`]. A lease is renewed only while somebody waits for [`KeepAlive::next`].
pub struct KeepAlive {
    client: Client,
    id: i64,
    /// When the last renewal was sent, by the client's clock, and for how long it is good from then on.
    renewed: Option<(Duration, Duration)>,
}

impl KeepAlive {
    pub(super) fn new(client: Client, id: i64) -> Self {
        Self { client, id, renewed: None }
    }

    /// Waits until the lease is to be renewed, which is at once the first time, and renews it. Where no member answers
    /// it goes on asking for as long as the lease may still be there.
    ///
    /// # Errors
    /// `NotFound`: the lease is gone, or may be gone because nobody answered during its time. Others: what a member
    /// has refused it for, or where it was never renewed, why nobody answered.
    pub async fn next(&mut self) -> Result<LeaseKeepAliveResponse, Failure> {
        let clock = self.client.clock();
        if let Some((sent, good)) = self.renewed {
            let due = sent + good / RENEWED_AFTER;
            clock.sleep(due.saturating_sub(clock.monotonic())).await;
        }
        loop {
            let sent = clock.monotonic();
            let id = self.id;
            let round = self.client.call(Repeat::Freely, move |way| async move {
                // One round of a stream: one request, one answer.
                let once = tokio_stream::once(LeaseKeepAliveRequest { id });
                let mut answers = LeaseClient::new(way).lease_keep_alive(once).await?.into_inner();
                let ended = || Status::unavailable("the stream ended without an answer");
                Ok(tonic::Response::new(answers.message().await?.ok_or_else(ended)?))
            });
            let ends = self.renewed.map_or(sent, |(sent, good)| sent + good);
            let answer = tokio::select! {
                biased;
                answer = round => answer,
                () = clock.sleep(ends.saturating_sub(sent)), if self.renewed.is_some() => {
                    return Err(gone());
                }
            };
            match (answer, self.renewed) {
                (Ok(answer), _) => match u64::try_from(answer.ttl) {
                    Ok(ttl_s) if ttl_s > 0 => {
                        self.renewed = Some((sent, Duration::from_secs(ttl_s)));
                        return Ok(answer);
                    }
                    _ => return Err(gone()),
                },
                // Whoever has renewed it once does not give up before its time is over.
                (Err(failure), Some(_)) if Repeat::Freely.allows(&failure.status) => {}
                (Err(failure), _) => return Err(failure),
            }
        }
    }
}

fn gone() -> Failure {
    Status::not_found(Refusal::LeaseNotFound.text()).into()
}
