//! What can go wrong in the server, as one flat enum, and which of it is part of the replicated state.
//!
//! The texts of [`Error::Refused`] are etcd's own (`api/v3rpc/rpctypes/error.go`): clients compare them letter by letter.

use std::fmt;
use std::path::PathBuf;

/// Short for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The request was refused, in etcd's words.
    Refused(Refusal),
    /// A file or the backend failed: what was done, where, and what the system said.
    Io {
        /// What was attempted, as in "sync the log".
        action: String,
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        cause: String,
    },
    /// Bytes on disk are not what was written there.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The configuration cannot be used: what, and how to mend it.
    Config(String),
    /// This member is not one of its cluster any more: what to do with what it left behind.
    Removed(String),
    /// A rule of the program itself was broken; continuing would risk data.
    Fatal(String),
}

impl Error {
    /// Whether every member that applies the same entry to the same state gets this same error.
    ///
    /// Such an error is an answer; any other one, met while applying, must stop the process before the members diverge.
    #[must_use]
    pub fn is_deterministic(&self) -> bool {
        match self {
            // A verdict on the request and the state alone.
            Self::Refused(refusal) => refusal.is_deterministic(),
            // One member's disk, configuration or bug.
            Self::Io { .. }
            | Self::Corrupt { .. }
            | Self::Config(_)
            | Self::Removed(_)
            | Self::Fatal(_) => false,
        }
    }

    /// An [`Error::Io`] from what the system said.
    pub fn io(
        action: impl Into<String>,
        path: impl Into<PathBuf>,
        cause: impl fmt::Display,
    ) -> Self {
        Self::Io { action: action.into(), path: path.into(), cause: cause.to_string() }
    }

    /// An [`Error::Corrupt`] at a place in a file.
    pub fn corrupt(path: impl Into<PathBuf>, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.into(), offset, reason: reason.into() }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "{}", refusal.text()),
            Self::Io { action, path, cause } => {
                write!(f, "cannot {action}: {}: {cause}", path.display())
            }
            Self::Corrupt { path, offset, reason } => {
                write!(f, "corrupt file {} at offset {offset}: {reason}", path.display())
            }
            Self::Config(text) | Self::Removed(text) | Self::Fatal(text) => write!(f, "{text}"),
        }
    }
}

/// The gRPC codes that refusals use (numbers as gRPC's).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "gRPC's own names")]
pub enum Code {
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    OutOfRange = 11,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// One row of the table of refusals: variant, code, deterministic, text.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident, $code:ident, $deterministic:literal, $text:literal;)*) => {
        /// etcd's errors.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Refusal { $($(#[$doc])* $name,)* }

        impl Refusal {
            /// All of them, for tables and tests.
            pub const ALL: &[Refusal] = &[$(Refusal::$name,)*];

            /// The text on the wire.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The gRPC code on the wire.
            #[must_use]
            pub fn code(self) -> Code {
                match self { $(Self::$name => Code::$code,)* }
            }

            /// Whether it is a verdict on request and state alone.
            #[must_use]
            pub fn is_deterministic(self) -> bool {
                match self { $(Self::$name => $deterministic,)* }
            }
        }
    };
}

