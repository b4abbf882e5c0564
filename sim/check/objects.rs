//! From entries to the operations of a model: what `:f`, `:value` and `:fail` mean for each kind of object.

use std::collections::HashMap;
use std::rc::Rc;

use super::Refusal;
use super::edn::{Value, clip};
use super::events::{End, Entries, Entry};
use crate::checker::generic::models::{Names, kv, lock, multi, queue, register, set};
use crate::checker::generic::{Call, History};

/// Numbers for values, in the order in which they turn up.
#[derive(Default)]
struct Numbers {
    numbers: HashMap<Value, u32>,
    names: Names,
}

impl Numbers {
    fn of(&mut self, value: &Value) -> u32 {
        if let Some(number) = self.numbers.get(value) {
            return *number;
        }
        let number = self.names.0.len() as u32;
        self.numbers.insert(value.clone(), number);
        self.names.0.push(match value {
            Value::Text(text) => text.to_string(),
            other => other.to_string(),
        });
        number
    }
}

/// What an entry means: an operation and whether it is known to have happened; nothing if it did not happen.
type Meaning<O> = Result<Option<(O, bool)>, String>;

/// Makes a history of what each entry means.
fn history<O>(
    entries: &Entries,
    mut meaning: impl FnMut(&Entry) -> Meaning<O>,
) -> Result<History<O>, Refusal> {
    let mut calls = Vec::with_capacity(entries.list.len());
    for (number, entry) in entries.list.iter().enumerate() {
        let meant =
            meaning(entry).map_err(|reason| Refusal { line: entry.lines.0 as usize, reason })?;
        if let Some((op, is_known)) = meant {
            calls.push(Call {
                number: number as u64,
                process: entry.process,
                call: entry.call,
                ret: entry.ret.filter(|_| is_known),
                lines: entry.lines,
                op,
            });
        }
    }
    Ok(History { calls, processes: entries.processes.clone() })
}

/// An operation of which only the answer `ok` says that it happened.
fn plain<O>(entry: &Entry, op: O) -> Meaning<O> {
    match entry.end {
        End::Ok(_) => Ok(Some((op, true))),
        End::Fail(_) => Ok(None),
        End::Unknown => Ok(Some((op, false))),
    }
}

/// A read, which says nothing without an answer.
fn answered<O>(entry: &Entry, op: impl FnOnce(&Value) -> Result<O, String>) -> Meaning<O> {
    match &entry.end {
        End::Ok(value) => Ok(Some((op(value)?, true))),
        End::Fail(_) | End::Unknown => Ok(None),
    }
}

fn unknown_f<T>(entry: &Entry, known: &str) -> Result<T, String> {
    Err(format!("unknown :f :{}; this model has {known}", clip(&entry.f)))
}

/// The value must not be another than was asked for.
fn same(entry: &Entry) -> Result<(), String> {
    match &entry.end {
        End::Ok(value) if *value != entry.asked && *value != Value::Nil => Err(format!(
            ":{} {} is answered with {} on line {}",
            entry.f,
            clip(&entry.asked.to_string()),
            clip(&value.to_string()),
            entry.lines.1
        )),
        _ => Ok(()),
    }
}

/// A register; nil at first.
pub fn register(
    entries: &Entries,
    has_cas: bool,
) -> Result<(register::Register, History<register::Op>), Refusal> {
    let mut values = Numbers::default();
    let initial = values.of(&Value::Nil);
    let history = history(entries, |entry| match &*entry.f {
        "read" => answered(entry, |value| Ok(register::Op::Read(Some(values.of(value))))),
        "write" => {
            same(entry)?;
            plain(entry, register::Op::Write(values.of(&entry.asked)))
        }
        "cas" if has_cas => {
            same(entry)?;
            let Value::List(pair) = &entry.asked else {
                return Err(format!("`{}` is not a pair", clip(&entry.asked.to_string())));
            };
            let [from, to] = &**pair else {
                return Err(format!("`{}` is not a pair", clip(&entry.asked.to_string())));
            };
            let (from, to) = (values.of(from), values.of(to));
            let cas = |done| register::Op::Cas { from, to, done };
            match &entry.end {
                End::Ok(_) => Ok(Some((cas(Some(true)), true))),
                End::Fail(_) if entries.refusals_tell => Ok(Some((cas(Some(false)), true))),
                End::Fail(_) => Ok(None),
                End::Unknown => Ok(Some((cas(None), false))),
            }
        }
        _ if has_cas => unknown_f(entry, ":read, :write and :cas"),
        _ => unknown_f(entry, ":read and :write"),
    })?;
    Ok((register::Register { initial, names: values.names }, history))
}

/// Keys with text; empty at first.
pub fn kv(entries: &Entries) -> Result<(kv::Kv, History<kv::Op>), Refusal> {
    let mut keys = Numbers::default();
    let text = |value: &Value| -> Rc<str> {
        match value {
            Value::Text(text) => text.clone(),
            // A key that is not there.
            Value::Nil => "".into(),
            other => other.to_string().into(),
        }
    };
    let history = history(entries, |entry| {
        let Some(key) = &entry.key else {
            return Err(format!(":{} has no :key", clip(&entry.f)));
        };
        let key = keys.of(key);
        match &*entry.f {
            "get" | "read" => {
                answered(entry, |value| Ok(kv::Op { key, ask: kv::Ask::Get(Some(text(value))) }))
            }
            "put" | "write" => {
                same(entry)?;
                plain(entry, kv::Op { key, ask: kv::Ask::Put(text(&entry.asked)) })
            }
            "append" => {
                same(entry)?;
                plain(entry, kv::Op { key, ask: kv::Ask::Append(text(&entry.asked)) })
            }
            _ => unknown_f(entry, ":get, :put and :append"),
        }
    })?;
    Ok((kv::Kv { names: keys.names }, history))
}

