//! The operating system as a [`Host`](super::Host).
