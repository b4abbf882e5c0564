//! The JSON gateway: etcd's calls as plain HTTP, on the client port beside gRPC.
//!
//! `POST /v3/kv/range` and its like are what etcd's gateway has. A body becomes the request's message by the API's
//! description and goes to the very routes that gRPC goes to, inside the process; the answer comes back as JSON.
//!
//! Invariants:
//! * Limits, permissions and refusals are those of gRPC: nothing here knows a message or a service by more than
//!   its name.
//! * Of who has connected nothing is handed on but the token that the request shows.
//! * Of a body no more is held than one object, whose size is bounded; of a stream of answers, one answer.
//!
//! Not here: web sockets, CORS, timeouts of single requests.

mod body;
mod calls;
mod codec;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::{Body, Frame};
use prost_reflect::DynamicMessage;
use tokio::sync::oneshot;
use tokio_stream::{Stream, StreamExt};
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Code, Extensions, Status, Streaming};
use tower::Service;

use crate::config::Config;
use crate::host::BoxFuture;
use body::Messages;
use codec::Wire;
#[cfg(any(test, feature = "fuzzing"))]
pub use fuzzing::requests as fuzz_requests;

/// The paths of the gateway, as the router takes them.
pub(super) fn paths() -> impl Iterator<Item = String> {
    calls::ROOTS.iter().flat_map(|root| [(*root).to_owned(), format!("{root}{{*call}}")])
}

/// See the module.
#[derive(Clone)]
pub(super) struct Gateway {
    routes: Routes,
    object_bytes_max: usize,
}

impl Gateway {
    /// A gateway to the services of `routes`.
    pub(super) fn new(routes: Routes, config: &Config) -> Self {
        Self { routes, object_bytes_max: config.max_json_bytes() }
    }

    async fn answer<B>(self, request: Request<B>) -> Result<Response<tonic::body::Body>, Status>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let method =
            calls::method(request.uri().path()).ok_or_else(|| Status::not_found("Not Found"))?;
        if request.method() != Method::POST {
            return Err(Status::unimplemented("Method Not Allowed"));
        }
        let (head, body) = request.into_parts();
        let mut messages = Messages::new(body, method.input(), self.object_bytes_max);
        let (requests, refused): (Pin<Box<dyn Stream<Item = DynamicMessage> + Send>>, _) =
            if method.is_client_streaming() {
                let (requests, refused) = messages.accepted();
                (Box::pin(requests), Some(refused))
            } else {
                // As in etcd, no body at all is an empty message, and what follows the first is not looked at.
                let first = messages.next().await.transpose()?;
                let first = first.unwrap_or_else(|| DynamicMessage::new(method.input()));
                (Box::pin(tokio_stream::once(first)), None)
            };
        let request = tonic::Request::from_parts(shown(&head.headers), Extensions::new(), requests);
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let path = path.parse().expect("names make a path");
        let mut client = Grpc::new(self.routes).max_decoding_message_size(usize::MAX);
        let Ok(()) = client.ready().await;
        let answers = client.streaming(request, path, Wire(method.output())).await;
        if !method.is_client_streaming() && !method.is_server_streaming() {
            let answer = answers?.into_inner().message().await?;
            let answer = answer.ok_or_else(|| Status::internal("no answer"))?;
            return Ok(json(StatusCode::OK, codec::to_json(&answer)?));
        }
        let answers = answers.map(|answers| Answers { answers: answers.into_inner(), refused });
        Ok(stream(answers).await)
    }
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Service<Request<B>> for Gateway {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = self.clone().answer(request);
        Box::pin(async { Ok(answer.await.unwrap_or_else(|status| refusal(&status))) })
    }
}

/// What of a request's headers goes with it: the token, and what is meant for gRPC.
fn shown(headers: &HeaderMap) -> MetadataMap {
    let mut shown = HeaderMap::new();
    for (name, value) in headers {
        let name = match name.as_str().strip_prefix("grpc-metadata-") {
            Some(name) => name.parse(),
            None if name == header::AUTHORIZATION => Ok(name.clone()),
            None => continue,
        };
        // What is no name any more was meant for nobody.
        let _ = name.map(|name| shown.append(name, value.clone()));
    }
    MetadataMap::from_headers(shown)
}

fn json(
    code: StatusCode,
    body: impl Body<Data = Bytes, Error: Into<tonic::codegen::StdError>> + Send + 'static,
) -> Response<tonic::body::Body> {
    let mut response = Response::new(tonic::body::Body::new(body));
    *response.status_mut() = code;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// A refusal of gRPC's in JSON.
fn words(status: &Status) -> String {
    serde_json::json!({ "code": status.code() as i32, "message": status.message() }).to_string()
}

fn refusal(status: &Status) -> Response<tonic::body::Body> {
    let mut response = json(http_code(status.code()), words(status));
    if status.code() == Code::Unauthenticated
        && let Ok(why) = HeaderValue::from_str(status.message())
    {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, why);
    }
    response
}

/// The answers of a call, one a line, or its refusal. The first is waited for: it decides the status.
async fn stream(answers: Result<Answers, Status>) -> Response<tonic::body::Body> {
    let refused = |status: &Status| json(http_code(status.code()), line(Err(status.clone())));
    let mut answers = match answers {
        Ok(answers) => answers,
        Err(status) => return refused(&status),
    };
    match answers.next().await {
        Some(Err(status)) => refused(&status),
        first => json(StatusCode::OK, Lines { first: first.map(line), answers: Some(answers) }),
    }
}

/// An answer or a refusal in the midst of others.
fn line(answer: Result<DynamicMessage, Status>) -> String {
    match answer.and_then(|message| codec::to_json(&message)) {
        Ok(message) => format!("{{\"result\":{message}}}\n"),
        Err(status) => format!("{{\"error\":{}}}\n", words(&status)),
    }
}

/// What a call answers, until it ends or a message of the request is wrong.
struct Answers {
    answers: Streaming<DynamicMessage>,
    refused: Option<oneshot::Receiver<Status>>,
}

impl Stream for Answers {
    type Item = Result<DynamicMessage, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let answer = Pin::new(&mut this.answers).poll_next(context);
        let Some(refused) = &mut this.refused else { return answer };
        if matches!(answer, Poll::Ready(Some(_))) {
            return answer;
        }
        match Pin::new(refused).poll(context) {
            Poll::Ready(refused) => {
                this.refused = None;
                refused.map_or(answer, |status| Poll::Ready(Some(Err(status))))
            }
            Poll::Pending => answer,
        }
    }
}

/// Answers as the lines of a body.
struct Lines {
    first: Option<String>,
    /// Until a refusal was the last.
    answers: Option<Answers>,
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let text = match (this.first.take(), &mut this.answers) {
            (Some(first), _) => first,
            (None, None) => return Poll::Ready(None),
            (None, Some(answers)) => match ready!(Pin::new(answers).poll_next(context)) {
                Some(answer) => {
                    if answer.is_err() {
                        this.answers = None;
                    }
                    line(answer)
                }
                None => return Poll::Ready(None),
            },
        };
        Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }
}

/// The status that etcd's gateway gives a gRPC code.
fn http_code(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(499).expect("three digits"),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
