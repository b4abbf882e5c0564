//! Whether a list of operations can be a history at all; asked before anything is judged.
//!
//! Promises: numbers are unique, a client does one thing at a time (watches go on beside it), nothing returns
//! before it is called, an answer is there exactly where the outcome says so and fits its request, what a watch
//! received lies within its time, and no write is filed as failed on the strength of an error that leaves its
//! outcome open.

use std::collections::BTreeMap;

use super::Malformed;
use crate::history::{Body, Operation, Outcome, Request, Response, WatchMessage};

/// Errors after which a write may still have happened. To file such a write as failed would make the checker
/// call an innocent server guilty.
const OPEN_ERRORS: &[&str] = &[
    "etcdserver: request timed out",
    "etcdserver: leader changed",
    "etcdserver: server stopped",
    "etcdserver: request canceled",
    "etcdserver: context deadline exceeded",
    "context deadline exceeded",
    "context canceled",
    "transport error",
    "connection",
];

/// Clients with numbers below this are kept in a list, others in a map.
const FEW_CLIENTS: u32 = 4_096;

/// Faults as they are found, one operation after the other.
#[derive(Default)]
pub(super) struct Faults {
    faults: Vec<Malformed>,
    /// Each client's last operation and when it returned.
    last: Vec<Option<(u64, u64)>>,
    last_of_many: BTreeMap<u32, (u64, u64)>,
    previous: Option<(u64, u64)>,
    unsorted: bool,
}

impl Faults {
    /// Looks at the next operation.
    pub(super) fn look(&mut self, index: usize, operation: &Operation) {
        if let Some(sentence) = fault(operation) {
            self.faults.push(Malformed { line: index + 1, sentence });
        }
        let is_behind = |(op, call)| operation.op <= op || operation.call < call;
        self.unsorted |= self.previous.is_some_and(is_behind);
        self.previous = Some((operation.op, operation.call));
        if is_watch(operation) {
            return;
        }
        let end = operation.returned.unwrap_or(u64::MAX);
        let before = self.replace(operation.client, (operation.op, end));
        if let Some((op, end)) = before.filter(|_| !self.unsorted)
            && end > operation.call
        {
            let sentence = format!(
                "client {} calls #{} at {} ns while its #{op} is still under way",
                operation.client, operation.op, operation.call
            );
            self.faults.push(Malformed { line: index + 1, sentence });
        }
    }

    fn replace(&mut self, client: u32, last: (u64, u64)) -> Option<(u64, u64)> {
        if client >= FEW_CLIENTS {
            return self.last_of_many.insert(client, last);
        }
        let at = client as usize;
        if self.last.len() <= at {
            self.last.resize(at + 1, None);
        }
        self.last[at].replace(last)
    }

    /// All lines that are not part of a possible history; empty for a good one.
    pub(super) fn finish(self, operations: &[Operation]) -> Vec<Malformed> {
        if self.unsorted && self.faults.is_empty() {
            return faults_unsorted(operations);
        }
        self.faults
    }
}

/// The same for a history that is not in the order of calls: numbers and overlaps need sorting first.
fn faults_unsorted(operations: &[Operation]) -> Vec<Malformed> {
    let mut faults = Vec::new();
    let mut order: Vec<usize> = (0..operations.len()).collect();
    order.sort_by_key(|&index| operations[index].op);
    for pair in order.windows(2) {
        let (first, second) = (&operations[pair[0]], &operations[pair[1]]);
        if first.op == second.op {
            let sentence = format!("#{} is also the number of line {}", second.op, pair[0] + 1);
            faults.push(Malformed { line: pair[1] + 1, sentence });
        }
    }
    order.retain(|&index| !is_watch(&operations[index]));
    order.sort_by_key(|&index| {
        let operation = &operations[index];
        (operation.client, operation.call, operation.returned.unwrap_or(u64::MAX))
    });
    for pair in order.windows(2) {
        let (first, second) = (&operations[pair[0]], &operations[pair[1]]);
        if first.client == second.client && first.returned.unwrap_or(u64::MAX) > second.call {
            let sentence = format!(
                "client {} calls #{} at {} ns while its #{} is still under way",
                second.client, second.op, second.call, first.op
            );
            faults.push(Malformed { line: pair[1] + 1, sentence });
        }
    }
    faults
}

/// Watches go on beside what their client does.
fn is_watch(operation: &Operation) -> bool {
    matches!(operation.request, Request::Watch(_))
}

