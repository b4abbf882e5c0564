//! raft-rs's own log lines, passed on to `tracing` at level debug.

use std::fmt::Write as _;

use slog::{Drain, KV, OwnedKVList, Record, Serializer, o};

/// The logger that raft-rs is given.
pub(super) fn logger() -> slog::Logger {
    slog::Logger::root(ToTracing, o!())
}

struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), slog::Never> {
        // Most records are dropped here: nothing is formatted for them.
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return Ok(());
        }
        let mut text = record.msg().to_string();
        // Writing to a string does not fail.
        let _ = record.kv().serialize(record, &mut Pairs(&mut text));
        tracing::debug!(target: "raft", "{text}");
        Ok(())
    }
}

struct Pairs<'a>(&'a mut String);

impl Serializer for Pairs<'_> {
    fn emit_arguments(&mut self, key: slog::Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}").map_err(slog::Error::from)
    }
}
