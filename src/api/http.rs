//! Plain pages beside gRPC on the client port: health, version, metrics.
//!
//! `/health`, `/livez` and `/readyz` answer 200 or 503, in etcd's words; each check of the latter two has a
//! page of its own. `/metrics` has the names of etcd's where the meaning is the same. Asking needs no user:
//! nothing of what is stored is shown.
//!
//! Not here: alarms in `/health`, histograms, counts of requests.

use std::convert::Infallible;
use std::fmt::Write;
use std::task::{Context, Poll};

use http::{Method, Request, Response, StatusCode, header};
use tower::Service;

use super::Api;
use super::maintenance::ETCD_VERSION;
use crate::error::Refusal;
use crate::host::BoxFuture;
use crate::proto::etcdserverpb::RangeRequest;
use crate::state::Caller;

/// What a page shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Health,
    /// All of these checks, or one of them.
    Checks(&'static [Check]),
    Version,
    Metrics,
}

/// One thing that can be well or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// The member answers from what it has.
    SerializableRead,
    /// A quorum answers.
    LinearizableRead,
    /// The member has a vote.
    NonLearner,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }
}

/// The pages by their paths.
const PAGES: &[(&str, Page)] = &[
    ("/health", Page::Health),
    ("/livez", Page::Checks(&[Check::SerializableRead])),
    ("/livez/serializable_read", Page::Checks(&[Check::SerializableRead])),
    (
        "/readyz",
        Page::Checks(&[Check::LinearizableRead, Check::NonLearner, Check::SerializableRead]),
    ),
    ("/readyz/serializable_read", Page::Checks(&[Check::SerializableRead])),
    ("/readyz/linearizable_read", Page::Checks(&[Check::LinearizableRead])),
    ("/readyz/non_learner", Page::Checks(&[Check::NonLearner])),
    ("/version", Page::Version),
    ("/metrics", Page::Metrics),
];

/// One page, as the router takes it.
#[derive(Clone)]
pub(super) struct Plain {
    api: Api,
    page: Page,
}

/// Every page with its path.
pub(super) fn pages(api: &Api) -> impl Iterator<Item = (&'static str, Plain)> {
    PAGES.iter().map(|(path, page)| (*path, Plain { api: api.clone(), page: *page }))
}

impl<B> Service<Request<B>> for Plain {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        let (is_get, query) =
            (request.method() == Method::GET, request.uri().query().unwrap_or_default().to_owned());
        Box::pin(async move {
            if !is_get {
                let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
                refused
                    .headers_mut()
                    .insert(header::ALLOW, header::HeaderValue::from_static("GET"));
                return Ok(refused);
            }
            Ok(match this.page {
                Page::Health => this.health(&query).await,
                Page::Checks(checks) => this.checks(checks, &query).await,
                Page::Version => version(),
                Page::Metrics => this.metrics().await,
            })
        })
    }
}

fn plain(code: StatusCode, text: impl Into<String>) -> Response<String> {
    page(code, "text/plain; charset=utf-8", text.into())
}

fn page(code: StatusCode, kind: &'static str, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = code;
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// The values of one key of a query.
fn values<'a>(query: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    query.split('&').filter_map(move |part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (name == key).then_some(value)
    })
}

fn version() -> Response<String> {
    let text = format!(
        "{{\"etcdserver\":\"{ETCD_VERSION}\",\"etcdcluster\":\"{ETCD_VERSION}\",\"storage\":\"{ETCD_VERSION}\"}}"
    );
    page(StatusCode::OK, "application/json", text)
}

impl Plain {
    async fn read(&self, serializable: bool) -> Result<(), Refusal> {
        let range = RangeRequest {
            key: bytes::Bytes::from_static(&[0]),
            keys_only: true,
            limit: 1,
            serializable,
            ..RangeRequest::default()
        };
        self.api.handle.range(Caller::root(), range).await.map(drop)
    }

    async fn health(&self, query: &str) -> Response<String> {
        let serializable = values(query, "serializable").any(|value| value == "true");
        let reason = if !serializable && self.api.handle.leader() == 0 {
            Some("RAFT NO LEADER".to_owned())
        } else {
            let failed = self.read(serializable).await.err();
            failed.map(|refusal| format!("RANGE ERROR:{}", refusal.text()))
        };
        let code = if reason.is_some() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        let (health, reason) = (reason.is_none(), reason.unwrap_or_default());
        let text = format!("{{\"health\":\"{health}\",\"reason\":\"{reason}\"}}");
        page(code, "application/json", text)
    }

    async fn check(&self, check: Check) -> Result<(), String> {
        let words = |refusal: Refusal| refusal.text().to_owned();
        match check {
            Check::SerializableRead => self.read(true).await.map_err(words),
            Check::LinearizableRead => self.read(false).await.map_err(words),
            Check::NonLearner => match self.api.handle.status().await {
                Ok(status) if status.is_learner => Err("not supported for learner".to_owned()),
                Ok(_) => Ok(()),
                Err(refusal) => Err(words(refusal)),
            },
        }
    }

