//! gRPC's health service, for the server as a whole: it serves for as long as it can be asked.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::Api;
use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::health_server::Health;
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse};

#[tonic::async_trait]
impl Health for Api {
    type WatchStream = Statuses;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match request.get_ref().service.as_str() {
            "" => Ok(Response::new(response(ServingStatus::Serving))),
            _ => Err(Status::not_found("unknown service")),
        }
    }

    /// Says once how it is, and once more before the member stops.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Statuses>, Status> {
        let (sender, statuses) = mpsc::channel(2);
        let is_known = request.get_ref().service.is_empty();
        let api = self.clone();
        tokio::spawn(async move {
            let now = if is_known { ServingStatus::Serving } else { ServingStatus::ServiceUnknown };
            // The client may have gone.
            let _ = sender.send(Ok(response(now))).await;
            tokio::select! {
                biased;
                () = sender.closed() => {}
                () = api.handle.ending() => {
                    let _ = sender.send(Ok(response(ServingStatus::NotServing))).await;
                }
            }
        });
        Ok(Response::new(Statuses(statuses)))
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

/// What one watcher is told.
pub(super) struct Statuses(mpsc::Receiver<Result<HealthCheckResponse, Status>>);

impl tokio_stream::Stream for Statuses {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}
