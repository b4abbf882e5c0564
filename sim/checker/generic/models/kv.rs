//! Keys with text: get, put, append.

use std::rc::Rc;

use super::Names;
use super::text::Text;
use crate::checker::generic::model::{Footprint, Model};

/// What is done to one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Op {
    /// Number of the key in [`Kv::names`].
    pub key: u32,
    /// What is done to it.
    pub ask: Ask,
}

/// What is done to a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Reads; the text where it is known.
    Get(Option<Rc<str>>),
    /// Replaces the text.
    Put(Rc<str>),
    /// Adds to its end.
    Append(Rc<str>),
}

/// Any number of keys, each empty at first.
#[derive(Clone, Debug, Default)]
pub struct Kv {
    /// Names of the keys.
    pub names: Names,
}

/// Longest text that is shown in full.
const SHOWN: usize = 60;

fn shown(text: &str) -> String {
    if text.len() <= SHOWN {
        return format!("{text:?}");
    }
    // The end tells texts apart that were appended to.
    let mut start = text.len() - SHOWN;
    while !text.is_char_boundary(start) {
        start += 1;
    }
    format!("{:?} ({} bytes)", format!("…{}", &text[start..]), text.len())
}

impl Model for Kv {
    type Op = Op;
    /// The text of the one key of a partition.
    type State = Text;

    fn init(&self) -> Text {
        Text::default()
    }

    fn apply(&self, state: &mut Text, op: &Op) -> bool {
        match &op.ask {
            Ask::Get(text) => text.as_ref().is_none_or(|text| state.is(text)),
            Ask::Put(text) => {
                *state = Text::default();
                state.append(text);
                true
            }
            Ask::Append(piece) => {
                state.append(piece);
                true
            }
        }
    }

    fn forget(&self, op: &Op) -> Op {
        match op.ask {
            Ask::Get(_) => Op { key: op.key, ask: Ask::Get(None) },
            Ask::Put(_) | Ask::Append(_) => op.clone(),
        }
    }

    fn is_pure(&self, op: &Op) -> bool {
        matches!(op.ask, Ask::Get(_))
    }

    fn footprint(&self, op: &Op, keys: &mut Vec<u64>) -> Footprint {
        keys.push(u64::from(op.key));
        Footprint::Keys
    }

    fn overwrites(&self, op: &Op) -> bool {
        matches!(op.ask, Ask::Put(_))
    }

    fn enables(&self, op: &Op, goal: &Op) -> bool {
        let Ask::Get(Some(text)) = &goal.ask else { return true };
        match &op.ask {
            Ask::Get(_) => false,
            Ask::Put(put) => put == text,
            Ask::Append(piece) => text.ends_with(&**piece),
        }
    }

    fn looks_ahead(&self) -> bool {
        true
    }

    fn reaches(&self, state: &Text, goal: &Op) -> bool {
        match &goal.ask {
            Ask::Get(Some(text)) => state.begins(text),
            _ => true,
        }
    }

    fn heap(&self, _state: &Text) -> usize {
        48
    }

    fn noun(&self) -> &'static str {
        "the key"
    }

    fn show_op(&self, op: &Op) -> String {
        let key = self.names.show(op.key);
        match &op.ask {
            Ask::Get(Some(text)) => format!("get {key} → {}", shown(text)),
            Ask::Get(None) => format!("get {key}"),
            Ask::Put(text) => format!("put {key} {}", shown(text)),
            Ask::Append(piece) => format!("append {key} {}", shown(piece)),
        }
    }

    fn show_state(&self, state: &Text) -> String {
        shown(&state.to_string())
    }

    fn why_not(&self, _state: &Text, op: &Op) -> String {
        match &op.ask {
            Ask::Get(Some(text)) => format!("it returned {}", shown(text)),
            _ => "it is possible".to_owned(),
        }
    }
}
