//! Whether an operation that ended in an error may have happened.
//!
//! A checker is only as sound as this table: to call a write *failed* that took effect makes it see ghosts,
//! to call one *unknown* that was refused costs it a little certainty. So only what the server itself says it refused,
//! and what was never sent, is *failed*; everything else is *unknown*.

use tonic::{Code, Status};

use crate::history::{Failure, Outcome};

/// A connection that could not be made: nothing was sent.
#[derive(Debug)]
pub struct NotConnected(pub std::io::Error);

impl std::error::Error for NotConnected {}

impl std::fmt::Display for NotConnected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not connected: {}", self.0)
    }
}

/// What an error means for the operation, and the error as the history keeps it.
#[must_use]
pub fn classify(status: &Status) -> (Outcome, Failure) {
    let failure =
        Failure { code: format!("{:?}", status.code()), message: status.message().to_string() };
    let outcome = if never_sent(status) || refused(status.code(), status.message()) {
        Outcome::Failed
    } else {
        Outcome::Unknown
    };
    (outcome, failure)
}

/// The client's own patience ended first.
#[must_use]
pub fn gave_up(timeout_us: u64) -> (Outcome, Failure) {
    let message = format!("the client gave up after {} ms", timeout_us / 1000);
    (Outcome::Unknown, Failure { code: "DeadlineExceeded".into(), message })
}

/// Whether the server says that it did nothing.
fn refused(code: Code, message: &str) -> bool {
    // Only the server's own words count: client libraries use the same codes for failures on the way.
    if !message.starts_with("etcdserver: ") {
        return false;
    }
    match code {
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::NotFound
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::ResourceExhausted => true,
        // etcd sends this refusal without a code of its own.
        Code::Unknown => {
            message == "etcdserver: too many requests"
                || message.starts_with("etcdserver: re-configuration failed")
        }
        Code::Unavailable => message == "etcdserver: unhealthy cluster",
        _ => false,
    }
}

/// Whether the connection was never made.
fn never_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<NotConnected>() {
            return true;
        }
        // An io::Error hands out the source of what it wraps, not what it wraps.
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && io.get_ref().is_some_and(|inner| inner.is::<NotConnected>())
        {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use snowglobe::error::Refusal;
    use tonic::{Code, Status};

    use super::{NotConnected, classify};
    use crate::history::Outcome;

    /// Every refusal that the server knows, with what it means to a client whose request was a write.
    #[test]
    fn every_refusal_of_the_server() {
        let unknown: Vec<Refusal> = Refusal::ALL
            .iter()
            .copied()
            .filter(|refusal| {
                let status = Status::new(Code::from(refusal.code() as i32), refusal.text());
                classify(&status).0 == Outcome::Unknown
            })
            .collect();
        let expected = [
            Refusal::NoPasswordUser,
            // A member that signs no tokens says it to who logs in.
            Refusal::VerifyOnly,
            Refusal::NoLeader,
            Refusal::LeaderChanged,
            Refusal::Stopped,
            Refusal::Timeout,
            Refusal::TimeoutLeaderFail,
            Refusal::TimeoutWaitAppliedIndex,
            Refusal::Corrupt,
            Refusal::TimeoutLeaderTransfer,
        ];
        assert_eq!(unknown, expected);
    }

    /// The rows of Jepsen's table for etcd, and what a connection can die of.
    #[test]
    fn table() {
        let check = |code: Code, message: &str, outcome: Outcome| {
            assert_eq!(classify(&Status::new(code, message)).0, outcome, "{code:?} {message}");
        };
        check(
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
            Outcome::Failed,
        );
        check(
            Code::InvalidArgument,
            "etcdserver: duplicate key given in txn request",
            Outcome::Failed,
        );
        check(Code::ResourceExhausted, "etcdserver: too many requests", Outcome::Failed);
        check(Code::Unknown, "etcdserver: too many requests", Outcome::Failed);
        check(
            Code::ResourceExhausted,
            "etcdserver: mvcc: database space exceeded",
            Outcome::Failed,
        );
        check(Code::Unavailable, "etcdserver: leader changed", Outcome::Unknown);
        check(Code::Unavailable, "etcdserver: request timed out", Outcome::Unknown);
        check(
            Code::Unavailable,
            "etcdserver: request timed out, possibly due to connection lost",
            Outcome::Unknown,
        );
        check(Code::DeadlineExceeded, "etcdserver: context deadline exceeded", Outcome::Unknown);
        check(Code::DataLoss, "etcdserver: corrupt cluster", Outcome::Unknown);
        check(Code::Cancelled, "operation was canceled", Outcome::Unknown);
        check(Code::Unavailable, "connection reset by peer", Outcome::Unknown);
        // The answer was too large for the client: the write has happened.
        check(Code::ResourceExhausted, "decoded message length too large", Outcome::Unknown);
        check(Code::Internal, "h2 protocol error", Outcome::Unknown);
    }

    /// A request whose connection was never made has had no effect, however deep the cause is wrapped.
    #[test]
    fn what_was_never_sent_has_failed() {
        let refused = || NotConnected(std::io::ErrorKind::ConnectionRefused.into());
        assert_eq!(classify(&Status::from_error(Box::new(refused()))).0, Outcome::Failed);
        let wrapped = std::io::Error::other(refused());
        assert_eq!(classify(&Status::from_error(Box::new(wrapped))).0, Outcome::Failed);
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert_eq!(classify(&Status::from_error(Box::new(reset))).0, Outcome::Unknown);
    }
}
