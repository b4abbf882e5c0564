//! Kinds of messages that members send each other, as scenarios name them.

use raft::eraftpb::MessageType;

/// Kinds, as far as it matters which one is lost.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum MessageKind {
    /// Entries for a follower, or how far it may apply them.
    Append,
    /// What a follower has of them.
    AppendResponse,
    /// A sign of life of the leader, which may ask for a confirmation of its leadership.
    Heartbeat,
    /// The answer to it.
    HeartbeatResponse,
    /// A question for a vote, or whether there would be one.
    Vote,
    /// The answer to it.
    VoteResponse,
    /// A question for the index that a linearizable read needs, or the answer to it.
    ReadIndex,
    /// Proposals that a follower passes on.
    Propose,
    /// Who is to lead next.
    Transfer,
    /// A piece of a snapshot.
    Snapshot,
}

impl MessageKind {
    /// Each with its name in files, and what it says.
    #[rustfmt::skip]
    pub const ALL: &[(Self, &'static str, &'static str)] = &[
        (Self::Append, "append", "entries for a follower, or how far it may apply them"),
        (Self::AppendResponse, "append-response", "what a follower has of them"),
        (Self::Heartbeat, "heartbeat", "a sign of life of the leader, which may ask whether it still leads"),
        (Self::HeartbeatResponse, "heartbeat-response", "the answer to it"),
        (Self::Vote, "vote", "a question for a vote, or whether there would be one"),
        (Self::VoteResponse, "vote-response", "the answer to it"),
        (Self::ReadIndex, "read-index", "a question for the index that a linearizable read needs, or the answer"),
        (Self::Propose, "propose", "proposals that a follower passes on"),
        (Self::Transfer, "transfer", "who is to lead next"),
        (Self::Snapshot, "snapshot", "a piece of a snapshot"),
    ];

    /// The kind that raft's type is of; none for what never travels.
    #[must_use]
    pub fn of(message: MessageType) -> Option<Self> {
        use MessageType as T;
        Some(match message {
            T::MsgAppend => Self::Append,
            T::MsgAppendResponse => Self::AppendResponse,
            T::MsgHeartbeat => Self::Heartbeat,
            T::MsgHeartbeatResponse => Self::HeartbeatResponse,
            T::MsgRequestVote | T::MsgRequestPreVote => Self::Vote,
            T::MsgRequestVoteResponse | T::MsgRequestPreVoteResponse => Self::VoteResponse,
            T::MsgReadIndex | T::MsgReadIndexResp => Self::ReadIndex,
            T::MsgPropose => Self::Propose,
            T::MsgTransferLeader | T::MsgTimeoutNow => Self::Transfer,
            T::MsgSnapshot => Self::Snapshot,
            T::MsgHup | T::MsgBeat | T::MsgUnreachable | T::MsgSnapStatus | T::MsgCheckQuorum => {
                return None;
            }
        })
    }
}
