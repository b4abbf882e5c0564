//! The replicated state machine: a function of the log.