    async fn checks(&self, checks: &[Check], query: &str) -> Response<String> {
        let (mut lines, mut well) = (String::new(), true);
        for check in checks {
            let name = check.name();
            if values(query, "exclude").any(|excluded| excluded == name) {
                continue;
            }
            match self.check(*check).await {
                Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
                Err(why) => {
                    well = false;
                    lines.push_str(&format!("[-]{name} failed: {why}\n"));
                }
            }
        }
        if !well {
            return plain(StatusCode::SERVICE_UNAVAILABLE, lines);
        }
        let verbose = values(query, "verbose").next().is_some();
        plain(StatusCode::OK, if verbose { lines + "ok\n" } else { "ok\n".to_owned() })
    }

    async fn metrics(&self) -> Response<String> {
        let status = match self.api.handle.status().await {
            Ok(status) => status,
            Err(refusal) => return plain(StatusCode::SERVICE_UNAVAILABLE, refusal.text()),
        };
        let mut metrics = Metrics::default();
        let id = status.header.member_id;
        metrics.gauge("etcd_server_has_leader", "Whether a leader is known.", status.leader != 0);
        metrics.gauge("etcd_server_is_leader", "Whether this member leads.", status.leader == id);
        metrics.gauge(
            "etcd_server_is_learner",
            "Whether this member has no vote.",
            status.is_learner,
        );
        metrics.counter(
            "etcd_server_leader_changes_seen_total",
            "How often the leader was lost or changed.",
            self.api.handle.leader_changes(),
        );
        metrics.counter(
            "snowglobe_peer_damaged_frames_total",
            "Frames and chunks of members that were refused because their checksum was wrong.",
            self.api.handle.damaged_frames(),
        );
        metrics.counter(
            "etcd_server_proposals_committed_total",
            "The last index known to be committed.",
            status.commit,
        );
        metrics.counter(
            "etcd_server_proposals_applied_total",
            "The last index applied.",
            status.applied,
        );
        metrics.gauge(
            "etcd_mvcc_db_total_size_in_bytes",
            "Bytes of the backend on disk.",
            status.db_size,
        );
        metrics.gauge(
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            "Of these, bytes that hold something.",
            status.db_size_in_use,
        );
        metrics.gauge(
            "etcd_debugging_mvcc_current_revision",
            "The current revision.",
            status.revision.max(0).unsigned_abs(),
        );
        metrics.gauge(
            "etcd_debugging_mvcc_compact_revision",
            "The revision up to which history is gone.",
            status.compact_revision.max(0).unsigned_abs(),
        );
        if let Some(bytes) = self.api.host.resident_bytes() {
            let help = "Bytes of memory that the process holds.";
            metrics.gauge("process_resident_memory_bytes", help, bytes);
        }
        metrics.labelled("etcd_server_id", "This member.", "server_id", &format!("{id:x}"));
        metrics.labelled(
            "etcd_server_version",
            "The release whose API is served.",
            "server_version",
            ETCD_VERSION,
        );
        page(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics.0)
    }
}

/// Numbers in Prometheus's text format.
#[derive(Default)]
struct Metrics(String);

impl Metrics {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n").expect("text takes any");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Into<u64>) {
        self.head(name, help, "gauge");
        writeln!(self.0, "{name} {}", value.into()).expect("text takes any");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "counter");
        writeln!(self.0, "{name} {value}").expect("text takes any");
    }

    fn labelled(&mut self, name: &str, help: &str, label: &str, value: &str) {
        self.head(name, help, "gauge");
        writeln!(self.0, "{name}{{{label}=\"{value}\"}} 1").expect("text takes any");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Queries are read key by key; a key alone counts.
    #[test]
    fn queries() {
        let check = |query: &str, key: &str, expected: &[&str]| {
            assert_eq!(values(query, key).collect::<Vec<_>>(), expected, "{query}");
        };
        check("verbose&exclude=a&exclude=b", "exclude", &["a", "b"]);
        check("verbose&exclude=a", "verbose", &[""]);
        check("", "verbose", &[]);
    }

    /// Metrics are as Prometheus reads them.
    #[test]
    fn text_format() {
        let mut metrics = Metrics::default();
        metrics.gauge("a", "One.", true);
        metrics.counter("b_total", "Two.", 7);
        metrics.labelled("c", "Three.", "id", "x");
        assert_eq!(
            metrics.0,
            "# HELP a One.\n# TYPE a gauge\na 1\n# HELP b_total Two.\n# TYPE b_total counter\n\
             b_total 7\n# HELP c Three.\n# TYPE c gauge\nc{id=\"x\"} 1\n"
        );
    }
}
