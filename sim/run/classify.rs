//! Whether an operation that ended in an error may have happened, as the history keeps it.
//!
//! A checker is only as sound as the table behind this, which is [`Fate`]'s.

use snowglobe::client::Fate;
use tonic::Status;

use crate::history::{Failure, Outcome};

/// What an error means for the operation, and the error as the history keeps it.
#[must_use]
pub fn classify(status: &Status) -> (Outcome, Failure) {
    let failure =
        Failure { code: format!("{:?}", status.code()), message: status.message().to_string() };
    let outcome = match Fate::of(status) {
        Fate::NotDone => Outcome::Failed,
        Fate::Unknown => Outcome::Unknown,
    };
    (outcome, failure)
}

/// The client's own patience ended first.
#[must_use]
pub fn gave_up(timeout_us: u64) -> (Outcome, Failure) {
    let message = format!("the client gave up after {} ms", timeout_us / 1000);
    (Outcome::Unknown, Failure { code: "DeadlineExceeded".into(), message })
}
