//! Runs the golden scripts in `tests/scripts`.

use super::testing::{Folder, apply, open, put};

#[test]
fn smoke() {
    let folder = Folder::new();
    let mut state = open(&folder, 10);
    assert!(apply(&mut state, put("a", "1")).is_ok());
    assert_eq!(state.current_revision(), 2);
}
