//! Reads Jepsen's logs of registers: `INFO  jepsen.util - 3  :invoke  :cas  [1 2]`, blanks or tabs.
//!
//! Traps of the format: a refused `:cas` is an observation (the register was something else); `:fail :read
//! :timed-out` and `:info` leave the outcome open; what never returns is open as well. Lines of the nemesis are
//! passed over, and in a log that was not trimmed (it has lines of `lein test` or of `jepsen.core`) whatever others logged.

use super::Refusal;
use super::edn::{Reader, Value, clip};
use super::events::{Entries, Event, Kind};

/// What stands before each event.
const LOGGER: &str = "jepsen.util - ";

/// Whether a text looks like such a log.
pub fn is_like(text: &str) -> bool {
    text.lines().any(|line| event_text(line).is_some())
}

fn event_text(line: &str) -> Option<&str> {
    let (level, rest) = line.split_once(char::is_whitespace)?;
    let is_level = !level.is_empty() && level.bytes().all(|byte| byte.is_ascii_uppercase());
    rest.trim_start().strip_prefix(LOGGER).filter(|_| is_level)
}

/// Reads a log.
///
/// # Errors
/// Names the first line that has no place in one.
pub fn read(text: &str) -> Result<Entries, Refusal> {
    let is_other = |line: &str| {
        line.starts_with("lein test")
            || line
                .strip_prefix("INFO")
                .is_some_and(|rest| rest.trim_start().starts_with("jepsen.core - "))
    };
    let is_whole = text.lines().any(is_other);
    let mut entries = Entries::default();
    entries.refusals_tell = true;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.trim().is_empty() {
            continue;
        }
        let refuse = |reason: String| Err(Refusal { line: number, reason });
        match event_text(line) {
            Some(event) => match read_event(number, event)? {
                Some(event) => entries.add(event)?,
                None => entries.passed_over += 1,
            },
            None if is_whole => {}
            None => return refuse(format!("`{}` is not a line of a Jepsen log", clip(line))),
        }
    }
    Ok(entries)
}

fn read_event(line: usize, text: &str) -> Result<Option<Event>, Refusal> {
    let refuse = |reason: String| Err(Refusal { line, reason });
    let mut rest = text;
    let mut word = || {
        rest = rest.trim_start();
        let (word, after) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
        rest = after;
        word
    };
    let (process, kind, f) = (word(), word(), word());
    if process.starts_with(":nemesis") {
        return Ok(None);
    }
    if process.is_empty() || !process.bytes().all(|byte| byte.is_ascii_digit()) {
        return refuse(format!("`{}` is not the number of a process", clip(process)));
    }
    let Some(kind) = kind.strip_prefix(':').and_then(Kind::named) else {
        return refuse(format!("`{}` is not :invoke, :ok, :fail or :info", clip(kind)));
    };
    let Some(f) = f.strip_prefix(':').filter(|f| !f.is_empty()) else {
        return refuse(format!("`{}` is not the name of an operation", clip(f)));
    };
    // Of an unknown end the value says nothing; it may be the text of an exception.
    let value = if kind == Kind::Info { Value::Nil } else { read_value(line, rest)? };
    let is_late = kind == Kind::Fail && value.is_keyword("timed-out");
    let kind = if is_late { Kind::Info } else { kind };
    let process = Value::Int(process.into());
    Ok(Some(Event { line, process, kind, f: f.into(), key: None, value }))
}

fn read_value(line: usize, text: &str) -> Result<Value, Refusal> {
    let mut reader = Reader::new(text, line);
    let value = reader.next()?;
    if let Some((_, more)) = reader.next()?
        && !value.as_ref().is_some_and(|(_, value)| matches!(value, Value::Keyword(_)))
    {
        let reason = format!("`{}` stands behind the value", clip(&more.to_string()));
        return Err(Refusal { line, reason });
    }
    match value {
        Some((_, value)) => Ok(value),
        None => Err(Refusal { line, reason: "the value is missing".to_owned() }),
    }
}
