//! The objects that a history can be held against without writing a model.

pub mod kv;
pub mod lock;
pub mod multi;
pub mod queue;
pub mod register;
pub mod set;
mod text;

/// What the numbers in operations and states stand for.
#[derive(Clone, Debug, Default)]
pub struct Names(pub Vec<String>);

impl Names {
    fn show(&self, number: u32) -> &str {
        self.0.get(number as usize).map_or("?", String::as_str)
    }
}
