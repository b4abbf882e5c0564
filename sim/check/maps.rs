//! Reads histories in EDN: maps with `:process`, `:type`, `:f`, `:value`, as Knossos, Jepsen and Porcupine keep them.
//!
//! The maps stand one after another or in one list, each on a line or on many. `:fail` means: did not happen;
//! `:info`: crashed, outcome unknown. Events of the nemesis are passed over, as are keys that nobody needs.

use super::Refusal;
use super::edn::{Reader, Value, clip};
use super::events::{Entries, Event, Kind};

/// Reads a history.
///
/// # Errors
/// Names the first line that has no place in one.
pub fn read(text: &str) -> Result<Entries, Refusal> {
    let mut entries = Entries::default();
    let mut reader = Reader::new(text, 1);
    if let Some(list) = reader.enter_list()? {
        while let Some((line, value)) = reader.next_within(&list)? {
            add(&mut entries, line, &value)?;
        }
        if let Some((line, value)) = reader.next()? {
            let reason = format!("`{}` stands behind the history", clip(&value.to_string()));
            return Err(Refusal { line, reason });
        }
        return Ok(entries);
    }
    while let Some((line, value)) = reader.next()? {
        add(&mut entries, line, &value)?;
    }
    Ok(entries)
}

fn add(entries: &mut Entries, line: usize, value: &Value) -> Result<(), Refusal> {
    let refuse = |reason: String| Err(Refusal { line, reason });
    let Value::Map(_) = value else {
        return refuse(format!("`{}` is not an event, which is a map", clip(&value.to_string())));
    };
    let Some(process) = value.get("process") else {
        return refuse("the event has no :process".to_owned());
    };
    let is_nemesis = |name: &str| name == "nemesis";
    match process {
        Value::Keyword(name) | Value::Text(name) if is_nemesis(name) => {
            entries.passed_over += 1;
            return Ok(());
        }
        _ => {}
    }
    let kind = match value.get("type") {
        Some(Value::Keyword(name)) => Kind::named(name),
        Some(_) => None,
        None => return refuse("the event has no :type".to_owned()),
    };
    let Some(kind) = kind else {
        return refuse("the :type is not :invoke, :ok, :fail or :info".to_owned());
    };
    let f = match value.get("f") {
        Some(Value::Keyword(name)) => name.clone(),
        Some(other) => {
            return refuse(format!("the :f {} is not a keyword", clip(&other.to_string())));
        }
        None => return refuse("the event has no :f".to_owned()),
    };
    entries.add(Event {
        line,
        process: process.clone(),
        kind,
        f,
        key: value.get("key").cloned(),
        value: value.get("value").cloned().unwrap_or(Value::Nil),
    })
}