refusals! {
    /// A request without a key.
    EmptyKey, InvalidArgument, true, "etcdserver: key is not provided";
    /// `ignore_value` or `ignore_lease` on a missing key, or an operation that says nothing.
    KeyNotFound, InvalidArgument, true, "etcdserver: key not found";
    /// A value together with `ignore_value`.
    ValueProvided, InvalidArgument, true, "etcdserver: value is provided";
    /// A lease together with `ignore_lease`.
    LeaseProvided, InvalidArgument, true, "etcdserver: lease is provided";
    /// More operations in a txn than allowed.
    TooManyOps, InvalidArgument, true, "etcdserver: too many operations in txn request";
    /// Two writes of one key on one path of a txn.
    DuplicateKey, InvalidArgument, true, "etcdserver: duplicate key given in txn request";
    /// A sort order or target that does not exist.
    InvalidSortOption, InvalidArgument, true, "etcdserver: invalid sort option";
    /// The revision is below the compact revision.
    Compacted, OutOfRange, true, "etcdserver: mvcc: required revision has been compacted";
    /// The revision is above the current one.
    FutureRevision, OutOfRange, true, "etcdserver: mvcc: required revision is a future revision";
    /// The lease does not exist.
    LeaseNotFound, NotFound, true, "etcdserver: requested lease not found";
    /// The id is another lease's.
    LeaseExists, FailedPrecondition, true, "etcdserver: lease already exists";
    /// The time to live is longer than etcd's longest.
    LeaseTtlTooLarge, OutOfRange, true, "etcdserver: too large lease TTL";
    /// The request is larger than allowed.
    RequestTooLarge, InvalidArgument, true, "etcdserver: request is too large";
    /// There is no user called root.
    RootUserNotExist, FailedPrecondition, true, "etcdserver: root user does not exist";
    /// The user called root has not the role of that name.
    RootRoleNotExist, FailedPrecondition, true, "etcdserver: root user does not have root role";
    /// The name is another user's.
    UserExists, FailedPrecondition, true, "etcdserver: user name already exists";
    /// A user without a name, or nobody where somebody must ask.
    UserEmpty, InvalidArgument, true, "etcdserver: user name is empty";
    /// There is no such user.
    UserNotFound, FailedPrecondition, true, "etcdserver: user name not found";
    /// The name is another role's.
    RoleExists, FailedPrecondition, true, "etcdserver: role name already exists";
    /// There is no such role.
    RoleNotFound, FailedPrecondition, true, "etcdserver: role name not found";
    /// A role without a name.
    RoleEmpty, InvalidArgument, true, "etcdserver: role name is empty";
    /// No such user, or not that user's password.
    AuthFailed, InvalidArgument, true, "etcdserver: authentication failed, invalid user ID or password";
    /// A password for a user who has none, or one that cannot be read; etcd sends this one with code Unknown.
    NoPasswordUser, Unknown, true, "auth: authentication failed, password was given for no password user";
    /// A permission was to be granted, and none was named.
    PermissionNotGiven, InvalidArgument, true, "etcdserver: permission not given";
    /// The user may not do that.
    PermissionDenied, PermissionDenied, true, "etcdserver: permission denied";
    /// The user has not that role.
    RoleNotGranted, FailedPrecondition, true, "etcdserver: role is not granted to the user";
    /// The role has not that permission.
    PermissionNotGranted, FailedPrecondition, true, "etcdserver: permission is not granted to the role";
    /// Nobody can be authenticated while authentication is off.
    AuthNotEnabled, FailedPrecondition, true, "etcdserver: authentication is not enabled";
    /// What would lock everybody out, or a permission on no key.
    InvalidAuthManagement, InvalidArgument, true, "etcdserver: invalid auth management";
    /// Users, roles or permissions have changed since the member looked at who asks.
    AuthOldRevision, InvalidArgument, true, "etcdserver: revision of auth store is old";
    /// The member does not know the token.
    InvalidAuthToken, Unauthenticated, false, "etcdserver: invalid auth token";
    /// A token was to be signed by a member that can only check them; etcd sends this one with code Unknown.
    VerifyOnly, Unknown, false, "auth: token signing attempted with verify-only key";
    /// The member has too much to apply; etcd sends this one with code Unknown.
    TooManyRequests, Unknown, false, "etcdserver: too many requests";
    /// No leader is known.
    NoLeader, Unavailable, false, "etcdserver: no leader";
    /// Asked for something that only the leader does.
    NotLeader, FailedPrecondition, false, "etcdserver: not leader";
    /// The leader changed while the request was under way.
    LeaderChanged, Unavailable, false, "etcdserver: leader changed";
    /// The member is stopping.
    Stopped, Unavailable, false, "etcdserver: server stopped";
    /// No answer in time; the request may still take effect.
    Timeout, Unavailable, false, "etcdserver: request timed out";
    /// As [`Refusal::Timeout`], with a leader lost on the way.
    TimeoutLeaderFail, Unavailable, false, "etcdserver: request timed out, possibly due to previous leader failure";
    /// The read index was known but applying up to it took too long.
    TimeoutWaitAppliedIndex, Unavailable, false, "etcdserver: request timed out, waiting for the applied index took too long";
    /// The database has reached its quota.
    NoSpace, ResourceExhausted, true, "etcdserver: mvcc: database space exceeded";
    /// Members were found to differ.
    Corrupt, DataLoss, true, "etcdserver: corrupt cluster";
    /// A version that is none.
    WrongDowngradeVersionFormat, InvalidArgument, false, "etcdserver: wrong downgrade target version format";
    /// A version that cannot be gone back to.
    InvalidDowngradeTargetVersion, InvalidArgument, false, "etcdserver: invalid downgrade target version";
    /// There is no downgrade to cancel.
    NoInflightDowngrade, FailedPrecondition, false, "etcdserver: no inflight downgrade job";
    /// A new member's id is another's.
    MemberExists, FailedPrecondition, true, "etcdserver: member ID already exist";
    /// A peer URL is another member's.
    PeerUrlExists, FailedPrecondition, true, "etcdserver: Peer URLs already exists";
    /// The change would leave fewer started members than a quorum; etcd sends this one with code Unknown.
    MemberNotEnoughStarted, Unknown, true, "etcdserver: re-configuration failed due to not enough started members";
    /// Peer URLs that are none.
    MemberBadUrls, InvalidArgument, true, "etcdserver: given member URLs are invalid";
    /// There is no such member, or no more.
    MemberNotFound, NotFound, true, "etcdserver: member not found";
    /// The member votes already.
    MemberNotLearner, FailedPrecondition, true, "etcdserver: can only promote a learner member";
    /// The learner is too far behind to be given a vote.
    LearnerNotReady, FailedPrecondition, false, "etcdserver: can only promote a learner member which is in sync with leader";
    /// As many learners as there may be are there already.
    TooManyLearners, FailedPrecondition, true, "etcdserver: too many learner members in cluster";
    /// Too few members were heard of lately for the change to be safe.
    Unhealthy, Unavailable, false, "etcdserver: unhealthy cluster";
    /// A learner only answers serializable ranges and questions about itself.
    NotSupportedForLearner, FailedPrecondition, false, "etcdserver: rpc not supported for learner";
    /// The member cannot take over leadership.
    BadLeaderTransferee, FailedPrecondition, false, "etcdserver: bad leader transferee";
    /// Leadership was not taken over in time.
    TimeoutLeaderTransfer, Unknown, false, "etcdserver: request timed out, leader transfer took too long";
}
