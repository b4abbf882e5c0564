//! etcd v3 over gRPC: translate, validate, hand over to the one loop.
//!
//! Each file is one of etcd's services. A request is checked as far as that needs no state, goes to
//! [`raft::Handle`], and its answer gets this member's header.
//!
//! Invariants:
//! * Codes and texts of errors are etcd's, letter by letter: they all come from [`Refusal`].
//! * What is not served is answered `Unimplemented` by the router, never with a guess.
//!
//! Knows nothing of logs, files or sockets.

mod auth;
mod cluster;
mod concurrency;
mod election;
mod gate;
mod gateway;
mod health;
mod held;
mod http;
pub(crate) mod image;
mod jwt;
mod kv;
mod learner;
mod lease;
mod lock;
mod maintenance;
mod slow;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::util::MapResponseLayer;

use crate::config::Config;
use crate::error::{self, Refusal};
use crate::host::Host;
use crate::proto::etcdserverpb::auth_server::AuthServer;
use crate::proto::etcdserverpb::cluster_server::ClusterServer;
use crate::proto::etcdserverpb::kv_server::KvServer;
use crate::proto::etcdserverpb::lease_server::LeaseServer;
use crate::proto::etcdserverpb::maintenance_server::MaintenanceServer;
use crate::proto::etcdserverpb::watch_server::WatchServer;
use crate::proto::etcdserverpb::{InternalRaftRequest, ResponseHeader};
use crate::proto::health::health_server::HealthServer;
use crate::proto::v3electionpb::election_server::ElectionServer;
use crate::proto::v3lockpb::lock_server::LockServer;
use crate::state::Caller;
use crate::watch::Watches;
use crate::{raft, state};

#[cfg(any(test, feature = "fuzzing"))]
pub use gateway::fuzz_requests;
pub use jwt::Jwt;

/// Everything that clients can call.
#[must_use]
pub fn routes(
    handle: &raft::Handle,
    watches: &Watches,
    host: &Arc<dyn Host>,
    config: &Arc<Config>,
    jwt: &Option<Arc<Jwt>>,
) -> Routes {
    let (watches, config) = (watches.clone(), Arc::clone(config));
    let waits = Arc::new(Semaphore::new(config.limits.lock_waits_max));
    let hashes = Arc::new(Semaphore::new(config.limits.auth_hashes_max));
    let (handle, host) = (handle.clone(), Arc::clone(host));
    let learners = learner::LearnerLayer(handle.clone());
    let slow = Duration::from_millis(config.warning_unary_request_duration_ms);
    let slow = slow::SlowLayer { clock: host.clock(), slow };
    let api =
        Api { handle, watches, host, waits, hashes, jwt: jwt.clone(), config: Arc::clone(&config) };
    let frame_bytes_max = config.max_frame_bytes();
    // Answers are bounded by what is stored; etcd does not limit them either.
    macro_rules! service {
        ($server:ident) => {
            $server::new(api.clone())
                .max_decoding_message_size(frame_bytes_max)
                .max_encoding_message_size(usize::MAX)
        };
    }
    let services = Routes::new(service!(KvServer))
        .add_service(service!(WatchServer))
        .add_service(service!(LeaseServer))
        .add_service(service!(ClusterServer))
        .add_service(service!(AuthServer))
        .add_service(service!(LockServer))
        .add_service(service!(ElectionServer))
        .add_service(service!(HealthServer))
        .add_service(service!(MaintenanceServer));
    // As one: each layer that a router is given costs every call a box for its service, its future and its body.
    let (held, too_large) = (MapResponseLayer::new(held::layer), MapResponseLayer::new(too_large));
    let grpc = services.into_axum_router().layer((slow, learners, held, too_large));
    let gateway = gateway::Gateway::new(Routes::from(grpc.clone()).prepare(), &config);
    let all = http::pages(&api).fold(grpc, |router, (path, page)| router.route_service(path, page));
    let all =
        gateway::paths().fold(all, |router, path| router.route_service(&path, gateway.clone()));
    Routes::from(all).prepare()
}

