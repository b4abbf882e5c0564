//! A set: add, remove, look for one, read all.

use super::Names;
use crate::checker::generic::model::{Footprint, Model};

/// What is done to a set; elements are numbers in [`Set::names`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Puts an element in; whether it was new, where that was told.
    Add(u32, Option<bool>),
    /// Takes an element out; whether it was there, where that was told.
    Remove(u32, Option<bool>),
    /// Looks for an element; whether it was there, where that is known.
    Contains(u32, Option<bool>),
    /// Reads all, in ascending order of their numbers; absent if the answer is not known.
    Read(Option<Vec<u32>>),
}

/// A set that is empty at first.
#[derive(Clone, Debug, Default)]
pub struct Set {
    /// Names of the elements.
    pub names: Names,
}

/// Most elements that are shown.
const SHOWN: usize = 12;

impl Set {
    fn all(&self, elements: &[u32]) -> String {
        let mut names: Vec<&str> =
            elements.iter().take(SHOWN).map(|element| self.names.show(*element)).collect();
        let more = format!("… {} in all", elements.len());
        if elements.len() > SHOWN {
            names.push(&more);
        }
        format!("{{{}}}", names.join(" "))
    }
}

impl Model for Set {
    type Op = Op;
    /// Elements in ascending order.
    type State = Vec<u32>;

    fn init(&self) -> Vec<u32> {
        Vec::new()
    }

    fn apply(&self, state: &mut Vec<u32>, op: &Op) -> bool {
        let place = |element: &u32| state.binary_search(element);
        match op {
            Op::Add(element, was_new) => match place(element) {
                Ok(_) => *was_new != Some(true),
                Err(_) if *was_new == Some(false) => false,
                Err(at) => {
                    state.insert(at, *element);
                    true
                }
            },
            Op::Remove(element, was_there) => match place(element) {
                Err(_) => *was_there != Some(true),
                Ok(_) if *was_there == Some(false) => false,
                Ok(at) => {
                    state.remove(at);
                    true
                }
            },
            Op::Contains(element, is_there) => {
                is_there.is_none_or(|is_there| is_there == place(element).is_ok())
            }
            Op::Read(all) => all.as_ref().is_none_or(|all| all == state),
        }
    }

    fn forget(&self, op: &Op) -> Op {
        match op {
            Op::Add(element, _) => Op::Add(*element, None),
            Op::Remove(element, _) => Op::Remove(*element, None),
            Op::Contains(element, _) => Op::Contains(*element, None),
            Op::Read(_) => Op::Read(None),
        }
    }

    fn is_pure(&self, op: &Op) -> bool {
        matches!(
            op,
            Op::Contains(..) | Op::Read(_) | Op::Add(_, Some(false)) | Op::Remove(_, Some(false))
        )
    }

    fn footprint(&self, op: &Op, keys: &mut Vec<u64>) -> Footprint {
        match op {
            Op::Add(element, _) | Op::Remove(element, _) | Op::Contains(element, _) => {
                keys.push(u64::from(*element));
                Footprint::Keys
            }
            Op::Read(_) => Footprint::Everything,
        }
    }

    fn heap(&self, state: &Vec<u32>) -> usize {
        4 * state.capacity()
    }

    fn noun(&self) -> &'static str {
        "the set"
    }

    fn show_op(&self, op: &Op) -> String {
        let told = |told: &Option<bool>| match told {
            Some(told) => format!(" → {told}"),
            None => String::new(),
        };
        match op {
            Op::Add(element, new) => format!("add {}{}", self.names.show(*element), told(new)),
            Op::Remove(element, was) => {
                format!("remove {}{}", self.names.show(*element), told(was))
            }
            Op::Contains(element, is) => {
                format!("contains {}{}", self.names.show(*element), told(is))
            }
            Op::Read(Some(all)) => format!("read → {}", self.all(all)),
            Op::Read(None) => "read".to_owned(),
        }
    }

    fn show_state(&self, state: &Vec<u32>) -> String {
        self.all(state)
    }

    fn why_not(&self, state: &Vec<u32>, op: &Op) -> String {
        match op {
            Op::Read(Some(all)) => {
                let only = |one: &[u32], other: &[u32]| -> Vec<u32> {
                    one.iter().copied().filter(|element| !other.contains(element)).collect()
                };
                let (missing, extra) = (only(state, all), only(all, state));
                match (missing.is_empty(), extra.is_empty()) {
                    (false, _) => format!("it misses {}", self.all(&missing)),
                    (true, _) => format!("it has {} that are not there", self.all(&extra)),
                }
            }
            Op::Add(element, Some(true)) | Op::Contains(element, Some(false)) => {
                format!("it found no {}", self.names.show(*element))
            }
            Op::Remove(element, Some(true)) | Op::Contains(element, Some(true)) => {
                format!("it found {}", self.names.show(*element))
            }
            Op::Add(element, _) => format!("it found {}", self.names.show(*element)),
            Op::Remove(element, _) => format!("it found no {}", self.names.show(*element)),
            Op::Read(None) | Op::Contains(_, None) => "it is possible".to_owned(),
        }
    }
}