/// What is wrong with one operation by itself.
fn fault(operation: &Operation) -> Option<String> {
    let op = operation.op;
    if operation.returned.is_some_and(|returned| returned < operation.call) {
        return Some(format!("#{op} returns before it is called"));
    }
    match (operation.outcome, &operation.response) {
        (Outcome::Ok, None) => Some(format!("#{op} is ok, but has no response")),
        (Outcome::Ok, Some(_)) if operation.returned.is_none() => {
            Some(format!("#{op} is ok, but has no time of return"))
        }
        (Outcome::Ok, Some(response)) if !fits(&operation.request, &response.body) => {
            Some(format!("#{op}: the response is not of the request's kind"))
        }
        (Outcome::Failed | Outcome::Unknown, Some(_)) => {
            Some(format!("#{op} is not ok, but has a response"))
        }
        (Outcome::Failed, None) if operation.returned.is_none() => {
            Some(format!("#{op} has failed, but has no time of return"))
        }
        (Outcome::Failed, None) => failed(operation),
        (Outcome::Ok, Some(Response { body: Body::Watch { messages }, .. })) => {
            received(operation, messages)
        }
        _ => None,
    }
}

/// Messages arrive one after the other, while the watch is under way.
fn received(operation: &Operation, messages: &[WatchMessage]) -> Option<String> {
    let op = operation.op;
    let end = operation.returned.unwrap_or(u64::MAX);
    let mut last = operation.call;
    for (number, message) in messages.iter().enumerate() {
        if message.at < last || message.at > end {
            return Some(format!(
                "#{op}: message {number} arrives at {} ns, out of order or outside the watch's time",
                message.at
            ));
        }
        last = message.at;
    }
    None
}

fn failed(operation: &Operation) -> Option<String> {
    let op = operation.op;
    let Some(error) = &operation.error else {
        return Some(format!("#{op} has failed, but has no error"));
    };
    let open = OPEN_ERRORS.iter().find(|open| error.message.starts_with(*open))?;
    changes(&operation.request).then(|| {
        format!("#{op} is filed as failed, but \"{open}\" does not say that it had no effect")
    })
}

/// Whether a request could change anything in the cluster.
fn changes(request: &Request) -> bool {
    match request {
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).any(changes),
        Request::Range(_)
        | Request::LeaseTimeToLive { .. }
        | Request::LeaseLeases {}
        | Request::Watch(_)
        | Request::Leader { .. }
        | Request::HashKv { .. }
        | Request::StateHash {}
        | Request::MemberList { .. } => false,
        Request::Put(_)
        | Request::DeleteRange(_)
        | Request::Compact { .. }
        | Request::LeaseGrant { .. }
        | Request::LeaseRevoke { .. }
        | Request::LeaseKeepAlive { .. }
        | Request::Lock { .. }
        | Request::Unlock { .. }
        | Request::Campaign { .. }
        | Request::Proclaim { .. }
        | Request::Resign { .. }
        | Request::MemberAdd { .. }
        | Request::MemberRemove { .. }
        | Request::MemberPromote { .. }
        | Request::MemberUpdate { .. } => true,
        request => request.is_about_users(),
    }
}

/// Whether the response has the request's shape; nested ones are compared in full.
fn fits(request: &Request, body: &Body) -> bool {
    match (request, body) {
        (Request::Range(_), Body::Range { .. })
        | (Request::Put(_), Body::Put { .. })
        | (Request::DeleteRange(_), Body::DeleteRange { .. })
        | (Request::Compact { .. }, Body::Compact {})
        | (Request::LeaseGrant { .. }, Body::LeaseGrant { .. })
        | (Request::LeaseRevoke { .. }, Body::LeaseRevoke {})
        | (Request::LeaseKeepAlive { .. }, Body::LeaseKeepAlive { .. })
        | (Request::LeaseTimeToLive { .. }, Body::LeaseTimeToLive { .. })
        | (Request::LeaseLeases {}, Body::LeaseLeases { .. })
        | (Request::Watch(_), Body::Watch { .. })
        | (Request::Lock { .. }, Body::Lock { .. })
        | (Request::Unlock { .. }, Body::Unlock {})
        | (Request::Campaign { .. }, Body::Campaign { .. })
        | (Request::Proclaim { .. }, Body::Proclaim {})
        | (Request::Resign { .. }, Body::Resign {})
        | (Request::Leader { .. }, Body::Leader { .. })
        | (Request::HashKv { .. }, Body::HashKv { .. })
        | (Request::StateHash {}, Body::StateHash { .. }) => true,
        (request, Body::Members { .. }) => request.is_about_members(),
        (request, Body::Auth {}) => request.is_about_users(),
        (Request::Txn(txn), Body::Txn { succeeded, responses }) => {
            let done = if *succeeded { &txn.success } else { &txn.failure };
            done.len() == responses.len() && all_fit(done, responses)
        }
        _ => false,
    }
}

fn all_fit(requests: &[Request], responses: &[Response]) -> bool {
    requests.iter().zip(responses).all(|(request, response)| {
        let is_op = matches!(
            request,
            Request::Range(_) | Request::Put(_) | Request::DeleteRange(_) | Request::Txn(_)
        );
        is_op && fits(request, &response.body)
    })
}