/// A set; empty at first.
pub fn set(entries: &Entries) -> Result<(set::Set, History<set::Op>), Refusal> {
    let mut elements = Numbers::default();
    let told = |entry: &Entry| match &entry.end {
        End::Ok(Value::Other(word)) if **word == *"true" => Some(true),
        End::Ok(Value::Other(word)) if **word == *"false" => Some(false),
        _ => None,
    };
    let history = history(entries, |entry| match &*entry.f {
        "add" => plain(entry, set::Op::Add(elements.of(&entry.asked), told(entry))),
        "remove" => plain(entry, set::Op::Remove(elements.of(&entry.asked), told(entry))),
        "contains" => {
            let element = elements.of(&entry.asked);
            answered(entry, |value| match told(entry) {
                Some(is_there) => Ok(set::Op::Contains(element, Some(is_there))),
                None => Err(format!("`{}` is not true or false", clip(&value.to_string()))),
            })
        }
        "read" => answered(entry, |value| match value {
            Value::Set(values) | Value::List(values) => {
                let mut all: Vec<u32> = values.iter().map(|value| elements.of(value)).collect();
                all.sort_unstable();
                all.dedup();
                Ok(set::Op::Read(Some(all)))
            }
            Value::Nil => Ok(set::Op::Read(Some(Vec::new()))),
            other => Err(format!("`{}` is not a set", clip(&other.to_string()))),
        }),
        _ => unknown_f(entry, ":add, :remove, :contains and :read"),
    })?;
    Ok((set::Set { names: elements.names }, history))
}

/// A queue; empty at first.
pub fn queue(entries: &Entries) -> Result<(queue::Queue, History<queue::Op>), Refusal> {
    let mut values = Numbers::default();
    let history = history(entries, |entry| match &*entry.f {
        "enqueue" => plain(entry, queue::Op::Enqueue(values.of(&entry.asked))),
        "dequeue" => match &entry.end {
            End::Ok(Value::Nil) => {
                Ok(Some((queue::Op::Dequeue(Some(queue::Taken::Nothing)), true)))
            }
            End::Ok(value) => {
                let taken = queue::Taken::Value(values.of(value));
                Ok(Some((queue::Op::Dequeue(Some(taken)), true)))
            }
            End::Fail(_) => Ok(None),
            End::Unknown => Ok(Some((queue::Op::Dequeue(None), false))),
        },
        _ => unknown_f(entry, ":enqueue and :dequeue"),
    })?;
    Ok((queue::Queue { names: values.names }, history))
}

/// Locks, each named by its key, or one; free at first.
pub fn lock(entries: &Entries) -> Result<(lock::Lock, History<lock::Op>), Refusal> {
    let mut locks = Numbers::default();
    let history = history(entries, |entry| {
        let lock = locks.of(entry.key.as_ref().unwrap_or(&Value::Nil));
        let ask = match &*entry.f {
            "acquire" => lock::Ask::Acquire,
            "release" => lock::Ask::Release,
            _ => return unknown_f(entry, ":acquire and :release"),
        };
        let granted = matches!(entry.end, End::Ok(_)).then_some(true);
        plain(entry, lock::Op { lock, ask, granted })
    })?;
    Ok((lock::Lock, history))
}

/// Registers that are read and written several at once; whatever at first.
pub fn multi(entries: &Entries) -> Result<(multi::MultiRegister, History<multi::Op>), Refusal> {
    let (mut keys, mut values) = (Numbers::default(), Numbers::default());
    let history = history(entries, |entry| {
        if &*entry.f != "txn" {
            return unknown_f(entry, ":txn");
        }
        let told = match &entry.end {
            End::Ok(value) => value,
            End::Fail(_) => return Ok(None),
            End::Unknown => &entry.asked,
        };
        let Value::List(parts) = told else {
            return Err(format!("`{}` is not a list of reads and writes", clip(&told.to_string())));
        };
        let is_known = matches!(entry.end, End::Ok(_));
        let mut part = |part: &Value| {
            let Value::List(words) = part else { return None };
            let [Value::Keyword(f), key, value] = &**words else { return None };
            let key = keys.of(key);
            match &**f {
                "read" | "r" => Some(multi::Part::Read(key, is_known.then(|| values.of(value)))),
                "write" | "w" => Some(multi::Part::Write(key, values.of(value))),
                _ => None,
            }
        };
        let parts: Option<Vec<multi::Part>> = parts.iter().map(&mut part).collect();
        match parts {
            Some(parts) => Ok(Some((multi::Op(parts), is_known))),
            None => Err(format!("`{}` is not a list of reads and writes", clip(&told.to_string()))),
        }
    })?;
    Ok((multi::MultiRegister { keys: keys.names, values: values.names }, history))
}
