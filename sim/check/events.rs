//! Events of processes, paired into operations: what Jepsen's logs and EDN histories have in common.

use std::collections::HashMap;
use std::rc::Rc;

use super::Refusal;
use super::edn::Value;

/// What an event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An operation begins.
    Invoke,
    /// It ended, and happened.
    Ok,
    /// It ended, and was refused.
    Fail,
    /// It ended, and nobody knows how.
    Info,
}

impl Kind {
    /// The kind with this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "invoke" => Some(Self::Invoke),
            "ok" => Some(Self::Ok),
            "fail" => Some(Self::Fail),
            "info" => Some(Self::Info),
            _ => None,
        }
    }
}

/// One line of a history, or one map.
#[derive(Clone, Debug)]
pub struct Event {
    /// Where it begins.
    pub line: usize,
    /// Who tells.
    pub process: Value,
    /// What.
    pub kind: Kind,
    /// Name of the operation, such as `read`.
    pub f: Rc<str>,
    /// Its key, where keys have a place of their own.
    pub key: Option<Value>,
    /// Its argument or answer.
    pub value: Value,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With this answer.
    Ok(Value),
    /// Refused, with this value.
    Fail(Value),
    /// Unknown.
    Unknown,
}

/// An operation from its call to its end.
#[derive(Clone, Debug)]
pub struct Entry {
    /// A number in [`Entries::processes`].
    pub process: u32,
    /// Number of the event of its call.
    pub call: u64,
    /// Number of the event of its end, if there is one.
    pub ret: Option<u64>,
    /// Lines of both; 0 where there is none.
    pub lines: (u32, u32),
    /// Name of the operation.
    pub f: Rc<str>,
    /// Its key, where keys have a place of their own.
    pub key: Option<Value>,
    /// What was asked.
    pub asked: Value,
    /// How it ended.
    pub end: End,
}

/// A history as far as syntax goes.
#[derive(Debug, Default)]
pub struct Entries {
    /// In the order of calls.
    pub list: Vec<Entry>,
    /// Names of the processes.
    pub processes: Vec<String>,
    /// Events of the nemesis, which are no operations.
    pub passed_over: usize,
    /// Whether a refusal of a conditional operation tells that its condition did not hold.
    pub refusals_tell: bool,
    numbers: HashMap<Value, u32>,
    /// For each process the entry that is under way.
    open: Vec<Option<usize>>,
    events: u64,
}

impl Entries {
    /// Adds the next event.
    ///
    /// # Errors
    /// If a process begins a second operation, or ends one that it has not begun.
    pub fn add(&mut self, event: Event) -> Result<(), Refusal> {
        let Event { line, process, kind, f, key, value } = event;
        let number = self.process(&process);
        let now = self.events;
        self.events += 1;
        let refuse = |reason: String| Err(Refusal { line, reason });
        let open = &mut self.open[number as usize];
        if kind == Kind::Invoke {
            if let Some(other) = open {
                let Entry { f, lines, .. } = &self.list[*other];
                return refuse(format!(
                    "process {process} invokes a second operation while :{f} of line {} is under way",
                    lines.0
                ));
            }
            *open = Some(self.list.len());
            let lines = (line as u32, 0);
            let end = End::Unknown;
            self.list.push(Entry {
                process: number,
                call: now,
                ret: None,
                lines,
                f,
                key,
                asked: value,
                end,
            });
            return Ok(());
        }
        let Some(at) = open.take() else {
            return refuse(format!(
                "process {process} returns from :{f} without having invoked it"
            ));
        };
        let entry = &mut self.list[at];
        if entry.f != f || entry.key != key && key.is_some() {
            return refuse(format!(
                "process {process} returns from :{f}, but invoked :{} on line {}{}",
                entry.f,
                entry.lines.0,
                if entry.f == f { " with another key" } else { "" }
            ));
        }
        entry.lines.1 = line as u32;
        if kind != Kind::Info {
            entry.ret = Some(now);
        }
        entry.end = match kind {
            Kind::Ok => End::Ok(value),
            Kind::Fail => End::Fail(value),
            Kind::Info | Kind::Invoke => End::Unknown,
        };
        Ok(())
    }

    fn process(&mut self, process: &Value) -> u32 {
        if let Some(number) = self.numbers.get(process) {
            return *number;
        }
        let number = self.processes.len() as u32;
        self.numbers.insert(process.clone(), number);
        self.processes.push(process.to_string());
        self.open.push(None);
        number
    }
}
