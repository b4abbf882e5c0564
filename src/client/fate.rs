//! What an error says about whether a request has happened, and what may be sent again.
//!
//! Only what the server itself says it refused, and what was never sent, has certainly not happened. To call a write
//! *not done* that took effect is worse than to call one *unknown* that was refused: whoever does it again does it
//! twice, and a checker sees ghosts.

use std::fmt;

use tonic::{Code, Status};

/// Whether a request that ended in an error may have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has not, and will not.
    NotDone,
    /// It may have, and it may still.
    Unknown,
}

impl Fate {
    /// What an error means for the request.
    #[must_use]
    pub fn of(status: &Status) -> Self {
        if never_sent(status) || is_refusal(status) { Self::NotDone } else { Self::Unknown }
    }
}

/// Whether a request may be sent a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It changes nothing, or doing it twice is doing it once: whenever a member or the way to it has failed.
    Freely,
    /// Only where it was certainly never sent.
    IfNeverSent,
}

impl Repeat {
    /// Whether a request that ended in this error is sent again, by the rules of etcd's client: what cannot be repeated
    /// is not, whatever is likely; what can be is repeated where the member is unavailable, and not where it has
    /// answered.
    #[must_use]
    pub fn allows(self, status: &Status) -> bool {
        match self {
            Self::IfNeverSent => never_sent(status),
            Self::Freely => status.code() == Code::Unavailable || broke_on_the_way(status),
        }
    }
}

/// A connection that could not be made: nothing was sent.
#[derive(Debug)]
pub struct NotConnected(pub std::io::Error);

impl std::error::Error for NotConnected {}

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not connected: {}", self.0)
    }
}

/// Whether the server says that it did nothing; it is well then.
pub(super) fn is_refusal(status: &Status) -> bool {
    let message = status.message();
    // Only the server's own words count: client libraries use the same codes for failures on the way.
    if !message.starts_with("etcdserver: ") {
        return false;
    }
    match status.code() {
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

/// Whether it was no server that said it. Errors of connections get whatever code is near; gRPC's other libraries call
/// all of them unavailable.
fn broke_on_the_way(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
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
    use tonic::{Code, Status};

    use super::{Fate, NotConnected, Repeat};
    use crate::error::Refusal;

    fn not_connected() -> NotConnected {
        NotConnected(std::io::ErrorKind::ConnectionRefused.into())
    }

    /// Every refusal that the server knows, with what it means to a client whose request was a write.
    #[test]
    fn every_refusal_of_the_server() {
        let unknown: Vec<Refusal> = Refusal::ALL
            .iter()
            .copied()
            .filter(|refusal| {
                let status = Status::new(Code::from(refusal.code() as i32), refusal.text());
                Fate::of(&status) == Fate::Unknown
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
        let check = |code: Code, message: &str, fate: Fate| {
            assert_eq!(Fate::of(&Status::new(code, message)), fate, "{code:?} {message}");
        };
        check(
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
            Fate::NotDone,
        );
        check(
            Code::InvalidArgument,
            "etcdserver: duplicate key given in txn request",
            Fate::NotDone,
        );
        check(Code::ResourceExhausted, "etcdserver: too many requests", Fate::NotDone);
        check(Code::Unknown, "etcdserver: too many requests", Fate::NotDone);
        check(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", Fate::NotDone);
        check(Code::Unavailable, "etcdserver: leader changed", Fate::Unknown);
        check(Code::Unavailable, "etcdserver: request timed out", Fate::Unknown);
        check(
            Code::Unavailable,
            "etcdserver: request timed out, possibly due to connection lost",
            Fate::Unknown,
        );
        check(Code::DeadlineExceeded, "etcdserver: context deadline exceeded", Fate::Unknown);
        check(Code::DataLoss, "etcdserver: corrupt cluster", Fate::Unknown);
        check(Code::Cancelled, "operation was canceled", Fate::Unknown);
        check(Code::Unavailable, "connection reset by peer", Fate::Unknown);
        // The answer was too large for the client: the write has happened.
        check(Code::ResourceExhausted, "decoded message length too large", Fate::Unknown);
        check(Code::Internal, "h2 protocol error", Fate::Unknown);
    }

    /// A request whose connection was never made has had no effect, however deep the cause is wrapped.
    #[test]
    fn what_was_never_sent_is_not_done() {
        let fate =
            |cause: Box<dyn std::error::Error + Send + Sync>| Fate::of(&Status::from_error(cause));
        assert_eq!(fate(Box::new(not_connected())), Fate::NotDone);
        assert_eq!(fate(Box::new(std::io::Error::other(not_connected()))), Fate::NotDone);
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert_eq!(fate(Box::new(reset)), Fate::Unknown);
    }

    /// A write is sent again only where it was never sent; a read wherever a member or the way to it has failed, and
    /// not where the member has answered.
    #[test]
    fn what_is_sent_again() {
        let check = |status: Status, freely: bool, if_never_sent: bool| {
            let allowed = [Repeat::Freely, Repeat::IfNeverSent].map(|it| it.allows(&status));
            assert_eq!(allowed, [freely, if_never_sent], "{status:?}");
        };
        check(Status::from_error(Box::new(not_connected())), true, true);
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        check(Status::from_error(Box::new(reset)), true, false);
        check(Status::unavailable("etcdserver: leader changed"), true, false);
        check(Status::unavailable("etcdserver: request timed out"), true, false);
        check(Status::resource_exhausted("etcdserver: too many requests"), false, false);
        check(Status::not_found("etcdserver: requested lease not found"), false, false);
        check(Status::deadline_exceeded("the client gave up"), false, false);
    }
}
