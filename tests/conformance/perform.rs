//! Performs a case: empties the store, asks line by line, and puts the answers into words.

use std::collections::BTreeMap;
use std::time::Duration;

use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::call::{DynamicCodec, method, path};
use crate::endpoint::Endpoint;
use crate::script::{Action, Case};
use crate::words::{message, words};

/// How long an expected message may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a stream must be silent until its answers are taken to be all, when they are recorded.
const SILENCE: Duration = Duration::from_millis(700);

/// An open stream of one case.
struct Stream {
    requests: mpsc::UnboundedSender<DynamicMessage>,
    answers: mpsc::UnboundedReceiver<Result<DynamicMessage, Status>>,
}

/// One case under way.
struct Session<'e> {
    endpoint: &'e Endpoint,
    base: i64,
    token: Option<String>,
    streams: BTreeMap<String, Stream>,
}

/// The answers to every step of a case; with `record`, as many as come.
pub(crate) async fn perform(endpoint: &Endpoint, case: &Case, record: bool) -> Vec<Vec<String>> {
    let mut session = Session { endpoint, base: 0, token: None, streams: BTreeMap::new() };
    session.base = session.empty().await;
    let mut answers = Vec::new();
    for step in &case.steps {
        let expected = if record { usize::MAX } else { step.expected().len() };
        answers.push(session.step(&step.action, expected).await);
    }
    session.sign_off().await;
    answers
}

/// Whether the endpoint answers linearizable reads.
pub(crate) async fn is_serving(endpoint: &Endpoint) -> bool {
    let session = Session { endpoint, base: 0, token: None, streams: BTreeMap::new() };
    session.unary("KV", "Range", &json!({"key": "a"})).await.is_ok()
}