/// tonic refuses a frame above the limit with `OutOfRange`, which in etcd speaks of revisions: it
/// is given the code and the words of etcd's own gRPC library.
fn too_large<B>(mut response: ::http::Response<B>) -> ::http::Response<B> {
    let Some(status) = Status::from_header_map(response.headers()) else { return response };
    if let Some(status) = not_received(&status) {
        // A text of ASCII letters and digits always fits a header.
        let _ = status.add_header(response.headers_mut());
    }
    response
}

/// What etcd says of a frame above the limit, if this is what tonic says of one.
fn not_received(status: &Status) -> Option<Status> {
    let is_frame = status.message().starts_with("Error, decoded message length too large");
    if status.code() != Code::OutOfRange || !is_frame {
        return None;
    }
    let digits = status.message().split(|c: char| !c.is_ascii_digit());
    let numbers: Vec<&str> = digits.filter(|digits| !digits.is_empty()).collect();
    let text = format!("grpc: received message larger than max ({})", numbers.join(" vs. "));
    Some(Status::resource_exhausted(text))
}

/// The same for a message on a stream.
fn not_received_on(status: Status) -> Status {
    not_received(&status).unwrap_or(status)
}

/// What every service needs: the way to the loop, and the limits.
#[derive(Clone)]
struct Api {
    handle: raft::Handle,
    watches: Watches,
    /// Places for those who wait for a lock or a leadership.
    waits: Arc<Semaphore>,
    /// Places for passwords that are being hashed or compared.
    hashes: Arc<Semaphore>,
    /// Signs and checks tokens, where members remember none.
    jwt: Option<Arc<Jwt>>,
    /// For dice: salts and tokens.
    host: Arc<dyn Host>,
    config: Arc<Config>,
}

/// The answer is not of the request's kind: a bug of ours.
fn wrong_kind() -> Status {
    Status::unknown("etcdserver: the answer is not of the request's kind")
}

impl Api {
    /// Through the log.
    async fn propose(
        &self,
        caller: &Caller,
        request: InternalRaftRequest,
    ) -> Result<state::Response, Status> {
        self.handle.propose_as(caller, request).await.map_err(status)
    }

    /// This member's header, around the revision that the answer was made at.
    fn header(&self, revision: i64) -> Option<ResponseHeader> {
        let raft::Header { cluster_id, member_id, term } = self.handle.header();
        Some(ResponseHeader { cluster_id, member_id, revision, raft_term: term })
    }

    /// The header of an answer of the state machine, which knows only its revision.
    fn complete(&self, header: &mut Option<ResponseHeader>) {
        *header = self.header(header.take().map_or(0, |header| header.revision));
    }
}

/// A refusal on the wire.
fn status(refusal: Refusal) -> Status {
    let code = match refusal.code() {
        error::Code::Unknown => Code::Unknown,
        error::Code::InvalidArgument => Code::InvalidArgument,
        error::Code::DeadlineExceeded => Code::DeadlineExceeded,
        error::Code::NotFound => Code::NotFound,
        error::Code::PermissionDenied => Code::PermissionDenied,
        error::Code::Unauthenticated => Code::Unauthenticated,
        error::Code::ResourceExhausted => Code::ResourceExhausted,
        error::Code::FailedPrecondition => Code::FailedPrecondition,
        error::Code::OutOfRange => Code::OutOfRange,
        error::Code::Unavailable => Code::Unavailable,
        error::Code::DataLoss => Code::DataLoss,
    };
    Status::new(code, refusal.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every refusal has the code's number and the text of the table.
    #[test]
    fn codes_and_texts() {
        for refusal in Refusal::ALL {
            let status = status(*refusal);
            assert_eq!(status.code() as i32, refusal.code() as i32, "{refusal:?}");
            assert_eq!(status.message(), refusal.text());
        }
    }
}
