//! Flags and limits of one member, each limit with its reason.
