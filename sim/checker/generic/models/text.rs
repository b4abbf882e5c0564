//! Text that only grows at its end: appending shares what was there, and comparing rarely looks at it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

/// Text as a chain of the pieces appended, last first.
#[derive(Clone, Default)]
pub struct Text {
    length: usize,
    /// FNV-1a of all bytes, however they were cut into pieces.
    hash: u64,
    last: Option<Rc<Link>>,
}

struct Link {
    piece: Rc<str>,
    before: Option<Rc<Link>>,
}

impl Drop for Link {
    /// One link after another: chains are longer than a stack is deep.
    fn drop(&mut self) {
        let mut before = self.before.take();
        while let Some(link) = before {
            match Rc::try_unwrap(link) {
                Ok(mut link) => before = link.before.take(),
                Err(_) => break,
            }
        }
    }
}

const PRIME: u64 = 0x0100_0000_01b3;

impl Text {
    /// Adds a piece.
    pub fn append(&mut self, piece: &Rc<str>) {
        if piece.is_empty() {
            return;
        }
        self.length += piece.len();
        for byte in piece.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
        self.last = Some(Rc::new(Link { piece: piece.clone(), before: self.last.take() }));
    }

    /// Whether it is this.
    pub fn is(&self, text: &str) -> bool {
        self.length == text.len() && self.begins(text)
    }

    /// Whether `text` begins with it.
    pub fn begins(&self, text: &str) -> bool {
        let Some(mut rest) = text.as_bytes().get(..self.length) else { return false };
        let mut link = self.last.as_deref();
        while let Some(Link { piece, before }) = link {
            let Some(left) = rest.strip_suffix(piece.as_bytes()) else { return false };
            rest = left;
            link = before.as_deref();
        }
        true
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        if self.length != other.length || self.hash != other.hash {
            return false;
        }
        let (mut mine, mut theirs) = (self.last.as_ref(), other.last.as_ref());
        while let (Some(one), Some(two)) = (mine, theirs) {
            if Rc::ptr_eq(one, two) {
                return true;
            }
            if one.piece != two.piece {
                // Cut differently, as far as one knows.
                return self.to_string() == other.to_string();
            }
            (mine, theirs) = (one.before.as_ref(), two.before.as_ref());
        }
        mine.is_none() && theirs.is_none()
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.length);
        state.write_u64(self.hash);
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pieces: Vec<&str> = Vec::new();
        let mut link = self.last.as_deref();
        while let Some(Link { piece, before }) = link {
            pieces.push(piece);
            link = before.as_deref();
        }
        pieces.iter().rev().try_for_each(|piece| f.write_str(piece))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::Text;

    fn text(pieces: &[&str]) -> Text {
        let mut text = Text::default();
        pieces.iter().for_each(|piece| text.append(&(*piece).into()));
        text
    }

    /// However it was cut, the same text is equal; a prefix is one.
    #[test]
    fn pieces_do_not_matter() {
        assert_eq!(text(&["ab", "c"]), text(&["a", "", "bc"]));
        assert_ne!(text(&["ab", "c"]), text(&["ab", "d"]));
        assert!(text(&["x", "yz"]).begins("xyz and more"));
        assert!(!text(&["x", "yz"]).begins("xy"));
        assert!(text(&["x", "yz"]).is("xyz"));
    }

    /// A chain of a million pieces is dropped without running out of stack.
    #[test]
    fn long_chains_are_dropped() {
        let mut long = Text::default();
        (0..1_000_000).for_each(|_| long.append(&"x".into()));
        drop(long);
    }
}