impl Session<'_> {
    /// Deletes every lease and key, and returns the revision after that.
    async fn empty(&self) -> i64 {
        let leases =
            self.unary("Lease", "LeaseLeases", &json!({})).await.expect("leases are listed");
        let leases = leases.get_field_by_name("leases").expect("a field");
        for lease in leases.as_list().expect("a list") {
            let id = lease.as_message().and_then(|lease| lease.get_field_by_name("ID")?.as_i64());
            let _ = self.unary("Lease", "LeaseRevoke", &json!({"ID": id.expect("an id")})).await;
        }
        let everything = json!({"key": "\0", "range_end": "\0"});
        let deleted = self.unary("KV", "DeleteRange", &everything).await.expect("keys are deleted");
        let header = deleted.get_field_by_name("header").expect("a field");
        let header = header.as_message().expect("a message");
        header.get_field_by_name("revision").and_then(|field| field.as_i64()).expect("a revision")
    }

    /// A case that turned permissions on leaves the store without them, users and roles for the next.
    async fn sign_off(&mut self) {
        if self.token.is_some() {
            self.sign_in(Some(("root", "root"))).await;
            let _ = self.unary("Auth", "AuthDisable", &json!({})).await;
            self.token = None;
        }
        for (list, field, delete, name) in [
            ("UserList", "users", "UserDelete", "name"),
            ("RoleList", "roles", "RoleDelete", "role"),
        ] {
            let Ok(listed) = self.unary("Auth", list, &json!({})).await else { return };
            let listed = listed.get_field_by_name(field).expect("a field").into_owned();
            for item in listed.as_list().expect("a list") {
                let request = json!({name: item.as_str().expect("a name")});
                let _ = self.unary("Auth", delete, &request).await;
            }
        }
    }

    async fn sign_in(&mut self, user: Option<(&str, &str)>) -> Option<Status> {
        self.token = None;
        let (name, password) = user?;
        let request = json!({"name": name, "password": password});
        match self.unary("Auth", "Authenticate", &request).await {
            Ok(answer) => {
                let token = answer.get_field_by_name("token").expect("a field");
                self.token = token.as_str().map(str::to_owned);
                None
            }
            Err(status) => Some(status),
        }
    }

    async fn step(&mut self, action: &Action, expected: usize) -> Vec<String> {
        match action {
            Action::Unary { service, method, request } => {
                vec![self.line(self.unary(service, method, request).await)]
            }
            Action::Send { stream, service, method, request } => {
                if !self.streams.contains_key(stream) {
                    let opened = self.open(service, method);
                    self.streams.insert(stream.clone(), opened);
                }
                let method =
                    crate::call::method(&self.endpoint.pool, service, method).expect("opened");
                let request = message(&method.input(), request, self.base);
                // A stream that has ended shows it when it is listened to.
                let _ = self.streams[stream].requests.send(request);
                self.listen(stream, expected).await
            }
            Action::Listen { stream } => self.listen(stream, expected).await,
            Action::As { user } => {
                let user = user.as_ref().map(|(name, password)| (name.as_str(), password.as_str()));
                let refused = self.sign_in(user).await;
                refused.into_iter().map(|status| self.line(Err(status))).collect()
            }
            Action::Pause { millis } => {
                tokio::time::sleep(Duration::from_millis(*millis)).await;
                Vec::new()
            }
        }
    }

    async fn unary(
        &self,
        service: &str,
        name: &str,
        request: &Value,
    ) -> Result<DynamicMessage, Status> {
        let method = method(&self.endpoint.pool, service, name)
            .ok_or_else(|| Status::unimplemented(format!("{service}.{name} is not described")))?;
        let request = self.signed(message(&method.input(), request, self.base));
        let mut grpc = self.grpc().await?;
        let codec = DynamicCodec(method.output());
        grpc.unary(request, path(&method), codec).await.map(tonic::Response::into_inner)
    }

    fn signed<T>(&self, request: T) -> Request<T> {
        let mut request = Request::new(request);
        if let Some(token) = &self.token {
            let token: MetadataValue<_> = token.parse().expect("tokens are ASCII");
            request.metadata_mut().insert("token", token);
        }
        request
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.endpoint.channel.clone());
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(grpc)
    }

    fn open(&self, service: &str, name: &str) -> Stream {
        let method = method(&self.endpoint.pool, service, name)
            .unwrap_or_else(|| panic!("{service}.{name} is not described"));
        let (requests, sent) = mpsc::unbounded_channel();
        let (answered, answers) = mpsc::unbounded_channel();
        let request = self.signed(UnboundedReceiverStream::new(sent));
        let mut grpc = Grpc::new(self.endpoint.channel.clone());
        tokio::spawn(async move {
            if grpc.ready().await.is_err() {
                return;
            }
            let codec = DynamicCodec(method.output());
            match grpc.streaming(request, path(&method), codec).await {
                Err(status) => drop(answered.send(Err(status))),
                Ok(response) => {
                    let mut stream = response.into_inner();
                    while let Some(answer) = stream.message().await.transpose() {
                        if answered.send(answer).is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Stream { requests, answers }
    }

    /// At most `expected` messages of a stream; what does not come is missing from the answer.
    async fn listen(&mut self, stream: &str, expected: usize) -> Vec<String> {
        let patience = if expected == usize::MAX { SILENCE } else { PATIENCE };
        let mut lines = Vec::new();
        while lines.len() < expected {
            let open = self.streams.get_mut(stream).unwrap_or_else(|| panic!("no stream {stream}"));
            match tokio::time::timeout(patience, open.answers.recv()).await {
                Ok(Some(answer)) => lines.push(self.line(answer)),
                Ok(None) => {
                    lines.push("(ended)".to_owned());
                    break;
                }
                Err(_) => break,
            }
        }
        lines
    }

    fn line(&self, answer: Result<DynamicMessage, Status>) -> String {
        match answer {
            Ok(message) => words(&message, self.base).to_string(),
            Err(status) => format!("! {:?}: {}", status.code(), status.message()),
        }
    }
}
