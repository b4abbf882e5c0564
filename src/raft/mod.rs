//! The one loop that owns raft and the state machine.
